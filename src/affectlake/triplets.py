"""Triplets of stimuli: packing, splitting, and marking the odd one out. They are drawn in `triplet_sampling`.

Arrays in, arrays out. A triplet array is int32 (m, 3); it is *canonical* if every row has i < j < k and the rows are in
lexicographic order without repetition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SamplingError

TRIPLET = ["i", "j", "k"]
"""Columns of a table that contain a triplet."""

Triplets = NDArray[np.int32]
Indices = NDArray[np.int32]

MAX_STIMULI = 200_000
"""Largest catalogue whose triplets fit a 63-bit key with two bits to spare."""

MIN_JUDGMENTS = 100
"""Minimum number of judgments to learn from, of validation and of test each, for sweeps and informative proposals."""


def pack(triplets: Triplets, n_stimuli: int) -> NDArray[np.int64]:
    """Return one integer per triplet, ``(i n + j) n + k``, whose order is the lexicographic order of the rows.

    Parameters
    ----------
    triplets : int32 (m, 3)
        Rows i < j < k.
    n_stimuli : int
        Number of stimuli, at most `MAX_STIMULI`.

    Returns
    -------
    int64 (m,)
    """
    i, j, k = triplets.T
    return key_of(i.astype(np.int64), j, k, n_stimuli)


def key_of(i: NDArray[np.int64], j: Indices, k: Indices, n_stimuli: int) -> NDArray[np.int64]:
    """Return what :func:`pack` returns, from the three members of each triplet."""
    key = i * n_stimuli
    key += j
    key *= n_stimuli
    key += k
    return key


def unpack(keys: NDArray[np.int64], n_stimuli: int) -> Triplets:
    """Return the triplets, int32 (m, 3), whose keys :func:`pack` returned for the same `n_stimuli`."""
    triplets = np.empty((len(keys), 3), dtype=np.int32)
    rest = keys // n_stimuli
    triplets[:, 2] = keys - rest * n_stimuli
    triplets[:, 0] = rest // n_stimuli
    triplets[:, 1] = rest - triplets[:, 0].astype(np.int64) * n_stimuli
    return triplets


def split(n: int, test_fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose ``round(n test_fraction)`` of `n` rows at random to be held out for testing.

    Parameters
    ----------
    n : int
        Number of rows. Each row is one unordered triplet, so training and test rows share no triplet.
    test_fraction : float
        Share of test rows, 0 to 1.
    rng : numpy.random.Generator

    Returns
    -------
    bool (n,)
        True for test rows.

    Raises
    ------
    SamplingError
        If `test_fraction` is not between 0 and 1.
    """
    if not 0 <= test_fraction <= 1:
        raise SamplingError(
            "test_fraction is not a proportion", found=str(test_fraction), allowed="a number from 0 to 1"
        )
    test = np.zeros(n, dtype=bool)
    test[: round(n * test_fraction)] = True
    rng.shuffle(test)
    return test


def split_validation(
    test: NDArray[np.bool_], validation_fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose ``round(n validation_fraction)`` of n rows at random, from those that are not test rows, for validation.

    Parameters
    ----------
    test : bool (n,)
        The test rows, from :func:`split`. Each row is one unordered triplet, so no two splits share a triplet.
    validation_fraction : float
        Share of validation rows among all rows.
    rng : numpy.random.Generator

    Returns
    -------
    bool (n,)
        True for validation rows.

    Raises
    ------
    SamplingError
        If no row is left to learn from.
    """
    others = np.flatnonzero(~test)
    count = round(len(test) * validation_fraction)
    if not 0 <= count < max(len(others), 1):
        raise SamplingError(
            "no triplets are left to learn from",
            wanted="validation and test triplets that are fewer than all triplets",
            found=f"{count:,} validation and {len(test) - len(others):,} test triplets of {len(test):,}",
            todo="lower triplets.validation_fraction or triplets.test_fraction",
        )
    validation = np.zeros(len(test), dtype=bool)
    validation[rng.choice(others, count, replace=False)] = True
    return validation


def hashed_shares(triplets: Triplets, seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each triplet, as if drawn uniformly, that depends on it and the seed alone.

    Sets of triplets that are chosen by it stay as they are when further triplets are added.

    Parameters
    ----------
    triplets : int32 (m, 3)
    seed : int
        At least 0.

    Returns
    -------
    float64 (m,)
        The upper 53 bits of a 64-bit hash: the finaliser of splitmix64 (Steele, Lea & Flood 2014, OOPSLA, 453-472),
        applied after each of the three indices is added.
    """
    found = np.full(len(triplets), np.uint64(seed), dtype=np.uint64)
    for index in triplets.astype(np.uint64).T:
        found = (found ^ index) + np.uint64(0x9E3779B97F4A7C15)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found ^= found >> np.uint64(31)
    return np.asarray((found >> np.uint64(11)) * 2.0**-53)


def odd_last(triplets: Triplets, odd: Indices) -> Triplets:
    """Return the triplets with the odd one last, after the two similar stimuli in their original order.

    Parameters
    ----------
    triplets : int32 (m, 3)
    odd : int32 (m,)
        Stimulus index of the odd one out, one of the three in its row.

    Returns
    -------
    int32 (m, 3)

    Raises
    ------
    SamplingError
        If the lengths differ, or an odd one is not one of the three in its row.
    """
    if odd.shape != triplets.shape[:1]:
        raise SamplingError(
            "the number of odd stimuli is not the number of triplets",
            wanted=f"{len(triplets):,} odd stimuli",
            found=f"{odd.size:,}",
        )
    i, j, k = triplets.T
    at_i, at_j, at_k = odd == i, odd == j, odd == k
    bad = ~(at_i | at_j | at_k)
    if bad.any():
        row = int(bad.argmax())
        raise SamplingError(
            f"{int(bad.sum()):,} of {len(odd):,} odd stimuli are not in their triplet",
            wanted=f"one of {triplets[row].tolist()} in row {row}",
            found=str(int(odd[row])),
            todo="pair each choice with its triplet",
        )
    return np.column_stack([np.where(at_i, j, i), np.where(at_k, j, k), odd]).astype(np.int32, copy=False)
