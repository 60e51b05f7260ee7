"""The odd one out by cosine similarity: the stimulus that is not in the most similar pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError

TIE = 1e-12
"""Cosine similarities that differ by at most this are treated as equal.

The similarities of identical or proportional vectors differ by about 1e-16 because of rounding. Differences between
other vectors are larger than this in practice.
"""

LARGEST_MATRIX_BYTES = 2**30
"""Largest matrix of similarities (11,585 stimuli); beyond this they are computed for each triplet."""


class Choices(NamedTuple):
    """An agent's answers.

    Attributes
    ----------
    odd : int32 (m,)
        Stimulus index of the odd one out.
    tied : bool (m,)
        Whether two or three stimuli were equally odd, so that one of them was drawn at random.
    """

    odd: NDArray[np.int32]
    tied: NDArray[np.bool_]


def choose_by_cosine(vectors: NDArray[np.float64], triplets: NDArray[np.int32], rng: np.random.Generator) -> Choices:
    """Return the odd one of each triplet: the stimulus that is not in the most similar pair.

    For a triplet (a, b, c) with cosine similarities s, the odd one is c if s(a, b) is the largest of the three. If the
    two or three largest differ by at most `TIE`, one of those pairs is drawn at random.

    The rule for features, "the item with the greatest average cosine distance to the other two", is equivalent: with
    d = 1 - s, the average distance of c is (d(a, c) + d(b, c)) / 2 = (D - d(a, b)) / 2, where D is the sum of all
    three. It is largest for the c whose opposite pair has the smallest distance, that is, the largest similarity.

    Parameters
    ----------
    vectors : float64 (n_stimuli, d)
        One vector per stimulus. Only the directions matter; zero vectors are not allowed.
    triplets : int32 (m, 3)
        Stimulus indices; sorted rows are processed fastest.
    rng : numpy.random.Generator
        Source for breaking ties; one draw per tied triplet, in the order of the rows.

    Returns
    -------
    Choices
        The same bytes on every machine and for any number of threads, because sums are taken in a fixed order.

    Raises
    ------
    SourceError
        If a vector is zero or not finite, or a stimulus in a triplet does not have a vector.

    Notes
    -----
    Du et al. 2025, 'Simulating human behavioral responses' and 'feature representations'.
    """
    unit = _unit(vectors)
    if triplets.size and (triplets.min() < 0 or triplets.max() >= len(unit)):
        raise SourceError(
            "some triplets contain stimuli that have no vector",
            wanted=f"indices from 0 to {len(unit) - 1}",
            found=f"indices from {triplets.min()} to {triplets.max()}",
            todo="draw the triplets from the same catalogue as the vectors",
        )
    from affectlake.judge.vectors.similarity_kernels import best_pairs, best_pairs_of_rows, similarities

    rows = np.ascontiguousarray(triplets)
    if 8 * len(unit) ** 2 <= LARGEST_MATRIX_BYTES:
        best = best_pairs(similarities(unit), rows)
    else:
        best = best_pairs_of_rows(unit, rows)
    return _settle(best, rows, rng)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vectors scaled to length 1."""
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    bad = ~((largest > 0) & np.isfinite(largest))
    if bad.any():
        at = np.flatnonzero(bad)
        raise SourceError(
            f"{len(at):,} of {len(vectors):,} vectors have no direction: they are zero or not finite",
            wanted="a non-zero vector for each stimulus",
            found=f"stimulus_index {', '.join(map(str, at[:5]))}{' and more' if len(at) > 5 else ''}",
            todo="exclude those stimuli, or give the agent another source of vectors",
        )
    scaled = np.ascontiguousarray(vectors, dtype=np.float64) / largest[:, None]  # so that squares do not overflow
    return np.asarray(scaled / np.sqrt((scaled * scaled).sum(axis=1, keepdims=True)))


_ODD_COLUMNS = ((), (0,), (1,), (0, 1), (2,), (0, 2), (1, 2), (0, 1, 2))
"""For each set of largest pairs, the columns that could be odd."""


def _settle(best: NDArray[np.uint8], triplets: NDArray[np.int32], rng: np.random.Generator) -> Choices:
    """Return the odd stimuli; draw one at random if there are several candidates."""
    first = np.array([columns[0] if columns else 0 for columns in _ODD_COLUMNS], dtype=np.int8)
    how_many = np.array([len(columns) for columns in _ODD_COLUMNS], dtype=np.int8)
    column = first[best]
    tied = how_many[best] > 1
    at = np.flatnonzero(tied)
    table = np.array([(*columns, 0, 0, 0)[:3] for columns in _ODD_COLUMNS], dtype=np.int8)
    column[at] = table[best[at], rng.integers(0, how_many[best[at]])]
    odd = np.take_along_axis(triplets, column[:, None].astype(np.int64), axis=1)[:, 0]
    return Choices(odd.astype(np.int32, copy=False), tied)
