"""The check that a step has a new version if its code changed.

DVC runs a step again if its inputs, its parameters or its version change. A developer has to raise the version if a
change of the code changes the outputs. ``fingerprints.json`` contains the version of each step and a hash of the code
on which its outputs depend (:mod:`affectlake.pipelines.engine.reach`), and a test compares both. After a change of the
code, raise the version if the outputs change, and then run ``make docs``, which updates the file.
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
    """Return the version and the current code hash of every step.

    Parameters
    ----------
    sources : Sources, optional
        Source files from which the code is read; by default, the files of this package.
    """
    found = sources or Sources()
    return {step.name: {"version": step.version, "code": fingerprint(step, found)} for step in STEPS.values()}


def recorded() -> dict[str, dict[str, int | str]]:
    """Return the content of ``fingerprints.json``; empty if the file does not exist."""
    found: dict[str, dict[str, int | str]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def unversioned(sources: Sources | None = None) -> list[str]:
    """Return the steps whose code differs from the record, but whose version is the same."""
    before = recorded()
    return [
        name
        for name, now in current(sources).items()
        if name in before and now["code"] != before[name]["code"] and now["version"] == before[name]["version"]
    ]


def fingerprint(step: Step, sources: Sources) -> str:
    """Return a hash of the code on which the outputs of `step` depend, without comments, docstrings and layout.

    The hash does not depend on the version of Python.
    """
    digest = hashlib.sha256()
    for name, text in sorted(reached(step, sources).items()):
        digest.update(f"{name}\n{text}\n".encode())
    return digest.hexdigest()[:16]
