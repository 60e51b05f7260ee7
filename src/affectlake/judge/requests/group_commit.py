"""Group commit: answers that arrive while the disk is busy are written to the journal together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.journal import Journal


class Commits:
    """Writer of answers to a journal, in a separate thread.

    Parameters
    ----------
    journal : Journal
        The journal.
    most : int
        Largest number of answers in one commit.
    wait_s : float
        Longest time in seconds that an answer waits for others to share its commit.
    kept : callable
        Called with the answers of each commit, once they are on disk.
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
        """Queue an answer; it is on disk once `kept` has been called with it."""
        self._waiting.append(answer)
        self.n_open += 1
        self._some.set()
        if len(self._waiting) >= self._most:
            self._many.set()

    def close(self) -> None:
        """Let :meth:`run` end once everything is written."""
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
