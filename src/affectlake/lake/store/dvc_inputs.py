"""Update the inputs of our stages that ``dvc.lock`` records to the inputs that the stages have now.

DVC compares the inputs that ``dvc.yaml`` names with those that are recorded, and two changes need help. A parameter of
which only the section is recorded looks new to DVC, although the record has its value. And DVC ignores an input that a
stage no longer has, although the stage's tables were made from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.lake.files import layout
from affectlake.lake.store.dvc_lock import read_lock, write_lock

_MISSING = object()
_FILE = str(layout.PARAMS)


class Inputs(NamedTuple):
    """The inputs of a stage.

    Attributes
    ----------
    params : sequence of str
        Dotted keys of ``params.yaml``.
    tables : sequence of str
        Paths of the outputs that it reads.
    every_agents : sequence of str
        Paths of the tables of which it reads the outputs of all agents.
    sources : sequence of str, optional
        Paths of its source files, relative to the lake; None for a stage whose source files are all in ``params.yaml``.
    optional : sequence of str
        Keys that it depends on only if they are in ``params.yaml``.
    """

    params: Sequence[str]
    tables: Sequence[str]
    every_agents: Sequence[str]
    sources: Sequence[str] | None = None
    optional: Sequence[str] = ()


def reconcile(lake: Path, wanted: Mapping[str, Inputs]) -> None:
    """Update the recorded inputs of stages to their current inputs, so that DVC recognises stale stages.

    If a whole section was recorded for a stage, the values of the keys that it depends on are kept. If a stage was made
    from outputs of an agent that was removed, from a source file that is no longer found, or with an optional key that
    was removed, the record of its inputs is removed.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    wanted : mapping of str to Inputs
        The inputs of each of our stages, by the stage's name.

    Raises
    ------
    LakeError
        If ``dvc.lock`` cannot be read.
    """
    lock = read_lock(lake)
    stages = dict(lock.get("stages") or {})
    changed = {name: _reconciled(lake, stages[name], inputs) for name, inputs in wanted.items() if name in stages}
    if any(entry != stages[name] for name, entry in changed.items()):
        write_lock(lake, lock | {"stages": stages | changed})


def _reconciled(lake: Path, entry: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    found = dict(entry)
    recorded = (entry.get("params") or {}).get(_FILE) or {}
    values = {key: value for key in inputs.params if (value := _value(recorded, key)) is not _MISSING}
    if set(values) - set(recorded):
        found["params"] = {**entry["params"], _FILE: values}
    if _lost(lake, entry, inputs):
        found.pop("deps")
    if any(key in recorded and key not in inputs.params for key in inputs.optional):
        found.pop("params")
    return found


def _value(recorded: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key that is recorded by itself or in a section; `_MISSING` if it is not."""
    if key in recorded:
        return recorded[key]
    words = key.split(".")
    for n in range(len(words) - 1, 0, -1):
        value: Any = recorded.get(".".join(words[:n]), _MISSING)
        for word in words[n:]:
            value = value.get(word, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is not _MISSING:
            return value
    return _MISSING


def _lost(lake: Path, entry: Mapping[str, Any], inputs: Inputs) -> bool:
    """Return whether a stage was made from the output of an agent, or a source file, that it no longer reads."""
    recorded = {str(dep.get("path")) for dep in entry.get("deps") or ()}
    if inputs.sources is not None:
        read = {_absolute(lake, path) for path in (*inputs.tables, *inputs.sources)}
        if any(_absolute(lake, path) not in read for path in recorded):
            return True
    return any(str(Path(path).parent) in inputs.every_agents for path in recorded - set(inputs.tables))


def _absolute(lake: Path, path: str) -> str:
    return os.path.normpath(lake.absolute() / path)
