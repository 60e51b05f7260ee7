"""What, besides the code, decides the bytes of a table: versions of Python and of packages, and the processor."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "numpy", "scipy", "scikit-learn", "numba", "torch", "polars", "pyarrow", "networkx", "nilearn", "nibabel",
)  # fmt: skip
"""Packages that compute or write tables."""


@cache
def environment() -> str:
    """Return the environment of this process as one line, such as ``python 3.12.1; numpy 2.3.5; …; processor x86_64``.

    Packages that are not installed are left out.
    """
    found = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return "; ".join([*found, f"processor {_processor()}"])


def environment_changes(before: str, now: str) -> list[str]:
    """Return the entries in which two lines of :func:`environment` differ, such as ``numpy 2.3.4 instead of 2.3.5``.

    Parameters
    ----------
    before : str
        The line that was recorded; if empty, no change is known.
    now : str
        The line of this process.
    """
    if not before:
        return []
    then, today = _entries(before), _entries(now)
    return [
        f"{name} {today.get(name, 'is missing')} instead of {then.get(name, 'none')}"
        for name in dict.fromkeys([*then, *today])
        if then.get(name) != today.get(name)
    ]


def _entries(line: str) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition(" ") for entry in line.split("; "))}


def _processor() -> str:
    """Return the architecture and, on Linux, the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2] for line in lines if line.startswith("model name")), platform.processor())
    return " ".join([platform.machine(), *model.replace(";", ",").split()])
