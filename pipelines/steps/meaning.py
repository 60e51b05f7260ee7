"""Steps that interpret the embeddings: metrics, labels, emotion graphs, and comparisons of agents.

:mod:`affectlake.geometry` does the computations.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.correlations import rating_correlations
from affectlake.geometry.graphs import EmotionGraph, emotion_graph
from affectlake.geometry.labels import character, label_stability, labels
from affectlake.judge.vectors.ratings import RatingMatrix, category_family, kinds_of
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps import arrays
from affectlake.pipelines.steps.comparisons import agreement, consistency, overlaps, side
from affectlake.pipelines.steps.metrics import Evidence, agent_rows, fit_rows
from affectlake.pipelines.steps.rows import Row, to_table
from affectlake.seeds import generator, integer
from affectlake.stimuli import prototypes


@step(
    reads=(
        "stimuli",
        "families",
        "ratings",
        "trials/{agent}",
        "choices/{agent}",
        "embeddings/{agent}",
        "fits/{agent}",
        "sweeps/{agent}",
    ),
    writes=("metrics/{agent}",),
    params=(
        "seed",
        "spose.seeds",
        "geometry.min_category_size",
        "geometry.permutations",
        "geometry.resamples",
        "geometry.edge_threshold",
        "geometry.absolute_edges",
        "geometry.label_gap",
        "sweeps.share",
        "triplets.prototypes_per_category",
    ),
    kinds=EVERY_KIND,
    version=7,
)
def measure(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Measure each fit: prediction, ceiling, classes, ratings, reproducibility, graph, components and saturation."""
    task = arrays.task_of(tables)
    evidence = Evidence(
        agent=context.agent,
        params=params,
        task=task,
        held_out=arrays.judged(tables, "test"),
        validation=arrays.answers(tables["choices"], "validation") if task == "odd-one-out" else arrays.NO_ANSWERS,
        repeated=arrays.repeated(tables),
        prototypes=_prototypes(tables, params),
        ratings=arrays.ratings(tables),
        category_family=category_family(tables["families"].collect()),
        categories=tables["stimuli"].sort("stimulus_index").select("category").collect()["category"].to_list(),
        fits=arrays.fits(tables),
        notes=arrays.fit_notes(tables),
    )
    rows = agent_rows(evidence, tables["sweeps"].collect())
    for seed in params.fit_seeds:
        rows += fit_rows(evidence, seed)
    missing = sorted({str(one["note"]) for one in rows if one["note"]})
    for note in missing:
        context.log(f"left out: {note}")
    return {"metrics": to_table("metrics", rows)}


