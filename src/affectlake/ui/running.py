"""Collections that run: counts, rates and remaining times, from what `affectlake status` prints."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

from affectlake.pipelines.collection.latest_answers import AnswersParsed
from affectlake.pipelines.collection.status import Status, statuses
from affectlake.pipelines.params.study import load

FRESH_S = 4.0
"""Seconds for which a state is not read again."""

MOST_PARSED = 10_000
"""Number of answers, the latest ones, of which the page says how many name a position."""

_WINDOW_S = 900.0

State = Literal["running", "done", "not running", "not begun"]


class Collection(NamedTuple):
    """The collection of one agent and trial set.

    Attributes
    ----------
    status : Status
        Its counts.
    state : str
        Whether a process collects these answers now. A collection with all planned answers, or failures in place of
        some, is done, and one that gets no answers while another trial set of the agent does is not running.
    n_answers : int
        Answers so far, with those that are not published yet.
    share : float
        Their share of the planned ones, from 0 to 1.
    per_hour : float or None
        Answers per hour: of the last minutes if it is running and some arrived while this page was open, otherwise of
        all hours of asking; None if neither is known.
    is_recent : bool
        Whether `per_hour` is that of the last minutes.
    hours_left : float or None
        Hours until all planned answers are there, at that rate.
    """

    status: Status
    state: State
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
        self._parsed = AnswersParsed()
        self._read_at, self._found = -math.inf, list[Collection]()

    def now(self) -> list[Collection]:
        """Return their state."""
        with self._lock:
            if self._clock() - self._read_at >= FRESH_S:
                read = statuses(self._root, load(self._root), self._parsed, MOST_PARSED)
                recent = {(one.agent, one.trial_set): self._recent_rate(one) for one in read}
                busy = {agent for (agent, _), rate in recent.items() if rate > 0}
                self._found = [_collection(one, recent[one.agent, one.trial_set], one.agent in busy) for one in read]
                self._read_at = self._clock()
            return self._found

    def _recent_rate(self, status: Status) -> float:
        """Return the answers per hour of the last minutes of the present run; 0 if none arrived."""
        now, n = self._clock(), status.n_so_far
        seen = self._seen.setdefault((status.agent, status.trial_set), deque())
        if not status.holder:
            seen.clear()
        while len(seen) > 1 and now - seen[0][0] > _WINDOW_S:
            seen.popleft()
        seen.append((now, n))
        return (n - seen[0][1]) / (now - seen[0][0]) * 3600 if now > seen[0][0] else 0.0


def _collection(status: Status, recent: float, is_agent_busy: bool) -> Collection:
    n, state = status.n_so_far, _state(status, recent, is_agent_busy)
    mean = status.n_answered / status.hours if status.hours > 0 else 0.0  # NaN is not
    rate = recent if recent > 0 and state == "running" else mean
    left = max(0, status.n_planned - n)
    return Collection(
        status,
        state,
        n,
        min(1.0, n / status.n_planned) if status.n_planned else 0.0,
        rate or None,
        rate != mean,
        left / rate if rate else None,
    )


def _state(status: Status, recent: float, is_agent_busy: bool) -> State:
    """Return the state; a lease does not tell which trial set of the agent is asked, but new answers do."""
    n_done = status.n_so_far + status.n_failed_so_far
    if n_done >= status.n_planned:
        return "done"
    if status.holder and (recent > 0 or not is_agent_busy):
        return "running"
    return "not running" if n_done else "not begun"
