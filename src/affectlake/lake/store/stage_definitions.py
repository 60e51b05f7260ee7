"""Stages as the pipeline defines them, compared with their records in ``dvc.lock`` and with the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.store.folder_hashes import file_hashes, folder_hashes

_PARAMS = str(layout.PARAMS)


class Definition(NamedTuple):
    """What ``dvc.lock`` records of a stage.

    Attributes
    ----------
    command : str
        Its command, which has the version of its step.
    params : mapping of str to object
        The values of the keys of ``params.yaml`` that it depends on, by dotted key.
    reads : sequence of str
        Paths of its inputs: tables, and source files.
    writes : sequence of str
        Paths of its outputs.
    """

    command: str
    params: Mapping[str, Any]
    reads: Sequence[str]
    writes: Sequence[str]


def recorded_as_defined(lake: Path, lock: Mapping[str, Any], stages: Mapping[str, Definition]) -> set[str]:
    """Return the names of the stages whose record is exactly as they are defined, with the content of the folder.

    DVC regards these stages as up to date. Whether it does so for others, only DVC can say: of a folder of source
    files, for instance, it leaves out what ``.dvcignore`` names.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    lock : mapping of str to object
        Content of ``dvc.lock``.
    stages : mapping of str to Definition
        The stages by name.
    """
    entries = lock.get("stages") or {}
    alike = {name: entries[name] for name, stage in stages.items() if name in entries and _is_of(entries[name], stage)}
    recorded = [
        {one["path"]: one.get("md5") for key in ("deps", "outs") for one in entry.get(key) or ()}
        for entry in alike.values()
    ]
    paths = dict.fromkeys(path for hashes in recorded for path in hashes)
    tables = [path for path in paths if Path(path).is_relative_to(layout.TABLES)]
    try:
        found = folder_hashes(lake, tables) | file_hashes(lake, [path for path in paths if path not in tables])
    except (LakeError, OSError):  # a link out of the lake, or what cannot be read: DVC reports it
        return set()
    return {
        name
        for name, hashes in zip(alike, recorded, strict=True)
        if all(md5 and found.get(path) == md5 for path, md5 in hashes.items())
    }


def _is_of(entry: Mapping[str, Any], stage: Definition) -> bool:
    """Return whether a record has the command, the values and the paths of a stage."""
    values = entry.get("params") or {}
    return (
        entry.get("cmd") == stage.command
        and set(values) <= {_PARAMS}
        and (values.get(_PARAMS) or {}) == stage.params
        and {one["path"] for one in entry.get("deps") or ()} == set(stage.reads)
        and {one["path"] for one in entry.get("outs") or ()} == set(stage.writes)
    )
