"""The command line, a file for each group of commands: arguments and errors are translated, nothing else."""
