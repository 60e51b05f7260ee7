"""``python -m affectlake``: the command line."""

from affectlake.cli.main import main

if __name__ == "__main__":
    main()
