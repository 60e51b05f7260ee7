"""Brain maps as volumes for display: cells on axes that point to the right, forward and up. Nothing is drawn here.

A subject's voxels may be on an oblique grid with axes in any order. A cell is a block of voxels of that grid, whose
axes are permuted and reversed so that they point as nearly as possible to the right, forward and up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.grids import affine_of

MOST_VALUES = 1_000_000
"""Maximum number of values of all maps of a page; larger maps are averaged over blocks of voxels."""


@dataclass(frozen=True)
class Volume:
    """One subject's maps.

    Parameters
    ----------
    subject : str
    shape : tuple of int
        Number of cells to the right, forward and up.
    affine : float64 (3, 4)
        Maps the indices of a cell, followed by 1, to mm.
    cells : int64 (n_cells, 3)
        Indices of the cells inside the brain, in C order.
    regions : tuple of str
        Keys of the regions of each cell, separated by spaces: those of the voxel at its centre.
    values : mapping from (method, agent) to float32 (n_cells,)
        Mean over the cell's voxels; NaN if no voxel has a value.
    block : int
        Number of voxels along each edge of a cell.
    significant : mapping from (method, agent) to bool (n_cells,)
        Whether a voxel of the cell is significant; maps without a mask are missing.
    """

    subject: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    cells: NDArray[np.int64]
    regions: tuple[str, ...]
    values: Mapping[tuple[str, str], NDArray[np.float32]]
    block: int
    significant: Mapping[tuple[str, str], NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def cell_mm(self) -> NDArray[np.float64]:
        """Edge lengths of a cell in mm (3,)."""
        return np.asarray(np.linalg.norm(self.affine[:, :3], axis=0))

    def masked(self, method: str, agent: str) -> NDArray[np.float32]:
        """Return a map (n_cells,), NaN in cells that are not significant; without a mask, all of its values."""
        values, kept = self.values[method, agent], self.significant.get((method, agent))
        return values if kept is None else np.where(kept, values, np.float32(np.nan))

    def mm(self, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the centres of cells (n, 3) in mm."""
        return np.asarray(cells @ self.affine[:, :3].T + self.affine[:, 3])


def block_of(n_values: int, most: int = MOST_VALUES) -> int:
    """Return the number of voxels along each edge of a cell with which `n_values` become at most `most`."""
    return max(1, int(np.ceil((n_values / most) ** (1 / 3) - 1e-9)))


def make_volume(subject: str, voxels: pl.DataFrame, maps: pl.DataFrame, block: int = 1) -> Volume:
    """Average a subject's maps over cells.

    Parameters
    ----------
    subject : str
    voxels : polars.DataFrame
        ``voxel_index, voxel_i, voxel_j, voxel_k, x_mm, y_mm, z_mm, regions``.
    maps : polars.DataFrame
        ``agent, method, voxel_index, value``; missing values are null. For maps with a mask also ``significant``,
        which is null for the others.
    block : int
        Number of voxels along each edge of a cell.
    """
    rows = voxels.sort("voxel_index")
    grid = rows.select("voxel_i", "voxel_j", "voxel_k").to_numpy().astype(np.int64)
    mm = rows.select("x_mm", "y_mm", "z_mm").to_numpy().astype(np.float64)
    affine = affine_of(grid, mm)[:3]
    order, signs = _turned(affine)
    places = (
        np.floor_divide(grid, block)[:, order] * signs
    )  # blocks start at voxel 0, so that subjects on one grid have the same cells
    first = places.min(axis=0)
    shape = places.max(axis=0) - first + 1
    flat = np.ravel_multi_index(tuple((places - first).T), tuple(shape))
    inside, cell = np.unique(flat, return_inverse=True)
    cells = np.stack(np.unravel_index(inside, tuple(shape)), axis=1)
    at = np.searchsorted(rows["voxel_index"].to_numpy(), maps["voxel_index"].to_numpy())
    groups = list(maps.with_columns(cell=pl.Series(cell[at])).group_by("method", "agent", maintain_order=True))
    middle = _middles(cell, mm, len(inside))
    texts = rows["regions"].to_list()
    return Volume(
        subject,
        (int(shape[0]), int(shape[1]), int(shape[2])),
        _of_cells(affine, order, signs, first, block),
        cells,
        tuple(texts[voxel] for voxel in middle.tolist()),
        {(str(method), str(agent)): _means(one, len(inside)) for (method, agent), one in groups},
        block,
        {(str(method), str(agent)): np.bincount(one["cell"], one["significant"].cast(pl.Float64), len(inside)) > 0
         for (method, agent), one in groups if "significant" in one and one["significant"].null_count() == 0},
    )  # fmt: skip


