"""The format of a lake: one number, in ``storage/format``, by which an older affectlake refuses a newer lake.

It is raised when the layout of a lake changes such that an older affectlake would misread or damage it. A lake without
the file has format 1.
"""

from __future__ import annotations

from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files import layout

FORMAT = 1


def write_format(root: Path) -> None:
    """Write the format to a new lake."""
    (root / layout.FORMAT).write_text(f"{FORMAT}\n", encoding="utf-8")


def refuse_newer(root: Path) -> None:
    """Raise :class:`LakeError` if the lake was made by a newer affectlake than this one."""
    path = root / layout.FORMAT
    _refuse(root, path.read_text(encoding="utf-8") if path.exists() else "1")


def refuse_newer_at(root: Path, commit: str) -> None:
    """Raise :class:`LakeError` if the lake's `commit` was made by a newer affectlake than this one."""
    from affectlake.lake.store.git_objects import blobs, read_blobs  # imported late: rarely needed

    found = [name for _, name in blobs(root, commit, [str(layout.FORMAT)])]
    _refuse(root, read_blobs(root, found)[0].decode(errors="replace") if found else "1")


def _refuse(root: Path, text: str) -> None:
    found = text.strip()
    if not found.isdecimal() or int(found) < 1:
        raise LakeError(
            f"{root / layout.FORMAT} is damaged",
            wanted="an integer",
            found=repr(found[:40]),
            todo=f"restore it from Git: `git checkout -- {layout.FORMAT}`",
        )
    if int(found) > FORMAT:
        from affectlake.process.code_version import code_version  # imported late: slow and rarely needed

        raise LakeError(
            f"{root} was made by a newer affectlake",
            wanted=f"lake format {FORMAT}, which affectlake {code_version()} can read",
            found=f"lake format {found}",
            todo="upgrade affectlake; nothing was changed",
        )
