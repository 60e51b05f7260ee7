"""Seeded draws for each trial and repeat: captions of its stimuli, and uniform numbers.

A draw is a hash of the stimulus, trial and repeat, so that it does not depend on which other trials are asked, or in
which order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_captions(
    in_order: NDArray[np.int32], repeat: NDArray[np.int16], n_captions: NDArray[np.int64], seed: int
) -> NDArray[np.int16]:
    """Draw one caption of each stimulus shown, uniformly.

    Parameters
    ----------
    in_order : int32 (m, 3)
        Stimuli in the order shown; the draw does not depend on that order.
    repeat : int16 (m,)
        Number of the repeat, from 0.
    n_captions : int64 (n_stimuli,)
        Number of captions of each stimulus; at least 1 for those shown.
    seed : int
        Seed of the agent and trial set, below 2**64.

    Returns
    -------
    int16 (m, 3)
        ``caption_index``, in the order shown.
    """
    with np.errstate(over="ignore"):
        trial = _of_trials(np.sort(in_order, axis=1), repeat, seed)
        drawn = _mix(trial[:, None] + in_order.astype(np.uint64) * _GOLDEN)
    return np.floor(_uniform(drawn) * n_captions[in_order]).astype(np.int16)


def draw_uniform(triplets: NDArray[np.int32], repeat: NDArray[np.int16], seed: int) -> NDArray[np.float64]:
    """Draw a uniform number in [0, 1) for each trial and repeat: float64 (m,); see :func:`draw_captions`.

    Parameters
    ----------
    triplets : int32 (m, 3)
        Rows i < j < k.
    repeat : int16 (m,)
        Number of the repeat, from 0.
    seed : int
        Seed, below 2**64.
    """
    with np.errstate(over="ignore"):
        return _uniform(_mix(_of_trials(triplets, repeat, seed)))


def _of_trials(triplets: NDArray[np.int32], repeat: NDArray[np.int16], seed: int) -> NDArray[np.uint64]:
    trial = np.full(len(triplets), seed, dtype=np.uint64)
    for column in (*triplets.T, repeat):
        trial = _mix(trial + column.astype(np.uint64) + np.uint64(1))
    return trial


def _uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits (the finaliser of SplitMix64 after one step)."""
    z = state + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
