"""Marks on outputs that are being changed, until the new content is both recorded and in the folder.

A crash in between leaves tables that differ from the record; because of the mark, the next writer does not treat them
as changed by hand (:func:`affectlake.lake.store.working_tables.refuse_edited`).
"""

from __future__ import annotations

from pathlib import Path

from affectlake.lake.files import layout
from affectlake.lake.files.atomic import sync_folder
from affectlake.lake.files.names import own_path
from affectlake.lake.files.outputs import Output


def mark_unrecorded(lake: Path, output: Output) -> None:
    """Mark an output; the mark survives a power failure."""
    path = own_path(lake, layout.UNRECORDED / output.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    sync_folder(path.parent)


def unmark(lake: Path, output: Output) -> None:
    """Remove the mark of an output, if it has one."""
    own_path(lake, layout.UNRECORDED / output.path).unlink(missing_ok=True)


def marked(lake: Path) -> set[Output]:
    """Return the outputs that have a mark; files whose name is not that of an output are ignored."""
    folder = own_path(lake, layout.UNRECORDED)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
    return {output for name in found if (output := Output.named(name)).is_legal}
