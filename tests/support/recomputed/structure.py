"""The rows of `labels`, `graph_nodes` and `graph_edges`, and what `metrics` says of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from tests.support.recomputed.arithmetic import DRAWS, correlation, correlations, own_rng, quick_r, wilson
from tests.support.recomputed.cells import Level, Mean, Near, Rows, Share, estimate, impossible, reflected
from tests.support.recomputed.world import Array, World

N_GRAPHS = 100
"""The largest number of graphs that the product draws."""
OWN_GRAPHS, OWN_RUNS = 25, 3
"""The test's numbers of graphs, and of runs of Louvain's algorithm for each."""
CHARACTERS = ("categorical", "dimensional", "mixed")


class Named(NamedTuple):
    """The labels of a dimension: columns of the ratings, in order, and its character."""

    columns: list[int]
    character: str


def named(r: Array, families: list[str], gap: float) -> Named:
    """Return the labels of a dimension by the rule: the next one only if less than `gap` below the one before."""
    order = [at for at in sorted(range(len(r)), key=lambda at: (-abs(r[at]), at)) if not np.isnan(r[at])]
    own = order[:1]
    while own and len(own) < min(3, len(order)) and abs(r[own[-1]]) - abs(r[order[len(own)]]) < gap - 1e-12:
        own.append(order[len(own)])
    if not own or abs(r[own[0]]) <= 0.1:
        return Named(own, "uninterpretable")
    kinds = sorted({families[at] for at in own})
    return Named(own, {"category": "categorical", "dimension": "dimensional"}[kinds[0]] if len(kinds) == 1 else "mixed")


def label_shares(world: World, agent: str, seed: int) -> Rows:
    """Yield the share of interpretable dimensions, and those of each character among them."""
    weights, ratings, geometry = world.weights(agent, seed), world.ratings, world.params.geometry
    d, m = weights.shape[1], geometry.permutations

    def counts(scores: Array) -> list[int]:
        found = Counter(named(row, ratings.families, geometry.label_gap).character for row in quick_r(weights, scores))
        return [found[character] for character in CHARACTERS]

    rng, own = own_rng("labels", agent, seed), counts(ratings.scores)
    null = np.array([counts(ratings.scores[rng.permutation(world.n_stimuli)]) for _ in range(DRAWS)], np.float64)
    share, n = null.sum(axis=1) / d, sum(own)
    row = estimate(n / d, d, wilson(n, d), Mean(share, m), Level(n / d, share, m))
    yield ("interpretable_share", None, None, None), row
    some = null[null.sum(axis=1) > 0]
    for at, character in enumerate(CHARACTERS):
        row = impossible("no dimension is interpretable", d)
        if n:
            row = estimate(own[at] / n, n, wilson(own[at], n), Mean(some[:, at] / some.sum(axis=1), m))
        yield (f"{character}_share", None, None, None), row


def labels(world: World) -> Rows:
    """Yield the rows of `labels`."""
    ratings, geometry = world.ratings, world.params.geometry
    for agent, seed, weights in _fits(world):
        found, rng = correlations(weights, ratings.scores), own_rng("stability", agent, seed)
        firsts = []
        for _ in range(2 * DRAWS):
            at = rng.integers(0, world.n_stimuli, world.n_stimuli)
            firsts.append(np.nan_to_num(np.abs(quick_r(weights[at], ratings.scores[at])), nan=-1).argmax(axis=1))
        for d, row in enumerate(found.r):
            own = named(row, ratings.families, geometry.label_gap)
            for rank, column in enumerate(own.columns):
                yield (
                    (agent, seed, d + 1, rank + 1),
                    {
                        "rating": ratings.names[column],
                        "family": ratings.families[column],
                        "direction": "high" if row[column] > 0 else "low",
                        "r": float(row[column]),
                        "ci_low": float(found.low[d, column]),
                        "ci_high": float(found.high[d, column]),
                        "character": own.character,
                        "stability": Share(np.array(firsts)[:, d] == own.columns[0], geometry.resamples),
                    },
                )


def _fits(world: World) -> Iterator[tuple[str, int, Array]]:
    for agent in world.agents:
        for seed, weights in world.fitted(agent).items():
            yield agent, seed, weights


def joined(world: World, weights: Array) -> nx.Graph[int]:
    """Return the graph of correlated dimensions, with the isolated ones."""
    r, geometry = quick_r(weights, weights), world.params.geometry
    size = np.abs(r) if geometry.absolute_edges else r
    found: nx.Graph[int] = nx.empty_graph(len(r))
    pairs = combinations(range(len(r)), 2)
    found.add_weighted_edges_from((a, b, float(size[a, b])) for a, b in pairs if size[a, b] > geometry.edge_threshold)
    return found


def certain(world: World, weights: Array) -> tuple[nx.Graph[int], nx.Graph[int]]:
    """Return the graphs of the pairs whose correlations are surely above the threshold, and of those that may be.

    The intervals of all pairs hold at once in 95 % of studies.
    """
    d, geometry = weights.shape[1], world.params.geometry
    found: tuple[nx.Graph[int], nx.Graph[int]] = nx.empty_graph(d), nx.empty_graph(d)
    for a, b in combinations(np.flatnonzero(np.ptp(weights, axis=0)).tolist(), 2):
        _, low, high = correlation(weights[:, a], weights[:, b], 1 - 0.05 / math.comb(d, 2))
        if geometry.absolute_edges:
            low, high = (min(abs(low), abs(high)) if low * high > 0 else 0.0), max(abs(low), abs(high))
        if low > geometry.edge_threshold:
            found[0].add_edge(a, b)
        if high > geometry.edge_threshold:
            found[1].add_edge(a, b)
    return found


def connected(own: nx.Graph[int]) -> nx.Graph[int]:
    """Return the graph without its isolated nodes."""
    return own.subgraph([node for node, degree in own.degree() if degree])


class Partition(NamedTuple):
    """Modularity and number of communities."""

    modularity: float
    n: int


def louvain(own: nx.Graph[int], runs: int) -> Partition:
    """Return the partition of the highest modularity, of several runs."""
    inside = connected(own)
    if not len(inside):
        return Partition(math.nan, 0)
    found = [nx.community.louvain_communities(inside, seed=seed) for seed in range(runs)]
    return max(Partition(float(nx.community.modularity(inside, one)), len(one)) for one in found)


def graph(world: World, agent: str, seed: int) -> Rows:
    """Yield counts of a graph and the modularity of its communities, which are those of `graph_nodes`."""
    weights, geometry = world.weights(agent, seed), world.params.geometry
    own, d, rng = joined(world, weights), weights.shape[1], own_rng("graph", agent, seed)
    stored = world.of("graph_nodes", agent=agent, seed=seed).sort("dimension")["community"]
    communities = [set((stored == number).arg_true().to_list()) for number in sorted(stored.drop_nulls().unique())]
    modularity = float(nx.community.modularity(connected(own), communities))
    assert modularity >= louvain(own, OWN_GRAPHS).modularity - 1e-9  # no run of the test finds better ones

    def numbers(one: nx.Graph[int]) -> tuple[float, ...]:
        best = louvain(one, OWN_RUNS)
        return best.n, best.modularity

    resampled = [weights[rng.integers(0, len(weights), len(weights))] for _ in range(OWN_GRAPHS)]
    drawn = np.array([numbers(joined(world, one)) for one in resampled], np.float64)
    null = np.array([louvain(_shuffled(world, own, weights, rng), OWN_RUNS) for _ in range(OWN_GRAPHS)])
    m, n = min(geometry.permutations, N_GRAPHS), min(geometry.resamples, N_GRAPHS)
    fewest, most = certain(world, weights)
    of_communities = reflected(float(len(communities)), drawn[:, 0], n, 0.0, float(d // 2), 1.0)
    low: Any = of_communities[0] if fewest.number_of_edges() else 0.0
    isolated, edges = (nx.number_of_isolates(most), nx.number_of_isolates(fewest)), (fewest.size(), most.size())
    found = {
        "n_isolated": estimate(float(nx.number_of_isolates(own)), d, isolated),
        "n_communities": estimate(float(len(communities)), d, (low, of_communities[1]), Mean(null[:, 1], m)),
        "modularity": estimate(
            modularity, d, reflected(modularity, drawn[:, 1], n, -0.5, 1.0, 0.1), Mean(null[:, 0], m),
            Level(modularity, null[:, 0], m),
        ),
        "n_edges": estimate(float(own.number_of_edges()), d, edges),
    }  # fmt: skip
    yield from (((measure, None, None, None), row) for measure, row in found.items())


def _shuffled(world: World, own: nx.Graph[int], weights: Array, rng: np.random.Generator) -> nx.Graph[int]:
    """Return a graph of independent dimensions that has the edges' weights of a graph."""
    strengths = sorted((weight for *_, weight in own.edges(data="weight")), reverse=True)
    shuffled = rng.permuted(weights, axis=0)
    r, (a, b) = quick_r(shuffled, shuffled), np.triu_indices(weights.shape[1], 1)
    size = np.nan_to_num(np.abs(r) if world.params.geometry.absolute_edges else r, nan=-1)[a, b]
    highest = np.argsort(-size, kind="stable")[: len(strengths)]
    found: nx.Graph[int] = nx.empty_graph(weights.shape[1])
    found.add_weighted_edges_from(zip(a[highest].tolist(), b[highest].tolist(), strengths, strict=True))
    return found


