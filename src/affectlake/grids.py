"""The affine of a grid of voxels, from the voxels' indices and coordinates. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def affine_of(voxels: NDArray[np.integer], mm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the affine from i, j, k to mm that fits best: least squares.

    Voxels in one plane or on one line leave directions open. These are perpendicular to the others, with the mean of
    their lengths (1 mm for a single voxel), and point along the positive direction of the nearest axis.

    Parameters
    ----------
    voxels : int (n_voxels, 3)
        i, j, k of each voxel.
    mm : float (n_voxels, 3)

    Returns
    -------
    float64 (4, 4)
        Not singular, unless the coordinates are.
    """
    grid, places = np.asarray(voxels, dtype=np.float64), np.asarray(mm, dtype=np.float64)
    middle, place = grid.mean(axis=0), places.mean(axis=0)
    _, spread, directions = np.linalg.svd((grid - middle).T @ (grid - middle))
    rank = int((spread > 1e-9 * max(float(spread[0]), 1e-9)).sum())
    known = directions[:rank]  # (rank, 3), orthonormal, in the grid
    steps = np.linalg.lstsq((grid - middle) @ known.T, places - place, rcond=None)[0]  # (rank, 3), in mm
    length = float(np.linalg.norm(steps, axis=1).mean()) if rank else 1.0
    normals = np.linalg.svd(steps)[2][rank:] if rank else np.eye(3)
    linear = steps.T @ known
    for direction, normal in zip(directions[rank:], normals, strict=True):
        step = length * np.outer(normal, direction)
        linear = linear + step * np.sign(step.flat[np.abs(step).argmax()])
    return np.vstack([np.column_stack([linear, place - linear @ middle]), [0.0, 0.0, 0.0, 1.0]])
