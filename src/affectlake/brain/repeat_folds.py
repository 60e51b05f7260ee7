"""Folds of repeated presentations, between which distances of patterns are cross-validated."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.halves import halves_of
from affectlake.brain.repeats import means_of_stimuli

Folds = Literal["runs", "halves_of_runs", "halves"]


class RepeatFolds(NamedTuple):
    """Repeated stimuli and the folds of their presentations.

    Parameters
    ----------
    stimuli : int64 (n,)
        The stimuli, in increasing order.
    place : int64 (n_samples,)
        Place in `stimuli` of the stimulus of each presentation; -1 for a presentation that is not used.
    fold : int64 (n_samples,)
        Fold of each presentation. Every two stimuli are together in a fold, and each is in others too.
    kind : {'runs', 'halves_of_runs', 'halves'}
        What the folds are.
    n_repeated : int
        Number of stimuli that could be used, of which `stimuli` are those that were chosen.
    """

    stimuli: NDArray[np.int64]
    place: NDArray[np.int64]
    fold: NDArray[np.int64]
    kind: Folds
    n_repeated: int


def repeat_folds(
    stimulus: NDArray[np.integer],
    runs: NDArray[np.integer] | None,
    fewest: int,
    most: int,
    ties: NDArray[np.floating],
) -> RepeatFolds:
    """Return the stimuli with repeated presentations, and folds whose noise is as independent as can be.

    Noise is independent between runs rather than within them. If at least `fewest` stimuli are in two or more runs,
    these are used: folds are the runs if every two of the stimuli share a run; otherwise the first, third, … run of
    each stimulus, and the others. If there are fewer such stimuli, or runs are not known, all repeated stimuli are
    used, and folds are the first, third, … presentation of each, and the others. Where runs are known, but are not
    the folds, use :func:`without_run_means`.

    Parameters
    ----------
    stimulus : int (n_samples,)
        Stimulus of each presentation, in their order; negative for a presentation that is not used.
    runs : int (n_samples,) or None
        Run of each presentation; None if runs are not known.
    fewest : int
        Number of stimuli in two or more runs from which runs are used.
    most : int
        Number of stimuli above which those with the most presentations are chosen.
    ties : float (n_stimuli,)
        One value per stimulus: of stimuli with equally many presentations, those with small values are chosen.

    Returns
    -------
    RepeatFolds
        Without stimuli if none was presented repeatedly.
    """
    size = int(stimulus.max(initial=-1)) + 1
    counts = np.bincount(stimulus[stimulus >= 0], minlength=size)
    repeated, by_run = np.flatnonzero(counts > 1), False
    if runs is not None:
        pairs = np.unique(np.stack([stimulus, runs], axis=1)[stimulus >= 0], axis=0)
        several = np.flatnonzero(np.bincount(pairs[:, 0], minlength=size) > 1)
        by_run = len(several) >= fewest
        repeated = several if by_run else repeated
    chosen = np.sort(repeated[np.lexsort((ties[repeated], -counts[repeated]))][:most])
    places = np.full(size + 1, -1)  # the last one is that of -1
    places[chosen] = np.arange(len(chosen))
    place = places[np.where(stimulus < 0, size, stimulus)]
    if not by_run or runs is None:
        return RepeatFolds(chosen, place, halves_of(place), "halves", len(repeated))
    if _share_runs(place, runs):
        return RepeatFolds(chosen, place, runs.astype(np.int64), "runs", len(repeated))
    return RepeatFolds(chosen, place, _halves_of_runs(place, runs), "halves_of_runs", len(repeated))


def without_run_means(
    presentations: NDArray[np.floating], stimulus: NDArray[np.integer], runs: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return presentations (n_samples, n_voxels) minus the mean of their run, over presentations of known stimuli.

    A pattern that all presentations of a run share is a difference between stimuli of different runs. Where folds are
    runs, it cancels out.
    """
    names, run = np.unique(runs, return_inverse=True)
    used = np.asarray(stimulus) >= 0
    means, _ = means_of_stimuli(presentations[used], run[used], len(names))
    return np.asarray(presentations - means[run])


def _share_runs(place: NDArray[np.integer], runs: NDArray[np.integer]) -> bool:
    """Return whether every two stimuli are in a run together; each is in two or more runs."""
    used = place >= 0
    _, run = np.unique(runs[used], return_inverse=True)
    shown = np.zeros((int(place.max()) + 1, int(run.max()) + 1))
    shown[place[used], run] = 1.0
    return bool((shown @ shown.T > 0).all())


def _halves_of_runs(place: NDArray[np.integer], runs: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return 0 for presentations in the first, third, … run of their stimulus, and 1 for the others."""
    both, at = np.unique(np.stack([place, runs], axis=1), axis=0, return_inverse=True)
    half: NDArray[np.int64] = halves_of(both[:, 0])[at.reshape(-1)]
    return half
