"""The Prefect server of a command: the server that ``PREFECT_API_URL`` names, or one that is started here.

A server that is started to schedule a lake's runs keeps its database in the lake, so that past runs remain visible. A
single run has a temporary server, with its database in the folder that :mod:`affectlake.process.environment` sets.
Both databases belong to one version of Prefect, because a newer version migrates a database so that older versions
cannot read it. :mod:`affectlake.process.managed_server` starts, monitors and stops the server's process.
"""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from affectlake.errors import LakeError
from affectlake.flows.prefect_settings import START_LIMIT, prefect_settings, start_limit_s
from affectlake.lake.files import layout
from affectlake.process.file_lock import file_lock
from affectlake.process.managed_server import ServerLaunch, ServerStartError, is_healthy, managed_server, stop_orphan
from affectlake.process.server_note import find_orphan, read_note

if TYPE_CHECKING:
    from prefect.settings import Settings

FIRST_LINE_AFTER_S = 10.0
LINE_EVERY_S = 60.0
_STOP_LIMIT_S = 20.0
_TEMPORARY_STOP_LIMIT_S = 5.0
_PORT = 4200  # Prefect's own
_LINES_SHOWN = 3

Log = Callable[[str], None]


class PrefectServer(NamedTuple):
    """A Prefect server: the URLs of its API and user interface, and whether it was started here."""

    api: str
    ui: str
    started_here: bool


