"""The check that a step whose code changed got a new version.

DVC reruns a step when its inputs, parameters or version change, not when a comment does. So somebody has to raise
the version when the code changes what it writes. ``fingerprints.json`` keeps, for each step, its version
and a hash of the code that decides what it writes (:mod:`affectlake.pipelines.engine.reach`); a test compares. After a
change: raise the version if the outputs change, then ``make docs`` writes the file anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine.code_files import Sources
from affectlake.pipelines.engine.reach import reached
from affectlake.pipelines.step import Step

RECORD = Path(__file__).with_name("fingerprints.json")


def current(sources: Sources | None = None) -> dict[str, dict[str, int | str]]:
    """Return the version and code hash of every step as the code stands.

    Parameters
    ----------
    sources : Sources, optional
        Where the code is read; by default, the files of this package.
    """
    found = sources or Sources()
    return {step.name: {"version": step.version, "code": fingerprint(step, found)} for step in STEPS.values()}


def recorded() -> dict[str, dict[str, int | str]]:
    """Return what ``fingerprints.json`` holds; empty when there is none."""
    found: dict[str, dict[str, int | str]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def unversioned(sources: Sources | None = None) -> list[str]:
    """Return the steps whose code differs from the record while their version does not."""
    before = recorded()
    return [
        name
        for name, now in current(sources).items()
        if name in before and now["code"] != before[name]["code"] and now["version"] == before[name]["version"]
    ]


def fingerprint(step: Step, sources: Sources) -> str:
    """Return a hash of the code that decides what `step` writes, blind to comments, docstrings and layout.

    It is the same under every version of Python.
    """
    digest = hashlib.sha256()
    for name, text in sorted(reached(step, sources).items()):
        digest.update(f"{name}\n{text}\n".encode())
    return digest.hexdigest()[:16]
