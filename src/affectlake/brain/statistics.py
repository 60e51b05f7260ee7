"""Statistics over subjects and voxels: t-tests, false discovery rates, noise ceilings, permutation tests, comparisons.

Arrays in, arrays out. NaN is a value that is not defined; it is ignored or propagated, never treated as a number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.rsm import pairs, pearson, ranks

Array = NDArray[np.float64]


class PairedTest(NamedTuple):
    """A paired two-tailed t-test across subjects: mean difference, t, p and number of subjects; NaN if not defined."""

    difference: float
    t: float
    p: float
    n: int


def paired_t_test(a: NDArray[np.floating], b: NDArray[np.floating]) -> PairedTest:
    """Test whether a - b differs from zero across subjects; subjects with a NaN are ignored.

    Parameters
    ----------
    a, b : float (n_subjects,)
        One value per subject.
    """
    from scipy import stats  # late: it takes longer to import than an up-to-date run to look

    difference = np.asarray(a - b, dtype=np.float64)
    difference = difference[~np.isnan(difference)]
    n, mean = len(difference), float(difference.mean()) if len(difference) else float("nan")
    if n < 2 or np.ptp(difference) == 0:
        return PairedTest(mean, float("nan"), float("nan"), n)
    found = stats.ttest_1samp(difference, 0.0)
    return PairedTest(mean, float(found.statistic), float(found.pvalue), n)


def paired_interval(a: NDArray[np.floating], b: NDArray[np.floating], level: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of the mean of a - b across subjects, by Student's t-distribution.

    Parameters
    ----------
    a, b : float (n_subjects,)
        One value per subject; subjects with a NaN are ignored.
    level : float
        Level of confidence. Default 0.95.

    Returns
    -------
    tuple of float
        The ends of the interval, which contains 0 if and only if :func:`paired_t_test` gives p > 1 - `level`; NaN for
        fewer than two subjects, or if all differences are equal.
    """
    from scipy import stats

    difference = np.asarray(a - b, dtype=np.float64)
    difference = difference[~np.isnan(difference)]
    if len(difference) < 2 or np.ptp(difference) == 0:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference))
    return float(difference.mean() - half), float(difference.mean() + half)


