"""Server processes: starting a server, waiting until it is ready, and stopping it with its child processes.

A *note*, a small JSON file beside the server's log, records the server's process, its command, and the process that
started it. With it, the next run finds a server whose starter was killed (an orphan), and takes it over or stops it. A
process ID alone is not trusted, because it may belong to another process by then.
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
    """Settings for starting and recognising a server.

    Parameters
    ----------
    command : tuple of str
        Program and arguments.
    health_url : str
        URL that returns status 200 once the server is ready.
    log : Path
        File to which its output is appended.
    note : Path
        File for the note while the server runs.
    env : mapping
        Environment variables in addition to those of this process.
    start_limit_s, stop_limit_s : float
        Seconds that the server may take to be ready, and to end before it is killed.
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
        """Hash of its command, environment and address, by which the server is recognised."""
        parts = [self.command, sorted(self.env.items()), self.health_url]
        return sha256(json.dumps(parts).encode()).hexdigest()


class RunningServer(NamedTuple):
    """A server that is ready: its process, whether it was an orphan, and how long the start took."""

    pid: int
    taken_over: bool
    seconds: float


StartFailure = Literal["address taken", "not started", "ended", "too slow"]


class ServerStartError(Exception):
    """A server did not become ready. Callers convert this to an error with advice.

    Attributes
    ----------
    reason : {'address taken', 'not started', 'ended', 'too slow'}
        Another server answers at its address; the program could not be run; it ended; or it was not ready within its
        time limit, and was stopped.
    how : str
        The reason with details, to follow the server's name: ``ended with status 3 before it was ready``.
    last_lines : tuple of str
        Last lines of its output.
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
    """Run a server while the block is active; afterwards, stop it and its child processes.

    An orphan with the same settings is taken over. An orphan with other settings but the same note is stopped first.

    Parameters
    ----------
    launch : ServerLaunch
        How to start it.
    waiting : callable
        Called several times a second until the server is ready, with the seconds waited so far.

    Raises
    ------
    ServerStartError
        If the server cannot be started, ends before it is ready, or is not ready within its limit.
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
    """Return whether a server on this machine returns status 200 for `url`; proxies are not used."""
    try:
        with _DIRECT.open(url, timeout=_ANSWER_LIMIT_S) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, HTTPException):
        return False


def stop_orphan(note: Path, stop_limit_s: float) -> None:
    """Stop the server in a note if it is an orphan, and remove the note unless its server is running."""
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
    """Start the command in a new session, so that Ctrl-C does not reach it before its clients."""
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
        if server.has_ended:  # if the URL was answered, then by another server
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
    """Return the last non-empty lines that were written to a log after byte `start`."""
    try:
        with log.open("rb") as source:
            source.seek(max(log.stat().st_size - _BYTES_SHOWN, start))
            lines = source.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple([line.strip() for line in lines if line.strip()][-_LINES_SHOWN:])
