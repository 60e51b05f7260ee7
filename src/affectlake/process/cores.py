"""The number of processor cores that this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the number of cores that the process is allowed to run on; where that is unknown, of all cores."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
