"""The note beside a server's log: the server's process, how it was started, and the process that started it.

It outlives a run that was killed. A process ID alone is not trusted, because it may belong to another process by then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from affectlake.process.identity import place, process_started


class ServerNote(NamedTuple):
    """The content of a note.

    Attributes
    ----------
    pid, started : int, str
        The server's process ID and start time, see :func:`affectlake.process.identity.process_started`.
    starter, starter_started : int, str
        The same for the process that started it; the start time is empty if written by an older version.
    place : str
        Scope of the process IDs, see :func:`affectlake.process.identity.place`.
    fingerprint : str
        :attr:`affectlake.process.managed_server.ServerLaunch.fingerprint`; empty if written by an older version.
    health_url : str
        URL that returns status 200 once the server is ready.
    """

    pid: int
    started: str
    starter: int
    starter_started: str
    place: str
    fingerprint: str
    health_url: str


def write_note(note: Path, pid: int, fingerprint: str, health_url: str) -> None:
    """Write a note that this process has started, or taken over, the server `pid`."""
    starter = os.getpid()
    noted = ServerNote(pid, process_started(pid), starter, process_started(starter), place(), fingerprint, health_url)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(noted._asdict()), encoding="utf-8")


def read_note(note: Path) -> ServerNote | None:
    """Return the note if its server is certainly running; None if not, if that is unknown, or without a valid note."""
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
    """Return the note if its server is running and its starter has ended; otherwise None."""
    noted = read_note(note)
    if noted is None:
        return None
    starter = process_started(noted.starter)
    is_gone = starter == "gone" or (starter != noted.starter_started and "" not in (starter, noted.starter_started))
    return noted if is_gone else None
