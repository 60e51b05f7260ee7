"""Messages on the terminal: progress, at three levels of detail, and errors. Colour is used only on a terminal.

Colours are left out if the environment variable ``NO_COLOR`` is set (https://no-color.org).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from enum import IntEnum
from time import monotonic

import click

from affectlake.secrets import hide


class Detail(IntEnum):
    """How much progress is printed: none, the usual lines, or further lines, each with the time since the start."""

    QUIET = 0
    USUAL = 1
    VERBOSE = 2


class _Terminal:
    detail = Detail.USUAL
    started_s = monotonic()


_MARKS = re.compile(r"^(affectlake:|  (?:wanted|found|allowed|to do):)", re.MULTILINE)


def set_detail(wanted: Detail) -> None:
    """Set how much progress this process prints."""
    _Terminal.detail = wanted


def detail() -> Detail:
    """Return how much progress this process prints."""
    return _Terminal.detail


def log(line: str) -> None:
    """Print a progress message on stderr, with passwords in URLs hidden; ignore errors, such as a closed stream."""
    if _Terminal.detail is Detail.QUIET:
        return
    if _Terminal.detail is Detail.VERBOSE:
        line = f"{monotonic() - _Terminal.started_s:8.2f} s  {line}"
    with suppress(OSError):
        click.echo(hide(line), err=True)


def log_detail(line: str) -> None:
    """Print a message on stderr that is shown only with ``--verbose``."""
    if _Terminal.detail is Detail.VERBOSE:
        log(line)


def complain(text: str) -> None:
    """Print an error on stderr, at every level of detail; its marks, such as ``to do:``, are coloured."""
    with suppress(OSError):
        click.echo(_MARKS.sub(_coloured, hide(text)), err=True, color=colour())


def colour() -> bool | None:
    """Return whether to print colours: False if ``NO_COLOR`` is set, else None: on a terminal, as click decides."""
    return False if os.environ.get("NO_COLOR") else None


def _coloured(mark: re.Match[str]) -> str:
    return click.style(mark[0], fg="red" if mark[0] == "affectlake:" else "cyan", bold=True)
