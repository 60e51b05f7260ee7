"""Correlation of each dimension with each rating. Naming dimensions after their ratings does not belong here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.intervals import fisher_interval


class RatingCorrelations(NamedTuple):
    """Pearson r of dimensions (rows) with ratings (columns), each (n_dimensions, n_ratings), and the stimuli used."""

    r: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    n: int


def rating_correlations(
    weights: NDArray[np.floating], scores: NDArray[np.floating], level: float = 0.95
) -> RatingCorrelations:
    """Return the Pearson correlation of every dimension with every rating over the stimuli.

    r = Σ (w − w̄)(s − s̄) / √(Σ (w − w̄)² Σ (s − s̄)²), with its Fisher-z interval. A dimension or rating that is the
    same for every stimulus has no correlation: its r is NaN, never 0.

    Parameters
    ----------
    weights : float array (n_stimuli, n_dimensions)
        The embedding.
    scores : float array (n_stimuli, n_ratings)
        The mean ratings, rows in the embedding's order.
    level : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    RatingCorrelations
        r and its interval, NaN where r is not defined; the interval also where there are fewer than 4 stimuli.

    Raises
    ------
    AffectlakeError
        If the two do not have the same stimuli, or a value is not finite.
    """
    if weights.ndim != 2 or scores.ndim != 2 or len(weights) != len(scores):
        raise AffectlakeError(
            "The embedding and the ratings do not describe the same stimuli.",
            wanted="two matrices with one row per stimulus",
            found=f"shapes {weights.shape} and {scores.shape}",
        )
    if not (np.isfinite(weights).all() and np.isfinite(scores).all()):
        raise AffectlakeError("The embedding or the ratings hold values that are not finite numbers.")
    r = np.clip(unit_columns(weights).T @ unit_columns(scores), -1.0, 1.0)  # (n_dimensions, n_ratings)
    low, high = fisher_interval(r, len(weights), level)
    return RatingCorrelations(r, low, high, len(weights))


def unit_columns(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return columns with mean 0 and length 1, whose products are Pearson correlations; a constant one is NaN.

    Parameters
    ----------
    values : float array (n, n_columns)
    """
    columns = np.asarray(values, np.float64)
    if len(columns) == 0:
        return np.full(columns.shape, np.nan)
    centred = columns - columns.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    constant = columns.max(axis=0) == columns.min(axis=0)
    unit: NDArray[np.float64] = centred / np.where(constant, np.nan, length)
    return unit
