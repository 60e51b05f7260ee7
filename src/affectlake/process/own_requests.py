"""Which requests a server of pages answers: those that ask it by its own name, from its own pages.

A page of another website cannot ask it: its requests have another ``Origin`` or, after DNS rebinding, another ``Host``.
Every answer has headers that tell the browser to load nothing from elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Message, Send

from affectlake.errors import UsageError

RawHeaders = list[tuple[bytes, bytes]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this computer that only it can use."""

ANY = ("0.0.0.0", "::")
"""Addresses to listen at that mean all addresses of this computer."""


def is_own_name(host: str, names: Collection[str], *, any_address: bool = False) -> bool:
    """Return whether a ``Host`` header names this server.

    Parameters
    ----------
    host : str
        The header, with or without a port.
    names : collection of str
        The server's names, in lower case.
    any_address : bool
        Whether it may also be asked by any IP address, which DNS rebinding cannot use.
    """
    name = urlsplit(f"//{host}").hostname if _is_plain(host) else None
    return name is not None and (name in names or (any_address and _is_address(name)))


def is_foreign(headers: Headers, method: str, origins: Collection[str] = ()) -> bool:
    """Return whether a page of another website sent a request.

    Parameters
    ----------
    headers : Headers
        The request's headers.
    method : str
        Its method. Links of other websites may lead here, so that GET is foreign only by its ``Origin``.
    origins : collection of str
        Origins that are this server's own besides that of ``Host``, such as the one of a proxy.
    """
    origin, host = headers.get("origin", "").lower(), headers.get("host", "").lower()
    if "origin" in headers and origin not in origins and urlsplit(origin).netloc != host:
        return True
    return headers.get("sec-fetch-site") == "cross-site" and method != "GET"


def as_sent(headers: Mapping[str, str]) -> RawHeaders:
    """Return headers as a server sends them, for :func:`with_headers`."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def with_headers(send: Send, headers: RawHeaders) -> Send:
    """Return `send` with headers that every answer has, unless it sets them itself."""

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            present = {name for name, _ in given}
            message["headers"] = given + [one for one in headers if one[0] not in present]
        await send(message)

    return send_guarded


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    host : str
        The address to listen at.
    port : int
        The port; 0: a free one.

    Raises
    ------
    UsageError
        If the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(1024)
    except OSError as error:
        raise UsageError(
            f"the pages cannot be served at {host}, port {port}",
            found=str(error),
            todo="choose another --port or --host",
        ) from error
    return found


def shown_host(host: str) -> str:
    """Return the address to open in a browser for an address to listen at."""
    return "127.0.0.1" if host in ANY else f"[{host}]" if ":" in host else host


def _is_plain(host: str) -> bool:
    return bool(host) and not set(host) & set("/@\\?# ") and urlsplit(f"//{host}").username is None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
