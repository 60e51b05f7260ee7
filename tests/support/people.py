"""An experiment that is served in a process of its own, which can be killed; and what it has stored."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

from tests.support.lakes import ROOT

_LIMIT_S = 60


class Served:
    """An experiment about `n_stimuli` stimuli.

    Parameters
    ----------
    folder : Path
        Where the session store and the process's log are.
    kind : {"captions", "images", "videos", "sounds"}
        What is shown.
    captions : sequence of str
        The captions, one for each stimulus.
    media : sequence of Path
        The files; empty for captions.
    wanted : int
        Answers to each trial.
    settings : dict
        Those of :class:`affectlake.experiment.offer.ServeSettings` that differ from "no practice, no catch trials, no
        breaks".
    """

    def __init__(
        self,
        folder: Path,
        captions: Sequence[str],
        kind: str = "captions",
        media: Sequence[Path] = (),
        wanted: int = 1,
        n_practice: int = 0,
        **settings: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.store = folder, folder / "experiment.sqlite"
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        trials = list(combinations(range(len(captions)), 3))
        settings = {"practice": n_practice, "catch_every": None, "break_every": None, "per_participant": 6} | settings
        spec = {
            "store": str(self.store), "port": self.port, "kind": kind, "captions": list(captions), "wanted": wanted,
            "media": [str(path) for path in media], "trials": trials[n_practice:], "practice": trials[:n_practice],
            "settings": settings,
        }  # fmt: skip
        (folder / "spec.json").write_text(json.dumps(spec))
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> None:
        """Start the process and wait until it listens."""
        log = (self.folder / "server.log").open("a")
        command = [sys.executable, "-m", "tests.support.people_process", str(self.folder / "spec.json")]
        with log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, (self.folder / "server.log").read_text()
        until = time.monotonic() + _LIMIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < until, (self.folder / "server.log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """End the process at once, as a power failure does."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        self._process = None

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=_LIMIT_S)
            self._process = None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return rows of the session store."""
        with closing(sqlite3.connect(self.store)) as database:
            return database.execute(sql).fetchall()

    def answers(self) -> list[tuple[Any, ...]]:
        """Return participant, number, position, reason, detail and response time of every answer, in order."""
        return self.rows("SELECT participant, number, position, reason, detail, response_ms FROM answers ORDER BY id")


@contextlib.contextmanager
def served(folder: Path, captions: Sequence[str], **more: Any) -> Iterator[Served]:
    """Yield an experiment that is served until the end of the block."""
    found = Served(folder, captions, **more)
    found.start()
    try:
        yield found
    finally:
        found.stop()
