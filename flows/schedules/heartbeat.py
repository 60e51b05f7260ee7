"""The heartbeat of the scheduler: a small file of the lake that it renews while it runs, for monitors."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole

BEAT_S = 30.0
DEAD_AFTER_S = 150.0
"""Seconds without a beat after which a scheduler that has not been stopped is treated as dead."""


class Heartbeat(NamedTuple):
    """The last beat of a lake's scheduler: its process and host, when it was, and whether it was stopped then."""

    pid: int
    host: str
    beat_s: float
    is_stopped: bool

    @property
    def is_dead(self) -> bool:
        """Whether the scheduler has not been stopped and has not renewed the file for `DEAD_AFTER_S`."""
        return not self.is_stopped and time.time() - self.beat_s > DEAD_AFTER_S


def beat(lake: Path, *, is_stopped: bool = False) -> None:
    """Renew the heartbeat; a disk that is full or read-only is reported by the runs themselves."""
    found = Heartbeat(os.getpid(), socket.gethostname(), time.time(), is_stopped)
    with suppress(OSError):
        write_whole(_path(lake), json.dumps(found._asdict()).encode())


def heartbeat(lake: Path) -> Heartbeat | None:
    """Return the last beat of the lake's scheduler; None if none was ever recorded."""
    try:
        return Heartbeat(**json.loads(_path(lake).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _path(lake: Path) -> Path:
    return lake / layout.COLLECTING / "scheduler.json"
