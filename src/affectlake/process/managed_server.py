"""The life of a server that this process starts: started, waited for, stopped with everything that it started.

A *note*, a small JSON file beside the server's log, says which process the server is, with which command it was
started, and by which process. A server whose starter was killed (an orphan) is found through it by the next run, and
taken over or stopped. A process ID alone is never trusted: the number may belong to another process by then.

What is asked of a server, and what its failure means to a user, do not belong here.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.request import ProxyHandler, build_opener

from affectlake.process.identity import process_started
from affectlake.process.process_tree import ProcessTree
from affectlake.process.server_note import find_orphan, read_note, write_note

_POLL_S = 0.1
_ANSWER_LIMIT_S = 5.0
_LINES_SHOWN = 12
_BYTES_SHOWN = 16_384
_DIRECT = build_opener(ProxyHandler({}))  # a server of this machine is not behind a proxy


@dataclass(frozen=True)
class ServerLaunch:
    """How a server is started, and how it is recognised.

    Parameters
    ----------
    command : tuple of str
        Program and arguments.
    health_url : str
        Answers with status 200 once the server is ready.
    log : Path
        Where its output goes, appended.
    note : Path
        Where it is noted while it lives.
    env : mapping
        Environment variables beside those of this process.
    start_limit_s, stop_limit_s : float
        How long it may take to be ready; how long it may take to end before it is killed.
    """

    command: tuple[str, ...]
    health_url: str
    log: Path
    note: Path
    env: Mapping[str, str] = field(default_factory=dict)
    start_limit_s: float = 900.0
    stop_limit_s: float = 20.0

    @property
    def fingerprint(self) -> str:
        """A hash of what makes it this server: its command, environment and address."""
        parts = [self.command, sorted(self.env.items()), self.health_url]
        return sha256(json.dumps(parts).encode()).hexdigest()


class RunningServer(NamedTuple):
    """A server that is ready: its process, whether it was taken over from a starter that is gone, and the wait."""

    pid: int
    taken_over: bool
    seconds: float


StartFailure = Literal["address taken", "not started", "ended", "too slow"]


class ServerStartError(Exception):
    """A server did not become ready. The caller says what that means and what to do.

    Attributes
    ----------
    reason : {'address taken', 'not started', 'ended', 'too slow'}
        Another server answers at its address; the program could not be run; it ended; it still ran when its time was
        up, and was stopped.
    how : str
        The same with its details, to follow the server's name: ``ended with status 3 before it was ready``.
    last_lines : tuple of str
        What it wrote last.
    """

    def __init__(self, reason: StartFailure, how: str, last_lines: tuple[str, ...] = ()) -> None:
        super().__init__(how)
        self.reason = reason
        self.how = how
        self.last_lines = last_lines


@contextmanager
def managed_server(
    launch: ServerLaunch, waiting: Callable[[float], None] = lambda _seconds: None
) -> Iterator[RunningServer]:
    """Have a server while the block runs; stop it and everything that it started afterwards.

    An orphan of the same launch is taken over, and one of another launch with the same note is stopped first.

    Parameters
    ----------
    launch : ServerLaunch
        How it is started.
    waiting : callable
        Called several times a second until the server is ready, with the seconds waited so far.

    Raises
    ------
    ServerStartError
        If it cannot be started, ends before it is ready, or is not ready within its limit.
    """
    began_s = time.monotonic()
    server = _take_over(launch)
    taken_over = server is not None
    log_start = 0
    if server is None:
        log_start = launch.log.stat().st_size if launch.log.exists() else 0
        server = _start(launch)
    try:
        write_note(launch.note, server.pid, launch.fingerprint, launch.health_url)
        _wait_until_ready(launch, server, log_start, waiting)
        yield RunningServer(server.pid, taken_over, time.monotonic() - began_s)
    finally:
        server.stop(launch.stop_limit_s)
        launch.note.unlink(missing_ok=True)


def is_healthy(url: str) -> bool:
    """Return whether a server of this machine answers `url` with status 200, without a proxy."""
    try:
        with _DIRECT.open(url, timeout=_ANSWER_LIMIT_S) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, HTTPException):
        return False


def stop_orphan(note: Path, stop_limit_s: float) -> None:
    """Stop the noted server if its starter is gone, and remove the note unless it is of a living starter's server."""
    orphan = find_orphan(note)
    if orphan is not None:
        ProcessTree(orphan.pid, orphan.started, None).stop(stop_limit_s)
    if read_note(note) is None:
        note.unlink(missing_ok=True)


def _take_over(launch: ServerLaunch) -> ProcessTree | None:
    orphan = find_orphan(launch.note)
    if orphan is None:
        return None
    server = ProcessTree(orphan.pid, orphan.started, None)
    if orphan.fingerprint == launch.fingerprint:
        return server
    server.stop(launch.stop_limit_s)
    return None


def _start(launch: ServerLaunch) -> ProcessTree:
    """Start the command as the head of a session of its own, so that Ctrl-C does not reach it before its clients."""
    if is_healthy(launch.health_url):
        raise ServerStartError("address taken", f"cannot be started: another server answers at {launch.health_url}")
    try:
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        with launch.log.open("ab") as sink:
            child = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **launch.env},
                start_new_session=True,
            )
    except OSError as error:
        raise ServerStartError("not started", f"cannot be started: {error.strerror}", (str(error),)) from error
    return ProcessTree(child.pid, process_started(child.pid), child)


def _wait_until_ready(
    launch: ServerLaunch, server: ProcessTree, log_start: int, waiting: Callable[[float], None]
) -> None:
    began_s = time.monotonic()
    while True:
        is_ready = is_healthy(launch.health_url)
        if server.has_ended:  # whoever answered was another server
            status = "" if server.exit_status is None else f" with status {server.exit_status}"
            how = f"ended{status} before it was ready"
            raise ServerStartError("ended", how, _last_lines(launch.log, log_start))
        if is_ready:
            return
        waited_s = time.monotonic() - began_s
        if waited_s >= launch.start_limit_s:
            how = f"was not ready within {launch.start_limit_s:g} s"
            raise ServerStartError("too slow", how, _last_lines(launch.log, log_start))
        waiting(waited_s)
        time.sleep(_POLL_S)


def _last_lines(log: Path, start: int) -> tuple[str, ...]:
    """Return the last lines that were written to a log after `start`, empty ones left out."""
    try:
        with log.open("rb") as source:
            source.seek(max(log.stat().st_size - _BYTES_SHOWN, start))
            lines = source.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple([line.strip() for line in lines if line.strip()][-_LINES_SHOWN:])
