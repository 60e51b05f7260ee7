"""Lines of progress on the terminal."""

from __future__ import annotations

from contextlib import suppress

import click

from affectlake.secrets import hide


def say(line: str) -> None:
    """Print a line of progress on stderr, passwords of addresses hidden; if nobody can read it any more, do nothing."""
    with suppress(OSError):
        click.echo(hide(line), err=True)
