"""Shares of a plan, for several clones of a lake that collect the same agent's answers.

The share of a question depends only on its triplet and repeat. Shares are therefore disjoint and complete, regardless
of the answers that each clone has, and the clones need not communicate.
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
        Number of the share, from 1 to `of`.
    of : int
        Number of shares.
    """

    number: int
    of: int

    def __str__(self) -> str:
        """Return ``share 1 of 2``."""
        return f"share {self.number} of {self.of}"

    def takes(self, triplets: NDArray[np.int32], repeat: int) -> NDArray[np.bool_]:
        """Return, for each triplet, whether its repeat `repeat` is in this share.

        Parameters
        ----------
        triplets : int32 (m, 3)
            Rows i < j < k.
        repeat : int
            Number of the repeat, from 0.
        """
        hashed = np.full(len(triplets), repeat, dtype=np.uint64)
        for member in triplets.T:
            hashed = _scrambled(hashed ^ member.astype(np.uint64))
        return np.asarray(hashed % np.uint64(self.of) == self.number - 1)


def parse_share(text: str) -> Share:
    """Return the share for a text such as ``1/2``.

    Raises
    ------
    UsageError
        If the text is not a share.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    share = Share(int(found[1]), int(found[2])) if found else None
    if share is None or not 1 <= share.number <= share.of <= MOST:
        raise UsageError(
            f"--share {text} is not a share",
            wanted="K/N: share K of N equal shares, K from 1 to N",
            todo="for example, give --share 1/2 here and --share 2/2 in the other clone",
        )
    return share


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's next output for each state; each of its bits depends on every bit of the state."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
