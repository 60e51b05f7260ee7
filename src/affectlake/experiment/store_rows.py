"""The rows of the session store as Python has them, and its times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.experiment.offer import Kind
from affectlake.triplets import Triplets


class Participant(NamedTuple):
    """A row of `participants`."""

    participant: str
    secret_hash: str
    panel_hash: str | None
    language: str
    state: str
    joined_at: str
    consented_at: str | None
    ended_at: str | None
    last_at: str
    link_hash: str | None


class GivenRow(NamedTuple):
    """A row of `given`."""

    participant: str
    number: int
    kind: Kind
    i: int
    j: int
    k: int
    shown_1: int
    shown_2: int
    shown_3: int
    right_answer: int | None
    given_at: str
    expires_at: str
    released: int

    @property
    def shown(self) -> tuple[int, int, int]:
        """The stimuli in the order shown."""
        return self.shown_1, self.shown_2, self.shown_3


class AnswerRow(NamedTuple):
    """A row of `answers`, without its number."""

    participant: str
    number: int
    position: int | None
    reason: str | None
    detail: str | None
    response_ms: float | None
    received_at: str


class Counted(NamedTuple):
    """What the store has of each trial that was given.

    Attributes
    ----------
    trials : int32 (n, 3)
        The trials, by their numbers in the store.
    chosen, failed, open : int64 (n,)
        Answers with a choice; answers with a reason instead; given trials that are neither answered nor released.
    """

    trials: Triplets
    chosen: NDArray[np.int64]
    failed: NDArray[np.int64]
    open: NDArray[np.int64]


class Open(NamedTuple):
    """A trial that is given, not answered, and not released."""

    participant: str
    number: int
    expires_at: str
    i: int
    j: int
    k: int


def as_text(seconds: float) -> str:
    """Return the time that is `seconds` after 1970-01-01 as the store has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def as_seconds(text: str) -> float:
    """Return the seconds since 1970-01-01 of a time in the store."""
    return datetime.fromisoformat(text).timestamp()
