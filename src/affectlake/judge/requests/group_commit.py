"""Many answers, few flushes: what arrives while the disk is busy goes to the journal together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.journal import Journal


class Commits:
    """Writes answers to a journal from a thread of its own, at most `most` or `wait_s` of them at a time.

    Parameters
    ----------
    journal : Journal
        Where they go.
    most : int
        Answers in one commit.
    wait_s : float
        How long an answer may wait for others.
    kept : callable
        Told the answers that the disk has.
    """

    def __init__(self, journal: Journal, most: int, wait_s: float, kept: Callable[[list[Answer]], None]) -> None:
        self._journal = journal
        self._most = most
        self._wait_s = wait_s
        self._kept = kept
        self._waiting: list[Answer] = []
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._closing = False
        self.n_open = 0

    def put(self, answer: Answer) -> None:
        """Take an answer; it is safe once `kept` was told."""
        self._waiting.append(answer)
        self.n_open += 1
        self._some.set()
        if len(self._waiting) >= self._most:
            self._many.set()

    def close(self) -> None:
        """Let :meth:`run` end when everything is written."""
        self._closing = True
        self._some.set()
        self._many.set()

    async def run(self) -> None:
        """Write until closed.

        Raises
        ------
        sqlite3.Error
            If the journal cannot be written, as on a full disk.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="journal") as thread:
            while True:
                await self._some.wait()
                if not self._closing and len(self._waiting) < self._most:
                    await _wait(self._many, self._wait_s)
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                if not batch and self._closing:
                    return
                await loop.run_in_executor(thread, self._journal.write, batch)
                self.n_open -= len(batch)
                if not self._closing:
                    (self._some.set if self._waiting else self._some.clear)()
                    (self._many.set if len(self._waiting) >= self._most else self._many.clear)()
                self._kept(batch)


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), limit_s)
