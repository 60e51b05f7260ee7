"""What ``dvc.lock`` records of the inputs of our stages, brought in line with the inputs that the stages have now.

DVC compares the inputs that ``dvc.yaml`` names with those that are recorded, and two changes need help. A parameter of
which only the section is recorded looks new to DVC, although the record says what its value was. And an input that a
stage no longer has is no change for DVC, although the stage's tables were made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.lake.files import layout
from affectlake.lake.store.dvc_stages import read_lock, write_lock

_MISSING = object()
_FILE = str(layout.PARAMS)


class Inputs(NamedTuple):
    """What a stage depends on.

    Attributes
    ----------
    params : sequence of str
        Dotted keys of ``params.yaml``.
    tables : sequence of str
        Paths of the outputs that it reads.
    every_agents : sequence of str
        Paths of the tables of which it reads the output of every agent.
    """

    params: Sequence[str]
    tables: Sequence[str]
    every_agents: Sequence[str]


def reconcile(lake: Path, wanted: Mapping[str, Inputs]) -> None:
    """Bring the records of stages in line with their inputs of today, so that DVC finds those stale that are.

    A stage of which a section was recorded keeps the values of the keys that it depends on. A stage that was made from
    outputs of an agent that has been taken out loses its record of what it was made from.

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
    changed = {name: _reconciled(stages[name], inputs) for name, inputs in wanted.items() if name in stages}
    if any(entry != stages[name] for name, entry in changed.items()):
        write_lock(lake, lock | {"stages": stages | changed})


def _reconciled(entry: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    found = dict(entry)
    recorded = (entry.get("params") or {}).get(_FILE) or {}
    values = {key: value for key in inputs.params if (value := _value(recorded, key)) is not _MISSING}
    if set(values) - set(recorded):
        found["params"] = {**entry["params"], _FILE: values}
    if _lost(entry, inputs):
        found.pop("deps")
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


def _lost(entry: Mapping[str, Any], inputs: Inputs) -> bool:
    """Whether a stage was made from the output of an agent that it does not read now."""
    recorded = {str(dep.get("path")) for dep in entry.get("deps") or ()}
    return any(str(Path(path).parent) in inputs.every_agents for path in recorded - set(inputs.tables))
