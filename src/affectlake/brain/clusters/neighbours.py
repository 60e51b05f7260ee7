"""Which voxels of a mask touch. What is computed from clusters does not belong here."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets

Touching = Literal["faces", "edges", "corners"]

RADIUS: dict[Touching, float] = {"faces": 1.0, "edges": 2**0.5, "corners": 3**0.5}
"""Largest distance between the centres of two voxels that touch, in voxels."""


def neighbours_of(voxels: NDArray[np.integer], touching: Touching = "faces") -> NDArray[np.int32]:
    """Return the neighbours of every voxel of a mask.

    Parameters
    ----------
    voxels : int (n_voxels, 3)
        i, j, k of every voxel, each once.
    touching : {"faces", "edges", "corners"}, default="faces"
        Voxels are neighbours if they share a face (6 neighbours, as in nilearn and FSL), also if they share an edge
        (18), or also if they share a corner (26).

    Returns
    -------
    int32 (n_voxels, 6, 18 or 26)
        Rows of the neighbours; -1 outside the mask.

    Raises
    ------
    SourceError
        If a voxel occurs twice.
    """
    offsets = sphere_offsets(RADIUS[touching])
    others = offsets[np.abs(offsets).any(axis=1)]
    if not len(voxels):
        return np.empty((0, len(others)), dtype=np.int32)
    spheres = make_spheres(voxels, offsets)
    return np.stack([spheres.grid[tuple((spheres.places + offset).T)] for offset in others], axis=1)
