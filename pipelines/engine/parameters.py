"""Which keys of ``params.yaml`` a step's result depends on, for one agent: what DVC is told to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import Step


def keys_of(step: Step, agent: str, params: Params, fitted: Sequence[str]) -> list[str]:
    """Return the dotted keys that a step depends on, each of them in ``params.yaml``.

    A key that an entry of this kind does not have is left out, such as ``sources.n_stimuli`` of published ratings.
    Where a key may be in the file and is not, the step depends on the whole section, so that adding the key is a
    change. So does a step for an agent with a dot in its name, of whose entry DVC cannot name a key.

    Parameters
    ----------
    step : Step
        The step.
    agent : str
        The agent that it runs for; empty for a step that runs once.
    params : Params
        The study's parameters.
    fitted : sequence of str
        The agents that have enough answers for an embedding.
    """
    found: dict[str, None] = {}
    for pattern in step.params:
        for name in fitted if "{agents}" in pattern else [agent]:
            of_agent = pattern.startswith("agents.")
            key = "agents" if of_agent and "." in name else pattern.format(agent=name, agents=name)
            nearest = _nearest(key, params)
            found |= {nearest: None} if nearest else {}
    sections = tuple(f"{key}." for key in found)
    return [key for key in found if not key.startswith(sections)]


def _nearest(key: str, params: Params) -> str:
    """Return the key; its section if the file may have it and does not; an empty string if it may not."""
    if _is_in(params.raw, key):
        return key
    section, _, word = key.rpartition(".")
    return _nearest(section, params) if section and hasattr(_object(params, section), word) else ""


def _is_in(raw: Mapping[str, Any], key: str) -> bool:
    value: Any = raw
    for word in key.split("."):
        if not isinstance(value, Mapping) or word not in value:
            return False
        value = value[word]
    return True


def _object(params: Params, section: str) -> object:
    """Return what a section was read as."""
    found: Any = params
    for word in section.split("."):
        found = found.get(word) if isinstance(found, Mapping) else getattr(found, word, None)
    return found
