"""What only one band of features explains, and what several share, from the models of every combination of bands.

With R²(M) of the models of the bands M (:mod:`~affectlake.brain.encoding.bands`), the part C(S) that the bands S share,
and no others have, is defined by

    R²(M) - R²(∅) = Σ C(S) over the sets S that have a band in M,

so that C({b}) = R²(all) - R²(all without b) is what only band b explains (commonality analysis; Nimon & Reio 2011). R²
is that of held-out stimuli: a part is negative where a band makes predictions worse, or where bands are better together
than the sum of each.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.solver import Array


class Shares(NamedTuple):
    """Parts of the explained variance, each of one band or shared by several, then the whole.

    Parameters
    ----------
    bands : list of tuple of str
        The bands that share a part; the last entry is all bands, once more, for the whole: R²(all) - R²(∅).
    is_whole : list of bool
        True for the last entry.
    coefficients : float64 (n_parts, n_models)
        Each part is this combination of the R² of the models.
    """

    bands: list[tuple[str, ...]]
    is_whole: list[bool]
    coefficients: Array


def shares_of(models: list[tuple[str, ...]]) -> Shares:
    """Return the parts of the variance that is explained by the bands of `models`.

    Parameters
    ----------
    models : list of tuple of str
        Every combination of the bands, the empty one first and all bands last, as in
        :class:`~affectlake.brain.encoding.bands.BandedEncoding`.
    """
    every, at = models[-1], {frozenset(model): n for n, model in enumerate(models)}
    parts = [model for model in models if model]
    coefficients = np.zeros((len(parts) + 1, len(models)))
    for row, part in zip(coefficients, parts, strict=False):
        # Möbius inversion of R²(all) - R²(all without M) = Σ C(S) over S within M
        for some in _subsets(part):
            sign = (-1) ** (len(part) - len(some))
            row[at[frozenset(every)]] += sign
            row[at[frozenset(every) - frozenset(some)]] -= sign
    coefficients[-1, -1] += 1.0
    coefficients[-1, 0] -= 1.0
    return Shares([*parts, every], [False] * len(parts) + [True], coefficients)


def _subsets(part: tuple[str, ...]) -> chain[tuple[str, ...]]:
    return chain.from_iterable(combinations(part, n) for n in range(len(part) + 1))


class Intervals(NamedTuple):
    """Parts of the variance with their 95 % confidence intervals and two-tailed p-values: each (n_parts, n_regions).

    NaN where all stimuli have the same value, as in a region without voxels or for a band that predicts nothing, and if
    there is only one run.
    """

    value: Array
    low: Array
    high: Array
    p: Array


def intervals(losses: Array, shares: Shares, runs: NDArray[np.integer] | None = None) -> Intervals:
    """Return the parts of the variance in each region, with intervals over stimuli.

    The value of a stimulus is the combination of its losses; a part is the mean over stimuli, and its standard error is
    that of stimuli, or of runs, as independent draws (Student's t). It is the error of the mean for the models as they
    were fitted: that the models of two folds share training stimuli is not part of it.

    Parameters
    ----------
    losses : float64 (n_models, n_stimuli, n_regions)
        As in :class:`~affectlake.brain.encoding.bands.BandedEncoding`.
    shares : Shares
        The parts.
    runs : int (n_stimuli,), optional
        Run in which each stimulus was shown, if stimuli of a run are not independent.

    Returns
    -------
    Intervals
    """
    from scipy import stats  # late: it takes longer to import than an up-to-date run to look

    gains = -np.einsum("pm,mnr->pnr", shares.coefficients, losses)
    value = gains.mean(axis=1)
    apart = gains - value[:, None]
    if runs is not None:
        apart = np.stack([apart[:, runs == run].sum(axis=1) for run in np.unique(runs)], axis=1)
    n_groups = apart.shape[1]
    if n_groups < 2:
        nothing = np.full(value.shape, np.nan)
        return Intervals(value, nothing, nothing, nothing)
    error = np.sqrt((apart**2).sum(axis=1) * n_groups / (n_groups - 1)) / gains.shape[1]
    error = np.where(np.ptp(gains, axis=1) > 0, error, np.nan)
    half = stats.t.ppf(0.975, n_groups - 1) * error
    return Intervals(value, value - half, value + half, 2 * stats.t.sf(np.abs(value) / error, n_groups - 1))
