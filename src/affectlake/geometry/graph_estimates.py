"""Counts and modularity of a graph of dimensions, with intervals over the stimuli and the values of chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.correlations import pearson_r, rating_correlations
from affectlake.geometry.estimates import Estimate, left_out, percentile_interval, permutation_level
from affectlake.geometry.graphs import (
    RUNS_OF_DRAWS,
    EmotionGraph,
    Partition,
    Weights,
    best_communities,
    emotion_graph,
    weighted_graph,
)

DRAWS = 100
"""The largest number of resamples, and of graphs of a null distribution: each takes `RUNS_OF_DRAWS` runs of Louvain's
algorithm."""


def shuffled_partitions(
    weights: Weights,
    graph: EmotionGraph,
    rng: np.random.Generator,
    *,
    absolute: bool = True,
    n_graphs: int = 100,
    n_runs: int = RUNS_OF_DRAWS,
) -> list[Partition]:
    """Return the communities of graphs of independent dimensions with as many edges as `graph`.

    The stimuli of each dimension are shuffled independently, the pairs with the highest correlations are joined, and
    the weights of the edges of `graph` are given to them in the same order. Random graphs have communities, too
    (Guimerà, Sales-Pardo & Amaral 2004, Phys. Rev. E 70, 025101). Rewiring the edges instead is not a valid null
    hypothesis: correlations are transitive, random edges are not (MacMahon & Garlaschelli 2015, Phys. Rev. X 5,
    021006).

    Parameters
    ----------
    weights : float array (n_stimuli, d)
        The embedding of `graph`.
    graph : EmotionGraph
        A graph with edges.
    rng : numpy.random.Generator
    absolute : bool, default=True
        As in :func:`emotion_graph`.
    n_graphs : int, default=100
    n_runs : int, default=10
        Runs of Louvain's algorithm for each graph.
    """
    strengths = np.sort(np.abs(graph.r[graph.edges[:, 0], graph.edges[:, 1]]))[::-1]
    columns = np.asarray(weights, np.float64)
    upper = np.triu_indices(columns.shape[1], 1)
    found = []
    for _ in range(n_graphs):
        shuffled = rng.permuted(columns, axis=0)
        r = pearson_r(shuffled, shuffled)[upper]
        size = np.nan_to_num(np.abs(r) if absolute else r, nan=-1.0)
        highest = np.argsort(-size, kind="stable")[: len(strengths)]
        edges = np.stack([upper[0][highest], upper[1][highest]], axis=1)
        joined = weighted_graph(edges, strengths)
        found.append(best_communities(joined, int(rng.integers(2**32)), n_runs))
    return found


class GraphEstimates(NamedTuple):
    """Counts and modularity of a graph, with bootstrap intervals over the stimuli and the values of chance."""

    n_isolated: Estimate
    n_communities: Estimate
    modularity: Estimate
    n_edges: Estimate


def graph_estimates(
    weights: Weights,
    seed: int,
    rng: np.random.Generator,
    *,
    threshold: float = 0.2,
    absolute: bool = True,
    n_resamples: int = 100,
    n_shuffled: int = 100,
) -> GraphEstimates:
    """Return the numbers of isolated nodes, communities and edges, and the modularity, with intervals.

    The truth that the intervals are about is the graph of the correlations over infinitely many stimuli. A count of
    edges or of isolated nodes depends on all correlations near the threshold. Its interval is that of all graphs that
    agree with the simultaneous 95 % intervals of the correlations (Bonferroni's, over the pairs): from the edges whose
    intervals are above the threshold to those whose intervals reach it.

    The intervals of the number of communities and of the modularity are basic bootstrap intervals (Davison & Hinkley
    1997, Bootstrap Methods, section 5.2), 2 v − q for the value v and the percentiles q over resampled stimuli, within
    the possible values and widened to contain v. A resample has the noise of the correlations twice, so that it differs
    from the graph as the graph differs from the truth. If no edge is certain, there may be no community, and the lower
    end is 0.

    ``chance`` of the modularity and of the number of communities is the mean of independent dimensions
    (:func:`shuffled_partitions`); the p-value of the modularity is its level against them.

    Parameters
    ----------
    weights, seed, threshold, absolute
        As in :func:`emotion_graph`.
    rng : numpy.random.Generator
    n_resamples : int
        Number of bootstrap resamples, at least 2 for an interval of communities and modularity.
    n_shuffled : int
        Number of graphs of independent dimensions; with 0, there is no chance level and no p-value.
    """
    n, d = weights.shape
    whole = emotion_graph(weights, seed, threshold=threshold, absolute=absolute)

    def resampled() -> EmotionGraph:
        some = weights[rng.integers(0, n, n)]
        return emotion_graph(some, seed, threshold=threshold, absolute=absolute, n_runs=RUNS_OF_DRAWS)

    drawn = np.array([(one.n_communities, one.modularity) for one in (resampled() for _ in range(n_resamples))])
    communities, modularities = drawn.reshape(n_resamples, 2).T
    isolated, edges = _bounds(weights, threshold, absolute)
    modularity = left_out("no two dimensions correlate above the threshold, so there are no communities", d)
    if len(whole.edges):
        ends = _basic_interval(whole.modularity, modularities, -0.5, 1.0)
        modularity = Estimate(whole.modularity, *ends, n=d)
    n_communities = float(whole.n_communities)
    fewest, most = _basic_interval(n_communities, communities, 0.0, float(d // 2))
    if not edges[0] and not np.isnan(fewest):  # no edge is certain
        fewest = 0.0
    estimates = GraphEstimates(
        n_isolated=Estimate(float(whole.n_isolated), *isolated, n=d),
        n_communities=Estimate(n_communities, fewest, most, n=d),
        modularity=modularity,
        n_edges=Estimate(float(len(whole.edges)), *edges, n=d),
    )
    if not len(whole.edges) or not n_shuffled:
        return estimates
    null = shuffled_partitions(weights, whole, rng, absolute=absolute, n_graphs=n_shuffled)
    of_null = np.array([one.modularity for one in null])
    return estimates._replace(
        n_communities=estimates.n_communities._replace(chance=float(np.mean([len(one.communities) for one in null]))),
        modularity=estimates.modularity._replace(
            chance=float(of_null.mean()), p_value=permutation_level(whole.modularity, of_null)
        ),
    )


def _basic_interval(value: float, draws: NDArray[np.float64], least: float, most: float) -> tuple[float, float]:
    """Return the basic bootstrap interval between the possible values, which contains the value."""
    low, high = percentile_interval(draws)
    if np.isnan(low):
        return low, high
    return min(value, max(2 * value - high, least)), max(value, min(2 * value - low, most))


def _bounds(weights: Weights, threshold: float, absolute: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the simultaneous intervals of the numbers of isolated nodes and of edges."""
    d = weights.shape[1]
    found = rating_correlations(weights, weights, 1 - 0.05 / max(d * (d - 1) // 2, 1))
    sure = found.ci_low > threshold
    excluded = found.ci_high <= threshold
    if absolute:
        sure |= found.ci_high < -threshold
        excluded &= found.ci_low >= -threshold
    possible = ~excluded & ~np.isnan(found.r)
    fewest, most = (np.triu(joined, 1) | np.tril(joined, -1) for joined in (sure, possible))  # without the diagonal
    isolated = float((~most.any(axis=0)).sum()), float((~fewest.any(axis=0)).sum())
    return isolated, (float(fewest.sum() / 2), float(most.sum() / 2))