@step(
    reads=("stimuli", "families", "ratings", "embeddings/{agent}"),
    writes=("labels/{agent}", "graph_nodes/{agent}", "graph_edges/{agent}"),
    params=("seed", "geometry.resamples", "geometry.edge_threshold", "geometry.absolute_edges", "geometry.label_gap"),
    kinds=EVERY_KIND,
    version=4,
)
def describe(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Label each dimension by its correlations with ratings, and connect correlated dimensions in a graph."""
    ratings, categories = arrays.ratings(tables), category_family(tables["families"].collect())
    rows: dict[str, list[Row]] = {"labels": [], "graph_nodes": [], "graph_edges": []}
    for seed, weights in arrays.fits(tables).items():
        graph = _graph(weights, params, context.agent)
        found = {
            "labels": _labels(
                weights, ratings, categories, params, generator(params.seed, "labels", context.agent, seed)
            ),
            "graph_nodes": _nodes(graph),
            "graph_edges": _edges(weights, graph),
        }
        for table, own in found.items():
            rows[table] += [{"agent": context.agent, "seed": seed, **one} for one in own]
    return {table: to_table(table, found) for table, found in rows.items()}


def _prototypes(tables: Tables, params: Params) -> NDArray[np.int32]:
    ratings, families = tables["ratings"].collect(), tables["families"].collect()
    return prototypes(ratings, families, params.triplets.prototypes_per_category)


def _labels(
    weights: arrays.Embedding, ratings: RatingMatrix, categories: str, params: Params, rng: np.random.Generator
) -> Iterator[Row]:
    if not ratings.names:
        return
    found = rating_correlations(weights, ratings.scores)
    stability = label_stability(weights, ratings.scores, rng, params.geometry.resamples)
    named, kinds = labels(found.r, params.geometry.label_gap), kinds_of(ratings, categories)
    for label in named:
        own = [other for other in named if other.dimension == label.dimension]
        yield {
            "dimension": label.dimension + 1,
            "label_rank": label.rank,
            "rating": ratings.names[label.rating],
            "family": ratings.families[label.rating],
            "direction": label.direction,
            "r": label.r,
            "ci_low": float(found.ci_low[label.dimension, label.rating]),
            "ci_high": float(found.ci_high[label.dimension, label.rating]),
            "character": character(own, kinds),
            "stability": float(stability[label.dimension]),
        }


def _nodes(graph: EmotionGraph) -> Iterator[Row]:
    degree = np.bincount(graph.edges.ravel(), minlength=len(graph.r))
    for at in range(len(graph.r)):
        yield {
            "dimension": at + 1,
            "community": int(graph.community[at]) + 1 if graph.community[at] >= 0 else None,
            "pagerank": float(graph.pagerank[at]),
            "degree": int(degree[at]),
        }


def _edges(weights: arrays.Embedding, graph: EmotionGraph) -> Iterator[Row]:
    found = rating_correlations(weights, weights)
    for a, b in graph.edges.tolist():
        ends = {"ci_low": float(found.ci_low[a, b]), "ci_high": float(found.ci_high[a, b])}
        yield {"dimension": a + 1, "other_dimension": b + 1, "r": float(graph.r[a, b]), **ends}


def _graph(weights: arrays.Embedding, params: Params, agent: str) -> EmotionGraph:
    wanted, seed = params.geometry, integer(params.seed, "louvain", agent)
    return emotion_graph(weights, seed, threshold=wanted.edge_threshold, absolute=wanted.absolute_edges)


@step(
    reads=(
        "families",
        "ratings",
        "stimuli",
        "triplets",
        "choices/{agents}",
        "embeddings/{agents}",
        "fits/{agents}",
        "graph_nodes/{agents}",
    ),
    writes=("comparisons", "community_overlaps"),
    params=(
        "seed",
        "agents.{agents}.kind",
        "geometry.permutations",
        "geometry.resamples",
        "triplets.prototypes_per_category",
    ),
    version=5,
)
def compare(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compare all agents: human consistency, agreement on the same triplets, and overlap of communities."""
    chosen = _prototypes(tables, params)
    choices = {agent: tables["choices"].filter(pl.col("agent") == agent) for agent in context.agents}
    people = {agent for agent in context.agents if params.agents[agent].own_triplets}
    paired = tables["triplets"].filter(pl.col("trial_set") == "validation")
    sides = {
        agent: side(
            arrays.answers_to(own, paired) if agent in people else arrays.answers(own, "validation"),
            chosen,
            params,
            agent,
        )
        for agent, own in choices.items()
    }
    rows = [*consistency(sides, params), *agreement(choices, people)]
    fits: dict[str, arrays.Embedding] = {}
    communities: dict[str, NDArray[np.int64]] = {}
    for agent in context.agents:
        own = {name: tables[name].filter(pl.col("agent") == agent) for name in ("embeddings", "fits", "graph_nodes")}
        chosen_fit = arrays.representative(own)
        if chosen_fit:
            seed, fits[agent] = chosen_fit
            nodes = own["graph_nodes"].filter(pl.col("seed") == seed).sort("dimension").collect()
            communities[agent] = nodes["community"].fill_null(0).to_numpy().astype(np.int64) - 1
    alike = list(overlaps(fits, communities, params))
    return {"comparisons": to_table("comparisons", rows), "community_overlaps": to_table("community_overlaps", alike)}