def correlation_p_values(r: NDArray[np.floating], n: int) -> Array:
    """Return two-tailed p of correlations of n pairs under the t-distribution with n - 2 degrees of freedom.

    Parameters
    ----------
    r : float, any shape
        Pearson's r; NaN stays NaN.
    n : int
        Number of pairs of each r, at least 3. Pairs are assumed to be independent.

    Notes
    -----
    Held-out correlations of cross-validation are not independent: two stimuli of different folds occur together twice,
    once in each one's training set. About 15 % of voxels of pure noise then have p < 0.05; see :func:`pooled_p_values`.
    """
    from scipy import stats

    if n < 3:
        raise SourceError("too few pairs for a p-value of a correlation", found=f"{n} pairs", allowed="3 or more")
    x = np.asarray(r, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = x * np.sqrt((n - 2) / ((1.0 - x) * (1.0 + x)))
    return np.where(np.isnan(x), np.nan, 2.0 * stats.t.sf(np.abs(t), n - 2))


def benjamini_hochberg(p: NDArray[np.floating]) -> Array:
    """Return p adjusted for the false discovery rate (Benjamini & Hochberg 1995); NaN is ignored and stays NaN.

    Parameters
    ----------
    p : float (m,)

    Returns
    -------
    float64 (m,)
        Smallest false discovery rate at which each test is significant.
    """
    from scipy import stats

    found, tested = np.full(len(p), np.nan), ~np.isnan(p)
    if tested.any():
        found[tested] = stats.false_discovery_control(p[tested])
    return found


class Ceiling(NamedTuple):
    """Range of the mean correlation of the best possible model with the subjects."""

    lower: float
    upper: float


def noise_ceiling(rsms: NDArray[np.floating]) -> Ceiling:
    """Return the noise ceiling of several subjects' RSMs of the same stimuli, for Spearman's correlation.

    Upper ceiling: mean correlation of each subject with the mean of all; lower: with the mean of the others. RSMs are
    averaged as ranks.

    Parameters
    ----------
    rsms : float (n_subjects, n, n)
        RSMs of at least two subjects.

    Raises
    ------
    SourceError
        If there are fewer than two subjects.

    Notes
    -----
    Nili et al. 2014, 'A toolbox for representational similarity analysis'.
    """
    if len(rsms) < 2:
        raise SourceError("a noise ceiling needs at least two subjects", found=f"{len(rsms)}")
    ranked = np.stack([ranks(pairs(rsm)) for rsm in rsms])
    total = ranked.sum(axis=0)
    upper = [pearson(row, ranks(total)) for row in ranked]
    lower = [pearson(row, ranks(total - row)) for row in ranked]
    return Ceiling(float(np.mean(lower)), float(np.mean(upper)))


def relabelled(rsm: NDArray[np.floating], rng: np.random.Generator, count: int) -> Array:
    """Return `count` copies of an RSM with its stimuli relabelled at random: float64 (count, n, n).

    This is the null hypothesis that the labels of the stimuli do not matter. Rows and columns are permuted together, so
    that the dependence between pairs is kept.
    """
    orders = np.stack([rng.permutation(len(rsm)) for _ in range(count)])
    return np.stack([rsm[np.ix_(order, order)] for order in orders]).astype(np.float64)


def map_p_values(values: NDArray[np.floating], null: NDArray[np.floating]) -> Array:
    """Return the two-tailed permutation p of every voxel of a map; NaN where the map is NaN or without permutations.

    Parameters
    ----------
    values : float (n_voxels,)
    null : float (n_permutations, n_voxels)
        The same map under relabelled stimuli.
    """
    if len(null) == 0:
        return np.full(len(values), np.nan)
    extreme = (np.abs(null) >= np.abs(values) - 1e-7).sum(axis=0)
    return np.where(np.isnan(values), np.nan, (1 + extreme) / (1 + len(null)))


def pooled_p_values(values: NDArray[np.floating], null: NDArray[np.floating]) -> Array:
    """Return the share of a pooled null distribution that reaches each value (one-tailed); NaN where the map is NaN.

    p = (1 + #{null ≥ value}) / (1 + #null), over all voxels and draws together, so that a few draws of a large map give
    small p-values. It assumes the same null distribution in all voxels, which z-scored patterns justify.

    Parameters
    ----------
    values : float (n_voxels,)
    null : float (n_permutations, n_voxels)
        The same map under relabelled stimuli; NaN is ignored.
    """
    pool = np.sort(null[~np.isnan(null)])
    if len(pool) == 0:
        return np.full(len(values), np.nan)
    reached = len(pool) - np.searchsorted(pool, values, side="left")
    return np.where(np.isnan(values), np.nan, (1 + reached) / (1 + len(pool)))


def maximum_p_values(values: NDArray[np.floating], null: NDArray[np.floating]) -> Array:
    """Return the share of a null distribution's maxima over voxels that reaches each value (one-tailed).

    p = (1 + #{k: max over voxels of null k ≥ value}) / (1 + n_permutations). The chance that any voxel of a map without
    effects has p < α is at most α, whatever the dependence between voxels.

    Parameters
    ----------
    values : float (n_voxels,)
    null : float (n_permutations, n_voxels)
        The same map under relabelled stimuli; NaN is ignored.

    Returns
    -------
    float64 (n_voxels,)
        NaN where the map is NaN, or without permutations.

    Notes
    -----
    Nichols & Holmes 2002, 'Nonparametric permutation tests for functional neuroimaging'.
    """
    known = ~np.isnan(values)
    found = np.full(len(values), np.nan)
    if len(null) and known.any():
        highest = np.sort(np.fmax.reduce(null[:, known], axis=1))
        reached = len(null) - np.searchsorted(highest, values[known] - 1e-12)
        found[known] = (1 + reached) / (1 + len(null))
    return found


class Win(NamedTuple):
    """How often one map is above another: share of the voxels defined in both (ties count half), and their number."""

    share: float
    n: int


def share_won(a: NDArray[np.floating], b: NDArray[np.floating]) -> Win:
    """Return the share of voxels in which map `a` is above map `b`."""
    both = ~(np.isnan(a) | np.isnan(b))
    n = int(both.sum())
    if n == 0:
        return Win(float("nan"), 0)
    return Win(float(((a[both] > b[both]) + 0.5 * (a[both] == b[both])).mean()), n)


def region_means(maps: NDArray[np.floating], membership: NDArray[np.bool_]) -> Array:
    """Return the mean of each map over each region's voxels, ignoring NaN.

    Parameters
    ----------
    maps : float (n_maps, n_voxels)
    membership : bool (n_regions, n_voxels)

    Returns
    -------
    float64 (n_maps, n_regions)
        NaN if no voxel of a region has a value.
    """
    values = np.asarray(maps, dtype=np.float64)
    numbers = ~np.isnan(values)
    found = np.full((len(values), len(membership)), np.nan)
    for region, inside in enumerate(membership):  # summed in the order of voxels: the same bytes in every run
        for one, kept in enumerate(numbers & inside):
            if kept.any():
                found[one, region] = values[one, kept].mean()
    return found
