"""The keys of ``params.yaml`` on which the result of a step depends, for one agent; DVC compares their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import Step


def keys_of(step: Step, agent: str, params: Params, fitted: Sequence[str]) -> list[str]:
    """Return the dotted keys on which a step depends; all of them are in ``params.yaml``.

    Keys that an entry of this kind cannot have, such as ``sources.n_stimuli`` for published ratings, are left out. If
    a key is optional and not in the file, the step depends on the whole section, so that adding the key is a change;
    except for the step's `optional` keys, whose absence is not a dependency.
    A step also depends on the whole section if the agent's name contains a dot, because DVC cannot address its entry.

    Parameters
    ----------
    step : Step
        The step.
    agent : str
        Agent for which the step runs; empty for a step that runs once.
    params : Params
        The study's parameters.
    fitted : sequence of str
        Agents that have enough answers for an embedding.

    Returns
    -------
    list of str
        The keys.
    """
    found: dict[str, None] = {}
    for pattern in step.params:
        for name in fitted if "{agents}" in pattern else [agent]:
            of_agent = pattern.startswith("agents.")
            key = "agents" if of_agent and "." in name else pattern.format(agent=name, agents=name)
            if pattern in step.optional and not _is_in(params.raw, key):
                continue
            nearest = _nearest(key, params)
            found |= {nearest: None} if nearest else {}
    sections = tuple(f"{key}." for key in found)
    return [key for key in found if not key.startswith(sections)]


def _nearest(key: str, params: Params) -> str:
    """Return the key; its section if the key is optional and missing; an empty string if it cannot be there."""
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
    """Return the parsed value of a section."""
    found: Any = params
    for word in section.split("."):
        found = found.get(word) if isinstance(found, Mapping) else getattr(found, word, None)
    return found
