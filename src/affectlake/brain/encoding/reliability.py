"""Reliability of stimuli: leave-one-out encoding of every stimulus, computed without n fits.

With X̃ = P diag(√s) V' (centred) and a ridge penalty λ, the fit to all n stimuli has the hat matrix

    Hat(λ) = 1/n + P diag(s / (s + λ)) P',

and the prediction of stimulus i by the model fitted to all other stimuli is y_i - (y_i - ŷ_i) / (1 - Hat_ii). This is
exact for a fixed λ, including the refitted intercept. The reliability of a stimulus is Pearson's correlation, across
voxels, of this prediction with the measured pattern.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.crossvalidation import voxel_blocks
from affectlake.brain.recordings.subjects import ZScored
from affectlake.errors import SourceError
from affectlake.process.blas_threads import one_blas_thread

Array = NDArray[np.float64]


class Reliability(NamedTuple):
    """Reliability of each stimulus, and the number of voxels used.

    Parameters
    ----------
    r : float64 (n_stimuli,)
        Pearson's r across voxels of the leave-one-out prediction and the measured pattern.
    n_voxels : int
        Number of voxels that are neither constant nor NaN.
    """

    r: Array
    n_voxels: int


def leave_one_out(
    features: NDArray[np.floating],
    patterns: NDArray[np.floating] | ZScored,
    penalties: NDArray[np.floating],
    *,
    workers: int = 1,
) -> Reliability:
    """Predict every stimulus from the others and correlate its pattern across voxels.

    Parameters
    ----------
    features : float (n_stimuli, n_features)
    patterns : float (n_stimuli, n_voxels)
        Z-scored per voxel; otherwise the correlations are dominated by voxels with a large variance.
    penalties : float (n_voxels,)
        λ of each voxel, above 0. Memory grows with the number of different values.
    workers : int, default=1
        Number of threads over blocks of voxels.

    Raises
    ------
    SourceError
        If the shapes do not match, or there are fewer than three stimuli or two usable voxels.

    Notes
    -----
    Du et al. 2025, 'Searchlight RSA'.
    """
    n, n_voxels = patterns.shape
    if len(features) != n or penalties.shape != (n_voxels,) or n < 3 or not np.isfinite(features).all():
        raise SourceError(
            "the inputs of leave-one-out encoding do not fit together",
            wanted="finite features and patterns of the same stimuli, at least three, and one penalty per voxel",
            found=f"features {features.shape}, patterns {patterns.shape}, penalties {penalties.shape}",
        )
    x = features - features.mean(axis=0, dtype=np.float64)
    with one_blas_thread():
        left, roots, _ = np.linalg.svd(x, full_matrices=False)
    left, values = left[:, roots > 1e-7 * roots[0]], roots[roots > 1e-7 * roots[0]] ** 2
    different, place = np.unique(np.where(np.isnan(penalties), 1.0, penalties), return_inverse=True)
    shrinkage = values[:, None] / (values[:, None] + different)  # (k, λ)
    inflation = 1.0 / (1.0 - 1.0 / n - left**2 @ shrinkage)  # (n, λ): 1 / (1 - Hat_ii)

    def work(voxels: slice) -> tuple[Array, int]:
        block = np.asarray(patterns[:, voxels])
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        usable &= ~np.isnan(penalties[voxels])
        at = place[voxels][usable]
        y = block[:, usable].astype(np.float64)
        centred = y - y.mean(axis=0)
        residual = (centred - left @ (shrinkage[:, at] * (left.T @ centred))) * inflation[:, at]
        p = y - residual
        sums = [p.sum(1), y.sum(1), *(np.einsum("nv,nv->n", a, b) for a, b in ((p, p), (y, y), (p, y)))]
        return np.stack(sums), int(usable.sum())

    totals, used = np.zeros((5, n)), 0
    with one_blas_thread(), ThreadPoolExecutor(max(workers, 1)) as pool:
        for sums, count in pool.map(work, voxel_blocks(n_voxels)):
            totals += sums
            used += count
    if used < 2:
        raise SourceError(
            "fewer than two voxels can be used",
            wanted="voxels that vary and have no NaN",
            found=f"{used} of {n_voxels}",
        )
    p, y, pp, yy, py = totals
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (py - p * y / used) / np.sqrt((pp - p**2 / used) * (yy - y**2 / used))
    return Reliability(np.asarray(r), used)


def most_reliable(r: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the indices of the `count` highest values, in increasing order; NaN is never selected.

    Raises
    ------
    SourceError
        If fewer than `count` values are defined.
    """
    ranked = np.flatnonzero(~np.isnan(r))
    if count < 3 or len(ranked) < count:
        raise SourceError(
            f"cannot select the {count:,} most reliable stimuli",
            found=f"{len(ranked):,} stimuli with a reliability",
            allowed=f"3 to {len(ranked):,}",
            todo="set brain.searchlight.n_stimuli to a smaller number",
        )
    return np.sort(ranked[np.argsort(-r[ranked], kind="stable")[:count]])
