"""How much of a voxel's variance is explainable: what repeated presentations of the same stimuli have in common.

No agent and no other subject takes part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.halves import FEWEST_REPEATED

_VOXELS = 1024  # processed at a time


def explainable_variance(presentations: NDArray[np.floating], stimulus: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the share of the variance of each voxel's mean patterns that is not noise of the presentations.

    With m_i presentations y_ij of stimulus i and their mean ȳ_i, the variance of the noise of one presentation is
    estimated within stimuli, σ² = Σ_ij (y_ij - ȳ_i)² / Σ_i (m_i - 1), and the share is

        1 - σ² mean_i(1 / m_i) / Var_i(ȳ_i).

    It is the largest R² that a model can be expected to reach on the means, and their reliability. The means are over
    all stimuli, also those that were presented once: their noise is taken to be as large as that of the others.

    Parameters
    ----------
    presentations : float (n_samples, n_voxels)
        One pattern per presentation.
    stimulus : int (n_samples,)
        Stimulus of each presentation, from 0 to n - 1; negative for a presentation that is not used.

    Returns
    -------
    float64 (n_voxels,)
        At most 1; negative where the presentations of a stimulus differ more than chance lets means of noise differ.
        NaN for a voxel that is constant or not finite, and for all if fewer than four stimuli were presented
        repeatedly.

    Notes
    -----
    One-way analysis of variance; with equally many presentations, it is the intraclass correlation ICC(1, m) of Shrout
    & Fleiss 1979, and the explainable variance of Hsu, Borst & Theunissen 2004. Noise that all presentations of a
    stimulus share, such as that of one run, counts as explainable.
    """
    found = np.full(presentations.shape[1], np.nan)
    used = np.flatnonzero(stimulus >= 0)
    counts = np.bincount(stimulus[used]) if len(used) else np.zeros(0, dtype=np.int64)
    shown, place = counts > 0, np.cumsum(counts > 0) - 1
    counts = counts[shown]
    if np.count_nonzero(counts > 1) < FEWEST_REPEATED:
        return found
    at = place[stimulus[used]]
    degrees = len(used) - len(counts)
    for first in range(0, presentations.shape[1], _VOXELS):
        block = presentations[used, first : first + _VOXELS].astype(np.float64)
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        block = block[:, usable] - block[:, usable].mean(axis=0)
        means, _ = means_of_stimuli(block, at, len(counts))
        noise = ((block - means[at]) ** 2).sum(axis=0) / degrees
        spread = means.var(axis=0, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(np.ptp(means, axis=0) > 0, 1.0 - noise * np.mean(1.0 / counts) / spread, np.nan)
        found[first : first + _VOXELS][usable] = share
    return found


def error_of_explainable(share: NDArray[np.float64], n_presentations: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return an upper bound of the standard error of the mean explainable variance of a region.

    The relative variance of σ² of a voxel is 2 / Σ_i (m_i - 1) for normal noise. A mean over voxels has at most this
    variance, if the noise of all voxels were one.

    Parameters
    ----------
    share : float64, any shape
        Mean of :func:`explainable_variance` over the voxels of a region.
    n_presentations : int (n_stimuli,)
        Number of presentations of each stimulus.

    Returns
    -------
    float64, same shape
        NaN without repeated presentations.
    """
    degrees = int((n_presentations - 1).sum())
    return (1.0 - share) * np.sqrt(2.0 / degrees) if degrees else np.full(np.shape(share), np.nan)


def means_of_stimuli(
    presentations: NDArray[np.floating], stimulus: NDArray[np.integer], n: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean pattern of each of n stimuli (n, n_voxels), and its number of presentations (n,).

    A stimulus without a presentation has zeros.
    """
    total, counts = np.zeros((n, presentations.shape[1])), np.bincount(stimulus, minlength=n)
    np.add.at(total, stimulus, presentations)
    return total / np.maximum(counts, 1)[:, None], counts
