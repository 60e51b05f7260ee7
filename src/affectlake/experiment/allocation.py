"""Which trial of the plan is given next: every open trial once, in random order, by arrays of the plan's length."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Container
from typing import NamedTuple

import numpy as np

from affectlake.experiment.offer import Offer, Triplet, key_of, keys_of
from affectlake.experiment.store_rows import Counted
from affectlake.seeds import generator

MOST_FAILED = 3
"""Number of answers without a choice after each of which a trial is given to somebody else."""

_CHUNK = 4096
"""Number of trials that are looked at together for free places."""


class Taken(NamedTuple):
    """A trial of which a place was taken, and how many places were taken before."""

    trial: Triplet
    n_before: int


class Allocation:
    """The plan, and how many places of each of its trials are taken.

    A place is taken by an answer with a choice, by a trial that is given and neither answered nor released, and by each
    answer without a choice after the first `MOST_FAILED`, so that a clip which cannot be played is not shown to all.
    A late answer to a released trial takes a place as any other; if somebody else has the last place by then, the trial
    has one answer more than wanted.

    Trials are given in passes, in an order drawn with the seed: first those without a taken place, then those with one,
    and so on, so that all trials have equally many answers, plus or minus one, at any time. Released trials come first.

    Parameters
    ----------
    offer : Offer
        The plan.
    seed : int
        The study's root seed.
    counted : Counted
        What the session store has of it, in the numbers of the offer's stimuli.
    """

    def __init__(self, offer: Offer, seed: int, counted: Counted) -> None:
        self._seed = seed
        keys = keys_of(counted.trials)
        taken = counted.chosen + counted.open + np.maximum(0, counted.failed - MOST_FAILED)
        has_failed = counted.failed > 0
        self._failed = dict(zip(keys[has_failed].tolist(), counted.failed[has_failed].tolist(), strict=True))
        self._begin(offer, keys, taken.astype(np.int64))

    def _begin(self, offer: Offer, keys: np.ndarray, taken: np.ndarray) -> None:
        """Set the offer, and the places that are taken of the trials with some keys."""
        self.offer = offer
        m = len(offer.trials)
        self._taken = np.zeros(m, dtype=np.int16)
        self._elsewhere: dict[int, int] = {}
        at = np.searchsorted(keys_of(offer.trials), keys)
        inside = at < m
        inside[inside] = keys_of(offer.trials[at[inside]]) == keys[inside]
        self._taken[at[inside]] = taken[inside]
        some = ~inside & (taken != 0)
        self._elsewhere = dict(zip(keys[some].tolist(), taken[some].tolist(), strict=True))
        self._order = np.arange(m, dtype=np.int32)
        generator(self._seed, "experiment", "order of trials").shuffle(self._order)
        self._level, self._next, self._ready = 1, 0, list[int]()
        self._highest = int(offer.wanted.max(initial=0))
        self._again: deque[int] = deque()
        left = offer.wanted.astype(np.int32)
        left -= offer.answered
        left -= self._taken
        self.n_free = int(np.maximum(left, 0, out=left).sum())

    def update(self, offer: Offer) -> None:
        """Replace the offer; what is taken of its trials stays."""
        used = np.flatnonzero(self._taken)
        keys = np.concatenate([keys_of(self.offer.trials[used]), np.array([*self._elsewhere], dtype=np.int64)])
        taken = np.concatenate([self._taken[used], np.array([*self._elsewhere.values()], dtype=np.int64)])
        self._begin(offer, keys, taken.astype(np.int64))

    def take(self, seen: Container[int]) -> Taken | None:
        """Take a place of a trial that is open; None if none is.

        Parameters
        ----------
        seen : container of int
            Keys (:func:`affectlake.experiment.offer.keys_of`) of trials that are left out.
        """
        skipped: list[int] = []
        found: int | None = None
        while self._again and found is None:
            at = self._again.popleft()
            if self._left(at) > 0:
                if self._key(at) in seen:
                    skipped.append(at)
                else:
                    found = at
        self._again.extendleft(reversed(skipped))
        while found is None:
            following = self._following()
            if following is None:
                return None
            if self._key(following) in seen:
                self._again.append(following)
            else:
                found = following
        n_before = int(self._taken[found]) + int(self.offer.answered[found])
        self._taken[found] += 1
        self.n_free -= 1
        i, j, k = self.offer.trials[found].tolist()
        return Taken((i, j, k), n_before)

    def fill(self, key: int) -> None:
        """Take a place of the trial with a key, even if none is left."""
        at = self._index(key)
        if at is None:
            self._elsewhere[key] = self._elsewhere.get(key, 0) + 1
            return
        self.n_free -= self._left(at) > 0
        self._taken[at] += 1

    def is_open(self, key: int) -> bool:
        """Return whether a place of the trial with a key is free."""
        at = self._index(key)
        return at is not None and self._left(at) > 0

    def put_back(self, key: int) -> None:
        """Free a place of the trial with a key; it is given to somebody else before other trials are."""
        at = self._index(key)
        if at is None:
            self._elsewhere[key] = self._elsewhere.get(key, 0) - 1
            return
        self._taken[at] -= 1
        if self._left(at) > 0:
            self.n_free += 1
            self._again.append(at)

    def fail(self, key: int, *, had_place: bool) -> None:
        """Count an answer without a choice to the trial with a key, of a participant who had a place of it or not."""
        n = self._failed[key] = self._failed.get(key, 0) + 1
        if n <= MOST_FAILED and had_place:
            self.put_back(key)
        elif n > MOST_FAILED and not had_place:
            self.fill(key)

    def take_back_failure(self, key: int) -> None:
        """Do not count one of the answers without a choice to the trial with a key any more."""
        n = self._failed.pop(key)
        if n > 1:
            self._failed[key] = n - 1
        if n > MOST_FAILED:
            self.put_back(key)

    def _following(self) -> int | None:
        """Return the next trial of the present pass with a free place."""
        while True:
            while self._ready:
                at = self._ready.pop()
                if self._left(at) > 0 and self._taken[at] + self.offer.answered[at] < self._level:
                    return at
            if self._next == len(self._order):
                self._level, self._next = self._level + 1, 0
            if self._level > self._highest:
                return None
            chunk = self._order[self._next : self._next + _CHUNK]
            self._next += len(chunk)
            taken = self._taken[chunk] + self.offer.answered[chunk]
            self._ready = chunk[taken < np.minimum(self._level, self.offer.wanted[chunk])][::-1].tolist()

    def _left(self, at: int) -> int:
        return int(self.offer.wanted[at]) - int(self.offer.answered[at]) - int(self._taken[at])

    def _key(self, at: int) -> int:
        return key_of(*self.offer.trials[at].tolist())

    def _index(self, key: int) -> int | None:
        """Return the row of the offer with a key."""
        at = bisect_left(range(len(self.offer.trials)), key, key=self._key)
        return at if at < len(self.offer.trials) and self._key(at) == key else None
