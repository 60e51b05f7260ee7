"""A real HTTP server on loopback that speaks as an OpenAI-compatible one, and fails on demand.

Answers are a function of the request, so a test can say what every row must be. It counts what it was asked. For
speed it is a bare protocol on asyncio: it must not be what a benchmark of the client measures.

    python tests/support/fault_server.py PORT [MODEL]        serve until killed
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar, Literal

from affectlake.judge.requests.constraints import PROBE, WAYS

Fault = Literal[
    "ok",
    "429",
    "429 after 1",
    "500",
    "503",
    "400",
    "401",
    "402",
    "404",
    "hang",
    "reset",
    "truncated",
    "cut JSON",
    "no choices",
    "wrong choice",
    "empty text",
    "null text",
    "slow",
    "other model",
    "echo key",
    "endless",
    "bomb",
]

LABELS = ("1", "2", "3")

_STATUS = {"429": 429, "429 after 1": 429, "500": 500, "503": 503, "400": 400, "401": 401, "402": 402, "404": 404}
_REASON = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 404: "Not Found"}


def expected_text(body: bytes) -> str:
    """Return the text that the server answers a request with."""
    return f"Video {sha256(body).digest()[0] % 3 + 1}"


@dataclass
class FaultServer:
    """What the server does and what it has seen.

    Attributes
    ----------
    script : deque of str
        Faults of the next requests, used up first.
    faults : tuple of str
        What a share of the other requests meets.
    share : float
        Which share, drawn by `rng`.
    slow_s : float
        How long a ``slow`` answer takes.
    seconds : float
        How long every answer takes.
    most_at_once : int
        More requests than this at once get a 429; 0 for no bound.
    models : tuple of str
        What it lists.
    key : str
        The API key it wants; none if empty.
    says : callable
        Takes a request, returns the text of its answer.
    odd : callable
        Takes a request and its ordinary completion, returns what is sent: an object as JSON, bytes as they are, a
        status and an object as a refusal.
    more_headers : str
        Further lines in the head of a completion, each with its end.
    obeys : tuple of str
        Fields by which it limits its answers to labels: keys of ``constraints.WAYS``. It ignores the others.
    refuses : tuple of str
        Fields for which it sends status 400 in answer to a test question.
    refusal : str
        The message of that answer; empty: it names the field.
    lists : callable
        Takes a test question and its answer, returns the answer's log-probabilities, as a chat completion has them.
    tested : list
        The test questions it was asked, which no fault meets and which are not counted.
    test_faults : deque of str
        Faults of the next test questions.
    n_endless : int
        Bytes of endless answers that the system has taken.
    asked, served : Counter
        Requests, and whole answers sent, by the SHA-256 of the request.
    """

    models: tuple[str, ...] = ("tiny",)
    script: deque[Fault] = field(default_factory=deque)
    faults: tuple[Fault, ...] = ()
    share: float = 0.0
    slow_s: float = 0.5
    seconds: float = 0.0
    most_at_once: int = 0
    counting: bool = True
    key: str = ""
    asked: Counter[bytes] = field(default_factory=Counter)
    served: Counter[bytes] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    headers: list[str] = field(default_factory=list)
    asked_at_s: list[float] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    says: Callable[[bytes], str] = expected_text
    odd: Callable[[bytes, dict[str, Any]], Any] = lambda _asked, ordinary: ordinary
    more_headers: str = ""
    obeys: tuple[str, ...] = ("structured_outputs",)
    refuses: tuple[str, ...] = ()
    refusal: str = ""
    lists: Callable[[dict[str, Any], str], dict[str, Any] | None] = lambda _asked, _answer: None
    tested: list[dict[str, Any]] = field(default_factory=list)
    test_faults: deque[Fault] = field(default_factory=deque)
    n_endless: int = 0
    port: int = 0
    now: int = 0
    most_seen: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def fault(self) -> Fault:
        """Return what the next request meets."""
        if self.script:
            return self.script.popleft()
        if self.most_at_once and self.now > self.most_at_once:
            return "429"
        return self.rng.choice(self.faults) if self.share and self.rng.random() < self.share else "ok"

    @contextmanager
    def running(self, port: int = 0) -> Iterator[FaultServer]:
        """Serve from a thread while the block runs."""
        ready, ended = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            loops.append(loop)
            listening = await loop.create_server(lambda: _Connection(self, loop), "127.0.0.1", port or self.port)
            self.port = listening.sockets[0].getsockname()[1]
            ready.set()
            await ended.wait()
            listening.close()
            for connection in list(_Connection.open.pop(loop, ())):
                connection.transport.abort()

        thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        thread.start()
        assert ready.wait(20), "the server does not start"
        try:
            yield self
        finally:
            loops[0].call_soon_threadsafe(ended.set)
            thread.join()


class _Connection(asyncio.Protocol):
    """One connection: reads requests, answers each."""

    open: ClassVar[dict[asyncio.AbstractEventLoop, set[_Connection]]] = {}
    transport: asyncio.Transport

    def __init__(self, server: FaultServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop, self.buffer = server, loop, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.open.setdefault(self.loop, set()).add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.open.get(self.loop, set()).discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body, line = self.buffer[end + 4 : end + 4 + length], self.buffer.split(b"\r\n", 1)[0]
            self.server.headers[:] = [self.buffer[:end].decode()]
            self.buffer = self.buffer[end + 4 + length :]
            self.request(line, body)

    def request(self, line: bytes, body: bytes) -> None:
        if self.server.key and f"Authorization: Bearer {self.server.key}" not in self.server.headers[0]:
            self.send(401, {"error": f"Unauthorized: {self.server.headers[0]}"})
        elif line.startswith(b"GET /v1/models"):
            self.send(200, {"object": "list", "data": [{"id": m, "object": "model"} for m in self.server.models]})
        elif line.startswith(b"GET /version"):
            self.send(200, {"version": "fault/1"})
        elif line.startswith(b"GET /health"):
            self.send(200, {})
        elif line.startswith(b"POST /v1/chat/completions"):
            self.completion(body)
        else:
            self.send(404, {"detail": "Not Found"})

    def completion(self, body: bytes) -> None:
        server = self.server
        if PROBE.encode() in body:
            self.test(json.loads(body))
            return
        server.now += 1
        server.most_seen = max(server.most_seen, server.now)
        fault = server.fault()
        server.met[fault] += 1
        if server.counting:
            server.asked[sha256(body).digest()] += 1
            server.asked_at_s.append(time.monotonic())
        wait = server.slow_s if fault == "slow" else server.seconds
        if wait:
            self.loop.call_later(wait, self.answer, fault, body)
        else:
            self.answer(fault, body)

    def answer(self, fault: Fault, body: bytes) -> None:
        server = self.server
        if fault == "hang":
            return  # still under way
        server.now -= 1
        if self.transport.is_closing():
            return
        if fault == "reset":
            self.transport.abort()
        elif fault in _STATUS:
            self.refuse(fault)
        elif fault == "echo key":
            self.send(400, {"error": {"message": f"what is this: {server.headers[0]}"}})
        else:
            self.complete(fault, body)

    def test(self, asked: dict[str, Any]) -> None:
        """Answer the question by which a client finds out how answers are limited to labels."""
        server = self.server
        server.tested.append(asked)
        if server.test_faults and (fault := server.test_faults.popleft()) != "ok":
            self.refuse(fault)
            return
        way = next((way for way, make in WAYS.items() if all(asked.get(k) == v for k, v in make(LABELS).items())), "")
        if way in server.refuses:
            self.send(400, {"error": {"message": server.refusal or f"unknown field: {way}"}})
            return
        text = {"json_object": '{"choice": 1}'}.get(way, "1") if way in server.obeys else "Paris is the capital"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        choice["logprobs"] = server.lists(asked, text)
        self.send(200, {"object": "chat.completion", "model": asked["model"], "choices": [choice], "usage": {}})

    def refuse(self, fault: Fault) -> None:
        words = {
            "400": "this model is not a multimodal model and takes no video",
            "401": "Incorrect API key provided",
            "404": "The model `tiny` does not exist.",
        }.get(fault, f"fault {fault}")
        more = "retry-after: 1\r\n" if fault == "429 after 1" else ""
        self.send(_STATUS[fault], {"error": {"message": words, "code": _STATUS[fault]}}, more)

    def complete(self, fault: Fault, body: bytes) -> None:
        asked = json.loads(body)
        text: str | None = self.server.says(body)
        if fault == "wrong choice":
            text = "Video 7"
        elif fault in ("empty text", "null text"):
            text = "" if fault == "empty text" else None
        message = {"role": "assistant", "content": text}
        found = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "another" if fault == "other model" else asked["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
        }
        if fault == "no choices":
            found["choices"] = []
        if fault in ("endless", "bomb"):
            self.flood(json.dumps(found).encode()[:-1], fault)
            return
        odd = self.server.odd(body, found)
        if isinstance(odd, tuple):
            self.send(*odd)
            return
        payload = odd if isinstance(odd, bytes) else json.dumps(odd).encode()
        if fault == "truncated":
            self.transport.write(_head(200, len(payload)) + payload[:-20])
            self.transport.close()
            return
        payload = payload[:-20] if fault == "cut JSON" else payload
        self.transport.write(_head(200, len(payload), self.server.more_headers) + payload)
        if self.server.counting:
            self.server.served[sha256(body).digest()] += 1

    def flood(self, start: bytes, fault: Fault) -> None:
        """Send an answer that has no end, or a gigabyte of blanks in a megabyte of gzip."""
        if fault == "bomb":
            squeezed = _gzipped(start, 2**30)
            self.transport.write(_head(200, len(squeezed), "content-encoding: gzip\r\n") + squeezed)
            return
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + start)

        def more() -> None:
            if self.transport.is_closing():
                return
            if self.transport.get_write_buffer_size() < 2**20:
                self.transport.write(b" " * 2**20)
                self.server.n_endless += 2**20
            self.loop.call_later(0.001, more)

        more()

    def send(self, status: int, content: object, more: str = "") -> None:
        payload = json.dumps(content).encode()
        self.transport.write(_head(status, len(payload), more) + payload)


def _gzipped(start: bytes, n_blanks: int) -> bytes:
    squeezing = zlib.compressobj(wbits=31)
    block = b" " * 2**20
    blocks = [squeezing.compress(start), *(squeezing.compress(block) for _ in range(n_blanks // 2**20))]
    return b"".join((*blocks, squeezing.compress(b"}"), squeezing.flush()))


def _head(status: int, length: int, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASON.get(status, 'Fault')}\r\ncontent-type: application/json\r\n{more}"
        f"content-length: {length}\r\n\r\n"
    ).encode()


def main() -> None:
    server = FaultServer(models=tuple(sys.argv[2:3]) or ("tiny",), counting=False)
    with server.running(int(sys.argv[1])):
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
