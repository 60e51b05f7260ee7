"""Correlation of each dimension with each rating. Labels of dimensions do not belong here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.intervals import fisher_interval


class RatingCorrelations(NamedTuple):
    """Pearson r of dimensions with ratings and its interval, (n_dimensions, n_ratings), and the number of stimuli."""

    r: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    n: int


def rating_correlations(
    weights: NDArray[np.floating], scores: NDArray[np.floating], level: float = 0.95
) -> RatingCorrelations:
    """Return the Pearson correlation of every dimension with every rating over the stimuli.

    r = Σ (w − w̄)(s − s̄) / √(Σ (w − w̄)² Σ (s − s̄)²), with its Fisher-z interval. If a dimension or rating is the same
    for every stimulus, r is NaN, never 0.

    Parameters
    ----------
    weights : float array (n_stimuli, n_dimensions)
        The embedding.
    scores : float array (n_stimuli, n_ratings)
        The mean ratings, with rows in the order of the embedding.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    RatingCorrelations
        r and its interval, NaN where r is not defined; the interval is also NaN for fewer than 4 stimuli.

    Raises
    ------
    AffectlakeError
        If the two do not have the same number of stimuli, or a value is not finite.
    """
    if weights.ndim != 2 or scores.ndim != 2 or len(weights) != len(scores):
        raise AffectlakeError(
            "the embedding and the ratings are not of the same stimuli",
            wanted="two matrices with one row per stimulus",
            found=f"shapes {weights.shape} and {scores.shape}",
        )
    if not (np.isfinite(weights).all() and np.isfinite(scores).all()):
        raise AffectlakeError("the embedding or the ratings have values that are not finite")
    r = np.clip(unit_columns(weights).T @ unit_columns(scores), -1.0, 1.0)  # (n_dimensions, n_ratings)
    low, high = fisher_interval(r, len(weights), level)
    return RatingCorrelations(r, low, high, len(weights))


def unit_columns(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the columns with mean 0 and length 1, whose products are Pearson correlations; constant ones are NaN.

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
