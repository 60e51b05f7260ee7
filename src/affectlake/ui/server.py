"""The server of the pages: on the loopback, with a new token at every start."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from affectlake.errors import UsageError
from affectlake.ui.access import LOOPBACK, Access
from affectlake.ui.app import app

_ANY = ("0.0.0.0", "::")


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
    listening = _listen(host, port)
    own_port = listening.getsockname()[1]
    named = [host, socket.gethostname()] if host not in LOOPBACK else []
    pages = Access(app(root, at), token, named, any_address=host in _ANY)
    shown = "127.0.0.1" if host in _ANY else f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        pages,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    ready(f"http://{shown}:{own_port}/?token={token}")
    server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        raise UsageError(
            f"the pages cannot be served at {host}, port {port}",
            found=str(error),
            todo="choose another --port or --host",
        ) from error
    return found