def graph_nodes(world: World) -> Rows:
    """Yield the rows of `graph_nodes`; the communities are the table's, whose modularity :func:`graph` checks."""
    for agent, seed, weights in _fits(world):
        own = joined(world, weights)
        rank = nx.pagerank(connected(own))
        stored = world.of("graph_nodes", agent=agent, seed=seed)
        community = dict(stored.sort("dimension").select("dimension", "community").iter_rows())
        members = [
            [d for d in community if community[d] == number] for number in sorted({*community.values()} - {None})
        ]
        assert members == sorted(members, key=lambda one: (-len(one), one[0]))  # numbered by size
        for node, degree in own.degree():
            row = {"community": None, "pagerank": None, "degree": 0}
            if degree:
                assert community[node + 1] is not None
                row = {"community": community[node + 1], "pagerank": Near(rank[node], 1e-5), "degree": degree}
            yield (agent, seed, node + 1), row


def graph_edges(world: World) -> Rows:
    """Yield the rows of `graph_edges`."""
    for agent, seed, weights in _fits(world):
        found = correlations(weights, weights)
        for a, b in joined(world, weights).edges:
            ends = {"ci_low": float(found.low[a, b]), "ci_high": float(found.high[a, b])}
            yield (agent, seed, a + 1, b + 1), {"r": float(found.r[a, b]), **ends}
