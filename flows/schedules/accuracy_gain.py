"""Whether held-out accuracy still rises: paired comparisons of two embeddings on the same choices. Arithmetic alone.

Nights are compared again and again. The confidence of one comparison therefore does not say how often a schedule is
stopped by mistake; the levels of all comparisons of a schedule add up to `LEVEL`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""Largest probability with which any of a schedule's comparisons stops it while each gain is at least the threshold."""

_STEP = 1e-12  # from the observed gain, where the test may be 0/0


class Paired(NamedTuple):
    """Two embeddings on the same choices.

    Attributes
    ----------
    n : int
        Number of choices.
    n_gained, n_lost : int
        Of these, those that only the newer embedding predicts, and those that only the earlier one predicts.
    """

    n: int
    n_gained: int
    n_lost: int

    @property
    def gain(self) -> float:
        """Accuracy of the newer embedding minus that of the earlier one."""
        return (self.n_gained - self.n_lost) / self.n


def paired(newer: NDArray[np.bool_], earlier: NDArray[np.bool_]) -> Paired:
    """Return the comparison of two embeddings.

    Parameters
    ----------
    newer, earlier : bool array (n_choices,)
        Whether the embedding predicts the choice.
    """
    return Paired(len(newer), int(np.count_nonzero(newer & ~earlier)), int(np.count_nonzero(earlier & ~newer)))


def level_of(place: int) -> float:
    """Return the level of a schedule's comparison number `place`, from 1: `LEVEL` / (place (place + 1)).

    The levels of any number of comparisons add up to less than `LEVEL`.
    """
    return LEVEL / (place * (place + 1))


def upper_limit(found: Paired, level: float) -> float:
    """Return the upper limit of a one-sided confidence interval of the gain, by Tango's score test.

    The limit is the gain ``g`` at which ``(b - c - n g) / √(n (2 q + g (1 - g)))`` is minus the normal quantile of
    ``1 - level``, where ``b`` choices are gained and ``c`` lost, and ``q`` is the maximum likelihood estimate of the
    share of lost choices if the gain is ``g``: the positive root of
    ``2 n q² + ((2 n - b + c) g - b - c) q - c g (1 - g)`` (Tango 1998, Statistics in Medicine 17:891-908). With few
    choices, or without a difference, it is wide, unlike the limit that uses the observed variance.

    Parameters
    ----------
    found : Paired
        The comparison, of one choice or more.
    level : float
        One minus the confidence, between 0 and 0.5.
    """
    return _limit(*found, level)


def _limit(n: int, b: float, c: float, level: float) -> float:
    from scipy.optimize import brentq
    from scipy.stats import norm

    if b == n:
        return 1.0
    z = float(norm.isf(level))

    def excess(gain: float) -> float:
        """Return the numerator of the test plus the allowed deviation: positive below the limit, negative above."""
        linear = (2 * n - b + c) * gain - b - c
        root = math.sqrt(linear**2 + 8 * n * c * gain * (1 - gain))
        lost = (root - linear) / (4 * n)
        return b - c - n * gain + z * math.sqrt(max(n * (2 * lost + gain * (1 - gain)), 0.0))

    return float(brentq(excess, (b - c) / n + _STEP, 1.0))


def can_tell(found: Paired, gain_below: float, level: float) -> bool:
    """Return whether the upper limit would be below `gain_below` if as many choices were gained as lost.

    The answer depends on how many choices the embeddings predict differently, and not on which predicts them. Where it
    is no, the choices are too few: the limit is below the threshold by chance, or not at all.
    """
    half = (found.n_gained + found.n_lost) / 2
    return _limit(found.n, half, half, level) < gain_below


def n_needed(found: Paired, gain_below: float, level: float) -> int:
    """Return about how many choices it takes to tell, if the same share of them is predicted differently."""
    from scipy.stats import norm

    share = max(found.n_gained + found.n_lost, 1) / found.n
    return math.ceil(float(norm.isf(level)) ** 2 * (share / gain_below**2 + 1 / gain_below))
