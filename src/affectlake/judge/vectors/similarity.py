"""The odd one out by cosine similarity: the most similar pair stays, the third is odd.

Arrays in, arrays out. Where the vectors come from does not belong here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.process.compiled import njit

TIE = 1e-12
"""Cosine similarities that differ by no more than this are equal.

Identical or proportional vectors have exactly equal similarities, which rounding can part by some 1e-16; different
ones were never seen this close.
"""

LARGEST_MATRIX_BYTES = 2**30
"""Beyond this (11,585 stimuli) similarities are computed for each triplet instead of looked up."""


class Choices(NamedTuple):
    """An agent's answers.

    Attributes
    ----------
    odd : int32 (m,)
        Stimulus index of the odd one out.
    tied : bool (m,)
        Whether two or three stimuli were equally odd and chance decided.
    """

    odd: NDArray[np.int32]
    tied: NDArray[np.bool_]


def choose_by_cosine(vectors: NDArray[np.float64], triplets: NDArray[np.int32], rng: np.random.Generator) -> Choices:
    """Return the odd one of each triplet: the stimulus that is not of the most similar pair.

    For a triplet (a, b, c) with cosine similarities s, the odd one is c where s(a, b) is the largest of the three.
    Where the two or three largest differ by at most `TIE`, one of those pairs is drawn at random.

    The rule for features, "the item with the greatest average cosine distance to the other two", is the same rule:
    with d = 1 - s the average distance of c is (d(a, c) + d(b, c)) / 2 = (D - d(a, b)) / 2, where D is the sum of all
    three, so it is greatest for the c whose opposite pair has the smallest distance, the largest similarity.

    Parameters
    ----------
    vectors : float64 (n_stimuli, d)
        One vector per stimulus; its length does not matter, but it has one.
    triplets : int32 (m, 3)
        Stimulus indices; sorted rows are answered fastest.
    rng : numpy.random.Generator
        Breaks ties; one draw per tied triplet, in the order of the rows.

    Returns
    -------
    Choices
        The same bytes on every machine and for any number of threads: sums are taken in a fixed order.

    Raises
    ------
    SourceError
        A vector is zero or not finite, or a triplet names a stimulus without a vector.

    Notes
    -----
    Du et al. 2025, 'Simulating human behavioral responses' and 'feature representations'.
    """
    unit = _unit(vectors)
    if triplets.size and (triplets.min() < 0 or triplets.max() >= len(unit)):
        raise SourceError(
            "Some triplets name stimuli that have no vector.",
            wanted=f"indices from 0 to {len(unit) - 1}",
            found=f"indices from {triplets.min()} to {triplets.max()}",
            todo="draw the triplets from the same catalogue as the vectors",
        )
    rows = np.ascontiguousarray(triplets)
    if 8 * len(unit) ** 2 <= LARGEST_MATRIX_BYTES:
        best = _best_pairs(_similarities(unit), rows)
    else:
        best = _best_pairs_of_rows(unit, rows)
    return _settle(best, rows, rng)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vectors at length 1."""
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    bad = ~((largest > 0) & np.isfinite(largest))
    if bad.any():
        at = np.flatnonzero(bad)
        raise SourceError(
            f"{len(at):,} of {len(vectors):,} vectors have no direction: they are zero or not finite.",
            wanted="a non-zero vector for each stimulus",
            found=f"stimulus_index {', '.join(map(str, at[:5]))}{' and more' if len(at) > 5 else ''}",
            todo="exclude those stimuli, or give the agent another source of vectors",
        )
    scaled = np.ascontiguousarray(vectors, dtype=np.float64) / largest[:, None]  # squares neither overflow nor vanish
    return np.asarray(scaled / np.sqrt((scaled * scaled).sum(axis=1, keepdims=True)))


@njit(nogil=True)
def _similarities(unit):  # type: ignore[no-untyped-def]
    """Return the (n, n) dot products, each summed over the features in their order: exactly symmetric."""
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
def _largest(ij, ik, jk):  # type: ignore[no-untyped-def]
    """Return which of the three similarities are largest, as bits: 4 leaves k odd, 2 leaves j, 1 leaves i."""
    floor = max(ij, ik, jk) - TIE
    return 4 * (ij >= floor) + 2 * (ik >= floor) + (jk >= floor)


@njit(nogil=True)
def _best_pairs(similarity, triplets):  # type: ignore[no-untyped-def]
    best = np.empty(len(triplets), np.uint8)
    for t in range(len(triplets)):
        i, j, k = triplets[t]
        best[t] = _largest(similarity[i, j], similarity[i, k], similarity[j, k])
    return best


@njit(nogil=True)
def _best_pairs_of_rows(unit, triplets):  # type: ignore[no-untyped-def]
    best = np.empty(len(triplets), np.uint8)
    for t in range(len(triplets)):
        i, j, k = triplets[t]
        ij = ik = jk = 0.0
        for q in range(unit.shape[1]):
            ij += unit[i, q] * unit[j, q]
            ik += unit[i, q] * unit[k, q]
            jk += unit[j, q] * unit[k, q]
        best[t] = _largest(ij, ik, jk)
    return best


_ODD_COLUMNS = ((), (0,), (1,), (0, 1), (2,), (0, 2), (1, 2), (0, 1, 2))
"""For each set of largest pairs, the columns that could be odd."""


def _settle(best: NDArray[np.uint8], triplets: NDArray[np.int32], rng: np.random.Generator) -> Choices:
    """Return the odd stimuli, drawing where several could be."""
    first = np.array([columns[0] if columns else 0 for columns in _ODD_COLUMNS], dtype=np.int8)
    how_many = np.array([len(columns) for columns in _ODD_COLUMNS], dtype=np.int8)
    column = first[best]
    tied = how_many[best] > 1
    at = np.flatnonzero(tied)
    table = np.array([(*columns, 0, 0, 0)[:3] for columns in _ODD_COLUMNS], dtype=np.int8)
    column[at] = table[best[at], rng.integers(0, how_many[best[at]])]
    odd = np.take_along_axis(triplets, column[:, None].astype(np.int64), axis=1)[:, 0]
    return Choices(odd.astype(np.int32, copy=False), tied)


def unit_vectors(vectors: NDArray[np.float64], lost_for: str, todo: str) -> NDArray[np.float32]:
    """Return the rows of `vectors` (n_stimuli, n_features) at length 1.

    Raises
    ------
    SourceError
        If rows are zero or not finite; `lost_for` says what such stimuli have, and `todo` what helps.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    lost = np.flatnonzero(~(np.isfinite(length) & (length > 1e-10)))
    if len(lost):
        raise SourceError(
            f"{len(lost):,} of {len(vectors):,} stimuli have {lost_for}.",
            found=f"stimulus_index {', '.join(map(str, lost[:5]))}",
            todo=todo,
        )
    return np.asarray(vectors / length, dtype=np.float32)
