"""The steps that say what the embeddings mean: metrics, labels, graphs, sweeps, and agents beside one another.

Like :mod:`pipelines.steps`, whose registry they share: arithmetic is in :mod:`affectlake.geometry`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.correlations import rating_correlations
from affectlake.geometry.graphs import EmotionGraph, emotion_graph
from affectlake.geometry.labels import character, label_stability, labels
from affectlake.geometry.reproducibility import best_matches, consensus_seed
from affectlake.seeds import generator, integer
from affectlake.spose import choose_settings, fit, training_data
from affectlake.stimuli import prototypes
from pipelines import reading
from pipelines.comparing import agreement, consistency, overlaps, side
from pipelines.measuring import Evidence, agent_rows, fit_rows
from pipelines.metric_rows import Row, frame
from pipelines.params import Params
from pipelines.record import EVERY_KIND, Frames, Tables, Work, step
from pipelines.sweeping import Trial, run_trials, settings_of, trials

LEAST_JUDGMENTS = 100  # a fit to fewer says nothing


@step(
    reads=("stimuli", "triplets", "choices/{agent}", "embeddings/{agent}"),
    writes=("sweeps/{agent}",),
    params=("seed", "spose", "sweeps", "agents.{agent}.l1"),
    kinds=EVERY_KIND,
    version=2,
)
def sweep(tables: Tables, params: Params, work: Work) -> Frames:
    """Fit again with other numbers of dimensions and of judgments: where accuracy and dimensions saturate."""
    wanted, n_stimuli = params.sweeps, tables["stimuli"].select(pl.len()).collect().item()
    train, test = reading.judged(tables, "train"), reading.judged(tables, "test")
    fits = reading.fits(tables)
    if min(len(train), len(test)) < LEAST_JUDGMENTS or not fits:
        work.say(f"no sweep: {len(train):,} judgments to learn from, {len(test):,} held out")
        return {"sweeps": frame("sweeps", [])}
    reference = fits[min(fits)]

    def one(trial: Trial) -> Row:
        names = ("sweeps", work.agent, trial.sweep, trial.setting, trial.replicate)
        rng = generator(params.seed, *names)
        chosen = train[rng.choice(len(train), trial.n_judgments, replace=False, shuffle=False)]
        data = training_data(chosen, test, n_stimuli, rng)
        candidates = params.candidates(work.agent, trial.n_judgments, n_stimuli)
        own = choose_settings(
            data,
            [settings_of(one, wanted, trial.dimensions) for one in candidates],
            generator(params.seed, *names, "prior"),
        )
        found = fit(data, own, rng)
        matches = best_matches(reference, found.weights) if found.weights.shape[1] else np.empty(0)
        return {
            "agent": work.agent,
            "sweep": trial.sweep,
            "setting": float(trial.setting),
            "replicate": trial.replicate,
            "test_loss": found.score.loss,
            "test_accuracy": found.score.accuracy,
            "n_dimensions": found.weights.shape[1],
            "n_recovered": int((matches >= wanted.recovered_r).sum()),
        }

    asked = list(trials(wanted, len(train), params.spose[work.agent].dimensions))
    return {"sweeps": frame("sweeps", run_trials(one, asked, work))}


@step(
    reads=("stimuli", "ratings", "triplets", "choices/{agent}", "embeddings/{agent}", "sweeps/{agent}"),
    writes=("metrics/{agent}",),
    params=("seed", "geometry", "triplets.prototypes_per_category"),
    kinds=EVERY_KIND,
    version=2,
)
def measure(tables: Tables, params: Params, work: Work) -> Frames:
    """Measure each fit: prediction, ceiling, classes, ratings, reproducibility, graph, components, saturation."""
    evidence = Evidence(
        agent=work.agent,
        params=params,
        held_out=reading.judged(tables, "test"),
        validation=reading.answers(tables["choices"], "validation"),
        repeated=reading.repeated(tables["choices"]),
        prototypes=prototypes(tables["ratings"].collect(), params.triplets.prototypes_per_category),
        ratings=reading.ratings(tables),
        categories=tables["stimuli"].sort("stimulus_index").select("category").collect()["category"].to_list(),
        fits=reading.fits(tables),
    )
    rows = agent_rows(evidence, tables["sweeps"].collect())
    for seed in params.fit_seeds:
        rows += fit_rows(evidence, seed)
    missing = sorted({str(one["note"]) for one in rows if one["note"]})
    for note in missing:
        work.say(f"left out: {note}")
    return {"metrics": frame("metrics", rows)}


@step(
    reads=("stimuli", "ratings", "embeddings/{agent}"),
    writes=("labels/{agent}", "graph_nodes/{agent}", "graph_edges/{agent}"),
    params=("seed", "geometry"),
    kinds=EVERY_KIND,
    version=1,
)
def describe(tables: Tables, params: Params, work: Work) -> Frames:
    """Name each dimension after its ratings, and join the dimensions that correlate into a graph."""
    ratings = reading.ratings(tables)
    rows: dict[str, list[Row]] = {"labels": [], "graph_nodes": [], "graph_edges": []}
    for seed, weights in reading.fits(tables).items():
        found = {
            "labels": _labels(weights, ratings, params, generator(params.seed, "labels", work.agent, seed)),
            "graph_nodes": _nodes(weights, params, work.agent),
            "graph_edges": _edges(weights, params, work.agent),
        }
        for table, own in found.items():
            rows[table] += [{"agent": work.agent, "seed": seed, **one} for one in own]
    return {table: frame(table, found) for table, found in rows.items()}


def _labels(
    weights: reading.Embedding, ratings: reading.Ratings, params: Params, rng: np.random.Generator
) -> Iterator[Row]:
    if not ratings.names:
        return
    found = rating_correlations(weights, ratings.scores)
    stability = label_stability(weights, ratings.scores, rng, params.geometry.resamples)
    named = labels(found.r, params.geometry.label_gap)
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
            "character": character(own, ratings.families),
            "stability": float(stability[label.dimension]),
        }


def _nodes(weights: reading.Embedding, params: Params, agent: str) -> Iterator[Row]:
    graph = _graph(weights, params, agent)
    degree = np.bincount(graph.edges.ravel(), minlength=weights.shape[1])
    for at in range(weights.shape[1]):
        yield {
            "dimension": at + 1,
            "community": int(graph.community[at]) + 1 if graph.community[at] >= 0 else None,
            "pagerank": float(graph.pagerank[at]),
            "degree": int(degree[at]),
        }


def _edges(weights: reading.Embedding, params: Params, agent: str) -> Iterator[Row]:
    graph = _graph(weights, params, agent)
    found = rating_correlations(weights, weights)
    for a, b in graph.edges.tolist():
        ends = {"ci_low": float(found.ci_low[a, b]), "ci_high": float(found.ci_high[a, b])}
        yield {"dimension": a + 1, "other_dimension": b + 1, "r": float(graph.r[a, b]), **ends}


def _graph(weights: reading.Embedding, params: Params, agent: str) -> EmotionGraph:
    wanted, seed = params.geometry, integer(params.seed, "louvain", agent)
    return emotion_graph(weights, seed, threshold=wanted.edge_threshold, absolute=wanted.absolute_edges)


@step(
    reads=("ratings", "stimuli", "triplets", "choices/{agents}", "embeddings/{agents}", "graph_nodes/{agents}"),
    writes=("comparisons", "community_overlaps"),
    params=("seed", "agents", "geometry", "triplets.prototypes_per_category"),
    version=1,
)
def compare(tables: Tables, params: Params, work: Work) -> Frames:
    """Set every agent beside every other: human consistency, agreement on the same triplets, alike communities."""
    chosen = prototypes(tables["ratings"].collect(), params.triplets.prototypes_per_category)
    choices = {agent: tables["choices"].filter(pl.col("agent") == agent) for agent in params.fitted}
    sides = {
        agent: side(reading.answers(own, "validation"), chosen, generator(params.seed, "split-half", agent))
        for agent, own in choices.items()
    }
    rows = [*consistency(sides, params), *agreement(choices)]
    fits: dict[str, reading.Embedding] = {}
    communities: dict[str, NDArray[np.int64]] = {}
    for agent in params.fitted:
        own = {name: tables[name].filter(pl.col("agent") == agent) for name in ("embeddings", "graph_nodes")}
        found = reading.fits(own)
        if found:
            seed = consensus_seed(found)
            fits[agent] = found[seed]
            nodes = own["graph_nodes"].filter(pl.col("seed") == seed).sort("dimension").collect()
            communities[agent] = nodes["community"].fill_null(0).to_numpy().astype(np.int64) - 1
    alike = list(overlaps(fits, communities, params))
    return {"comparisons": frame("comparisons", rows), "community_overlaps": frame("community_overlaps", alike)}
