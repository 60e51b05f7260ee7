"""A server of a small experiment in a process of its own: ``python -m tests.experiment.serving FOLDER PORT JSON``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from affectlake.experiment.assets import Asset, Assets
from affectlake.experiment.server import serve
from tests.experiment.worlds import KEY, contents, offer, settings

ROOT = Path(__file__).parents[2]
ASSETS = Assets(b"<!doctype html><title>Study</title>", {"static/page.js": Asset(b"1", "text/javascript")})


def free_port() -> int:
    """Return a port that nobody listens at."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Served:
    """A server that can be killed and started again on the same port.

    Parameters
    ----------
    folder : Path
        Where its store, its media and its log are.
    given : Any
        Arguments of `offer` in `worlds`, under "offer"; of `settings`, under "settings"; and "media": with files.
    """

    def __init__(self, folder: Path, **given: Any) -> None:
        self.folder, self.port, self._given = folder, free_port(), given
        self.store = folder / "experiment.sqlite"
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGTERM)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "tests.experiment.serving", str(self.folder), str(self.port)]
        self._log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [*command, json.dumps(self._given)], cwd=ROOT, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert "?study=" in self.url, (self.folder / "log").read_text()

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()


def main(folder: Path, port: int, given: dict[str, Any]) -> None:
    """Serve until killed."""
    wanted = offer(**given["offer"])
    shown = contents(given["offer"]["n"], folder if given.get("media") else None)
    serve(
        folder / "experiment.sqlite", wanted, shown, settings(**given.get("settings", {})), ASSETS, KEY,
        ready=lambda url: print(url, flush=True), port=port, public_url=given.get("public_url", ""),
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
