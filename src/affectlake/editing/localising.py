"""How well a map finds an object: pointing game, overlap, energy inside, and what deleting its peak does.

Arrays in, arrays out. Maps have any resolution; they are compared with masks at the resolution of the mask.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""Takes pictures, uint8 (n, height, width, 3), and returns a value for each, (n,)."""


def enlarged(values: NDArray[np.floating], height: int, width: int) -> Array:
    """Return a map at another resolution, by bilinear interpolation between the centres of its cells.

    Parameters
    ----------
    values : float (h, w)
        The map.
    height, width : int
        The new resolution.

    Returns
    -------
    float64 (height, width)
        Beyond the centres of the outer cells, their values.
    """
    found = np.asarray(values, np.float64)
    for axis, size in enumerate((height, width)):
        n = found.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), max(n - 2, 0))
        share = at - low
        share = share[:, None] if axis == 0 else share[None, :]
        high = np.minimum(low + 1, n - 1)
        found = np.take(found, low, axis) * (1 - share) + np.take(found, high, axis) * share
    return found


def peak(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the position of a map's largest value, (x, y): centre of the cell, from 0 (left, top) to 1."""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return (float(column) + 0.5) / values.shape[1], (float(row) + 0.5) / values.shape[0]


def points_at(values: NDArray[np.floating], mask: NDArray[np.bool_], tolerance_pixels: float = 0.0) -> bool:
    """Return whether the largest value of a map is on the object (the pointing game, Zhang et al. 2018).

    Parameters
    ----------
    values : float (h, w)
        The map.
    mask : bool (height, width)
        The object.
    tolerance_pixels : float
        Distance from the object, in pixels of the mask, that still counts.
    """
    where = np.argwhere(mask)
    if not len(where):
        return False
    at = np.unravel_index(int(np.argmax(enlarged(values, *mask.shape))), mask.shape)
    return bool(np.sqrt(((where - np.array(at)) ** 2).sum(axis=1)).min() <= tolerance_pixels)


def overlap(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the intersection over union of the object and the map's largest values, as many pixels as it has.

    Parameters
    ----------
    values : float (h, w)
        The map.
    mask : bool (height, width)
        The object; without pixels the overlap is NaN.
    """
    n = int(mask.sum())
    if not n:
        return float("nan")
    order = np.argsort(-enlarged(values, *mask.shape).ravel(), kind="stable")
    shared = int(mask.ravel()[order[:n]].sum())
    return shared / (2 * n - shared)


def energy_inside(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the share of the map's positive values that is on the object; NaN without positive values.

    Parameters
    ----------
    values : float (h, w)
        The map.
    mask : bool (height, width)
        The object.
    """
    positive = np.maximum(enlarged(values, *mask.shape), 0)
    total = positive.sum()
    return float(positive[mask].sum() / total) if total > 0 else float("nan")


def half_area(values: NDArray[np.floating]) -> float:
    """Return the smallest share of a map's cells that has half of its positive values; NaN without positive values.

    Parameters
    ----------
    values : float (h, w)
        The map. 0.5 is a map without a preferred place; 1 / (h w) is a single cell.
    """
    positive = np.sort(np.maximum(np.asarray(values, np.float64), 0).ravel())[::-1]
    total = positive.sum()
    if total <= 0:
        return float("nan")
    before = np.concatenate([[0.0], np.cumsum(positive)])
    at = int(np.searchsorted(before, total / 2 * (1 - 1e-12)))
    within = (total / 2 - before[at - 1]) / positive[at - 1]
    return float((at - 1 + within) / positive.size)


def deletion(score: Score, picture: NDArray[np.uint8], order: NDArray[np.integer], grid: tuple[int, int]) -> Array:
    """Return the score of a picture as its cells are replaced by its mean colour, one after another.

    Parameters
    ----------
    score : callable
        Takes pictures, and returns a value for each.
    picture : uint8 (height, width, 3)
        The picture.
    order : int (h * w,)
        The cells in the order in which they are deleted, such as ``np.argsort(-map.ravel())``.
    grid : (int, int)
        Number of rows and of columns of cells, (h, w).

    Returns
    -------
    float64 (h * w + 1,)
        From the whole picture to none of it. Its mean is the area under the deletion curve (Petsiuk et al. 2018): a map
        of what drives the score gives a smaller area than a random order.
    """
    cells = _cells(picture.shape, grid)
    mean = np.round(picture.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    shown = [picture]
    for cell in order:
        after = shown[-1].copy()
        after[cells == cell] = mean
        shown.append(after)
    return np.asarray(score(np.stack(shown)), np.float64)


def insertion(score: Score, picture: NDArray[np.uint8], order: NDArray[np.integer], grid: tuple[int, int]) -> Array:
    """Return the score of the mean colour as cells of the picture are put in, one after another.

    Parameters
    ----------
    score, picture, order, grid
        As for :func:`deletion`.

    Returns
    -------
    float64 (h * w + 1,)
        From none of the picture to the whole.
    """
    return deletion(score, picture, np.asarray(order)[::-1], grid)[::-1]


def _cells(shape: tuple[int, ...], grid: tuple[int, int]) -> NDArray[np.int64]:
    """Return the number of the cell of each pixel, int64 (height, width)."""
    rows = np.arange(shape[0]) * grid[0] // shape[0]
    columns = np.arange(shape[1]) * grid[1] // shape[1]
    return np.asarray(rows[:, None] * grid[1] + columns[None, :], np.int64)
