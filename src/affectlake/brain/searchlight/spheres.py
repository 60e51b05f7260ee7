"""Which voxels lie in which sphere of a searchlight. NumPy alone; what is computed in a sphere does not belong here.

A radius is counted in voxels and inclusive: a voxel belongs when its distance to the centre is at most the radius. The
paper's, 3 voxels, holds 123. rsatoolbox keeps distance < radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError, UsageError

Grid = NDArray[np.int32]


@dataclass(frozen=True)
class Spheres:
    """The spheres around every voxel of a brain mask, partial ones at its edge.

    Parameters
    ----------
    grid : int32 (n_i, n_j, n_k)
        The row of each voxel of the volume, with a border of -1 as wide as the radius; -1 outside the mask.
    places : int32 (n_voxels, 3)
        Where each voxel lies in `grid`.
    offsets : int32 (n_offsets, 3)
        Steps from the centre to the members of a whole sphere, the centre included.
    """

    grid: Grid
    places: Grid
    offsets: Grid

    @property
    def n_voxels(self) -> int:
        """How many spheres there are: one around each voxel."""
        return len(self.places)

    def members(self, centre: int) -> NDArray[np.int32]:
        """Return the rows of the voxels in the sphere around voxel `centre`, in the order of `offsets`."""
        i, j, k = (self.places[centre] + self.offsets).T
        found = self.grid[i, j, k]
        return np.asarray(found[found >= 0])

    def counts(self) -> NDArray[np.int32]:
        """Return how many voxels each sphere has: int32 (n_voxels,)."""
        found = np.zeros(self.n_voxels, dtype=np.int32)
        i, j, k = self.places.T
        for a, b, c in self.offsets:
            found += self.grid[i + a, j + b, k + c] >= 0
        return found


def make_spheres(voxels: NDArray[np.integer], offsets: Grid, usable: NDArray[np.bool_] | None = None) -> Spheres:
    """Lay a sphere around each voxel.

    Parameters
    ----------
    voxels : int (n_voxels, 3)
        The i, j, k of every voxel of the mask, each once.
    offsets : int32 (n_offsets, 3)
        From :func:`sphere_offsets`.
    usable : bool (n_voxels,), optional
        Voxels that are not are members of no sphere (constant or NaN ones).

    Raises
    ------
    SourceError
        If a voxel is given twice.
    """
    places = np.asarray(voxels, dtype=np.int32)
    twice = len(places) - len(np.unique(places, axis=0))
    if twice:
        raise SourceError(f"{twice:,} voxels have the same i, j, k as another one", todo="keep each voxel once")
    reach = int(np.abs(offsets).max())
    places = places - places.min(axis=0) + reach
    grid = np.full(places.max(axis=0) + reach + 1, -1, dtype=np.int32)
    rows = np.arange(len(places), dtype=np.int32)
    grid[tuple(places.T)] = rows if usable is None else np.where(usable, rows, -1)
    return Spheres(grid, places, offsets)


def sphere_offsets(radius_voxels: float) -> Grid:
    """Return the steps to every voxel within a radius counted in voxels, sorted: int32 (n, 3).

    Raises
    ------
    UsageError
        If the radius is below 1.
    """
    if not radius_voxels >= 1:
        raise UsageError("the searchlight's radius is too small", found=f"{radius_voxels} voxels", allowed="1 or more")
    reach = int(np.floor(radius_voxels + 1e-9))
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(steps[(steps**2).sum(axis=1) <= radius_voxels**2 * (1 + 1e-9)], dtype=np.int32)
