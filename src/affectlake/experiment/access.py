"""Who may ask the server of an experiment: browsers that ask it by its own name, from its own page."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from affectlake.experiment.app import refusal
from affectlake.experiment.refusals import Refusals, Refused
from affectlake.process.own_requests import LOOPBACK, as_sent, is_foreign, is_own_name, with_headers

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # the address has the token, and a panel's id
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_SENT = as_sent(HEADERS)


class Access:
    """Middleware that refuses requests by another name or from pages of other websites, and adds `HEADERS`.

    Parameters
    ----------
    app : ASGI application
        The experiment.
    refusals : Refusals
        Counts what is refused.
    hosts : iterable of str
        Names by which the server may be asked, besides those of the loopback.
    public_url : str
        The address that participants open, if a proxy has another one than this server; otherwise empty.
    any_address : bool
        Whether it may also be asked by any IP address.
    """

    def __init__(
        self,
        app: ASGIApp,
        refusals: Refusals,
        hosts: Iterable[str] = (),
        *,
        public_url: str = "",
        any_address: bool = False,
    ) -> None:
        self._app, self._refusals, self._any_address = app, refusals, any_address
        public = urlsplit(public_url)
        self._names = {*LOOPBACK, *(host.lower() for host in hosts), *([public.hostname] if public.hostname else [])}
        self._origins = {f"{public.scheme}://{public.netloc}".lower()} if public.netloc else set[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the experiment answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_own = is_own_name(headers.get("host", ""), self._names, any_address=self._any_address)
        if is_own and not is_foreign(headers, scope["method"], self._origins):
            await self._app(scope, receive, with_headers(send, _SENT))
            return
        refused = Refused("bad_origin", "this server is asked only by its own name and from its own page")
        await refusal(self._refusals, refused)(scope, receive, with_headers(send, _SENT))
