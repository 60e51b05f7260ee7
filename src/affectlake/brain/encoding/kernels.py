"""Compiled kernel of encoding with few features: the part of an inner fold in the error curves of a block of voxels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  products in Numba use it; loaded here, `one_blas_thread` finds it
from numpy.typing import NDArray

from affectlake.process.compiled import njit

Array = NDArray[np.float64]


class Space(NamedTuple):
    """Arrays that the kernel writes to, for at most k axes: (d, v), (k, v), (k, v), (m, v) and (rank, v)."""

    difference: Array
    u: Array
    b: Array
    products: Array
    errors: Array


def space(n_features: int, n_axes: int, rank: int, n_voxels: int) -> Space:
    """Return arrays for blocks of `n_voxels`; calls at the same time need arrays of their own."""
    rows = n_features, n_axes, n_axes, n_products(n_axes), rank
    return Space(*(np.empty((n, n_voxels)) for n in rows))


def n_products(n_axes: int) -> int:
    """Return the number of products u_i b_i and u_i u_j, i ≤ j."""
    return n_axes + n_axes * (n_axes + 1) // 2


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
    coefficients : float64 (rank, m)
        Of the m = k + k (k + 1) / 2 products.
    all_sums, held_out : tuple
        n, ΣY (v,) and X'Y (d, v): of both, and of those held out.
    """
    n_all, y_all, xy_all = all_sums
    n_held, y_held, xy_held = held_out
    n_voxels, k = len(y_all), len(axes)
    u, b, products = space.u[:k], space.b[:k], space.products[: len(coefficients[0])]
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
    row = k
    for i in range(k):
        for j in range(i, k):
            for voxel in range(n_voxels):
                products[row, voxel] = u[i, voxel] * u[j, voxel]
            row += 1
    np.dot(coefficients, products, space.errors)
    for i in range(len(out)):
        for voxel in range(n_voxels):
            out[i, voxel] += space.errors[i, voxel]
