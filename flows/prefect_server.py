"""The Prefect server that schedules a lake's runs: the one ``PREFECT_API_URL`` names, or one started here.

One that is started here keeps its state in the lake, so that past runs are there again the next time.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import ProxyHandler, build_opener

from affectlake.errors import LakeError
from affectlake.judge.lease import process_started
from affectlake.lake import layout

START_LIMIT_S = 180.0
_STOP_LIMIT_S = 20.0
_PORT = 4200  # Prefect's own
_DIRECT = build_opener(ProxyHandler({}))  # a server on this machine is not behind a proxy


class PrefectServer(NamedTuple):
    """A server that runs can be registered with: its API, its pages, whether it was started here."""

    api: str
    ui: str
    started_here: bool


@contextmanager
def prefect_server(lake: Path, say: Callable[[str], None]) -> Iterator[PrefectServer]:
    """Have a Prefect server while the block runs, and Prefect's settings point at it.

    Parameters
    ----------
    lake : Path
        Root of the lake. A server started here keeps ``prefect.db`` and ``prefect.log`` in ``storage/collecting``; one
        whose starter was killed is taken over.
    say : callable
        Takes one line of progress.

    Raises
    ------
    LakeError
        If it cannot be reached, or does not start.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

    given = PREFECT_API_URL.value()
    if given:
        if not _is_healthy(given):
            raise LakeError(
                f"no Prefect server answers at {given}",
                todo="start it, or unset PREFECT_API_URL to have one started here",
            )
        yield PrefectServer(given, PREFECT_UI_URL.value() or given.removesuffix("/api"), started_here=False)
        return
    with _own_server(lake, say) as api, temporary_settings({PREFECT_API_URL: api}):
        yield PrefectServer(api, api.removesuffix("/api"), started_here=True)


def running_server(lake: Path) -> str:
    """Return the API of the server that another process has started for this lake; empty if there is none."""
    found = _noted(_note(lake))
    return found["api"] if found and _is_healthy(found["api"]) else ""


@contextmanager
def _own_server(lake: Path, say: Callable[[str], None]) -> Iterator[str]:
    note = _note(lake)
    note.parent.mkdir(parents=True, exist_ok=True)
    orphan = _noted(note)
    if orphan is not None:
        _end(orphan["pid"], None)
    say("starting a Prefect server")
    port = _free_port()
    api = f"http://127.0.0.1:{port}/api"
    log = note.with_name("prefect.log")
    process = _start(port, note.with_name("prefect.db"), log)
    note.write_text(json.dumps({"api": api, "pid": process.pid, "started": process_started(process.pid)}))
    try:
        _wait_until_healthy(api, process, log)
        yield api
    finally:
        _end(process.pid, process)
        note.unlink(missing_ok=True)


def _start(port: int, database: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, so that Ctrl-C does not reach it before the runs have ended."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    env = os.environ | {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
    with log.open("ab") as sink:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )


def _wait_until_healthy(api: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    while not _is_healthy(api):
        if process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.25)
            continue
        how = "did not start" if process.poll() is None else f"ended with status {process.poll()}"
        last = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        raise LakeError(f"the Prefect server {how}", found=" | ".join(last) or "an empty log", todo=f"read {log}")


def _end(pid: int, process: subprocess.Popen[bytes] | None) -> None:
    """Ask the server to end; kill it and what it started after the limit."""
    import psutil

    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in tree[:1]:
        one.terminate()
    _, left = psutil.wait_procs(tree, _STOP_LIMIT_S)
    for one in left:
        one.kill()
    if process is not None:
        process.wait()


def _is_healthy(api: str) -> bool:
    try:
        with _DIRECT.open(f"{api.rstrip('/')}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def _note(lake: Path) -> Path:
    return lake / layout.COLLECTING / "prefect.json"


def _noted(note: Path) -> dict[str, Any] | None:
    """Return what is noted of a server that is alive; None if there is none."""
    try:
        found = json.loads(note.read_text())
        alive = process_started(int(found["pid"])) == str(found["started"]) != "gone"
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if alive and isinstance(found.get("api"), str) else None


def _free_port() -> int:
    """Return Prefect's own port, or any other if that is taken."""
    for port in (_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LakeError("no port of 127.0.0.1 is free", todo="end a server that is not needed")
