"""Confidence intervals and tests of scores from the influence of stimuli."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.quantities import Array, Scores
from affectlake.brain.encoding.shares import inflation


class Estimates(NamedTuple):
    """Scores with 95 % confidence intervals and two-tailed p-values: each float64 (n_scores,); NaN if not defined."""

    value: Array
    low: Array
    high: Array
    p: Array


def estimates(
    scores: Scores,
    groups: NDArray[np.integer] | None = None,
    folds: NDArray[np.integer] | None = None,
) -> Estimates:
    """Return scores with intervals over stimuli by the jackknife and Student's t.

    Parameters
    ----------
    scores : Scores
    groups : int (n_stimuli,), optional
        Run in which each stimulus was shown, if stimuli of a run are not independent: influences are added up by run.
    folds : int (n_stimuli,), optional
        Fold in which each stimulus was held out, from 0, for scores that are means over folds. The variance is then
        multiplied by 1 + K / (K - 1) for K folds, whose training sets overlap (Nadeau & Bengio 2003), as in
        :func:`affectlake.brain.encoding.shares.intervals`.

    Returns
    -------
    Estimates
        The interval is NaN if a fold has fewer than two groups, or no stimulus has an influence.
    """
    from scipy import stats  # late: it takes longer to import than an up-to-date run to look

    n = scores.influence.shape[1]
    runs, parts = np.arange(n) if groups is None else groups, np.zeros(n, dtype=np.int64) if folds is None else folds
    variance, freedom = np.zeros(len(scores.value)), 0
    for fold in np.unique(parts):
        inside = parts == fold
        own = runs[inside]
        first = np.unique(np.sort(own), return_index=True)[1]
        size = len(first)
        sums = np.add.reduceat(scores.influence[:, inside][:, np.argsort(own, kind="stable")], first, axis=1)
        variance += (sums**2).sum(axis=1) * size / (size - 1) if size > 1 else np.nan
        freedom += size - 1
    if folds is not None:
        variance *= inflation(len(np.unique(folds)))
    error = np.where(variance > 0, np.sqrt(variance), np.nan)
    half = stats.t.ppf(0.975, max(freedom, 1)) * error
    with np.errstate(invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(scores.value) / error, max(freedom, 1))
    return Estimates(scores.value, scores.value - half, scores.value + half, p)
