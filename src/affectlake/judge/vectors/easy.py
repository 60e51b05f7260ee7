"""Easy trials: triplets whose odd one out is known from ratings, which show whether an agent can do the task at all.

In an easy trial, two stimuli have nearly the same ratings and the third differs from both. Arrays in, arrays out.
"""

from __future__ import annotations

from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.judge.vectors.similarity import TIE
from affectlake.triplet_sampling import sample_uniform

EASY = "easy"
"""Name of the trial set. Only chat agents are asked it, and no embedding learns from it."""

_CANDIDATES, _EASIEST = 200_000, 0.02


class EasyTrials(NamedTuple):
    """Easy trials.

    Attributes
    ----------
    triplets : int32 (n, 3)
        Rows i < j < k, in lexicographic order.
    odd : int32 (n,)
        Stimulus index of the odd one out.
    margin : float64 (n,)
        Cosine similarity of the other two, minus the larger of their similarities with the odd one out.
    """

    triplets: NDArray[np.int32]
    odd: NDArray[np.int32]
    margin: NDArray[np.float64]


def draw_easy(vectors: NDArray[np.float64], n: int, rng: np.random.Generator) -> EasyTrials:
    """Return `n` of the triplets with the largest margins, with each stimulus in as few of them as possible.

    Of up to 200,000 random triplets, the easiest 2 % (at least ``2 n``) are taken in turn, largest margins first; a
    triplet is passed over if one of its stimuli is in m taken ones. The number m is the smallest that leaves `n`.

    Parameters
    ----------
    vectors : float64 (n_stimuli, d)
        Ratings of each stimulus; only the directions matter.
    n : int
        Number of trials; fewer are returned if there are not enough triplets.
    rng : numpy.random.Generator
        Draws the candidates.
    """
    n_stimuli = len(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = sample_uniform(n_stimuli, min(_CANDIDATES, comb(n_stimuli, 3)), rng)
    pairs = ((1, 2), (0, 2), (0, 1))  # the pair that is left if column 0, 1 or 2 is the odd one out
    similar = np.stack([np.einsum("nd,nd->n", unit[rows[:, a]], unit[rows[:, b]]) for a, b in pairs], axis=1)
    ranked = np.sort(similar, axis=1)
    margin = ranked[:, 2] - ranked[:, 1]
    odd = rows[np.arange(len(rows)), similar.argmax(axis=1)]
    pool = np.argsort(-margin, kind="stable")[: max(2 * n, round(_EASIEST * len(rows)))]
    pool = pool[margin[pool] > TIE]
    taken: list[int] = []
    most = -(-3 * n // max(n_stimuli, 1))
    while len(taken) < min(n, len(pool)):
        taken = _first(pool, rows, n, most, n_stimuli)
        most += 1
    kept = np.sort(np.array(taken, dtype=np.intp))  # candidates are in lexicographic order
    return EasyTrials(rows[kept], odd[kept], margin[kept])


def _first(pool: NDArray[np.intp], rows: NDArray[np.int32], n: int, most: int, n_stimuli: int) -> list[int]:
    """Return the first `n` of `pool` without triplets one of whose stimuli is in `most` earlier ones."""
    n_uses, taken = np.zeros(n_stimuli, np.int64), list[int]()
    for at in pool.tolist():
        if len(taken) < n and (n_uses[rows[at]] < most).all():
            n_uses[rows[at]] += 1
            taken.append(at)
    return taken
