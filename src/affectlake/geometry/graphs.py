"""Graphs of correlated dimensions: edges, communities, centralities, and the overlap of two agents' communities."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.correlations import pearson_r, rating_correlations
from affectlake.geometry.estimates import Estimate, left_out, percentile_interval, permutation_level

if TYPE_CHECKING:
    import networkx as nx

Weights = NDArray[np.floating]

LOUVAIN_RUNS = 50
RUNS_OF_DRAWS = 10
"""Runs of Louvain's algorithm on a graph, and on each graph of a resample or a null distribution."""

DRAWS = 100
"""The largest number of resamples, and of graphs of a null distribution: each takes :data:`RUNS_OF_DRAWS` runs."""


class EmotionGraph(NamedTuple):
    """A graph whose nodes are dimensions.

    ``r`` (d, d) contains the correlations of all dimensions; ``edges`` (n_edges, 2) the joined pairs, in increasing
    order; ``community`` (d,) counts from 0 in order of decreasing size and is −1 for an isolated node; ``pagerank``
    (d,) sums to 1 and is NaN for an isolated node; ``modularity`` is NaN without edges.
    """

    r: NDArray[np.float64]
    edges: NDArray[np.int64]
    community: NDArray[np.int64]
    pagerank: NDArray[np.float64]
    modularity: float

    @property
    def n_isolated(self) -> int:
        """Number of dimensions without an edge."""
        return int((self.community < 0).sum())

    @property
    def n_communities(self) -> int:
        """Number of communities, not counting isolated nodes."""
        return int(self.community.max(initial=-1)) + 1


def emotion_graph(
    weights: Weights, seed: int, *, threshold: float = 0.2, absolute: bool = True, n_runs: int = LOUVAIN_RUNS
) -> EmotionGraph:
    """Join correlated dimensions; compute communities with Louvain's algorithm and centralities with PageRank.

    Du et al. 2025, 'Emotion graph construction and analysis'; Blondel et al. 2008, J. Stat. Mech. P10008; Page & Brin
    1998. The weight of an edge is |r|, because neither algorithm supports negative weights. Isolated nodes are excluded
    from both. The communities of Louvain's algorithm depend on the order in which it visits the nodes: of several runs
    in random orders, the communities with the highest modularity are returned (the first ones, if several are equal).

    Parameters
    ----------
    weights : float array (n_stimuli, d)
    seed : int
        Random seed of the orders in which Louvain's algorithm visits the nodes.
    threshold : float, default=0.2
        Dimensions whose correlation is above it are joined; 0 to below 1.
    absolute : bool, default=True
        Whether to compare |r| with the threshold (the paper's Methods) or r (the caption of its figure).
    n_runs : int, default=50
        Number of runs of Louvain's algorithm, at least 1.

    Raises
    ------
    AffectlakeError
        If the threshold is not in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise AffectlakeError("the threshold of edges is not a correlation", wanted="0 <= t < 1", found=str(threshold))
    r = pearson_r(weights, weights)
    size = np.nan_to_num(np.abs(r) if absolute else r, nan=-1.0)
    edges = np.argwhere(np.triu(size > threshold, 1))
    d = weights.shape[1]
    community, pagerank = np.full(d, -1), np.full(d, np.nan)
    if not len(edges):
        return EmotionGraph(r, edges, community, pagerank, float("nan"))
    import networkx as nx

    graph = _weighted_graph(edges, size[edges[:, 0], edges[:, 1]])
    found = _best_communities(graph, seed, n_runs)
    for number, nodes in enumerate(found.communities):
        community[list(nodes)] = number
    for node, rank in nx.pagerank(graph, weight="weight").items():
        pagerank[node] = rank
    return EmotionGraph(r, edges, community, pagerank, found.modularity)


class Partition(NamedTuple):
    """Communities as sets of nodes, in order of decreasing size, and their modularity."""

    communities: list[set[int]]
    modularity: float


def _weighted_graph(edges: NDArray[np.int64], weights: NDArray[np.float64]) -> nx.Graph[int]:
    import networkx as nx

    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(sorted({int(node) for node in edges.ravel()}))
    graph.add_weighted_edges_from((a, b, float(w)) for (a, b), w in zip(edges.tolist(), weights, strict=True))
    return graph


def _best_communities(graph: nx.Graph[int], seed: int, n_runs: int) -> Partition:
    """Return the communities with the highest modularity of several runs of Louvain's algorithm."""
    import networkx as nx

    best = Partition([], -np.inf)
    for own in np.random.SeedSequence(seed).generate_state(n_runs).tolist():
        found = nx.community.louvain_communities(graph, weight="weight", seed=own)
        modularity = float(nx.community.modularity(graph, found, weight="weight"))
        if modularity > best.modularity + 1e-9:
            best = Partition(sorted(found, key=lambda nodes: (-len(nodes), min(nodes))), modularity)
    return best


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
        joined = _weighted_graph(edges, strengths)
        found.append(_best_communities(joined, int(rng.integers(2**32)), n_runs))
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
    estimates = GraphEstimates(
        n_isolated=Estimate(float(whole.n_isolated), *isolated, n=d),
        n_communities=Estimate(n_communities, fewest if edges[0] else fewest * 0, most, n=d),  # 0: no edge is certain
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
