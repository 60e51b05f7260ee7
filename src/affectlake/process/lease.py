"""Leases: at most one process at a time collects an agent's answers.

A lease is a row of a small SQLite file. Its holder renews it every few seconds. A lease that has not been renewed for
its expiry time is free, and so is that of a process that has ended. The latter can be checked only for processes of the
same boot and PID namespace, because a container and every boot number their processes separately. There is no queue: a
second process gets an error that names the holder.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LeaseError
from affectlake.process.identity import place, process_started

EXPIRES_S = 60.0
_BEATS_PER_EXPIRY = 4
_COLUMNS = "agent, token, host, pid, started, since_s, beat_s, expires_s, place"


class Holder(NamedTuple):
    """The holder of a lease.

    Attributes
    ----------
    agent : str
        Agent whose answers are collected.
    token : str
        Unique identifier of the lease.
    host, pid, started : str, int, str
        The process. `started` distinguishes it from a later process with the same ID; empty if the system does not
        provide it.
    since_s, beat_s : float
        Times at which it took and last renewed the lease, in seconds since 1970.
    expires_s : float
        Seconds without renewal after which the lease is free.
    place : str
        Scope of `pid`, see :func:`affectlake.process.identity.place`; empty if written by an older version.
    """

    agent: str
    token: str
    host: str
    pid: int
    started: str
    since_s: float
    beat_s: float
    expires_s: float
    place: str = ""

    def is_dead(self, now_s: float) -> bool:
        """Return whether the lease is free: it has expired, or its process is known to have ended."""
        if self.place == place() and process_started(self.pid) != self.started:
            return True
        return now_s - self.beat_s > self.expires_s

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_s, UTC)
        inside = " (in a container, or before a restart)" if self.is_elsewhere_on_this_host() else ""
        return f"process {self.pid} on {self.host}{inside}, since {since:%Y-%m-%d %H:%M:%S} UTC"

    def is_elsewhere_on_this_host(self) -> bool:
        """Return whether it is a process of this host whose ID is not valid here, as in a container."""
        return self.host == socket.gethostname() and self.place not in ("", place())


class Lease:
    """A lease that this process holds.

    Attributes
    ----------
    holder : Holder
        This process.
    lost : threading.Event
        Set if another process has taken the lease, for example after a suspension longer than the expiry. The caller
        must then stop writing.
    """

    def __init__(self, path: Path, holder: Holder) -> None:
        self.holder = holder
        self.lost = threading.Event()
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{holder.agent}", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self.holder.expires_s / _BEATS_PER_EXPIRY):
            try:
                with _opened(self._path) as database:
                    n = database.execute(
                        "UPDATE leases SET beat_s = ? WHERE agent = ? AND token = ?",
                        (time.time(), self.holder.agent, self.holder.token),
                    ).rowcount
            except sqlite3.OperationalError:
                continue  # the file is busy or temporarily unavailable; the next renewal may succeed
            if not n:
                self.lost.set()
                return

    def release(self) -> None:
        """Release the lease."""
        self._ended.set()
        self._thread.join()
        with _opened(self._path) as database:
            database.execute("DELETE FROM leases WHERE agent = ? AND token = ?", (self.holder.agent, self.holder.token))


@contextmanager
def hold(path: Path, agent: str, expires_s: float = EXPIRES_S) -> Iterator[Lease]:
    """Hold the lease of `agent` while the block runs.

    Parameters
    ----------
    path : Path
        The file of leases, shared by all processes that collect; it is created if it does not exist.
    agent : str
        Agent whose answers are to be collected.
    expires_s : float
        Seconds without renewal after which others may take the lease; more than 0.

    Raises
    ------
    LeaseError
        If another living process holds it.
    """
    now = time.time()
    mine = Holder(
        agent,
        uuid.uuid4().hex,
        socket.gethostname(),
        os.getpid(),
        process_started(os.getpid()),
        now,
        now,
        expires_s,
        place(),
    )
    with _opened(path) as database:
        other = _holder(database, agent)
        if other is not None and not other.is_dead(now):
            how = "where it runs" if other.is_elsewhere_on_this_host() else f"with `kill {other.pid}` on {other.host}"
            raise LeaseError(
                f"answers of {agent} are already being collected",
                found=str(other),
                todo=f"wait until it ends, or stop it {how}",
            )
        database.execute(f"INSERT OR REPLACE INTO leases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", mine)
    lease = Lease(path, mine)
    try:
        yield lease
    finally:
        lease.release()


def holder(path: Path, agent: str) -> Holder | None:
    """Return the holder of the lease of `agent`; None if the lease is free."""
    if not path.exists():
        return None
    with _opened(path) as database:
        found = _holder(database, agent)
    return None if found is None or found.is_dead(time.time()) else found


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file of leases for one exclusive transaction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "CREATE TABLE IF NOT EXISTS leases (agent TEXT PRIMARY KEY, token TEXT NOT NULL, host TEXT NOT NULL,"
            " pid INTEGER NOT NULL, started TEXT NOT NULL, since_s REAL NOT NULL, beat_s REAL NOT NULL,"
            " expires_s REAL NOT NULL, place TEXT NOT NULL DEFAULT '')"
        )
        if "place" not in [column[1] for column in database.execute("PRAGMA table_info(leases)")]:
            database.execute("ALTER TABLE leases ADD COLUMN place TEXT NOT NULL DEFAULT ''")  # made by an older version
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def _holder(database: sqlite3.Connection, agent: str) -> Holder | None:
    row = database.execute(f"SELECT {_COLUMNS} FROM leases WHERE agent = ?", (agent,)).fetchone()
    return None if row is None else Holder(*row)