def on_one_grid(volumes: Sequence[Volume]) -> tuple[Volume, ...]:
    """Return the volumes in one bounding box if all of them are on one grid (as after normalisation), else unchanged.

    Maps can be averaged over subjects only if they are on one grid.
    """
    steps = volumes[0].affine[:, :3]
    if not all(np.allclose(one.affine[:, :3], steps, atol=1e-3) and one.block == volumes[0].block for one in volumes):
        return tuple(volumes)
    shifts = [np.linalg.solve(steps, one.affine[:, 3] - volumes[0].affine[:, 3]) for one in volumes]
    whole = [np.rint(shift).astype(np.int64) for shift in shifts]
    if any(np.abs(shift - near).max() > 0.01 for shift, near in zip(shifts, whole, strict=True)):
        return tuple(volumes)
    first = np.min(whole, axis=0)
    last = np.max([near + one.shape for near, one in zip(whole, volumes, strict=True)], axis=0)
    origin = volumes[0].affine[:, 3] + steps @ first
    box = (int(last[0] - first[0]), int(last[1] - first[1]), int(last[2] - first[2]))
    affine = np.column_stack([steps, origin])
    return tuple(
        replace(one, shape=box, affine=affine, cells=one.cells + (near - first))
        for near, one in zip(whole, volumes, strict=True)
    )


def _turned(affine: NDArray[np.float64]) -> tuple[list[int], NDArray[np.int64]]:
    """Return the axes of the grid that are nearest to x, y and z, and their directions (1, or -1 for reversed)."""
    steps = affine[:, :3] / np.maximum(np.linalg.norm(affine[:, :3], axis=0), 1e-12)
    best = max(permutations(range(3)), key=lambda axes: sum(abs(steps[i, axis]) for i, axis in enumerate(axes)))
    return list(best), np.array([1 if steps[i, axis] >= 0 else -1 for i, axis in enumerate(best)])


def _of_cells(
    affine: NDArray[np.float64], order: list[int], signs: NDArray[np.int64], first: NDArray[np.int64], block: int
) -> NDArray[np.float64]:
    """Return the affine of the cells: the centre of cell c is that of voxels block × c' to block × c' + block - 1."""
    steps = affine[:, :3][:, order] * signs * block
    origin = affine[:, 3] + affine[:, :3] @ np.full(3, (block - 1) / 2) + steps @ first
    return np.column_stack([steps, origin])


def _middles(cell: NDArray[np.int64], mm: NDArray[np.float64], n_cells: int) -> NDArray[np.int64]:
    """Return, for each cell, the voxel nearest to the mean position of its voxels."""
    counts = np.bincount(cell, minlength=n_cells)
    mean = np.stack([np.bincount(cell, mm[:, axis], n_cells) / counts for axis in range(3)], axis=1)
    away = ((mm - mean[cell]) ** 2).sum(axis=1)
    order = np.lexsort((away, cell))
    return np.asarray(order[np.append(0, np.cumsum(counts)[:-1])])


def _means(rows: pl.DataFrame, n_cells: int) -> NDArray[np.float32]:
    found = rows.drop_nulls("value").group_by("cell").agg(pl.col("value").cast(pl.Float64).mean())
    values = np.full(n_cells, np.nan, dtype=np.float32)
    values[found["cell"].to_numpy()] = found["value"].to_numpy()
    return values
