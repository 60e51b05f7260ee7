"""The overlap of two agents' communities of dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.correlations import pearson_r, rating_correlations
from affectlake.geometry.estimates import Estimate, permutation_level
from affectlake.geometry.graphs import Weights


def community_overlap(
    one: Weights,
    one_community: NDArray[np.integer],
    other: Weights,
    other_community: NDArray[np.integer],
    rng: np.random.Generator,
    n_permutations: int = 200,
) -> dict[tuple[int, int], Estimate]:
    """Return the correlations, over the stimuli, between the profiles of two agents' communities.

    The profile of a community is the sum of its dimensions' weights, each dimension scaled to a sum of 1, so that a
    dimension with large weights does not dominate. The agents may have different numbers of dimensions. Intervals are
    those of :func:`affectlake.geometry.correlations.rating_correlations`; p-values are computed by shuffling stimuli.

    Parameters
    ----------
    one, other : float array (n_stimuli, d), (n_stimuli, d_other)
        Embeddings of the same stimuli.
    one_community, other_community : int array (d,), (d_other,)
        Community of each dimension, −1 for none.
    rng : numpy.random.Generator
    n_permutations : int, default=200

    Returns
    -------
    dict
        Estimates by (community, other community).
    """
    a, b = _profiles(one, one_community), _profiles(other, other_community)
    if not a.shape[1] or not b.shape[1]:
        return {}
    found = rating_correlations(a, b)
    null = np.array([pearson_r(a, b[rng.permutation(len(b))]) for _ in range(n_permutations)])
    return {
        (row, column): Estimate(
            float(found.r[row, column]),
            float(found.ci_low[row, column]),
            float(found.ci_high[row, column]),
            float(null[:, row, column].mean()) if len(null) else float("nan"),
            permutation_level(float(found.r[row, column]), null[:, row, column]) if len(null) else float("nan"),
            found.n,
        )
        for row, column in np.ndindex(found.r.shape)
    }


def _profiles(weights: Weights, community: NDArray[np.integer]) -> NDArray[np.float64]:
    values = np.asarray(weights, np.float64)
    total = values.sum(axis=0)
    scaled = values / np.where(total > 0, total, 1)
    n = int(community.max(initial=-1)) + 1
    return np.stack([scaled[:, community == at].sum(axis=1) for at in range(n)], axis=1) if n else values[:, :0]
