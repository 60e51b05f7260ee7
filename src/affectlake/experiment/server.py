"""The server of an experiment: one process, on the loopback unless told otherwise."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from affectlake.errors import UsageError
from affectlake.experiment.access import Access
from affectlake.experiment.app import Experiment, application
from affectlake.experiment.assets import Assets
from affectlake.experiment.offer import Contents, Offer, ServeSettings
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.store_operations import add_links
from affectlake.process.file_lock import file_lock
from affectlake.process.loop_signals import call_on_signals
from affectlake.process.own_requests import ANY, LOOPBACK, listen, shown_host

log = logging.getLogger(__name__)

Renew = Callable[[int], Offer | None]


def serve(
    store_path: Path,
    offer: Offer,
    contents: Contents,
    settings: ServeSettings,
    assets: Assets,
    key: bytes,
    *,
    ready: Callable[[str], None],
    host: str = "127.0.0.1",
    port: int = 8080,
    public_url: str = "",
    renew: Renew | None = None,
    renew_s: float = 10.0,
) -> None:
    """Serve an experiment until SIGINT or SIGTERM, then answer the requests that are there, and return.

    Parameters
    ----------
    store_path : Path
        The session store; it is created if it does not exist.
    offer : Offer
        What can be asked.
    contents : Contents
        The stimuli.
    settings : ServeSettings
        The settings.
    assets : Assets
        The page.
    key : bytes
        The key with which ids of a panel are hashed.
    ready : callable
        Takes the address to give to participants, once the server listens.
    host, port : str, int
        Where to listen; port 0: a free one.
    public_url : str
        The address that participants open, such as ``https://study.example/``, if a proxy serves it.
    renew : callable, optional
        Called in a thread every `renew_s` seconds, with the number of answers to trials of the plan; returns a new
        offer, or None if it stays. The page is answered meanwhile.
    renew_s : float
        Seconds.

    Raises
    ------
    UsageError
        If the address cannot be used.
    LakeError
        If another process serves this experiment.
    """
    busy = f"another process serves {settings.agent}"
    with (
        file_lock(store_path.with_suffix(".lock"), f"serving {settings.agent}", busy=busy, todo="stop it first"),
        SessionStore(store_path) as store,
    ):
        experiment = Experiment(store, offer, contents, settings, assets, key)
        listening = listen(host, port)
        own = checked_url(public_url) or f"http://{shown_host(host)}:{listening.getsockname()[1]}/"
        app = application(experiment, _renewing(experiment, renew, renew_s))
        named = [host, socket.gethostname()] if host not in LOOPBACK else []
        guarded = Access(app, experiment.refusals, named, public_url=public_url, any_address=host in ANY)
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=5,
            timeout_keep_alive=75,
        )
        address = f"{own}?study={experiment.sessions.study_token}"
        asyncio.run(_run(_Server(config, lambda: ready(address)), listening))


def make_links(store_path: Path, base: str, n: int) -> list[str]:
    """Add `n` links that each one participant can use, and return them.

    Parameters
    ----------
    store_path : Path
        The session store.
    base : str
        The address that participants open.
    n : int
        Number of links.
    """
    with SessionStore(store_path) as store:
        return [f"{base}?link={token}" for token in store.do(lambda database: add_links(database, n))]


def checked_url(url: str) -> str:
    """Return an address with a slash at its end; an empty one stays.

    Raises
    ------
    UsageError
        If it is not an address of a page.
    """
    found = urlsplit(url)
    if url and (found.scheme not in {"http", "https"} or not found.hostname or found.query or found.fragment):
        raise UsageError("--public-url is not an address", found=url, allowed="such as https://study.example/")
    return url if not url or url.endswith("/") else f"{url}/"


class _Server(uvicorn.Server):
    """A server whose signals are handled by :func:`_run`, so that files are closed at the end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call `ready`."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


async def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    def end() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    with call_on_signals(asyncio.get_running_loop(), end):
        await server.serve(sockets=[listening])


@asynccontextmanager
async def _renewing(experiment: Experiment, renew: Renew | None, every_s: float) -> AsyncIterator[None]:
    async def keep_renewing() -> None:
        while renew is not None:
            await asyncio.sleep(every_s)
            try:
                offer = await asyncio.to_thread(renew, experiment.sessions.n_answers)
            except Exception:
                log.exception("the trials could not be renewed; the present ones stay")
                continue
            if offer is not None:
                experiment.sessions.update(offer)

    task = asyncio.get_running_loop().create_task(keep_renewing())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
