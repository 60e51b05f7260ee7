"""Reliability of stimuli from repeated presentations: the patterns of two halves of the presentations.

No agent and no other subject takes part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST_REPEATED = 4
"""Stimuli with repeated presentations, below which voxels cannot be standardised over them."""

_VOXELS = 1024  # processed at a time


def split_half_r(presentations: NDArray[np.floating], stimulus: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return how well the patterns of two halves of each stimulus's presentations agree.

    A stimulus's first, third, … presentations are one half, its second, fourth, … the other, so that both are spread
    over the recording. Patterns are averaged within each half, and standardised in each half: per voxel, over the
    stimuli with at least two presentations, to mean 0 and standard deviation 1. Otherwise the response that all stimuli
    have in common would make every stimulus reliable. The value of a stimulus is Pearson's r of its two patterns over
    voxels.

    Parameters
    ----------
    presentations : float (n_samples, n_voxels)
        One pattern per presentation, in the order of presentation.
    stimulus : int (n_samples,)
        Stimulus of each presentation, from 0 to n - 1; negative for a presentation that is not used.

    Returns
    -------
    float64 (n,)
        NaN for a stimulus that was presented once, and for all if fewer than four were presented repeatedly. Voxels
        that are not finite, or constant within a half, are left out.

    Notes
    -----
    Halves are not corrected to the length of all presentations (Spearman-Brown), which would not change the order of
    stimuli with equally many presentations. A stimulus with more presentations has more reliable halves.
    """
    size = int(stimulus.max(initial=-1)) + 1
    found = np.full(size, np.nan)
    half = np.where(stimulus < 0, -1, halves_of(stimulus))
    counts = np.stack([np.bincount(stimulus[half == which], minlength=size) for which in (0, 1)])
    repeated = np.flatnonzero(counts[1])
    if len(repeated) < FEWEST_REPEATED:
        return found
    place = np.full(size, -1)
    place[repeated] = np.arange(len(repeated))
    sums = np.zeros((5, len(repeated)))  # of a, b, a b, a a, b b over voxels
    n_voxels = 0
    for first in range(0, presentations.shape[1], _VOXELS):
        block = presentations[:, first : first + _VOXELS]
        a, b = (_mean_of(block, half == which, stimulus, place, counts[which, repeated]) for which in (0, 1))
        use = _varies(a) & _varies(b)
        a, b = ((x[:, use] - x[:, use].mean(axis=0)) / x[:, use].std(axis=0) for x in (a, b))
        sums += np.stack([one.sum(axis=1) for one in (a, b, a * b, a * a, b * b)])
        n_voxels += int(use.sum())
    if n_voxels:
        found[repeated] = _correlations(sums / n_voxels)
    return found


def halves_of(stimulus: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the half of each presentation: 0 for the first, third, … of its stimulus, 1 for the others."""
    order = np.argsort(stimulus, kind="stable")
    shown = stimulus[order]
    starts = np.flatnonzero(np.diff(shown, prepend=shown[0] - 1 if len(shown) else 0))
    number = np.arange(len(shown)) - np.repeat(starts, np.diff(starts, append=len(shown)))
    found = np.empty(len(shown), dtype=np.int64)
    found[order] = number % 2
    return found


def _mean_of(
    block: NDArray[np.floating], of_half: NDArray[np.bool_], stimulus: NDArray[np.integer], place: NDArray[np.intp],
    counts: NDArray[np.intp],
) -> NDArray[np.float64]:  # fmt: skip
    """Return the mean pattern of each repeated stimulus over one half, float64 (n_repeated, n_voxels)."""
    rows = np.flatnonzero(of_half)
    rows = rows[place[stimulus[rows]] >= 0]
    total = np.zeros((len(counts), block.shape[1]))
    np.add.at(total, place[stimulus[rows]], block[rows].astype(np.float64))
    return np.asarray(total / counts[:, None])


def _varies(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(x).all(axis=0) & (x.max(axis=0) > x.min(axis=0)))


def _correlations(means: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, ab, aa, bb = means
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (ab - a * b) / np.sqrt((aa - a**2) * (bb - b**2))
    return np.asarray(np.where(np.isfinite(r), np.clip(r, -1.0, 1.0), np.nan))
