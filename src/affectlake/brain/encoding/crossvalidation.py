"""Voxel-wise encoding: ridge regression of every voxel on the features, each voxel with its own penalty.

For each outer fold, with X̃ and ỹ centred on the training stimuli (an intercept is never penalised),

    β(λ) = argmin ‖ỹ - X̃ β‖² + λ ‖β‖²,    λ* = argmin over λ of the mean over inner folds of the mean squared error,

and r is Pearson's correlation of Xβ(λ*) with the held-out responses, averaged over the outer folds. λ is per voxel.

Two ways to the same numbers: with few features everything comes from sums over parts of the data
(:mod:`~affectlake.brain.encoding.gram`); with many, from predictions (:mod:`~affectlake.brain.encoding.rows`). Both
work through blocks of voxels, so that memory does not grow with their number beyond the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import Array, Solver
from affectlake.brain.recordings.subjects import ZScored
from affectlake.errors import SourceError, UsageError

PENALTIES: Array = np.logspace(-3, 3, 100)
"""Du et al. 2025: 100 values from 10⁻³ to 10³, evenly spaced on a logarithmic scale."""

FEW_FEATURES = 80
"""Up to here the sums are cheaper than the predictions."""

_BLOCK = 512  # voxels at a time: the arrays of one block stay in the second-level cache


class Encoding(NamedTuple):
    """How well each voxel is predicted; NaN where a voxel could not be used.

    Parameters
    ----------
    r : float64 (n_voxels,)
        Pearson's r on held-out stimuli, mean over the outer folds.
    fold_r : float64 (n_outer, n_voxels)
    penalty : float64 (n_outer, n_voxels)
        The λ chosen in each outer fold.
    weights : float64 (n_features, n_voxels)
        β, mean over the outer folds, for features as they were given.
    usable : bool (n_voxels,)
        False for a voxel that is constant or holds a NaN or an infinity.
    """

    r: Array
    fold_r: Array
    penalty: Array
    weights: Array
    usable: NDArray[np.bool_]


def encode(
    features: NDArray[np.floating],
    responses: NDArray[np.floating] | ZScored,
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
    responses : float (n_stimuli, n_voxels)
        Responses, a memory map of them, or :class:`~affectlake.brain.recordings.subjects.ZScored`; read block by block.
    folds : Folds
    penalties : float64 (n_penalties,)
        The λ to choose from, above 0.
    standardise : bool
        Whether features are divided by their standard deviation over the training stimuli before they are penalised.
    workers : int
        Threads over blocks of voxels. The result does not depend on it.
    on_voxels : callable, optional
        Told how many more voxels are done.

    Raises
    ------
    SourceError
        If features and responses are not of the same stimuli, or a feature is NaN.
    UsageError
        If there is no penalty, or one is not above 0.

    Notes
    -----
    Du et al. 2025, 'Voxel-wise encoding'. Agrees with himalaya's ``RidgeCV`` and scikit-learn's ``GridSearchCV``.
    """
    x = np.ascontiguousarray(features, dtype=np.float64)
    _check(x, responses, folds, penalties)
    with threadpool_limits(1, "blas"):  # matrices so small that a second thread only waits
        solver = _solver(x, folds, penalties, standardise)
    n_outer, n_voxels = len(folds.inner), responses.shape[1]
    found = Encoding(
        np.full(n_voxels, np.nan),
        np.full((n_outer, n_voxels), np.nan),
        np.full((n_outer, n_voxels), np.nan),
        np.full((x.shape[1], n_voxels), np.nan),
        np.zeros(n_voxels, dtype=bool),
    )

    def work(voxels: slice) -> int:
        block = np.asarray(responses[:, voxels])
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        found.usable[voxels] = usable
        if usable.any():
            kept = block[:, usable].astype(np.float64)
            solved = solver.solve(kept - kept.mean(axis=0))
            at = np.arange(n_voxels)[voxels][usable]
            found.fold_r[:, at], found.penalty[:, at], found.weights[:, at] = solved
            found.r[at] = solved.fold_r.mean(axis=0)
        return int(block.shape[1])

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(max(workers, 1)) as pool:
        for done in pool.map(work, voxel_blocks(n_voxels)):
            if on_voxels:
                on_voxels(done)
    return found


def voxel_blocks(n_voxels: int, size: int = _BLOCK) -> Iterator[slice]:
    """Return slices that cover `n_voxels` voxels, `size` at a time."""
    return (slice(first, min(first + size, n_voxels)) for first in range(0, n_voxels, size))


def _solver(x: Array, folds: Folds, penalties: Array, standardise: bool) -> Solver:
    if x.shape[1] <= FEW_FEATURES:
        from affectlake.brain.encoding.gram import GramSolver

        return GramSolver(x, folds, penalties, standardise)
    from affectlake.brain.encoding.rows import RowSolver

    return RowSolver(x, folds, penalties, standardise)


def _check(x: Array, responses: NDArray[np.floating] | ZScored, folds: Folds, penalties: Array) -> None:
    if x.ndim != 2 or responses.ndim != 2 or not len(x) == len(responses) == len(folds.outer):
        raise SourceError(
            "features, responses and folds are not of the same stimuli",
            wanted="one row of each per stimulus",
            found=f"features {x.shape}, responses {responses.shape}, folds of {len(folds.outer)} stimuli",
        )
    if not np.isfinite(x).all():
        raise SourceError(
            f"{int((~np.isfinite(x)).any(axis=1).sum())} stimuli have a feature that is no number",
            todo="leave those stimuli out",
        )
    if penalties.ndim != 1 or len(penalties) == 0 or not (penalties > 0).all():
        raise UsageError("ridge regression needs penalties above 0", found=str(penalties))
