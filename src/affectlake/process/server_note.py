"""A note beside a server's log: which process the server is, how it was started, and by which process.

It is what is left of a run that was killed. A process ID alone is never trusted: the number may belong to another
process by then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from affectlake.process.identity import place, process_started


class ServerNote(NamedTuple):
    """What is noted of a server.

    Attributes
    ----------
    pid, started : int, str
        The process, as :func:`affectlake.process.identity.process_started` tells it from others with its number.
    starter, starter_started : int, str
        The process that started it, likewise; its start is empty in what older versions wrote.
    place : str
        Where the numbers mean that, as :func:`affectlake.process.identity.place` says.
    fingerprint : str
        :attr:`affectlake.process.managed_server.ServerLaunch.fingerprint`; empty in what older versions wrote.
    health_url : str
        Where to ask whether it is ready.
    """

    pid: int
    started: str
    starter: int
    starter_started: str
    place: str
    fingerprint: str
    health_url: str


def write_note(note: Path, pid: int, fingerprint: str, health_url: str) -> None:
    """Note that this process has started, or taken over, the server `pid`."""
    starter = os.getpid()
    noted = ServerNote(pid, process_started(pid), starter, process_started(starter), place(), fingerprint, health_url)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(noted._asdict()), encoding="utf-8")


def read_note(note: Path) -> ServerNote | None:
    """Return what is noted of a server that is alive for certain; None if there is none, or if it cannot be told."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        noted = ServerNote(
            int(found["pid"]),
            str(found["started"]),
            int(found["starter"]),
            str(found.get("starter_started", "")),
            str(found["place"]),
            str(found.get("fingerprint", "")),
            str(found.get("health_url", "")),
        )
        alive = noted.place == place() and process_started(noted.pid) == noted.started not in ("", "gone")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None
    return noted if alive else None


def find_orphan(note: Path) -> ServerNote | None:
    """Return the noted server if it is alive and its starter is gone; else None."""
    noted = read_note(note)
    if noted is None:
        return None
    starter = process_started(noted.starter)
    is_gone = starter == "gone" or (starter != noted.starter_started and "" not in (starter, noted.starter_started))
    return noted if is_gone else None
