"""Which share of a plan a collector takes, where several collect the same agent's answers in clones of one lake.

A question falls to a share by its triplet and repeat alone. So shares are disjoint and together the whole plan,
whatever each clone has already, and nobody has to talk to the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import UsageError

MOST = 100_000
"""The largest number of shares."""


@dataclass(frozen=True)
class Share:
    """One of several equal shares.

    Parameters
    ----------
    number : int
        Which, from 1 to `of`.
    of : int
        How many there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        """Return ``share 1 of 2``."""
        return f"share {self.number} of {self.of}"

    def takes(self, triplets: NDArray[np.int32], repeat: int) -> NDArray[np.bool_]:
        """Return which trials' asking number `repeat` falls to this share.

        Parameters
        ----------
        triplets : int32 (m, 3)
            Rows i < j < k.
        repeat : int
            Which asking of each triplet.
        """
        hashed = np.full(len(triplets), repeat, dtype=np.uint64)
        for member in triplets.T:
            hashed = _scrambled(hashed ^ member.astype(np.uint64))
        return np.asarray(hashed % np.uint64(self.of) == self.number - 1)


def parse_share(text: str) -> Share:
    """Return the share that a text such as ``1/2`` names.

    Raises
    ------
    UsageError
        If it names none.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    share = Share(int(found[1]), int(found[2])) if found else None
    if share is None or not 1 <= share.number <= share.of <= MOST:
        raise UsageError(
            f"--share {text} is not a share",
            wanted="K/N: share K of N equal shares, K from 1 to N",
            todo="such as --share 1/2 here and --share 2/2 in the other clone",
        )
    return share


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's next output for each state: every bit of the state decides every bit of it."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
