"""Confidence intervals of proportions and correlations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectlake.errors import AffectlakeError


class Interval(NamedTuple):
    """Lower and upper ends of a confidence interval, of one shape."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def half_width(level: float = 0.95) -> float:
    """Return the half-width of a normal confidence interval in standard errors: 1.96 for 95 %.

    Raises
    ------
    AffectlakeError
        If the level is not between 0 and 1.
    """
    from scipy.special import ndtri  # imported late: slow

    if not 0 < level < 1:
        raise AffectlakeError("the confidence level is not a proportion", wanted="0 < level < 1", found=str(level))
    return float(ndtri(0.5 + level / 2))


def wilson_interval(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion.

    With p = successes / n and z the normal quantile of the level, the ends are
    ``(p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)`` (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212,
    doi 10.1080/01621459.1927.10502953). It is within [0, 1] and is not empty for 0 or n successes.

    Parameters
    ----------
    successes : array_like of int, any shape
        Number of successes, 0 to n.
    n : array_like of int, broadcast against `successes`
        Number of trials; the interval is NaN where it is 0.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    Interval
        Ends between 0 and 1, of the broadcast shape.

    Raises
    ------
    AffectlakeError
        If a count is negative, successes exceed n, or the level is not between 0 and 1.
    """
    z = half_width(level)
    hits, trials = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    if np.any(hits < 0) or np.any(hits > trials):
        raise AffectlakeError(
            "these counts do not form a proportion",
            wanted="0 <= successes <= n",
            found=f"successes {hits.min():g} to {hits.max():g} of n {trials.min():g} to {trials.max():g}",
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        share = hits / trials
        centre = share + z**2 / (2 * trials)
        half = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
        scale = 1 + z**2 / trials
        low, high = (centre - half) / scale, (centre + half) / scale
    low = np.where(hits == 0, np.where(trials > 0, 0.0, np.nan), low)  # exact ends, without rounding errors
    high = np.where(hits == trials, np.where(trials > 0, 1.0, np.nan), high)
    return Interval(np.asarray(low), np.asarray(high))


def fisher_interval(r: ArrayLike, n: ArrayLike, level: float = 0.95, sigma: ArrayLike = 1.0) -> Interval:
    """Return the confidence interval of a Pearson correlation by Fisher's z transformation.

    ``tanh(artanh r ± z σ / √(n − 3))`` (Fisher 1921, Metron 1, 3-32), of independent pairs. With σ = 1 it assumes a
    bivariate normal distribution.

    Parameters
    ----------
    r : array_like of float, any shape
        Correlations, −1 to 1; NaN gives NaN.
    n : array_like of int, broadcast against `r`
        Number of pairs; the interval is NaN below 4.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    sigma : array_like of float, broadcast against `r`, default=1
        Asymptotic standard deviation of √n artanh r.

    Returns
    -------
    Interval
        Ends between −1 and 1, of the broadcast shape. At r = ±1 both ends are r.

    Raises
    ------
    AffectlakeError
        If an r is outside [−1, 1], or the level is not between 0 and 1.
    """
    z = half_width(level)
    correlation, pairs = np.broadcast_arrays(np.asarray(r, np.float64), np.asarray(n, np.float64))
    if np.any(np.abs(correlation) > 1):
        raise AffectlakeError(
            "a correlation is outside its bounds", wanted="-1 <= r <= 1", found=str(np.nanmax(np.abs(correlation)))
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        half = np.where(pairs > 3, z * np.asarray(sigma) / np.sqrt(pairs - 3), np.nan)
        centre = np.arctanh(correlation)
        return Interval(np.tanh(centre - half), np.tanh(centre + half))
