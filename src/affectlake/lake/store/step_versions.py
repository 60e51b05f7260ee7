"""The version of each step that made a lake's tables, as the lake's ``dvc.lock`` has it.

A step's version rises when its code writes something else. What changed between two versions of a lake stands in the
commit of the later one, so that a changed table can be told from a changed parameter.
"""

from __future__ import annotations

from affectlake.lake.files.names import is_step
from affectlake.lake.store.versions import Manifest

_OPTION = "--step-version"


def step_versions(manifest: Manifest) -> dict[str, str]:
    """Return the version of each step that has run, by name; several where stages of one step were made by several."""
    found: dict[str, set[int]] = {}
    for stage, entry in manifest.stages.items():
        words = str(entry.get("cmd")).split()
        if is_step(stage, entry.get("cmd")) and _OPTION in words[:-1]:
            number = words[words.index(_OPTION) + 1]
            if number.isdecimal():
                found.setdefault(stage.partition("@")[0], set()).add(int(number))
    return {step: " and ".join(map(str, sorted(numbers))) for step, numbers in sorted(found.items())}


def changed_steps(now: Manifest, before: Manifest | None) -> str:
    """Return the steps whose version differs from that of an earlier version of the lake, or that it had not.

    Parameters
    ----------
    now : Manifest
        Of the version to describe.
    before : Manifest or None
        Of the version before it; None if there is none, and nothing has changed.

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
