"""Compiled kernels of choices: similarities, and the largest of three. Imported only where choices are made."""

from __future__ import annotations

import numpy as np

from affectlake.judge.vectors.similarity import TIE
from affectlake.process.compiled import njit


@njit(nogil=True)
def similarities(unit):  # type: ignore[no-untyped-def]
    """Return the (n, n) dot products, each summed over the features in order, so that they are exactly symmetric."""
    n, d = unit.shape
    across = unit.T.copy()  # (d, n)
    similarity = np.zeros((n, n))
    for i in range(n):
        row = similarity[i]
        for q in range(d):
            value = unit[i, q]
            for j in range(n):
                row[j] += value * across[q, j]
    return similarity


@njit(nogil=True)
def largest(ij, ik, jk):  # type: ignore[no-untyped-def]
    """Return which of the three similarities are largest, as bits: 4 makes k odd, 2 makes j odd, 1 makes i odd."""
    floor = max(ij, ik, jk) - TIE
    return 4 * (ij >= floor) + 2 * (ik >= floor) + (jk >= floor)


@njit(nogil=True)
def best_pairs(similarity, triplets):  # type: ignore[no-untyped-def]
    best = np.empty(len(triplets), np.uint8)
    for t in range(len(triplets)):
        i, j, k = triplets[t]
        best[t] = largest(similarity[i, j], similarity[i, k], similarity[j, k])
    return best


@njit(nogil=True)
def best_pairs_of_rows(unit, triplets):  # type: ignore[no-untyped-def]
    best = np.empty(len(triplets), np.uint8)
    for t in range(len(triplets)):
        i, j, k = triplets[t]
        ij = ik = jk = 0.0
        for q in range(unit.shape[1]):
            ij += unit[i, q] * unit[j, q]
            ik += unit[i, q] * unit[k, q]
            jk += unit[j, q] * unit[k, q]
        best[t] = largest(ij, ik, jk)
    return best
