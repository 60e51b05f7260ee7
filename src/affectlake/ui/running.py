"""Collections that run: counts, rates and remaining times, from what `affectlake status` prints."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from affectlake.pipelines.collection.status import Status, statuses
from affectlake.pipelines.params.study import load

FRESH_S = 4.0
"""Seconds for which a state is not read again."""

_WINDOW_S = 900.0


class Collection(NamedTuple):
    """The collection of one agent and trial set.

    Attributes
    ----------
    status : Status
        Its state.
    n_answers : int
        Answers so far, with those that are not published yet.
    share : float
        Their share of the planned ones, from 0 to 1.
    per_hour : float or None
        Answers per hour: of the last minutes if some arrived while this page was open, otherwise of all hours of
        asking; None if neither is known.
    is_recent : bool
        Whether `per_hour` is that of the last minutes.
    hours_left : float or None
        Hours until all planned answers are there, at that rate.
    """

    status: Status
    n_answers: int
    share: float
    per_hour: float | None
    is_recent: bool
    hours_left: float | None


class Collections:
    """The collections of a lake, read again at most every `FRESH_S` seconds.

    Parameters
    ----------
    root : Path
        Root of the lake.
    clock : callable
        Returns seconds.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._clock = root, clock
        self._lock = Lock()
        self._seen: dict[tuple[str, str], deque[tuple[float, int]]] = {}
        self._read_at, self._found = -math.inf, list[Collection]()

    def now(self) -> list[Collection]:
        """Return their state."""
        with self._lock:
            if self._clock() - self._read_at >= FRESH_S:
                found = [self._with_rate(one) for one in statuses(self._root, load(self._root))]
                self._found, self._read_at = found, self._clock()
            return self._found

    def _with_rate(self, status: Status) -> Collection:
        now, n = self._clock(), status.n_answered + status.n_waiting
        seen = self._seen.setdefault((status.agent, status.trial_set), deque())
        while len(seen) > 1 and now - seen[0][0] > _WINDOW_S:
            seen.popleft()
        seen.append((now, n))
        recent = (n - seen[0][1]) / (now - seen[0][0]) * 3600 if now > seen[0][0] else 0.0
        mean = status.n_answered / status.hours if status.hours > 0 else 0.0  # NaN is not
        rate = recent if recent > 0 else mean
        left = max(0, status.n_planned - n)
        return Collection(
            status,
            n,
            min(1.0, n / status.n_planned) if status.n_planned else 0.0,
            rate or None,
            recent > 0,
            left / rate if rate else None,
        )
