"""A queue for a device of this machine, such as a GPU: one process at a time starts a server on it, the first first.

The device and each place in the queue are file locks, which the kernel releases when a process ends, also by a kill.
The files are in the user's cache folder, so that all lakes of the user on this machine share one queue. The file of
the device also names the note of the server that its holder starts: if the holder was killed, that server may still
occupy the device, and the next holder stops it.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from affectlake.errors import CollectionError
from affectlake.process.file_lock import take_lock
from affectlake.process.managed_server import stop_orphan
from affectlake.process.server_note import find_orphan
from affectlake.process.user_cache import user_cache

FOLDER = "AFFECTLAKE_DEVICES"
"""Environment variable with another folder for the files."""

_POLL_S = 0.2
_STOP_LIMIT_S = 20.0
_NEW = ".new-"


class DeviceHolder(NamedTuple):
    """The holder of a device: what it is, its process and host, since when, and the note of its server."""

    what: str
    pid: int
    host: str
    since_s: float
    note: str

    def __str__(self) -> str:
        since = f"{datetime.fromtimestamp(self.since_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"held by {self.what}, process {self.pid} on {self.host}, since {since}"


@contextmanager
def hold_device(
    name: str, what: str, note: Path, *, limit_s: float, log: Callable[[str], None] = lambda _line: None
) -> Iterator[None]:
    """Hold a device while the block runs; wait for it in order of arrival.

    Parameters
    ----------
    name : str
        Name of the device; a valid file name.
    what : str
        What holds it, for the messages of others.
    note : Path
        Note of the server that is started on it (:mod:`affectlake.process.server_note`).
    limit_s : float
        Longest time to wait, in seconds; may be infinite.
    log : callable
        Takes one line that names the holder, for each holder that is waited for.

    Raises
    ------
    CollectionError
        If the device is not free within the limit, or no folder for the queue is writable.
    """
    folder = _folder()
    with _queued(folder / f"{name}.queue") as ticket, (folder / f"{name}.lock").open("a+", encoding="utf-8") as handle:
        deadline, named = time.monotonic() + limit_s, ""
        while not (_is_first(ticket) and take_lock(handle)):
            state = device_state(name)
            if time.monotonic() >= deadline:
                raise CollectionError(
                    f"device {name} was not free within {limit_s:g} s",
                    found=state,
                    todo="wait until it is free, or raise `server.device_limit_s` of the agent",
                )
            holder = state.partition(";")[0]
            if holder not in ("free", named):
                named = holder
                log(f"waiting for device {name}, {state}")
            time.sleep(_POLL_S)
        ticket.unlink()
        _stop_left_server(handle, note, name, log)
        handle.truncate(0)
        handle.write(
            json.dumps(DeviceHolder(what, os.getpid(), socket.gethostname(), time.time(), str(note))._asdict())
        )
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def device_state(name: str) -> str:
    """Return who holds a device, since when, and how many processes wait for it; ``free`` if it is not held."""
    folder = _folder()
    path = folder / f"{name}.lock"
    if not path.exists():
        return "free"
    with path.open(encoding="utf-8") as handle:
        holder = _holder(handle)
        if take_lock(handle):
            return "free"
    n = sum(not _is_stale(one) for one in _tickets(folder / f"{name}.queue"))
    held = str(holder) if holder else "held by a process that has just started"
    return f"{held}; {n:,} waiting" if n else held


def _folder() -> Path:
    found = user_cache("devices", os.environ.get(FOLDER, ""))
    if found is None:
        raise CollectionError("no folder for the queues of devices is writable", todo=f"set {FOLDER} to a folder")
    return found


@contextmanager
def _queued(folder: Path) -> Iterator[Path]:
    """Take the last place of a queue while the block runs: a file that this process holds the lock of."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    new, ticket = folder / f"{_NEW}{name}", folder / name
    with new.open("w") as handle:
        take_lock(handle)
        new.rename(ticket)  # others see it only with its lock
        try:
            yield ticket
        finally:
            ticket.unlink(missing_ok=True)


def _tickets(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if not path.name.startswith(_NEW))


def _is_first(ticket: Path) -> bool:
    """Return whether all earlier places belong to processes that have ended; remove these."""
    for other in _tickets(ticket.parent):
        if other == ticket:
            return True
        if not _is_stale(other):
            return False
        other.unlink(missing_ok=True)
    return True


def _is_stale(ticket: Path) -> bool:
    try:
        with ticket.open() as handle:
            return take_lock(handle)
    except FileNotFoundError:
        return True


def _holder(handle: TextIO) -> DeviceHolder | None:
    handle.seek(0)
    with suppress(ValueError, TypeError):
        return DeviceHolder(**json.loads(handle.read()))
    return None


def _stop_left_server(handle: TextIO, note: Path, name: str, log: Callable[[str], None]) -> None:
    """Stop the server of a holder that was killed; a server of the same note is taken over by its next run."""
    left = _holder(handle)
    if left is None or left.note == str(note) or find_orphan(Path(left.note)) is None:
        return
    log(f"stopping the server that {left.what} left on device {name} when it was killed")
    stop_orphan(Path(left.note), _STOP_LIMIT_S)
