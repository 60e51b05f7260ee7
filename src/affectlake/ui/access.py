"""Who may read the pages: those who have the token, from a browser that asks this server itself.

The token is in the address that is printed when the server starts; opening it sets a cookie. A page of another website
cannot use it: its requests have another ``Origin`` or, after DNS rebinding, another ``Host``, and the cookie is not
sent with them. Every answer tells the browser to load nothing from elsewhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from affectlake.process.own_requests import LOOPBACK, as_sent, is_foreign, is_own_name, with_headers

WRITING_PATHS = ("/sql", "/sql.csv")
"""Paths that accept POST: a query may be longer than an address. They change nothing."""

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would be sent with the origin "null"
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SENT = as_sent(HEADERS)


class Access:
    """Middleware that answers 403 to all who may not read, and 405 to all that is not reading.

    Parameters
    ----------
    app : ASGI application
        The pages.
    token : str
        The secret.
    hosts : iterable of str
        Names by which the server may be asked, besides those of the loopback.
    any_address : bool
        Whether it may also be asked by any IP address, which DNS rebinding cannot use.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str] = (), *, any_address: bool = False) -> None:
        self._app, self._token = app, token
        self._hosts, self._any_address = {*LOOPBACK, *(host.lower() for host in hosts)}, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the pages answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._refusal(scope, Headers(scope=scope)) or self._entry(scope)
        await (answer or self._app)(scope, receive, with_headers(send, _SENT))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not is_own_name(headers.get("host", ""), self._hosts, any_address=self._any_address):
            return _refused("this server does not have the name by which it was asked")
        if is_foreign(headers, scope["method"]):
            return _refused("pages of other websites may not ask this server")
        if not self._has_token(scope, headers):
            return _refused("open the address with the token that `affectlake ui` printed")
        allowed = ("GET", "HEAD", "POST") if scope["path"] in WRITING_PATHS else ("GET", "HEAD")
        if scope["method"] not in allowed:
            return PlainTextResponse("pages can only be read\n", 405, {"Allow": ", ".join(allowed)})
        return None

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        return any(
            secrets.compare_digest(one.encode(), self._token.encode())
            for one in (_given(scope), _kept(headers, self._cookie(scope)))
        )

    def _entry(self, scope: Scope) -> Response | None:
        """Return the answer to the address with the token: a cookie, and the same page without the token."""
        if not _given(scope) or scope["method"] != "GET":
            return None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie(scope), self._token, httponly=True, samesite="strict", path="/")
        return answer

    @staticmethod
    def _cookie(scope: Scope) -> str:
        """Return the name of the cookie; browsers do not keep the cookies of ports apart."""
        _, port = scope.get("server") or ("", 0)
        return f"affectlake-{port}"


def _refused(why: str) -> Response:
    return PlainTextResponse(f"403: {why}\n", 403)


def _given(scope: Scope) -> str:
    found = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
    return str(found[0])


def _kept(headers: Headers, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return str(cookies[name].value) if name in cookies else ""
