"""The Prefect server of a command: the one ``PREFECT_API_URL`` names, or one started here.

One that is started here to schedule a lake's runs keeps its state in the lake, so that past runs are there again the
next time. A run of its own has Prefect's temporary server, with its state where :mod:`affectlake.process.environment`
says. Either database is of one version of Prefect: a newer one changes it so that no older one can read it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.process.lease import place, process_started

START_LIMIT_S = 180.0
SAID_AFTER_S = 10.0
_STOP_LIMIT_S = 20.0
_PORT = 4200  # Prefect's own
_WITHOUT = "`dvc repro` and then `affectlake publish` need no server"
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
        Root of the lake. A server started here keeps ``prefect-VERSION.db`` and ``prefect.log`` in
        ``storage/collecting``; one whose starter was killed is taken over.
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
    port = _free_port(_PORT, 0)
    api = f"http://127.0.0.1:{port}/api"
    log = note.with_name("prefect.log")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    database = note.with_name(f"prefect-{version('prefect')}.db")
    settings = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
    # in a session of its own, so that Ctrl-C does not reach it before the runs have ended
    process = _start(command, settings, log, own_session=True)
    noted = {"api": api, "pid": process.pid, "started": process_started(process.pid), "place": place()}
    note.write_text(json.dumps(noted))
    try:
        _wait_until_healthy(api, process, log, START_LIMIT_S, say)
        yield api
    finally:
        _end(process.pid, process)
        note.unlink(missing_ok=True)


def _start(command: list[str], settings: dict[str, str], log: Path, *, own_session: bool) -> subprocess.Popen[bytes]:
    """Start a server that writes its errors, which this process keeps from the terminal, to a log."""
    env = os.environ | settings | {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR"}
    with log.open("ab") as sink:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=own_session,
        )


def start_temporary_server(say: Callable[[str], None]) -> None:
    """Start Prefect's temporary server, which ends with this process, unless Prefect's settings name a server.

    Prefect would start it by itself at the first flow, wait in silence until its limit even if it has ended, and not
    tell why.

    Parameters
    ----------
    say : callable
        Takes a line if it takes long.

    Raises
    ------
    LakeError
        If it does not start.
    """
    import atexit

    import prefect
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    server = SubprocessASGIServer()  # the one that Prefect's clients look for
    if settings.api.url or server.running:
        return
    port = _free_port(0)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(prefect.__file__).parents[1])]
    command += ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port)]
    env = settings.to_environment_variables(exclude_unset=True)
    env |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    log = settings.home / f"server-{port}.log"
    try:
        process = _start([*command, "--log-level", "error", "--lifespan", "on"], env, log, own_session=False)
    except OSError as error:
        todo = f"set PREFECT_HOME to a folder that can be written; {_WITHOUT}"
        raise LakeError("Prefect's temporary server cannot be started", found=str(error), todo=todo) from error
    server.port, server.server_process, server.running = port, process, True
    atexit.register(server.stop)
    limit_s = settings.server.ephemeral.startup_timeout_seconds
    try:
        _wait_until_healthy(server.api_url, process, log, limit_s, say)
    except LakeError as error:
        longer = f"; PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS={2 * limit_s} waits longer"
        error.todo += f"{longer if process.poll() is None else ''}; {_WITHOUT}"
        server.stop()
        raise
    log.unlink()


def _wait_until_healthy(
    api: str, process: subprocess.Popen[bytes], log: Path, limit_s: float, say: Callable[[str], None]
) -> None:
    began_s, said = time.monotonic(), False
    while not _is_healthy(api):
        waited_s, status = time.monotonic() - began_s, process.poll()
        if status is None and waited_s < limit_s:
            if waited_s > SAID_AFTER_S and not said:
                said = True
                say(f"waiting for the Prefect server, at most {limit_s:.0f} s; its log is {log}")
            time.sleep(0.1)
            continue
        how = f"did not start within {limit_s:.0f} s" if status is None else f"ended with status {status}"
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
        parts = urlsplit(f"{api.rstrip('/')}/health")
        request = Request(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
        if parts.username:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            request.add_header("Authorization", f"Basic {b64encode(user.encode()).decode()}")
        with _DIRECT.open(request, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def _note(lake: Path) -> Path:
    return lake / layout.COLLECTING / "prefect.json"


def _noted(note: Path) -> dict[str, Any] | None:
    """Return what is noted of a server that is alive, as far as can be told from here; None if there is none."""
    try:
        found = json.loads(note.read_text())
        alive = found["place"] == place() and process_started(int(found["pid"])) == str(found["started"]) != "gone"
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if alive and isinstance(found.get("api"), str) else None


def _free_port(*ports: int) -> int:
    """Return the first of `ports` that is free; 0 is any."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LakeError("no port of 127.0.0.1 is free", todo="end a server that is not needed")
