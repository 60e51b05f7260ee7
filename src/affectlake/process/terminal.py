"""Progress messages on the terminal."""

from __future__ import annotations

from contextlib import suppress

import click

from affectlake.secrets import hide


def log(line: str) -> None:
    """Print a progress message on stderr, with passwords in URLs hidden; ignore errors, such as a closed stream."""
    with suppress(OSError):
        click.echo(hide(line), err=True)
