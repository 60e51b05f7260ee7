"""Operations on the session store from an event loop: those that arrive while the disk is busy share a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from affectlake.experiment.session_store import Operation, SessionStore
from affectlake.process.group_commit import Commits

T = TypeVar("T")

_MOST = 512


class _Work:
    __slots__ = ("operation", "result", "waiting")

    def __init__(self, operation: Operation, waiting: asyncio.Future[Any]) -> None:
        self.operation, self.waiting = operation, waiting
        self.result: Any = None


class Writer:
    """One thread that carries out operations in the order in which they were asked for.

    Parameters
    ----------
    store : SessionStore
        The store.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._commits = Commits[_Work](self._write, _MOST, 0.0, _settle)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._commits.run())

    async def stop(self) -> None:
        """Carry out what was asked for, and end."""
        self._commits.close()
        if self._task is not None:
            await self._task

    async def do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out an operation and return its result once it is on disk.

        Raises
        ------
        sqlite3.Error
            If nothing can be written, as on a full disk.
        """
        waiting: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._commits.put(_Work(operation, waiting))
        return await waiting

    def _write(self, batch: list[_Work]) -> None:
        try:
            results = self._store.transact([work.operation for work in batch])
        except Exception as error:
            results = [error] * len(batch)
        for work, result in zip(batch, results, strict=True):
            work.result = result


def _settle(batch: list[_Work]) -> None:
    for work in batch:
        if work.waiting.done():  # the request was cancelled
            continue
        if isinstance(work.result, Exception):
            work.waiting.set_exception(work.result)
        else:
            work.waiting.set_result(work.result)
