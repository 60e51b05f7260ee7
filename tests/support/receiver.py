"""A real HTTP server that keeps the JSON that is posted to it, such as notifications."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Receiver(HTTPServer):
    """A server on a free port; `told` has what it accepted, `script` the statuses of its next answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.told: list[dict[str, Any]] = []
        self.script: list[int] = []

    def url(self, scheme: str, path: str) -> str:
        """Return its address with a scheme, such as ``json`` for Apprise."""
        return f"{scheme}://127.0.0.1:{self.server_port}/{path}"


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.script.pop(0) if self.server.script else 200
        if status < 300:
            self.server.told.append(json.loads(body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Yield a server that runs until the end of the block."""
    with Receiver() as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield running
        finally:
            running.shutdown()
