"""Lakes that several tests begin with, each built once per test run, whatever the number of workers.

A test that changes its lake works on a copy (:func:`copy_of`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FOLDER = "AFFECTLAKE_TEST_BUILDS"
"""The environment variable with the folder of the builds, which all workers of a run share (``tests/conftest.py``)."""


def built_once(name: str, make: Callable[[Path], object], key: Mapping[str, Any] | None = None) -> Path:
    """Return a folder that `make` made, in this process or in another one of the same run.

    Parameters
    ----------
    name : str
        What is built.
    make : callable
        Called with the path of the folder, which does not exist. If it raises, the next caller tries again.
    key : mapping, optional
        What the build depends on besides `name`, as JSON can hold it: another key is another folder.

    Returns
    -------
    Path
        The folder. It belongs to all tests: copy it to change it.
    """
    digest = hashlib.sha256(json.dumps(key or {}, sort_keys=True, default=str).encode()).hexdigest()[:12]
    place = Path(os.environ[FOLDER]) / f"{name}-{digest}"
    place.mkdir(parents=True, exist_ok=True)
    folder, done = place / "lake", place / "done"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    """Copy a built folder, with the symbolic links in it, and return `target`."""
    return shutil.copytree(folder, target, symlinks=True)
