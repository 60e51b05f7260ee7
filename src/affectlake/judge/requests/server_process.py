"""The life of a server that a run starts itself: begun, waited for, stopped with everything it started, its log kept.

A server that is already up is used and left alone. What is asked of it does not belong here.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from affectlake.errors import CollectionError
from affectlake.judge.requests.client import Scrubber
from affectlake.judge.server_command import ServerCommand
from affectlake.process.lease import place, process_started

_POLL_S = 0.25
_LOOK_S = 5.0
_LINES_SHOWN = 12
_DIRECT = build_opener(ProxyHandler({}))  # a server that is started here is not behind a proxy


class Served(NamedTuple):
    """A server that is ready: its base URL, whether it was started here, and how long that took."""

    url: str
    started_here: bool
    seconds: float


@contextmanager
def serve(
    server: ServerCommand, log: Path, secrets: Sequence[str] = (), stop_limit_s: float = 20.0
) -> Iterator[Served]:
    """Have a server while the block runs.

    Parameters
    ----------
    server : ServerCommand
        How to start it.
    log : Path
        Where its output goes, appended. Beside it, ``<log>.pid`` names its process while it lives, so that a server
        whose starter was killed is taken over by the next run and stopped at its end.
    secrets : sequence of str
        What must not appear in an error message.
    stop_limit_s : float
        How long it may take to end before it is killed.

    Raises
    ------
    CollectionError
        If it does not start, ends, or is not ready within its limit.
    """
    started_s = time.monotonic()
    note = log.with_name(f"{log.name}.pid")
    orphan = _orphan(note)
    if is_healthy(server.health_url) and orphan is None:
        yield Served(server.url, started_here=False, seconds=0.0)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    scrub = Scrubber(secrets)
    process = None if orphan is not None else _start(server, log, scrub)
    pid = orphan or (process.pid if process is not None else 0)
    noted = {"pid": pid, "started": process_started(pid), "starter": os.getpid(), "place": place()}
    note.write_text(json.dumps(noted))
    try:
        _wait_until_healthy(server, process, log, scrub)
        yield Served(server.url, started_here=True, seconds=time.monotonic() - started_s)
    finally:
        _stop(pid, process, stop_limit_s)
        note.unlink(missing_ok=True)


def is_healthy(url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        with _DIRECT.open(url, timeout=_LOOK_S) as response:
            return bool(response.status == 200)
    except (URLError, OSError, ValueError):
        return False


def _start(server: ServerCommand, log: Path, scrub: Scrubber) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own, its output in the log."""
    with log.open("ab") as sink:
        try:
            return subprocess.Popen(
                server.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **server.env},
                start_new_session=True,
            )
        except OSError as error:
            raise CollectionError(
                f"the server cannot be started: {error.strerror}",
                found=scrub(shlex.join(server.command)),
                todo="install the program, or mend server.command of the agent in params.yaml",
            ) from error


def _wait_until_healthy(
    server: ServerCommand, process: subprocess.Popen[bytes] | None, log: Path, scrub: Scrubber
) -> None:
    until_s = time.monotonic() + server.start_limit_s
    while not is_healthy(server.health_url):
        ended = process is not None and process.poll() is not None
        if not ended and time.monotonic() < until_s:
            time.sleep(_POLL_S)
            continue
        status = process.returncode if process is not None else None
        raise CollectionError(
            f"the server ended with status {status} before it was ready"
            if ended
            else f"the server was not ready within {server.start_limit_s:g} s",
            wanted=f"200 from {server.health_url}",
            found=" | ".join(scrub(line) for line in _last_lines(log)) or "an empty log",
            todo=f"read {log}" + ("" if ended else ", or raise server.start_limit_s"),
        )


def _last_lines(log: Path) -> list[str]:
    with log.open("rb") as source:
        source.seek(max(log.stat().st_size - 16_384, 0))
        return source.read().decode(errors="replace").splitlines()[-_LINES_SHOWN:]


def _stop(pid: int, process: subprocess.Popen[bytes] | None, limit_s: float) -> None:
    """Ask the whole process group to end; kill what is left of it after the limit."""
    _signal_group(pid, signal.SIGTERM)
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s and _lives(pid, process):
        time.sleep(0.05)
    _signal_group(pid, signal.SIGKILL)
    if process is not None:
        process.wait()


def _lives(pid: int, process: subprocess.Popen[bytes] | None) -> bool:
    return process.poll() is None if process is not None else process_started(pid) != "gone"


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _orphan(note: Path) -> int | None:
    """Return the process that a run which no longer lives has started here and left; None if there is none."""
    try:
        found = json.loads(note.read_text())
        if found["place"] != place():
            return None  # neither number means anything here
        pid, started, starter = int(found["pid"]), str(found["started"]), int(found["starter"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    alive = process_started(pid) == started != "gone"
    return pid if alive and process_started(starter) == "gone" else None
