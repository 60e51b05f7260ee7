"""The versions of the steps that made a lake's tables, from the lake's ``dvc.lock``.

A step's version is raised when its code writes something else. The commit of a lake's version lists the steps that
changed since the version before, so that changes of code can be distinguished from changes of parameters.
"""

from __future__ import annotations

from affectlake.lake.files.names import is_step
from affectlake.lake.store.versions import Manifest

_OPTION = "--step-version"


def step_versions(manifest: Manifest) -> dict[str, str]:
    """Return the version of each step that has run, by name; several if its stages have different versions."""
    found: dict[str, set[int]] = {}
    for stage in manifest.stages:
        number = stage_version(manifest, stage)
        if number is not None:
            found.setdefault(stage.partition("@")[0], set()).add(number)
    return {step: " and ".join(map(str, sorted(numbers))) for step, numbers in sorted(found.items())}


def stage_version(manifest: Manifest, stage: str) -> int | None:
    """Return the version of the step that made a stage's tables; None if the stage is not recorded, or not a step's."""
    command = manifest.stages.get(stage, {}).get("cmd")
    words = str(command).split()
    if not is_step(stage, command) or _OPTION not in words[:-1]:
        return None
    number = words[words.index(_OPTION) + 1]
    return int(number) if number.isdecimal() else None


def changed_steps(now: Manifest, before: Manifest | None) -> str:
    """Return the steps that are new or have another version than in an earlier version of the lake.

    Parameters
    ----------
    now : Manifest
        Manifest of the version to describe.
    before : Manifest or None
        Manifest of the version before it; None if there is none, and nothing has changed.

    Returns
    -------
    str
        Such as ``embed 3 -> 4, describe 1 (new)``; empty if nothing has changed.
    """
    if before is None:
        return ""
    old = step_versions(before)
    return ", ".join(
        f"{step} {old[step]} -> {number}" if step in old else f"{step} {number} (new)"
        for step, number in step_versions(now).items()
        if old.get(step) != number
    )
