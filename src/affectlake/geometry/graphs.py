"""Graphs of correlated dimensions: edges, communities and centralities."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.correlations import pearson_r

if TYPE_CHECKING:
    import networkx as nx

Weights = NDArray[np.floating]

LOUVAIN_RUNS = 50
RUNS_OF_DRAWS = 10
"""Runs of Louvain's algorithm on a graph, and on each graph of a resample or a null distribution."""


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

    graph = weighted_graph(edges, size[edges[:, 0], edges[:, 1]])
    found = best_communities(graph, seed, n_runs)
    for number, nodes in enumerate(found.communities):
        community[list(nodes)] = number
    for node, rank in nx.pagerank(graph, weight="weight").items():
        pagerank[node] = rank
    return EmotionGraph(r, edges, community, pagerank, found.modularity)


class Partition(NamedTuple):
    """Communities as sets of nodes, in order of decreasing size, and their modularity."""

    communities: list[set[int]]
    modularity: float


def weighted_graph(edges: NDArray[np.int64], weights: NDArray[np.float64]) -> nx.Graph[int]:
    import networkx as nx

    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(sorted({int(node) for node in edges.ravel()}))
    graph.add_weighted_edges_from((a, b, float(w)) for (a, b), w in zip(edges.tolist(), weights, strict=True))
    return graph


def best_communities(graph: nx.Graph[int], seed: int, n_runs: int) -> Partition:
    """Return the communities with the highest modularity of several runs of Louvain's algorithm."""
    import networkx as nx

    best = Partition([], -np.inf)
    for own in np.random.SeedSequence(seed).generate_state(n_runs).tolist():
        found = nx.community.louvain_communities(graph, weight="weight", seed=own)
        modularity = float(nx.community.modularity(graph, found, weight="weight"))
        if modularity > best.modularity + 1e-9:
            best = Partition(sorted(found, key=lambda nodes: (-len(nodes), min(nodes))), modularity)
    return best
