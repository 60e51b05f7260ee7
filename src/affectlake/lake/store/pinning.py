"""Files as a run found them: what DVC reads and a version holds, whatever is written to the files meanwhile.

A run takes hours and ``params.yaml`` is edited in the meantime. What a stage ran with is what is recorded of it, so DVC
is shown the contents that the run began with, and the version is made of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

Pinned = Mapping[Path, bytes]
"""Contents by path within the lake."""

NOTHING: Pinned = MappingProxyType({})
Signature = dict[str, tuple[int, ...]]


def show_pinned(fs: Any, root: Path, pinned: Pinned) -> None:
    """Let a DVC file system object give the pinned contents for these files.

    Parameters
    ----------
    fs : dvc.fs.LocalFileSystem
        One repository object's own; it is changed.
    root : Path
        Root of the lake.
    pinned : mapping of Path to bytes
        The contents.
    """
    contents = {(root / path).resolve(): content for path, content in pinned.items()}
    open_file = fs.open

    def open_pinned(path: Any, mode: str = "r", **options: Any) -> Any:
        content = contents.get(Path(path).resolve()) if set(mode) <= set("rbt") else None
        if content is None:
            return open_file(path, mode=mode, **options)
        return io.BytesIO(content) if "b" in mode else io.StringIO(content.decode(options.get("encoding") or "utf-8"))

    fs.open = open_pinned


def signature(paths: Iterable[Path]) -> Signature:
    """Return what changes when one of `paths`, or a file below one that is a folder, is written, added or removed."""
    found: Signature = {}
    for path in paths:
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        for file in files:
            try:
                status = file.stat()
            except OSError:
                found[str(file)] = ()
                continue
            # a folder's time moves with temporary files of others; its files are looked at one by one
            times = () if file.is_dir() else (status.st_size, status.st_mtime_ns)
            found[str(file)] = (status.st_ino, *times)
    return found


def changed(before: Signature, after: Signature) -> list[str]:
    """Return the paths whose signatures differ, sorted."""
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
