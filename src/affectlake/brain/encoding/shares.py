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
    there is only one run. `error` is the standard error, and `quantile` the number of them on each side of the value.
    """

    value: Array
    low: Array
    high: Array
    p: Array
    error: Array
    quantile: float


def intervals(losses: Array, coefficients: Array, n_folds: int, runs: NDArray[np.integer] | None = None) -> Intervals:
    """Return the parts of the variance in each region, with intervals over stimuli.

    The value of a stimulus is the combination of its losses; a part is the mean over stimuli. Its variance is that of a
    mean of independent draws of stimuli, or of runs, s² / n, times 1 + K / (K - 1) for K folds: other training sets
    would give other models, and those of two folds share stimuli (Nadeau & Bengio 2003, whose variance of a fold's mean
    is K s² / n here). The interval is Student's, with n - 1 degrees of freedom.

    Parameters
    ----------
    losses : float64 (n_models, n_stimuli, n_regions)
        As in :class:`~affectlake.brain.encoding.bands.BandedEncoding`.
    coefficients : float64 (n_parts, n_models)
        Each part is this combination of the R² of the models: :attr:`Shares.coefficients`.
    n_folds : int
        Number of outer folds, at least 2.
    runs : int (n_stimuli,), optional
        Run in which each stimulus was shown, if stimuli of a run are not independent.

    Returns
    -------
    Intervals

    Notes
    -----
    An unbiased estimate of the variance of cross-validation does not exist (Bengio & Grandvalet 2004). The page on
    validity has the coverage of this one.
    """
    from scipy import stats  # late: it takes longer to import than an up-to-date run to look

    gains = -np.einsum("pm,mnr->pnr", coefficients, losses)
    value = gains.mean(axis=1)
    apart = gains - value[:, None]
    if runs is not None:
        apart = np.stack([apart[:, runs == run].sum(axis=1) for run in np.unique(runs)], axis=1)
    n_groups = apart.shape[1]
    if n_groups < 2:
        nothing = np.full(value.shape, np.nan)
        return Intervals(value, nothing, nothing, nothing, nothing, float("nan"))
    of_mean = (apart**2).sum(axis=1) * n_groups / (n_groups - 1) / gains.shape[1] ** 2
    error = np.sqrt(of_mean * inflation(n_folds))
    error = np.where(np.ptp(gains, axis=1) > 0, error, np.nan)
    quantile = float(stats.t.ppf(0.975, n_groups - 1))
    half, p = quantile * error, 2 * stats.t.sf(np.abs(value) / error, n_groups - 1)
    return Intervals(value, value - half, value + half, p, error, quantile)


class ExplainedShares(NamedTuple):
    """Parts of the variance as shares of what is explainable, with 95 % intervals: each (n_parts, n_regions)."""

    value: Array
    low: Array
    high: Array


def explained_shares(parts: Intervals, explainable: Array, error: Array) -> ExplainedShares:
    """Return the parts of the variance divided by the explainable variance.

    It is R² over reliability: the noise of the means is part of the variance that R² divides by, and of nothing else.
    The interval of the quotient S = R² / ρ is Fieller's: all S for which R² - S ρ is within t standard errors of 0.

    Parameters
    ----------
    parts : Intervals
    explainable, error : float64 (n_regions,)
        Mean explainable variance ρ of the voxels of each region, and its standard error.

    Returns
    -------
    ExplainedShares
        NaN in regions whose ρ is not known to be above 0 (:func:`known_explainable`): the interval has no ends there.

    Notes
    -----
    Fieller 1954, 'Some problems in interval estimation'; errors of R² and of ρ are taken to be independent.
    """
    known = known_explainable(explainable, error, parts.quantile)
    g = (parts.quantile * error / known) ** 2
    value = parts.value / known
    half = parts.quantile / known * np.sqrt((1.0 - g) * parts.error**2 + (value * error) ** 2)
    return ExplainedShares(value, (value - half) / (1.0 - g), (value + half) / (1.0 - g))


def known_explainable(explainable: Array, error: Array, quantile: float = 1.96) -> Array:
    """Return explainable variances that are above 0 by `quantile` standard errors, else NaN.

    Parameters
    ----------
    explainable, error : float64, same shape
        Explainable variances and their standard errors; NaN where they are not known.
    quantile : float
        Number of standard errors. By default, that of a two-tailed test of level 0.05.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(explainable > quantile * error, explainable, np.nan))


class Winners(NamedTuple):
    """The band of each voxel that explains more alone than every other band, and how sure that is: each (n_voxels,).

    `band` is its number, also where `p` is large; -1 where `p` is NaN.
    """

    band: NDArray[np.int64]
    p: Array


def winners(alone: Array, covariance: Array, n_folds: int, n_groups: int) -> Winners:
    """Test in each voxel whether one band explains more alone than all others, and more than nothing.

    Band b wins against the hypotheses that its part is not above 0, and not above that of band c, for every c. All have
    to be rejected, so p of b is the largest of their one-tailed p-values (intersection-union test; Berger 1982). That
    of the voxel is the smallest over bands, times their number (Bonferroni).

    Parameters
    ----------
    alone : float64 (n_bands, n_voxels)
        What only one band explains.
    covariance : float64 (n_bands, n_bands, n_voxels)
        As in :class:`~affectlake.brain.encoding.bands.BandedEncoding`.
    n_folds : int
        Number of outer folds, by which variances are corrected as in :func:`intervals`.
    n_groups : int
        Number of independent groups of stimuli; Student's t has one degree of freedom less.

    Returns
    -------
    Winners
    """
    from scipy import stats

    n = len(alone)
    variance = covariance * inflation(n_folds)
    p = np.empty(alone.shape)
    for band in range(n):
        rest = [other for other in range(n) if other != band]
        gains = np.stack([alone[band], *(alone[band] - alone[other] for other in rest)])
        errors = np.stack(
            [variance[band, band],
             *(variance[band, band] + variance[other, other] - 2 * variance[band, other] for other in rest)]
        )  # fmt: skip
        with np.errstate(divide="ignore", invalid="ignore"):
            t = gains / np.sqrt(np.maximum(errors, 0.0))
        one_tailed = stats.t.sf(t, max(n_groups - 1, 1))
        one_tailed[np.isfinite(gains) & (gains == 0)] = 1.0  # a band that is never chosen, or two equal ones
        p[band] = one_tailed.max(axis=0)
    known = np.isfinite(p).all(axis=0)
    best = np.where(known, p, 1.0).argmin(axis=0)
    lowest = np.minimum(np.take_along_axis(p, best[None], axis=0)[0] * n, 1.0)
    return Winners(np.where(known, best, -1), np.where(known, lowest, np.nan))


def inflation(n_folds: int) -> float:
    """Return the factor of the variance of a mean over stimuli for training sets that overlap (:func:`intervals`)."""
    return 1.0 + n_folds / (n_folds - 1.0)
