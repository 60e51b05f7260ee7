"""The server of the pages: on the loopback, with a new token at every start."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from affectlake.process.own_requests import ANY, LOOPBACK, listen, shown_host
from affectlake.ui.access import Access
from affectlake.ui.app import app


def serve(root: Path, at: str, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve the pages of a lake until the process is interrupted.

    Parameters
    ----------
    root : Path
        Root of the lake.
    at : str
        The version that is shown first; the latest if empty.
    host : str
        The address to listen at.
    port : int
        The port; 0: a free one.
    ready : callable
        Takes the address to open, with the token, once the server listens.

    Raises
    ------
    UsageError
        If the address cannot be used.
    """
    token = secrets.token_urlsafe(24)
    listening = listen(host, port)
    own_port = listening.getsockname()[1]
    named = [host, socket.gethostname()] if host not in LOOPBACK else []
    pages = Access(app(root, at), token, named, any_address=host in ANY)
    config = uvicorn.Config(
        pages,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    ready(f"http://{shown_host(host)}:{own_port}/?token={token}")
    server.run(sockets=[listening])
