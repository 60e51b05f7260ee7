"""Interface of the algorithms that encode a block of voxels."""

from __future__ import annotations

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


class Solver(Protocol):
    """Algorithm that encodes a block of voxels; an instance has the data that all blocks share."""

    def solve(self, patterns: Array) -> Block:
        """Return the results for patterns float64 (n_stimuli, n_voxels), centred and without NaN."""
