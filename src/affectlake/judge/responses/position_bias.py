"""Position bias: shares of the positions chosen, and answers that change with the order shown.

If every stimulus is shown equally often at each position, an agent whose choices depend only on the stimuli chooses
each position a third of the time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PositionShares(NamedTuple):
    """Number of choices of each position, and a test of equal shares.

    Attributes
    ----------
    counts : int64 (3,)
        Number of choices of the first, second and third position.
    chi_square : float
        Pearson's chi-squared statistic for equal shares, with two degrees of freedom; NaN without choices.
    p_value : float
        p-value of the statistic.
    """

    counts: NDArray[np.int64]
    chi_square: float
    p_value: float

    @property
    def n(self) -> int:
        """Number of choices."""
        return int(self.counts.sum())


class FlipRate(NamedTuple):
    """How often two answers to the same triplet differ.

    Attributes
    ----------
    other_order, same_order : float
        Share of pairs of answers to a triplet that choose different stimuli, averaged over triplets, for pairs shown in
        different orders and in the same order; NaN if there are no such pairs. Their difference is the effect of the
        order beyond the agent's inconsistency. Both are 2/3 for random answers.
    n_other, n_same : int
        Numbers of triplets with such pairs.
    """

    other_order: float
    same_order: float
    n_other: int
    n_same: int


def position_shares(positions: NDArray[np.int8]) -> PositionShares:
    r"""Count the positions chosen and test for equal shares.

    :math:`\chi^2 = \sum_p (n_p - n/3)^2 / (n/3)`.

    Parameters
    ----------
    positions : int8 (m,)
        Position of each choice as shown: 1, 2 or 3.

    Raises
    ------
    ValueError
        If a position is not 1, 2 or 3.
    """
    if len(positions) and not np.isin(positions, (1, 2, 3)).all():
        raise ValueError(f"positions are 1, 2 or 3, not {np.setdiff1d(positions, (1, 2, 3))[:5].tolist()}")
    return shares_of(np.bincount(positions, minlength=4)[1:].astype(np.int64))


def shares_of(counts: NDArray[np.int64]) -> PositionShares:
    """Return what :func:`position_shares` returns, from the number of choices of each position (3,)."""
    from scipy.stats import chisquare  # imported late: slow

    if not counts.any():
        return PositionShares(counts, float("nan"), float("nan"))
    found = chisquare(counts)
    return PositionShares(counts, float(found.statistic), float(found.pvalue))


def flip_rate(triplet: NDArray[np.int64], odd: NDArray[np.int32], order_code: NDArray[np.integer]) -> FlipRate:
    """Compute how often answers to the same triplet differ, with different orders and with the same order.

    Parameters
    ----------
    triplet : int64 (m,)
        Number that identifies the triplet of each answer.
    odd : int32 (m,)
        The stimulus chosen.
    order_code : int (m,)
        The order in which the triplet was shown.
    """
    _, triplet = np.unique(triplet, return_inverse=True)
    pairs, same_odd = _pairs(triplet), _pairs(triplet, odd)
    pairs_same, same_both = _pairs(triplet, order_code), _pairs(triplet, order_code, odd)
    other = pairs - pairs_same
    flips_same, flips_other = pairs_same - same_both, other - (same_odd - same_both)
    return FlipRate(
        other_order=_mean(flips_other, other),
        same_order=_mean(flips_same, pairs_same),
        n_other=int((other > 0).sum()),
        n_same=int((pairs_same > 0).sum()),
    )


def _pairs(triplet: NDArray[np.int64], *same: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return, for each triplet, the number of pairs of answers that agree in all of `same`."""
    rows = np.stack([triplet, *(np.asarray(column, dtype=np.int64) for column in same)], axis=1)
    groups, sizes = np.unique(rows, axis=0, return_counts=True)
    n = int(triplet.max(initial=-1)) + 1
    return np.bincount(groups[:, 0], weights=sizes * (sizes - 1) // 2, minlength=n).astype(np.int64)


def _mean(flips: NDArray[np.int64], pairs: NDArray[np.int64]) -> float:
    there = pairs > 0
    return float((flips[there] / pairs[there]).mean()) if there.any() else float("nan")
