"""Spheres of a searchlight and their voxels. Requires only NumPy; what is computed in a sphere does not belong here.

The radius is in voxels and inclusive: a voxel is in a sphere if its distance from the centre is at most the radius. The
sphere of the paper's radius, 3 voxels, has 123 voxels. rsatoolbox requires distance < radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError, UsageError

Grid = NDArray[np.int32]


@dataclass(frozen=True)
class Spheres:
    """The spheres around every voxel of a brain mask; those at its edge are partial.

    Parameters
    ----------
    grid : int32 (n_i, n_j, n_k)
        Row of each voxel of the volume; -1 outside the mask, and in a border as wide as the radius.
    places : int32 (n_voxels, 3)
        Position of each voxel in `grid`.
    offsets : int32 (n_offsets, 3)
        Offsets of the voxels of a complete sphere from its centre, including the centre.
    """

    grid: Grid
    places: Grid
    offsets: Grid

    @property
    def n_voxels(self) -> int:
        """Number of spheres, one around each voxel."""
        return len(self.places)

    def members(self, centre: int) -> NDArray[np.int32]:
        """Return the rows of the voxels in the sphere around voxel `centre`, in the order of `offsets`."""
        i, j, k = (self.places[centre] + self.offsets).T
        found = self.grid[i, j, k]
        return np.asarray(found[found >= 0])

    def counts(self) -> NDArray[np.int32]:
        """Return the number of voxels of each sphere: int32 (n_voxels,)."""
        found = np.zeros(self.n_voxels, dtype=np.int32)
        i, j, k = self.places.T
        for a, b, c in self.offsets:
            found += self.grid[i + a, j + b, k + c] >= 0
        return found


def make_spheres(voxels: NDArray[np.integer], offsets: Grid, usable: NDArray[np.bool_] | None = None) -> Spheres:
    """Return the spheres around each voxel.

    Parameters
    ----------
    voxels : int (n_voxels, 3)
        i, j, k of every voxel of the mask, each once.
    offsets : int32 (n_offsets, 3)
        From :func:`sphere_offsets`.
    usable : bool (n_voxels,), optional
        Voxels that are not usable (constant or NaN) are not in any sphere.

    Raises
    ------
    SourceError
        If a voxel occurs twice.
    """
    places = np.asarray(voxels, dtype=np.int32)
    twice = len(places) - len(np.unique(places, axis=0))
    if twice:
        raise SourceError(f"{twice:,} voxels have the same i, j, k as another one", todo="list each voxel once")
    reach = int(np.abs(offsets).max())
    places = places - places.min(axis=0) + reach
    grid = np.full(places.max(axis=0) + reach + 1, -1, dtype=np.int32)
    rows = np.arange(len(places), dtype=np.int32)
    grid[tuple(places.T)] = rows if usable is None else np.where(usable, rows, -1)
    return Spheres(grid, places, offsets)


def sphere_offsets(radius_voxels: float) -> Grid:
    """Return the sorted offsets of all voxels within a radius, in voxels: int32 (n, 3).

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
