"""HTTP client: one attempt at one server gives a reply, or a failure of a known kind without secrets.

Retries are decided in :mod:`affectlake.judge.requests.collector`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson

from affectlake.errors import CollectionError, UsageError
from affectlake.judge.requests.answers import Failure, Reply
from affectlake.judge.requests.model_names import same_model
from affectlake.judge.requests.payloads import LONGEST_BODY, load, storable
from affectlake.judge.requests.refusals import refusal, retry_after
from affectlake.judge.requests.replies import read_reply
from affectlake.secrets import HIDDEN, hide

LONGEST_MESSAGE = 500
CONNECT_S = 10.0
PROBE_S = 10.0
KEEP_ALIVE_S = 4.0  # vLLM's server closes idle connections after five
_LOOKS_SECRET = re.compile(r"(?i)(bearer\s+|api[-_ ]?key\W{1,4}|\b)((?:sk|pk|hf|gsk|xai)[-_][\w-]{8,}|(?<=bearer )\S+)")


class Facts(NamedTuple):
    """What a server reports about itself: the models it serves, and its engine's version (empty if not reported)."""

    models: tuple[str, ...]
    engine: str


class Scrubber:
    """Filter that removes secrets from texts that are shown or stored.

    Parameters
    ----------
    secrets : iterable of str
        Strings that must never appear. Strings that look like keys are hidden as well.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({s for s in secrets if s}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return `text` on one line, shortened, and without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = _LOOKS_SECRET.sub(lambda m: f"{m.group(1) or ''}{HIDDEN}", hide(text))
        return storable(" ".join(text.split())[:LONGEST_MESSAGE])


def api_key(variable: str) -> str:
    """Return the API key in the environment variable `variable`, or an empty string if `variable` is empty.

    Raises
    ------
    UsageError
        If the variable is not set or is empty.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(
            f"the API key is missing: the environment variable {variable} is not set",
            wanted=f"{variable}, the agent's api_key_env",
            todo=f"export {variable}=…, and run again",
        )
    return key