@contextmanager
def prefect_server(lake: Path, log: Log) -> Iterator[PrefectServer]:
    """Provide a persistent Prefect server while the block runs, and set Prefect's settings to use it.

    Parameters
    ----------
    lake : Path
        Root of the lake. A server started here keeps ``prefect-VERSION.db`` and ``prefect.log`` in
        ``storage/collecting``; a server whose parent process was killed is taken over.
    log : callable
        Takes one line of progress.

    Raises
    ------
    LakeError
        If the server cannot be reached, or does not start.
    UsageError
        If Prefect's settings cannot be read.
    """
    settings = prefect_settings()
    if settings.api.url:
        _refuse_unreachable(settings.api.url)
        ui = settings.ui_url or settings.api.url.removesuffix("/api")
        yield PrefectServer(settings.api.url, ui, started_here=False)
        return
    orphan = find_orphan(_note(lake))
    log("starting a Prefect server" if orphan is None else "taking over the Prefect server of a killed run")
    api = orphan.health_url.removesuffix("/health") if orphan else _address(_free_port(_PORT, 0))
    port = api.removesuffix("/api").rpartition(":")[2]
    database = _note(lake).with_name(f"prefect-{version('prefect')}.db")
    launch = ServerLaunch(
        (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port),
        f"{api}/health",
        _note(lake).with_name("prefect.log"),
        _note(lake),
        _quiet() | {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"},
        start_limit_s(settings),
        _STOP_LIMIT_S,
    )
    with _started(launch, api, log):
        yield PrefectServer(api, api.removesuffix("/api"), started_here=True)


def running_server(lake: Path) -> str:
    """Return the API URL of the server that another process has started for this lake; empty if there is none."""
    noted = read_note(_note(lake))
    return noted.health_url.removesuffix("/health") if noted and is_healthy(noted.health_url) else ""


@contextmanager
def temporary_server(log: Log, without: str = "") -> Iterator[None]:
    """Provide a Prefect server while the block runs: a temporary one, unless Prefect's settings name another.

    Prefect itself starts a server at the first flow, waits for it without a message until its time limit even if the
    server has already exited, and does not report the cause.

    Parameters
    ----------
    log : callable
        Takes a line of progress from time to time if the start takes long.
    without : str
        How to do the same without a server, for the error's remedy.

    Raises
    ------
    LakeError
        If the server does not start, or the server named in the settings cannot be reached.
    UsageError
        If Prefect's settings cannot be read.
    """
    settings = prefect_settings()
    import prefect

    if settings.api.url:
        _refuse_unreachable(settings.api.url, without)
        yield
        return
    for note in settings.home.glob("server-*.json"):
        stop_orphan(note, _TEMPORARY_STOP_LIMIT_S)
    port = _free_port(0)
    program = (sys.executable, "-m", "uvicorn", "--app-dir", str(Path(prefect.__file__).parents[1]))
    where = ("--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port))
    env = settings.to_environment_variables(exclude_unset=True)
    env |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    launch = ServerLaunch(
        (*program, *where, "--log-level", "error", "--lifespan", "on"),
        f"{_address(port)}/health",
        settings.home / f"server-{port}.log",
        settings.home / f"server-{port}.json",
        env | _quiet(),
        start_limit_s(settings),
        _TEMPORARY_STOP_LIMIT_S,
    )
    with ExitStack() as stack:
        with _making_database(settings, log):
            stack.enter_context(_started(launch, _address(port), log, without))
        launch.log.unlink()
        yield


@contextmanager
def _making_database(settings: Settings, log: Log) -> Iterator[None]:
    """Let one server at a time start on a database that does not exist yet: two would create it at the same time."""
    url = settings.server.database.connection_url
    name = sha256(url.get_secret_value().encode() if url else b"").hexdigest()[:16]
    made = settings.home / f"database-{name}.made"
    if made.exists() or not os.access(settings.home, os.W_OK):
        yield
        return
    busy = "another Prefect server is creating its database"
    lock = made.with_suffix(".lock")
    with file_lock(lock, "the start of a Prefect server", busy=busy, todo="wait", wait_s=math.inf, log=log):
        yield
        made.touch()


@contextmanager
def _started(launch: ServerLaunch, api: str, log: Log, without: str = "") -> Iterator[None]:
    """Run a server while the block runs, and set Prefect's settings to use it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    next_line_s = FIRST_LINE_AFTER_S

    def waiting(waited_s: float) -> None:
        nonlocal next_line_s
        _import_client()  # takes about as long as the start of the server
        if waited_s >= next_line_s:
            next_line_s += LINE_EVERY_S
            limit = f"{launch.start_limit_s:.0f} s ({START_LIMIT})"
            log(f"waiting for the Prefect server for {waited_s:.0f} s, at most {limit}; its log is {launch.log}")

    with ExitStack() as stack:
        try:
            stack.enter_context(managed_server(launch, waiting))
        except ServerStartError as error:
            raise _not_started(launch, error, without) from error
        stack.enter_context(temporary_settings({PREFECT_API_URL: api}))
        try:
            yield
        finally:
            _send_pending_logs()


def _import_client() -> None:
    """Import the parts of Prefect that flows need."""
    import prefect.flows
    import prefect.futures
    import prefect.task_runners  # noqa: F401


def _send_pending_logs() -> None:
    """Send the last events and log lines, which Prefect's threads hold, while the server still runs."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=_TEMPORARY_STOP_LIMIT_S)


def _not_started(launch: ServerLaunch, error: ServerStartError, without: str) -> LakeError:
    todo = f"read {launch.log}"
    if error.reason == "not started":
        todo = f"make {launch.log.parent} writable, or set PREFECT_HOME to another folder"
    elif error.reason == "too slow":
        todo += f"; on a busy machine, raise {START_LIMIT}, such as to {2 * launch.start_limit_s:.0f} (seconds)"
    return LakeError(
        f"the Prefect server {error.how}; nothing was run, and nothing is lost",
        wanted=f"an answer from {launch.health_url}",
        found=" | ".join(error.last_lines[-_LINES_SHOWN:]) or "an empty log",
        todo="; ".join(filter(None, [todo, without])),
    )


def _refuse_unreachable(api: str, without: str = "") -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        raise LakeError(
            f"no Prefect server answers at {api}",
            found=f"{type(error).__name__}: {error}".splitlines()[0],
            todo="; ".join(filter(None, ["start it, or unset PREFECT_API_URL to start one here", without])),
        )


def _quiet() -> dict[str, str]:
    """Return the settings with which a server writes only errors to its log."""
    return {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR"}


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def _note(lake: Path) -> Path:
    return lake / layout.COLLECTING / "prefect.json"


def _free_port(*ports: int) -> int:
    """Return the first of `ports` that is free; 0 stands for any port."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LakeError("there is no free port on 127.0.0.1", todo="stop a server that is not needed")
