"""Crossnobis distances whose noise covariance is estimated from other stimuli than those that are compared.

Residuals of the presentations of two stimuli depend on the same noise as the difference of their patterns. A covariance
that contains them is small where this noise happens to be small within stimuli, and large between folds: whitened by
it, the distance of equal patterns is above zero on average. With two presentations of each of n stimuli and independent
voxels, the mean is 2 / (n - 2) in units of the variance of the noise, whatever the number of voxels, which is many
standard errors in a region. Here, stimuli are divided into groups, and the distances of the stimuli of two groups are
whitened by the residuals of all other groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.crossnobis import (
    Array,
    Shrinkage,
    fold_means,
    noise_covariance,
    residuals,
    summed_distances,
)
from affectlake.errors import SourceError
from affectlake.process.blas_threads import one_blas_thread

N_GROUPS = 10
"""Groups of stimuli; two of them are compared while the others give the covariance."""

FEWEST_STIMULI = 5
"""Stimuli below which there are no distances: two are compared, and three give the covariance."""

MOST_WHITENED = 1000
"""Voxels above which each voxel is divided by its own noise: a covariance of all voxels takes too long to invert."""

_VOXELS = 1024  # processed at a time

Whitening = Literal["covariance", "variances"]


class Whitened(NamedTuple):
    """Crossnobis distances, symmetric float64 (n, n), of `n_voxels` voxels, and what whitened them."""

    distances: Array
    n_voxels: int
    whitening: Whitening


def crossfitted_distances(
    presentations: NDArray[np.floating],
    stimulus: NDArray[np.integer],
    fold: NDArray[np.integer],
    shrinkage: Shrinkage = "diagonal",
    *,
    workers: int = 1,
) -> Whitened:
    """Return the crossnobis distance of every two stimuli, whitened by the noise of other stimuli.

    Parameters
    ----------
    presentations : float (n_samples, n_voxels)
        One pattern per presentation. Voxels that are not finite, or without noise, are left out.
    stimulus : int (n_samples,)
        Stimulus of each presentation, from 0 to n - 1; negative for a presentation that is not used. Each stimulus must
        have presentations in two or more folds.
    fold : int (n_samples,)
        Fold of each presentation. Noise must be independent between folds.
    shrinkage : {'diagonal', 'identity', 'none'}, default='diagonal'
        As in :func:`affectlake.brain.crossnobis.noise_covariance`. Above `MOST_WHITENED` voxels, the variances of
        voxels are not shrunk.
    workers : int, default=1
        Number of threads. The result does not depend on it.

    Returns
    -------
    Whitened
        Distances are divided by the number of voxels. NaN for pairs of stimuli that are in no fold together.

    Raises
    ------
    SourceError
        If there are fewer than five stimuli, a stimulus is in a single fold, or the covariance cannot be inverted.
    """
    used = np.asarray(stimulus) >= 0
    which, folds = np.asarray(stimulus)[used], np.asarray(fold)[used]
    n = int(which.max(initial=-1)) + 1
    _check(which, folds, n)
    x = presentations[used]
    group = np.arange(n) % min(N_GROUPS, n)
    known = np.flatnonzero(_has_noise(x, which, group))
    if not len(known):
        return Whitened(np.full((n, n), np.nan), 0, "covariance")
    with one_blas_thread():
        if len(known) <= MOST_WHITENED:
            total, count = _by_covariance(x[:, known], which, folds, group, shrinkage, workers)
        else:
            total, count = _by_variances(x, known, which, folds, group, workers)
    with np.errstate(invalid="ignore"):
        found = np.where(count > 0, total / count, np.nan) / len(known)
    np.fill_diagonal(found, 0.0)
    return Whitened(found, len(known), "covariance" if len(known) <= MOST_WHITENED else "variances")


def _by_covariance(
    x: NDArray[np.floating], stimulus: NDArray[np.integer], fold: NDArray[np.integer], group: NDArray[np.intp],
    shrinkage: Shrinkage, workers: int,
) -> tuple[Array, NDArray[np.int64]]:  # fmt: skip
    n = len(group)
    left, _ = residuals(x, stimulus)
    means = fold_means(np.asarray(x, dtype=np.float64), stimulus, fold)

    def of_two(compared: NDArray[np.bool_]) -> tuple[Array, NDArray[np.int64]]:
        rest = ~compared[stimulus]
        own = int(rest.sum()) - int((~compared).sum())
        if shrinkage == "none" and own < x.shape[1]:
            raise SourceError(
                "the covariance of the noise cannot be inverted",
                wanted=f"at least {x.shape[1]:,} degrees of freedom",
                found=f"{x.shape[1]:,} voxels and {own:,} degrees of freedom without the stimuli that are compared",
                todo="shrink it towards its diagonal",
            )
        return summed_distances(means, n, noise_covariance(left[rest], own, shrinkage).precision, compared)

    total, count = np.zeros((n, n)), np.zeros((n, n), dtype=np.int64)
    with ThreadPoolExecutor(workers) as pool:
        for part, known in pool.map(of_two, _pairs(group)):
            total += part
            count += known
    return total, count


def _by_variances(
    x: NDArray[np.floating], voxels: NDArray[np.intp], stimulus: NDArray[np.integer], fold: NDArray[np.integer],
    group: NDArray[np.intp], workers: int,
) -> tuple[Array, NDArray[np.int64]]:  # fmt: skip
    n = len(group)

    def of_block(first: int) -> tuple[Array, NDArray[np.int64]]:
        block = np.asarray(x[:, voxels[first : first + _VOXELS]], dtype=np.float64)
        squares = residuals(block, stimulus)[0] ** 2
        means = fold_means(block, stimulus, fold)
        total, count = np.zeros((n, n)), np.zeros((n, n), dtype=np.int64)
        for compared in _pairs(group):
            rest = ~compared[stimulus]
            own = int(rest.sum()) - int((~compared).sum())
            part, known = summed_distances(means, n, own / squares[rest].sum(axis=0), compared)
            total += part
            count += known
        return total, count

    with ThreadPoolExecutor(workers) as pool:
        blocks = list(pool.map(of_block, range(0, len(voxels), _VOXELS)))
    return np.sum([part for part, _ in blocks], axis=0), blocks[0][1]


def _pairs(group: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """Yield which stimuli are compared, for every two groups."""
    for two in combinations(range(int(group.max()) + 1), 2):
        yield np.isin(group, two)


def _has_noise(x: NDArray[np.floating], stimulus: NDArray[np.integer], group: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which voxels are finite, and vary within stimuli of every selection of groups: bool (n_voxels,)."""
    found = np.zeros(x.shape[1], dtype=bool)
    for first in range(0, x.shape[1], _VOXELS):
        block = x[:, first : first + _VOXELS]
        finite = np.isfinite(block).all(axis=0)
        varies = np.zeros((int(group.max()) + 1, block.shape[1]), dtype=bool)
        for one in np.unique(stimulus):
            own = block[stimulus == one]
            varies[group[one]] |= (own.max(axis=0) > own.min(axis=0)) & finite
        found[first : first + _VOXELS] = varies.sum(axis=0) >= 3  # without two of them, one is left
    return found


def _check(stimulus: NDArray[np.integer], fold: NDArray[np.integer], n: int) -> None:
    n_folds = np.array([len(np.unique(fold[stimulus == one])) for one in range(n)], dtype=np.int64)
    if n < FEWEST_STIMULI or (n_folds < 2).any():
        raise SourceError(
            "cross-validated distances with whitening need repeated stimuli",
            wanted=f"at least {FEWEST_STIMULI} stimuli, each with presentations in two or more folds",
            found=f"{n:,} stimuli, {int((n_folds < 2).sum()):,} of them in fewer than two folds",
            todo="leave out stimuli that were presented once",
        )
