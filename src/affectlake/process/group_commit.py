"""Group commit: items that arrive while the disk is busy are written together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Commits(Generic[T]):
    """Writer of items in a separate thread, in the order in which they were put.

    Parameters
    ----------
    write : callable
        Writes a list of items; they are on disk when it returns. It is called in the thread.
    most : int
        Largest number of items in one commit.
    wait_s : float
        Longest time in seconds that an item waits for others to share its commit. With 0, only those that arrive while
        the disk is busy share one.
    kept : callable
        Called in the loop with the items of each commit, once they are on disk.
    """

    def __init__(
        self, write: Callable[[list[T]], object], most: int, wait_s: float, kept: Callable[[list[T]], None]
    ) -> None:
        self._write = write
        self._most = most
        self._wait_s = wait_s
        self._kept = kept
        self._waiting: list[T] = []
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._closing = False
        self.n_open = 0

    def put(self, item: T) -> None:
        """Queue an item; it is on disk once `kept` has been called with it."""
        self._waiting.append(item)
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
        Exception
            Whatever `write` raises, as on a full disk.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="commits") as thread:
            while True:
                await self._some.wait()
                if self._wait_s > 0 and not self._closing and len(self._waiting) < self._most:
                    await _wait(self._many, self._wait_s)
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                if not batch and self._closing:
                    return
                await loop.run_in_executor(thread, self._write, batch)
                self.n_open -= len(batch)
                if not self._closing:
                    (self._some.set if self._waiting else self._some.clear)()
                    (self._many.set if len(self._waiting) >= self._most else self._many.clear)()
                self._kept(batch)


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), limit_s)
