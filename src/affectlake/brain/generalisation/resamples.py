"""Resamples of subjects and stimuli, as counts, and splits of a resample that keep copies of a stimulus together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError

Counts = NDArray[np.int64]

FEWEST_STIMULI = 8
"""Stimuli below which they are not resampled: most resamples would have too few different ones."""

FEWEST_DIFFERENT = 4
"""Different stimuli of a resample, below which it is drawn again."""

_PER_FOLD = 3  # different stimuli, which have three pairs


class Resamples(NamedTuple):
    """How often each subject and each stimulus is in each resample.

    Parameters
    ----------
    subjects : int64 (n_resamples, n_subjects)
    stimuli : int64 (n_resamples, n_stimuli)
    """

    subjects: Counts
    stimuli: Counts


def draw(n_subjects: int, n_stimuli: int, count: int, rng: np.random.Generator) -> Resamples:
    """Return resamples with replacement, of as many subjects and stimuli as there are.

    A resample with fewer than four different stimuli is drawn again. Its correlations would have three pairs or fewer.

    Parameters
    ----------
    n_subjects, n_stimuli : int
        At least one subject, and at least :data:`FEWEST_STIMULI` stimuli.
    count : int
        Number of resamples.
    rng : numpy.random.Generator

    Raises
    ------
    SourceError
        If there are too few stimuli.
    """
    if n_stimuli < FEWEST_STIMULI:
        raise SourceError(
            "too few stimuli to resample", found=f"{n_stimuli}", allowed=f"{FEWEST_STIMULI} or more",
            todo="generalise over subjects alone",
        )  # fmt: skip
    stimuli = np.empty((count, n_stimuli), dtype=np.int64)
    for row in stimuli:
        row[:] = 0
        while np.count_nonzero(row) < FEWEST_DIFFERENT:
            row[:] = np.bincount(rng.integers(n_stimuli, size=n_stimuli), minlength=n_stimuli)
    subjects = [np.bincount(rng.integers(n_subjects, size=n_subjects), minlength=n_subjects) for _ in range(count)]
    return Resamples(np.array(subjects, dtype=np.int64).reshape(count, n_subjects), stimuli)


def split(stimuli: Counts, n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold of each stimulus of a resample; -1 for a stimulus that is not in it.

    Different stimuli are divided, not copies: all copies of a stimulus are in one fold, so that no model is tested on a
    stimulus from which it has learned.

    Parameters
    ----------
    stimuli : int64 (n_stimuli,)
        How often each stimulus is in the resample.
    n_folds : int
        Number of folds, whose numbers of different stimuli differ by at most one.
    rng : numpy.random.Generator

    Raises
    ------
    SourceError
        If a fold would have fewer than three different stimuli.
    """
    different = np.flatnonzero(stimuli)
    if len(different) < n_folds * _PER_FOLD:
        raise SourceError(
            "too few different stimuli to divide a resample", found=f"{len(different)} for {n_folds} folds",
            allowed=f"{n_folds * _PER_FOLD} or more",
        )  # fmt: skip
    found = np.full(len(stimuli), -1)
    found[rng.permutation(different)] = np.arange(len(different)) % n_folds
    return found
