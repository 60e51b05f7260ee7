"""Pinned contents: files as they were when a run started, for DVC and for the version that the run makes.

A run may take hours, and ``params.yaml`` may be edited meanwhile. The record of a stage must have what the stage ran
with, so DVC reads the contents that the run started with, and the version is made of them.
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
    """Make a DVC file system object return the pinned contents for these files.

    Parameters
    ----------
    fs : dvc.fs.LocalFileSystem
        The file system of one repository object; modified in place.
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
    """Return inodes, sizes and times of `paths` and all files in them, which change with every write or removal."""
    found: Signature = {}
    for path in paths:
        files = [path, *path.rglob("*")] if path.is_dir() else [path]
        for file in files:
            try:
                status = file.stat()
            except OSError:
                found[str(file)] = ()
                continue
            # a folder's time changes with temporary files of other programs; its files are listed one by one
            times = () if file.is_dir() else (status.st_size, status.st_mtime_ns)
            found[str(file)] = (status.st_ino, *times)
    return found


def changed(before: Signature, after: Signature) -> list[str]:
    """Return the paths whose signatures differ, sorted."""
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
