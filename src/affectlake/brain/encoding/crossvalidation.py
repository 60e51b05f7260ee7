"""Voxel-wise encoding: ridge regression of every voxel on the features, with a separate penalty for each voxel.

For each outer fold, with X̃ and ỹ centred on the training stimuli (an intercept is not penalised),

    β(λ) = argmin ‖ỹ - X̃ β‖² + λ ‖β‖²,    λ* = argmin over λ of the mean over inner folds of the mean squared error,

and r is Pearson's correlation of Xβ(λ*) with the held-out responses, averaged over the outer folds. λ is per voxel.

There are two equivalent algorithms: with few features, everything is computed from sums over parts of the data
(:mod:`~affectlake.brain.encoding.gram`); with many features, from predictions
(:mod:`~affectlake.brain.encoding.rows`). Both process blocks of voxels, so that only the results need memory in
proportion to the number of voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import Array, Solver
from affectlake.brain.recordings.subjects import ZScored
from affectlake.errors import SourceError, UsageError
from affectlake.process.blas_threads import one_blas_thread

PENALTIES: Array = np.logspace(-3, 3, 100)
"""Du et al. 2025: 100 values from 10⁻³ to 10³, evenly spaced on a logarithmic scale."""

FEW_FEATURES = 80
"""Largest number of features for which the sums are faster than the predictions."""

_BLOCK = 512  # voxels at a time: the arrays of a block stay in the second-level cache


class Encoding(NamedTuple):
    """Prediction accuracy of each voxel; NaN for voxels that are not usable.

    Parameters
    ----------
    r : float64 (n_voxels,)
        Pearson's r on held-out stimuli, averaged over the outer folds.
    fold_r : float64 (n_outer, n_voxels)
    penalty : float64 (n_outer, n_voxels)
        The λ chosen in each outer fold.
    weights : float64 (n_features, n_voxels)
        β, averaged over the outer folds, for the features on their original scale.
    usable : bool (n_voxels,)
        False for a voxel that is constant or has a NaN or an infinite value.
    """

    r: Array
    fold_r: Array
    penalty: Array
    weights: Array
    usable: NDArray[np.bool_]


def encode(
    features: NDArray[np.floating],
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    *,
    penalties: Array = PENALTIES,
    standardise: bool = False,
    workers: int = 1,
    on_voxels: Callable[[int], None] | None = None,
) -> Encoding:
    """Predict every voxel from the features.

    Parameters
    ----------
    features : float (n_stimuli, n_features)
        Any number of features.
    patterns : float (n_stimuli, n_voxels)
        An array, a memory map, or a :class:`~affectlake.brain.recordings.subjects.ZScored`; read block by block.
    folds : Folds
    penalties : float64 (n_penalties,)
        Candidate values of λ, above 0; by default 100 values from 10⁻³ to 10³.
    standardise : bool, default=False
        Whether to divide the features by their standard deviation over the training stimuli before they are penalised.
    workers : int, default=1
        Number of threads over blocks of voxels. The result does not depend on it.
    on_voxels : callable, optional
        Called with the number of voxels of each finished block.

    Raises
    ------
    SourceError
        If features and patterns are not of the same stimuli, or a feature is NaN.
    UsageError
        If there is no penalty, or a penalty is not above 0.

    Notes
    -----
    Du et al. 2025, 'Voxel-wise encoding'. Agrees with himalaya's ``RidgeCV`` and scikit-learn's ``GridSearchCV``.
    """
    x = np.ascontiguousarray(features, dtype=np.float64)
    check(x, patterns, folds, penalties)
    with one_blas_thread():  # the matrices are too small for a second thread
        solver = solver_for(x, folds, penalties, standardise)
    n_outer, n_voxels = len(folds.inner), patterns.shape[1]
    found = Encoding(
        np.full(n_voxels, np.nan),
        np.full((n_outer, n_voxels), np.nan),
        np.full((n_outer, n_voxels), np.nan),
        np.full((x.shape[1], n_voxels), np.nan),
        np.zeros(n_voxels, dtype=bool),
    )

    def work(voxels: slice) -> int:
        block = np.asarray(patterns[:, voxels])
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        found.usable[voxels] = usable
        if usable.any():
            kept = block[:, usable].astype(np.float64)
            solved = solver.solve(kept - kept.mean(axis=0))
            at = np.arange(n_voxels)[voxels][usable]
            found.fold_r[:, at], found.penalty[:, at], found.weights[:, at] = solved
            found.r[at] = solved.fold_r.mean(axis=0)
        return int(block.shape[1])

    with one_blas_thread(), ThreadPoolExecutor(max(workers, 1)) as pool:
        for done in pool.map(work, voxel_blocks(n_voxels)):
            if on_voxels:
                on_voxels(done)
    return found


def relabelled(
    features: NDArray[np.floating],
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    orders: NDArray[np.integer],
    *,
    penalties: Array = PENALTIES,
    standardise: bool = False,
    workers: int = 1,
) -> NDArray[np.float32]:
    """Return the prediction accuracy of every voxel under relabelled stimuli: the null distribution of a map.

    Parameters
    ----------
    features, patterns, folds, penalties, standardise, workers
        As in :func:`encode`.
    orders : int (n_permutations, n_stimuli)
        In permutation k, the features of stimulus i predict the pattern of stimulus ``orders[k, i]``. Penalties are
        chosen again.

    Returns
    -------
    float32 (n_permutations, n_voxels)
        ``encode(features, patterns[order], folds).r`` for each order; what depends on the features alone is computed
        once.
    """
    x = np.ascontiguousarray(features, dtype=np.float64)
    check(x, patterns, folds, penalties)
    found = np.full((len(orders), patterns.shape[1]), np.nan, dtype=np.float32)
    with one_blas_thread():
        solver = solver_for(x, folds, penalties, standardise)

    def work(voxels: slice) -> None:
        block = np.asarray(patterns[:, voxels])
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        if usable.any():
            kept = block[:, usable].astype(np.float64)
            kept -= kept.mean(axis=0)
            at = np.arange(patterns.shape[1])[voxels][usable]
            for row, order in zip(found, orders, strict=True):
                row[at] = solver.solve(kept[order]).fold_r.mean(axis=0)

    with one_blas_thread(), ThreadPoolExecutor(max(workers, 1)) as pool:
        list(pool.map(work, voxel_blocks(patterns.shape[1])))
    return found


def voxel_blocks(n_voxels: int, size: int = _BLOCK) -> Iterator[slice]:
    """Return slices of `size` voxels that together cover `n_voxels`."""
    return (slice(first, min(first + size, n_voxels)) for first in range(0, n_voxels, size))


def solver_for(x: Array, folds: Folds, penalties: Array, standardise: bool, few: int = FEW_FEATURES) -> Solver:
    """Return the faster of the two algorithms; the sums for up to `few` features."""
    if x.shape[1] <= few:
        from affectlake.brain.encoding.gram import GramSolver

        return GramSolver(x, folds, penalties, standardise)
    from affectlake.brain.encoding.rows import RowSolver

    return RowSolver(x, folds, penalties, standardise)


def check(x: Array, patterns: NDArray[np.floating] | ZScored, folds: Folds, penalties: Array) -> None:
    if x.ndim != 2 or patterns.ndim != 2 or not len(x) == len(patterns) == len(folds.outer):
        raise SourceError(
            "features, patterns and folds are not of the same stimuli",
            wanted="one row of each per stimulus",
            found=f"features {x.shape}, patterns {patterns.shape}, folds of {len(folds.outer)} stimuli",
        )
    if not np.isfinite(x).all():
        raise SourceError(
            f"{int((~np.isfinite(x)).any(axis=1).sum())} stimuli have a feature that is not finite",
            todo="remove these stimuli",
        )
    if penalties.ndim != 1 or len(penalties) == 0 or not (penalties > 0).all():
        raise UsageError("ridge regression needs penalties above 0", found=str(penalties))
