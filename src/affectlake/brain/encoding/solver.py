"""What every way of encoding a block of voxels takes and gives."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Block(NamedTuple):
    """What a solver finds for some voxels: as in :class:`~affectlake.brain.encoding.crossvalidation.Encoding`, without
    the mean."""

    fold_r: Array
    penalty: Array
    weights: Array


class Solver(Protocol):
    """Encodes a block of voxels; holds what all blocks share."""

    def solve(self, responses: Array) -> Block:
        """Return what is found for responses float64 (n_stimuli, n_voxels), centred and free of NaN."""
