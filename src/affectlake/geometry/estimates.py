"""One measured number with what says how sure it is. How it is measured belongs to the modules named after it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError


class Estimate(NamedTuple):
    """A number, its 95 % interval, its value and level under the null, and the items it rests on.

    What does not apply is NaN. ``note`` says why ``value`` is NaN, and is empty exactly when it is not.
    """

    value: float
    ci_low: float = float("nan")
    ci_high: float = float("nan")
    chance: float = float("nan")
    p_value: float = float("nan")
    n: int = 0
    note: str = ""


def left_out(reason: str, n: int = 0) -> Estimate:
    """Return the estimate that could not be made, with the reason."""
    return Estimate(float("nan"), n=n, note=reason)


def percentile_interval(draws: NDArray[np.floating], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap draws (Efron & Tibshirani 1993, section 13.3).

    Parameters
    ----------
    draws : float array (n_draws,)
        The statistic in each resample; NaN (it was not defined there) is left out.
    level : float
        Coverage, between 0 and 1.

    Returns
    -------
    tuple of float
        Both ends; NaN when fewer than two draws are left.

    Raises
    ------
    AffectlakeError
        If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise AffectlakeError("A confidence level is not a proportion.", wanted="0 < level < 1", found=str(level))
    defined = draws[~np.isnan(draws)]
    if len(defined) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def permutation_level(observed: float, null: NDArray[np.floating]) -> float:
    """Return (1 + permutations at least as high) / (1 + permutations); NaN without permutations."""
    if not len(null) or np.isnan(observed):
        return float("nan")
    return float((1 + np.sum(null >= observed)) / (1 + len(null)))


def resampled_counts(n: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each of `n` items is drawn in each bootstrap resample: (n_resamples, n), rows that sum to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
