"""Bayesian prevalence: the share of a population in which an effect is found in each subject's own data.

Arrays in, arrays out. NaN is a value that is not defined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectlake.errors import AffectlakeError

Array = NDArray[np.float64]
_HALVINGS = 60  # of the interval in which a quantile is searched: to the precision of the arithmetic


class Prevalence(NamedTuple):
    """Posterior of the prevalence of an effect in the population of which the subjects are a sample.

    Parameters
    ----------
    mode : float64, any shape
        The most probable prevalence (maximum a posteriori).
    low, high : float64, same shape
        Ends of the interval of highest posterior density.
    bound : float64, same shape
        The prevalence is above it with the same probability as it is in the interval.
    """

    mode: Array
    low: Array
    high: Array
    bound: Array


def prevalence(
    n_significant: ArrayLike, n_subjects: ArrayLike, alpha: ArrayLike, credibility: float = 0.95, power: float = 1.0
) -> Prevalence:
    """Return the posterior of the prevalence, given how many subjects are significant on their own.

    A subject with the effect (a share γ of the population) is significant with probability β, any other one with
    probability α, so that k of n subjects are significant with the binomial probability θ = α + (β − α) γ. With a
    uniform prior of γ, the posterior of θ is the distribution Beta(k + 1, n − k + 1), truncated to α … β (Ince, Paton,
    Kay & Schyns 2021, eLife 10, e62461, doi 10.7554/eLife.62461).

    Parameters
    ----------
    n_significant : array_like of int, any shape
        Number k of subjects whose own test rejects.
    n_subjects : array_like of int, broadcast against `n_significant`
        Number n of subjects; without subjects, all values are NaN.
    alpha : array_like of float, broadcast against `n_significant`
        Level of the subjects' tests: their rate of rejection without an effect, above 0 and below `power`.
    credibility : float, default=0.95
        Probability of the interval, and of the values above the bound; the paper uses 0.96.
    power : float, default=1
        β. With 1, an effect too weak for a subject's data counts as missing: the result is the prevalence of effects
        that this much data of a subject shows, which is lower than that of any effect.

    Returns
    -------
    Prevalence
        Values between 0 and 1, of the broadcast shape.

    Raises
    ------
    AffectlakeError
        If more subjects are significant than there are, or a probability is not within its bounds.
    """
    from scipy import special  # late: slow to import

    k, n, a = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in (n_significant, n_subjects, alpha)))
    if np.any(k < 0) or np.any(k > n):
        raise AffectlakeError(
            "more subjects are significant than there are", wanted="0 <= n_significant <= n_subjects",
            found=f"{k.max():g} of {n.min():g}",
        )  # fmt: skip
    if not 0 < credibility < 1 or np.any(a <= 0) or np.any(a >= power) or not 0 < power <= 1:
        raise AffectlakeError(
            "the probabilities of a prevalence are not within their bounds",
            wanted="0 < alpha < power <= 1, 0 < credibility < 1",
            found=f"alpha {np.min(a):g} to {np.max(a):g}, power {power:g}, credibility {credibility:g}",
        )
    first, second = k + 1, n - k + 1
    below = special.betainc(first, second, a)  # of the distribution without truncation
    inside = special.betainc(first, second, power) - below

    def at(share: Array) -> Array:
        """Return the quantile of θ: the value below which a share of the posterior is."""
        found = special.betaincinv(first, second, np.clip(below + share * inside, 0, 1))
        return np.asarray(np.clip(found, a, power))

    def rises(left: Array) -> NDArray[np.bool_]:
        """Return whether the density is higher at the end of an interval than at its beginning."""
        ends = [
            special.xlogy(k, theta) + special.xlog1py(n - k, -theta) for theta in (at(left), at(left + credibility))
        ]
        return np.asarray(ends[1] > ends[0])

    none, most = np.zeros(k.shape), np.full(k.shape, 1 - credibility)
    low, high = none.copy(), most.copy()  # share of the posterior below the interval
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        right = rises(middle)
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    left = np.where(~rises(none), none, np.where(rises(most), most, (low + high) / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mode = np.clip(k / n, a, power)
    first_end = np.where(left == none, a, at(left))
    last_end = np.where(left == most, power, at(left + credibility))
    found = [(theta - a) / (power - a) for theta in (mode, first_end, last_end, at(most))]
    return Prevalence(*(np.where(n > 0, one, np.nan) for one in found))


class Significant(NamedTuple):
    """How many subjects are significant on their own: their number, that of tested subjects, and the tests' level."""

    n_significant: int
    n_subjects: int
    alpha: float


def significant_subjects(scores: NDArray[np.floating], null: NDArray[np.floating], level: float = 0.05) -> Significant:
    """Count the subjects whose score is higher than under the null hypothesis, by a permutation test of each subject.

    Parameters
    ----------
    scores : float (n_subjects,)
        One value per subject; subjects with a NaN are left out.
    null : float (n_permutations, n_subjects)
        The same value under relabelled stimuli.
    level : float
        Level of the one-tailed test of a subject. Default 0.05.

    Returns
    -------
    Significant
        `alpha` is the level that the test attains (see :func:`attained_level`); with NaN no subject can be significant.
    """
    known = ~np.isnan(scores)
    reached = (null[:, known] >= scores[known] - 1e-7).sum(axis=0)  # single precision: equal values are ties
    p = (1 + reached) / (1 + len(null))
    return Significant(int((p <= level + 1e-9).sum()), int(known.sum()), attained_level(len(null), level))


def attained_level(n_permutations: int, level: float = 0.05) -> float:
    """Return the largest level of a permutation test that is at most `level`: p = (1 + number) / (1 + n_permutations).

    With 100 permutations it is 5/101 for 0.05. NaN if no p can be as small: with fewer than 1 / `level` − 1
    permutations.
    """
    reached = int(np.floor(level * (1 + n_permutations) + 1e-9))
    return reached / (1 + n_permutations) if reached else float("nan")
