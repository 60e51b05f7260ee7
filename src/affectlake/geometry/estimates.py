"""Estimates: a value with its confidence interval and p-value. How a value is computed does not belong here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError


class Estimate(NamedTuple):
    """A value, its 95 % interval, its value under the null hypothesis, its p-value, and the number of items.

    Fields that do not apply are NaN. If ``value`` is NaN, ``note`` says why; otherwise ``note`` is empty.
    """

    value: float
    ci_low: float = float("nan")
    ci_high: float = float("nan")
    chance: float = float("nan")
    p_value: float = float("nan")
    n: int = 0
    note: str = ""


def left_out(reason: str, n: int = 0) -> Estimate:
    """Return an undefined estimate, with the reason why it is undefined."""
    return Estimate(float("nan"), n=n, note=reason)


def percentile_interval(draws: NDArray[np.floating], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap draws (Efron & Tibshirani 1993, section 13.3).

    Parameters
    ----------
    draws : float array (n_draws,)
        The statistic in each resample; NaN (not defined in a resample) is ignored.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    tuple of float
        Both ends; NaN if fewer than two draws are defined.

    Raises
    ------
    AffectlakeError
        If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise AffectlakeError("the confidence level is not a proportion", wanted="0 < level < 1", found=str(level))
    defined = draws[~np.isnan(draws)]
    if len(defined) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def permutation_level(observed: float, null: NDArray[np.floating]) -> float:
    """Return the p-value (1 + permutations at least as high) / (1 + permutations); NaN without permutations."""
    if not len(null) or np.isnan(observed):
        return float("nan")
    return float((1 + np.sum(null >= observed)) / (1 + len(null)))


def resampled_counts(n: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the count of each of `n` items in each bootstrap resample: (n_resamples, n), with rows that sum to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
