"""Interface of the algorithms that encode a block of voxels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONSTANT = 1e-12
"""Share of a sum of squares up to which the squares around the mean are rounding errors of a constant."""


class Block(NamedTuple):
    """Results for a block of voxels, as in :class:`~affectlake.brain.encoding.crossvalidation.Encoding`."""

    fold_r: Array
    penalty: Array
    weights: Array


class Choice(NamedTuple):
    """The best penalties of a block of voxels, in each outer fold.

    Parameters
    ----------
    error : float64 (n_outer, n_voxels)
        Sum over the inner folds of the mean squared validation errors, up to a constant per outer fold and voxel that
        does not depend on the features.
    at : int64 (n_outer, n_voxels)
        Position of the penalty among the candidates.
    """

    error: Array
    at: NDArray[np.int64]


class Solver(Protocol):
    """Algorithm that encodes a block of voxels; an instance has the data that all blocks share.

    `patterns` are float64 (n_stimuli, n_voxels), centred and without NaN.
    """

    def solve(self, patterns: Array) -> Block:
        """Return the results for patterns."""

    def choose(self, patterns: Array) -> Choice:
        """Return the penalties with the smallest validation errors."""


def best_of(curves: Iterable[Array]) -> Choice:
    """Return the first smallest error of each voxel, of the errors (n_penalties, v) of each outer fold."""
    found = [(curve, curve.argmin(axis=0)) for curve in curves]
    return Choice(
        np.stack([np.take_along_axis(curve, at[None], axis=0)[0] for curve, at in found]),
        np.stack([at for _, at in found]),
    )
