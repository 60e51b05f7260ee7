"""Which agent is closest to a reference: agreement on the same triplets, compared in pairs, and intervals of ranks."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.estimates import Estimate
from affectlake.geometry.stimulus_effects import Means, combined, moments, stimulus_means

Array = NDArray[np.float64]


class Difference(NamedTuple):
    """The difference of two agents' shares, the first minus the second, and its p-values.

    ``estimate.p_value`` is two-tailed, ``p_holm`` the same adjusted for all pairs of agents; ``apart`` is whether it is
    at most 0.05.
    """

    first: int
    second: int
    estimate: Estimate
    p_holm: float
    apart: bool


class Closeness(NamedTuple):
    """Shares of agreement of several agents with a reference, and their order.

    Parameters
    ----------
    shares : list of Estimate
        Share of agreement of each agent; ``n`` is the number of triplets.
    differences : list of Difference
        Differences of all pairs of agents.
    ranks : int64 (n_agents,)
        Rank of each agent by its share, from 1 for the highest; equal shares have the same rank.
    lowest, highest : int64 (n_agents,)
        Ends of the simultaneous 95 % intervals of the ranks.
    """

    shares: list[Estimate]
    differences: list[Difference]
    ranks: NDArray[np.int64]
    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]

    def ties(self, agent: int) -> list[int]:
        """Return the agents that are not told apart from one agent."""
        pairs = [(one.first, one.second) for one in self.differences if not one.apart]
        return sorted({a + b - agent for a, b in pairs if agent in (a, b)})


def closeness(triplets: NDArray[np.integer], agreement: NDArray[np.floating]) -> Closeness:
    """Return how often agents agree with a reference on the same triplets, and which agents agree more often.

    Errors are those of the mixed model of :func:`~affectlake.geometry.stimulus_effects.stimulus_means`, with stimuli as
    random effects: they are about further triplets of further stimuli. Each share and each difference of two agents has
    a model of its own, so that what a stimulus does to both agents is not an error of their difference. Intervals are
    Student's, those of shares within [0, 1].

    Two agents are apart if their p-value, adjusted by Holm's method for all pairs (Holm 1979, Scand. J. Stat. 6,
    65-70), is at most 0.05. The interval of a rank begins after all agents that are apart from it and higher, and ends
    before all that are apart and lower: with probability 95 % or more, all intervals contain the true ranks (Mogstad,
    Romano, Shaikh & Wilhelm 2024, Rev. Econ. Stud. 91, 476-518).

    Parameters
    ----------
    triplets : int (m, 3)
        Triplets that the reference and all agents judged, each once.
    agreement : float array (m, n_agents)
        Probability that an answer of the reference to the triplet is that of the agent: 0 or 1 for single answers.

    Returns
    -------
    Closeness

    Raises
    ------
    AffectlakeError
        If the shapes do not match, there are fewer than 20 triplets, or a value is not finite.
    """
    n_agents = agreement.shape[1]
    found = moments(triplets, agreement)
    own = stimulus_means(found)
    pairs = list(combinations(range(n_agents), 2))
    weights = np.zeros((len(pairs), n_agents))
    for row, (a, b) in zip(weights, pairs, strict=True):
        row[a], row[b] = 1.0, -1.0
    apart = stimulus_means(combined(found, weights)) if pairs else None
    between = _estimates(apart, found.n) if apart else []
    adjusted = holm(np.array([one.p_value for one in between]))
    differences = [
        Difference(a, b, one, float(p), bool(p <= 0.05))
        for (a, b), one, p in zip(pairs, between, adjusted, strict=True)
    ]
    lowest, highest = np.ones(n_agents, np.int64), np.full(n_agents, n_agents, np.int64)
    for one in differences:
        if one.apart:
            higher, lower = (one.first, one.second) if one.estimate.value > 0 else (one.second, one.first)
            lowest[lower] += 1
            highest[higher] -= 1
    shares = [
        one._replace(ci_low=max(0.0, one.ci_low), ci_high=min(1.0, one.ci_high), p_value=float("nan"))
        for one in _estimates(own, found.n)
    ]
    ranks = 1 + (own.value[None, :] > own.value[:, None] + 1e-12).sum(axis=1)
    return Closeness(shares, differences, ranks, lowest, highest)


def _estimates(found: Means, n: int) -> list[Estimate]:
    """Return means with Student's intervals, and their two-tailed p-values for a mean of 0."""
    from scipy.stats import t  # late: slow

    half = np.where(found.error > 0, t.ppf(0.975, found.df) * found.error, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = 2 * t.sf(np.abs(found.value) / found.error, found.df)
    level = np.where(found.error > 0, level, np.where(found.value == 0, 1.0, 0.0))
    return [
        Estimate(float(value), float(value - width), float(value + width), p_value=float(p), n=n)
        for value, width, p in zip(found.value, half, level, strict=True)
    ]


def holm(p: Array) -> Array:
    """Return p-values adjusted by Holm's step-down method, in the order of `p` (n,), which has no NaN.

    The i-th smallest of n becomes the maximum over j ≤ i of (n - j + 1) p_(j), at most 1 (Holm 1979).
    """
    order = np.argsort(p)
    adjusted = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    found = np.empty(len(p))
    found[order] = adjusted
    return found
