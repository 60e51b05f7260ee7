"""Representational similarity matrices (RSMs): computation, pairs, correlations and ranks. Arrays in, arrays out.

An RSM is symmetric, (n, n), with one row per stimulus. Its *pairs* are the entries above the diagonal, row by row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError

Rows = NDArray[np.floating]

_COLUMNS = 16_384  # converted to float64 at a time


def correlation_rsm(rows: Rows) -> NDArray[np.float64]:
    """Return the Pearson correlation of every pair of rows.

    Parameters
    ----------
    rows : float (n, m)
        One row per stimulus: a pattern, the weights of an embedding, or a vector of ratings.

    Returns
    -------
    float64 (n, n)
        Ones on the diagonal. The row and column of a constant row are NaN.

    Raises
    ------
    SourceError
        If the rows have fewer than two columns.
    """
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise SourceError(
            "correlations need at least two columns", wanted="an array (n, m) with m ≥ 2", found=str(rows.shape)
        )
    mean = rows.mean(axis=1, keepdims=True, dtype=np.float64)
    constant = rows.max(axis=1) == rows.min(axis=1)
    blocks = [slice(first, first + _COLUMNS) for first in range(0, rows.shape[1], _COLUMNS)]
    squares = sum(((rows[:, block] - mean) ** 2).sum(axis=1) for block in blocks)
    norms = np.where(constant, np.nan, np.sqrt(squares))[:, None]
    product = np.zeros((len(rows), len(rows)))
    for block in blocks:  # a whole brain's rows in float64 would take gigabytes
        unit = (rows[:, block] - mean) / norms
        product += unit @ unit.T
    found = np.clip(product, -1.0, 1.0)
    np.fill_diagonal(found, np.where(constant, np.nan, 1.0))
    return np.asarray(found)


def pairs(rsm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entries above the diagonal of an (n, n) matrix, row by row: float64 (n (n - 1) / 2,)."""
    return np.asarray(rsm[np.triu_indices(len(rsm), k=1)], dtype=np.float64)


def pearson(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the Pearson correlation of two vectors; NaN if one is constant or has a NaN."""
    x, y = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    scale = float(np.sqrt((x @ x) * (y @ y)))
    constant = a.max() == a.min() or b.max() == b.min()
    return float("nan") if constant or not scale > 0 else float(np.clip(x @ y / scale, -1.0, 1.0))


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the ranks of a vector, from 1, as float64; equal values get their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place], dtype=np.float64)
