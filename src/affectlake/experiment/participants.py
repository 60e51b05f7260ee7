"""A participant in memory, with the trials that are given and not answered."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from affectlake.experiment.offer import Kind, Triplet
from affectlake.experiment.schedule import Schedule
from affectlake.experiment.store_rows import Participant, as_seconds


class Answer(NamedTuple):
    """An answer as the page sent it."""

    number: int
    position: int | None
    reason: str | None
    detail: str | None
    response_ms: float | None


class Given:
    """A trial that is given to a participant and not answered."""

    __slots__ = ("expires", "is_released", "key", "kind", "number", "right", "shown")

    def __init__(
        self, number: int, kind: Kind, key: int, shown: Triplet, right: int | None, expires: float, is_released: bool
    ) -> None:
        self.number, self.kind, self.key, self.shown, self.right = number, kind, key, shown, right
        self.expires, self.is_released = expires, is_released


class Person:
    """A participant in memory.

    Attributes
    ----------
    id, secret_hash, state, language : str
        As in the store.
    last, used : float
        Times of the last request that was stored, and of the last one, in seconds since 1970-01-01.
    open : dict of int to Given
        Trials that are given and not answered, by number, in order.
    n : int
        Number of trials that were given.
    is_out_of_trials : bool
        Whether the plan had none left for this participant.
    """

    __slots__ = (
        "id", "is_out_of_trials", "language", "last", "lock", "n", "open", "schedule", "secret_hash", "state", "used",
    )  # fmt: skip

    def __init__(self, row: Participant, schedule: Schedule) -> None:
        self.id, self.secret_hash, self.state, self.language = row.participant, row.secret_hash, row.state, row.language
        self.last = self.used = as_seconds(row.last_at)
        self.schedule = schedule
        self.open: dict[int, Given] = {}
        self.n = 0
        self.is_out_of_trials = False
        self.lock = asyncio.Lock()

    @property
    def n_trials(self) -> int:
        """Number of trials in all."""
        return self.n if self.is_out_of_trials else max(self.n, self.schedule.n_in_all)

    @property
    def n_left(self) -> int:
        """Number of trials that are not answered."""
        return self.n_trials - self.n + len(self.open)


class Joined(NamedTuple):
    """A participant who joined, the secret, and whether there was one before."""

    person: Person
    secret: str
    is_resumed: bool
