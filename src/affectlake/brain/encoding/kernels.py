"""Compiled kernel of encoding with few features: the part of an inner fold in the error curves of a block of voxels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  products in Numba use it; loaded here, `one_blas_thread` finds it
from numpy.typing import NDArray

from affectlake.process.compiled import njit

Array = NDArray[np.float64]


_TILE = 1 << 16
"""Number of products that are made at a time: half a megabyte."""


class Space(NamedTuple):
    """Arrays that the kernel writes to, for at most k axes: (d, v), (k, v), (k, v), (at least k, v) and (rank, v)."""

    difference: Array
    u: Array
    b: Array
    products: Array
    errors: Array


def space(n_features: int, n_axes: int, rank: int, n_voxels: int) -> Space:
    """Return arrays for blocks of `n_voxels`; calls at the same time need arrays of their own."""
    rows = n_features, n_axes, n_axes, max(n_axes, _TILE // max(n_voxels, 1)), rank
    return Space(*(np.empty((n, n_voxels)) for n in rows))


@njit(nogil=True, fastmath=True, error_model="numpy")
def add_errors(out: Any, space: Any, axes: Any, ends: Any, coefficients: Any, all_sums: Any, held_out: Any) -> None:
    """Add the errors of one inner fold to the compressed error curves (:mod:`affectlake.brain.encoding.gram`).

    Parameters
    ----------
    out : float64 (rank, v)
    space : Space
    axes : float64 (k, d)
        T of the training stimuli.
    ends : float64 (3, k)
        T times ΣX of the training stimuli, ΣX of those held out, and the mean of the training stimuli.
    coefficients : float64 (m, rank)
        Of the m = k + k (k + 1) / 2 products, which are made and used some at a time, so that they stay in the cache.
    all_sums, held_out : tuple
        n, ΣY (v,) and X'Y (d, v): of both, and of those held out.
    """
    n_all, y_all, xy_all = all_sums
    n_held, y_held, xy_held = held_out
    n_voxels, k = len(y_all), len(axes)
    u, b, products = space.u[:k], space.b[:k], space.products
    for i in range(len(xy_all)):
        for voxel in range(n_voxels):
            space.difference[i, voxel] = xy_all[i, voxel] - xy_held[i, voxel]
    np.dot(axes, space.difference, u)
    np.dot(axes, xy_held, b)
    mean = (y_all - y_held) / (n_all - n_held)
    for i in range(k):
        for voxel in range(n_voxels):
            u[i, voxel] -= ends[0, i] * mean[voxel]
            b[i, voxel] -= ends[1, i] * mean[voxel] + ends[2, i] * (y_held[voxel] - n_held * mean[voxel])
            products[i, voxel] = u[i, voxel] * b[i, voxel]
    np.dot(coefficients[:k].T, products[:k], space.errors)
    _add(out, space.errors)
    filled, row = 0, k
    for i in range(k):
        if filled + k - i > len(products):
            np.dot(coefficients[row : row + filled].T, products[:filled], space.errors)
            _add(out, space.errors)
            filled, row = 0, row + filled
        for j in range(i, k):
            for voxel in range(n_voxels):
                products[filled, voxel] = u[i, voxel] * u[j, voxel]
            filled += 1
    np.dot(coefficients[row : row + filled].T, products[:filled], space.errors)
    _add(out, space.errors)


@njit(nogil=True, fastmath=True, error_model="numpy")
def _add(out: Any, errors: Any) -> None:
    for i in range(len(out)):
        for voxel in range(len(out[0])):
            out[i, voxel] += errors[i, voxel]