class Client:
    """Client of OpenAI-compatible servers.

    Parameters
    ----------
    key : str
        API key; empty for servers that do not need one.
    timeout_s : float
        Time limit of one request in seconds, from the connection to the last byte.
    connections : int
        Largest number of open connections to all servers together.
    """

    def __init__(self, key: str = "", timeout_s: float = 300.0, connections: int = 256) -> None:
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str | None] = {}
        self.scrub = Scrubber([key])

    async def __aenter__(self) -> Self:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=60, family=socket.AF_UNSPEC
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=self._timeout,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, url: str, body: Mapping[str, Any]) -> Reply:
        """Send a chat-completions request once.

        Parameters
        ----------
        url : str
            The server's base URL, such as ``http://127.0.0.1:8000/v1``.
        body : mapping
            The request.

        Raises
        ------
        Failure
            If the attempt brought no answer, with the server's or the operating system's message.
        """
        status, headers, payload = await self._send(
            "POST", f"{url}/chat/completions", self._timeout, orjson.dumps(body, default=dict)
        )
        if status != 200:
            raise self._refusal(status, headers, payload)
        try:
            reply = read_reply(payload)
        except Failure as failure:
            rest_s = max(failure.retry_after_s, _rest_s(headers))
            raise Failure(failure.kind, self.scrub(failure.message), rest_s) from None
        asked = str(body.get("model", ""))
        if reply.model and asked and not same_model(asked, reply.model):
            raise Failure("wrong_model", self.scrub(f"{asked!r} was asked, but {reply.model!r} answered"))
        return reply

    async def facts(self, url: str) -> Facts:
        """Return what the server reports about itself, from ``/v1/models`` and (vLLM only) ``/version``.

        Raises
        ------
        Failure
            If the server does not answer, or does not list its models.
        """
        limit = aiohttp.ClientTimeout(total=PROBE_S, sock_connect=CONNECT_S)
        status, headers, payload = await self._send("GET", f"{url}/models", limit)
        if status != 200:
            raise self._refusal(status, headers, payload)
        try:
            models = tuple(str(one["id"]) for one in load(payload).value["data"])
        except (ValueError, LookupError, TypeError) as error:
            raise Failure(
                "malformed", self.scrub(f"not a list of models: {payload[:200].decode(errors='replace')}")
            ) from error
        return Facts(models, await self._engine(url, limit))

    async def _engine(self, url: str, limit: aiohttp.ClientTimeout) -> str:
        try:
            status, _, payload = await self._send("GET", f"{url.removesuffix('/v1')}/version", limit)
            return storable(str(load(payload).value["version"])) if status == 200 else ""
        except (Failure, ValueError, LookupError, TypeError):
            return ""

    async def _send(
        self, method: str, url: str, limit: aiohttp.ClientTimeout, data: bytes | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert self._session is not None, "a client is used inside `async with`"
        try:
            async with self._session.request(
                method, url, data=data, timeout=limit, allow_redirects=False, proxy=self._proxy(url)
            ) as response:
                return response.status, response.headers, await _body(response)
        except aiohttp.ConnectionTimeoutError as error:
            raise Failure("unreachable", self.scrub(f"no connection within {CONNECT_S:.0f} s")) from error
        except TimeoutError as error:
            raise Failure("timed_out", f"no answer within {limit.total:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Failure("unreachable", self.scrub(str(error))) from error
        except aiohttp.ClientPayloadError as error:
            raise Failure("truncated", self.scrub(str(error))) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failure("reset", self.scrub(str(error) or type(error).__name__)) from error

    def _proxy(self, url: str) -> str | None:
        """Return the proxy that the environment sets for `url`; it is looked up once for each server."""
        place = urlsplit(url)
        origin = f"{place.scheme}://{place.netloc}"
        if origin not in self._proxies:
            bypassed = proxy_bypass(place.hostname or "") or place.hostname in ("127.0.0.1", "localhost", "::1")
            self._proxies[origin] = None if bypassed else getproxies().get(place.scheme)
        return self._proxies[origin]

    def _refusal(self, status: int, headers: Mapping[str, str], payload: bytes) -> Failure:
        found = refusal(status, payload, _rest_s(headers))
        return Failure(found.kind, self.scrub(found.message), found.retry_after_s)


async def examine(client: Client, url: str, model: str) -> Facts:
    """Return what the server at `url` reports about itself, if it serves `model`.

    Raises
    ------
    CollectionError
        If the server does not answer, rejects the API key or does not serve the model.
    """
    try:
        facts = await client.facts(url)
    except Failure as failure:
        raise unusable(
            url, failure, f"an OpenAI-compatible server that lists its models at {shown(url)}/models"
        ) from failure
    if not any(same_model(model, one) for one in facts.models):
        raise CollectionError(
            f"the server at {shown(url)} does not serve {model!r}",
            allowed=", ".join(facts.models) or "nothing: its list of models is empty",
            todo="correct the model name of the agent in params.yaml, or start the server with --served-model-name",
        )
    return facts


def unusable(url: str, failure: Failure, wanted: str) -> CollectionError:
    """Return the error of a server that failed before the first question."""
    return CollectionError(
        f"the server at {shown(url)} cannot be used: {failure.kind.replace('_', ' ')}",
        found=failure.message,
        wanted=wanted,
        todo="start the server, or correct the URL or the key of the agent in params.yaml",
    )


def shown(url: str) -> str:
    """Return `url` without user name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return a response's body, decompressed.

    At most `LONGEST_BODY` bytes are read. The body of an error response is truncated to that.

    Raises
    ------
    Failure
        If an answer is longer (kind ``too_long``).
    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LONGEST_BODY:
            response.close()
            if response.status == 200:
                raise Failure("too_long", f"one answer has more than {LONGEST_BODY:,} bytes")
            break
    return bytes(body)


def _rest_s(headers: Mapping[str, str]) -> float:
    return retry_after(headers.get("Retry-After"), datetime.now(UTC))
