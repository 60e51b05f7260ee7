"""Nested cross-validation folds: outer folds for testing and, within each training set, inner folds for selection.

What is fitted on them does not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import UsageError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """Nested folds of n stimuli.

    Parameters
    ----------
    outer : int64 (n,)
        Outer fold in which each stimulus is tested, from 0.
    inner : int64 (n_outer, n)
        For each outer fold, the inner fold in which each training stimulus is tested, from 0; -1 for the test stimuli
        of the outer fold.
    """

    outer: Indices
    inner: Indices

    def __post_init__(self) -> None:
        for fold, row in enumerate(self.inner):
            tested = self.outer == fold
            sizes = np.bincount(row[row >= 0], minlength=int(row.max(initial=-1)) + 1)
            if not np.array_equal(row == -1, tested) or tested.sum() < 3 or len(sizes) < 2 or sizes.min() == 0:
                raise UsageError(
                    f"outer fold {fold} cannot be used",
                    wanted="at least three test stimuli, and at least two inner folds that are not empty",
                    found=f"{int(tested.sum())} test stimuli, inner folds of {sizes.tolist()} stimuli",
                    todo="use fewer folds",
                )


def nested_folds(n: int, n_outer: int, n_inner: int, rng: np.random.Generator) -> Folds:
    """Return random folds of nearly equal size.

    Every inner fold has nearly the same share of each outer fold, so that the sums of every training set can be
    computed in one pass over the data (see :mod:`affectlake.brain.encoding.gram`).

    Parameters
    ----------
    n : int
        Number of stimuli.
    n_outer, n_inner : int
        Number of folds, at least 2 each.
    rng : numpy.random.Generator

    Raises
    ------
    UsageError
        If there are too few stimuli.
    """
    _check(n, n_outer, n_inner, "stimuli", 3 * n_outer)
    place = np.empty(n, dtype=np.int64)
    place[rng.permutation(n)] = np.arange(n)
    return _nest(place % n_outer, (place // n_outer) % n_inner)


def folds_by_run(runs: NDArray[np.integer], n_outer: int, n_inner: int) -> Folds:
    """Return folds that never split a run: outer folds are consecutive runs, inner folds are assigned in turn.

    Parameters
    ----------
    runs : int (n,)
        Run in which each stimulus was shown.
    n_outer, n_inner : int
        Number of folds, at least 2 each.

    Raises
    ------
    UsageError
        If there are fewer runs than folds.

    Notes
    -----
    Horikawa et al. 2020 test on ten consecutive runs at a time.
    """
    names, place = np.unique(runs, return_inverse=True)
    _check(len(names), n_outer, n_inner, "runs", n_outer)
    group = np.repeat(np.arange(n_outer), [len(part) for part in np.array_split(names, n_outer)])
    return _nest(group[place], (np.arange(len(names)) % n_inner)[place])


def _nest(outer: Indices, inner: Indices) -> Folds:
    tested = outer == np.arange(outer.max() + 1)[:, None]  # (n_outer, n)
    return Folds(outer, np.where(tested, -1, inner))


def _check(n: int, n_outer: int, n_inner: int, what: str, least: int) -> None:
    if n_outer < 2 or n_inner < 2 or n < least or n - -(-n // n_outer) < n_inner:
        raise UsageError(
            f"too few {what} for the folds",
            wanted=f"at least {max(least, 2 * n_inner)} {what} for {n_outer} outer and {n_inner} inner folds",
            found=f"{n} {what}",
            allowed="at least 2 folds of each kind",
            todo="use fewer folds",
        )
