"""Marks on outputs that are about to change, until what they are to be is both recorded and in place.

A crash in between leaves tables that differ from what is recorded; by the mark the next writer knows that they were not
changed by hand (:func:`affectlake.lake.stages.refuse_edited`).
"""

from __future__ import annotations

from pathlib import Path

from affectlake.lake import layout
from affectlake.lake.files import sync_folder


def mark_unrecorded(lake: Path, output: str) -> None:
    """Mark an output, for good: the mark survives a power failure."""
    path = lake / layout.UNRECORDED / output
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    sync_folder(path.parent)


def unmark(lake: Path, output: str) -> None:
    """Take the mark of an output away, if it has one."""
    (lake / layout.UNRECORDED / output).unlink(missing_ok=True)


def marked(lake: Path) -> set[str]:
    """Return the outputs that have a mark."""
    folder = lake / layout.UNRECORDED
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
