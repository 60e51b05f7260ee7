"""Correlation distances of patterns that are never in memory at once: sums over blocks of voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.subjects import ZScored

Array = NDArray[np.float64]

VOXELS = 2048
"""Voxels that are in memory at a time, as float64."""

_CONSTANT = 1e-12  # share of the squares up to which a pattern's variance is rounding


class PatternProducts:
    """Sums over voxels from which the correlation of every pair of patterns follows.

    Parameters
    ----------
    n : int
        Number of patterns.
    """

    def __init__(self, n: int) -> None:
        self.products: Array = np.zeros((n, n))
        self.sums: Array = np.zeros(n)
        self.n_voxels = 0

    def add(self, patterns: NDArray[np.floating]) -> None:
        """Add voxels: float (n, n_voxels)."""
        values = np.asarray(patterns, dtype=np.float64)
        self.products += values @ values.T
        self.sums += values.sum(axis=1)
        self.n_voxels += values.shape[1]

    def distances(self) -> Array:
        """Return 1 - r of every pair, float64 (n, n); NaN for a pattern that is constant over voxels."""
        covariance = self.products - np.outer(self.sums, self.sums) / max(self.n_voxels, 1)
        variance = np.diag(covariance)
        varies = (variance > _CONSTANT * np.diag(self.products)) & (self.n_voxels > 2)
        spread = np.sqrt(np.where(varies, variance, np.nan))
        return np.asarray(1.0 - np.clip(covariance / spread[:, None] / spread, -1.0, 1.0))


def pattern_distances(patterns: NDArray[np.floating] | ZScored, voxels: NDArray[np.bool_]) -> Array:
    """Return the correlation distances of the patterns of some voxels: float64 (n_stimuli, n_stimuli).

    Parameters
    ----------
    patterns : float (n_stimuli, n_voxels)
        Read block by block.
    voxels : bool (n_voxels,)
        At least three voxels; without NaN.
    """
    found, at = PatternProducts(len(patterns)), np.flatnonzero(voxels)
    for first in range(0, len(at), VOXELS):
        found.add(patterns[:, at[first : first + VOXELS]])
    return found.distances()
