"""What a participant is asked, one after the other: practice, trials, catch trials and repeats, and in which orders."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from affectlake.experiment.offer import Kind, ServeSettings, Triplet
from affectlake.judge.trials.orders import ORDERS
from affectlake.seeds import generator

_ORDERS: Sequence[Triplet] = [(a - 1, b - 1, c - 1) for a, b, c in ORDERS.tolist()]


class Schedule:
    """The schedule of one participant. It depends on the seed, the participant, and what was given so far.

    In each block of `catch_every` trials, one, drawn at random, is a catch trial. Trials of the first half are repeated
    in the second. Of each six trials, and of each six practice and catch trials, every order shows one.

    Parameters
    ----------
    settings : ServeSettings
        The settings.
    participant : str
        The participant.
    n_practice, n_catch : int
        Number of practice and of catch trials in the offer.
    """

    def __init__(self, settings: ServeSettings, participant: str, n_practice: int, n_catch: int) -> None:
        self._settings, self._participant = settings, participant
        self._n_practice = min(settings.practice, n_practice)
        self._every = settings.catch_every if settings.catch_every and n_catch else 0
        self._n_catch_wanted = settings.per_participant // (self._every - 1) if self._every else 0
        self.n_given: dict[Kind, int] = {"practice": 0, "trial": 0, "catch": 0, "repeat": 0}
        self.seen = array("q")
        self._shown: dict[bool, list[int]] = {True: [], False: []}
        self._is_last_main = False
        self._offset = (-1, 0)

    @property
    def n_main(self) -> int:
        """Number of trials so far, repeated ones included."""
        return self.n_given["trial"] + self.n_given["repeat"]

    @property
    def n_in_all(self) -> int:
        """Number of trials of all kinds, if the plan has enough."""
        return max(self._n_practice, self.n_given["practice"]) + self._settings.per_participant + self._n_catch_wanted

    def following(self) -> Kind | None:
        """Return the kind of the next trial; None if there is none."""
        n_main, n_catch = self.n_main, self.n_given["catch"]
        if n_main + n_catch == 0 and self.n_given["practice"] < self._n_practice:
            return "practice"
        per = self._settings.per_participant
        if n_catch < self._n_catch_wanted:
            block, offset = divmod(n_main + n_catch, self._every)
            if n_catch <= block and (offset >= self._catch_offset(block) or n_main >= per):
                return "catch"
        if n_main >= per:
            return None
        return "repeat" if n_main in self._repeat_slots and self.n_given["repeat"] < len(self._sources) else "trial"

    def source(self) -> int:
        """Return the index, among the participant's trials, of the one that is repeated next."""
        return self._sources[self.n_given["repeat"]]

    def catch(self, n: int) -> int:
        """Return the index, among `n` catch trials, of the next one; all are used before one is used again."""
        lap, step = divmod(self.n_given["catch"], n)
        return int(self._generator("catch", lap).permutation(n)[step])

    def is_before_break(self) -> bool:
        """Return whether a break follows the trials so far."""
        every, n = self._settings.break_every, self.n_main
        return self._is_last_main and bool(every) and n % (every or 1) == 0 and n < self._settings.per_participant

    def order(self, kind: Kind, preference: int) -> Triplet:
        """Return the order in which to show the next trial: the member, from 0, at each position.

        Parameters
        ----------
        kind : str
            Its kind.
        preference : int
            The order, 0 to 5, that is used if it is left in the present block; otherwise the nearest after it is.
        """
        left = self._left(kind in {"trial", "repeat"})
        return _ORDERS[min(left, key=lambda code: (code - preference) % 6)]

    def _left(self, is_main: bool) -> list[int]:
        shown = self._shown[is_main]
        return [code for code in range(6) if code not in shown]

    def add(self, kind: Kind, key: int, order: Triplet) -> None:
        """Count a trial as given.

        Parameters
        ----------
        kind : str
            Its kind.
        key : int
            Its key.
        order : (int, int, int)
            The order in which it is shown.
        """
        self.n_given[kind] += 1
        if kind == "trial":
            self.seen.append(key)
        self._is_last_main = kind in {"trial", "repeat"}
        shown = self._shown[self._is_last_main]
        shown.append(_ORDERS.index(order))
        if len(shown) == 6:
            shown.clear()

    def _catch_offset(self, block: int) -> int:
        if self._offset[0] != block:
            self._offset = block, int(self._generator("catch offset", block).integers(self._every))
        return self._offset[1]

    @cached_property
    def _sources(self) -> list[int]:
        per = self._settings.per_participant
        n = int(self._settings.repeats * per + 1e-9)
        if not n:
            return []
        return [int(one) for one in self._generator("repeated").permutation(per - per // 2)[:n]]

    @cached_property
    def _repeat_slots(self) -> frozenset[int]:
        per, n = self._settings.per_participant, len(self._sources)
        if not n:
            return frozenset()
        slots = np.sort(self._generator("slots").permutation(per // 2)[:n]) + per - per // 2
        return frozenset(slots.tolist())

    def _generator(self, *names: str | int) -> np.random.Generator:
        return generator(self._settings.seed, "experiment", self._participant, *names)
