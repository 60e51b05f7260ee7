"""Find the root of a lake. Quick to import, so that queries need not import what makes versions."""

from __future__ import annotations

from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.store.lake_format import refuse_newer


def find(start: Path) -> Path:
    """Return the root of the lake that `start` is in.

    Raises
    ------
    LakeError
        If neither `start` nor a folder above it is a lake, or a newer affectlake made it.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / layout.PARAMS).is_file() and (folder / ".dvc").is_dir() and (folder / "storage").is_dir():
            refuse_newer(folder)
            return folder
    raise LakeError(
        f"{start} is not a lake, nor is a folder above it",
        wanted="a folder with params.yaml, .dvc and storage",
        todo="make one with `affectlake init DIR --study NAME`, or name one with --lake DIR",
    )
