"""Every row of the analyses' tables is recomputed from the lake's other tables, by libraries that are not the product.

Values, and the intervals and levels that follow from formulas, are recomputed exactly. Where the product draws random
numbers (bootstrap intervals, permutation levels, values under the null hypothesis, split halves), the test draws its
own, and the two must agree within Monte Carlo error: counts within the beta-binomial distribution that follows from the
test's own draws, means within six standard errors. Keys and columns are recomputed as well: a row of an unknown
analysis or measure fails, and so does a missing row or a new column.

Two sets of tables are recomputed. *Published* is the demo lake. *Altered* are tables that the steps make from altered
inputs (:func:`tests.support.recomputed.world.altered`), because the agents of the demo are perfect: they answer
consistently and completely, so that ceilings are 1, every fit has dimensions, and all stimuli have weights.

Not recomputable, because the weights are not stored:

- `sweeps`: `test_loss`, `test_accuracy`, `n_dimensions` and `n_recovered`. Their keys, their grain (a share of the test
  triplets), their bounds and their order are checked, and what `metrics` derives from them is recomputed.
- `learning_curves`: `train_loss`, a mean over the weights of all batches of an epoch, and `match`, of the weights of
  two epochs. The other columns of the kept row are recomputed, as no dimension was pruned.

The null distributions of the maps (`rsa_nulls`, `encoding_nulls`) are inputs here, of `group_stats.p_null`.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from tests.support import recomputed
from tests.support.recomputed import brains, structure
from tests.support.recomputed.agents import community_overlaps, comparisons
from tests.support.recomputed.arithmetic import best, scored
from tests.support.recomputed.cells import Rows, assert_rows
from tests.support.recomputed.metrics import metrics
from tests.support.recomputed.world import KEYS, Array, Ints, World, altered, published

TABLES: dict[str, Callable[[World], Rows]] = {
    "metrics": metrics,
    "labels": structure.labels,
    "graph_nodes": structure.graph_nodes,
    "graph_edges": structure.graph_edges,
    "comparisons": comparisons,
    "community_overlaps": community_overlaps,
    "shared_stimuli": brains.shared_stimuli,
    "roi_scores": brains.roi_scores,
    "group_stats": brains.group_stats,
    "prevalence": brains.prevalence,
}
READING = {"pipelines.engine.graph", "pipelines.params", "pipelines.step", "pipelines.stored"}
"""Modules of the product that the references may import: they read a lake and its parameters, and run steps."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices are small: threads of BLAS would only wait for one another."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="module")
def base() -> World:
    return published()


@pytest.fixture(scope="module", params=["published", "altered"])
def world(request: pytest.FixtureRequest, base: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    return base if request.param == "published" else altered(base, tmp_path_factory.mktemp("altered"))


def test_the_references_use_no_arithmetic_of_the_product() -> None:
    for path in Path(recomputed.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            own = [name.removeprefix("affectlake.") for name in names if name.startswith("affectlake.")]
            assert all(any(name == some or name.startswith(f"{some}.") for some in READING) for name in own), path.name


@pytest.mark.reference
@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_recomputed(world: World, table: str) -> None:
    assert_rows(table, world.tables[table], KEYS[table], TABLES[table](world))


@pytest.mark.reference
def test_maps_are_those_of_the_patterns(world: World) -> None:
    brains.assert_maps(world)


@pytest.mark.reference
def test_every_fit_is_recomputed(base: World) -> None:
    assert_rows("fits", base.tables["fits"], KEYS["fits"], _fits(base))


def _fits(world: World) -> Rows:
    """Yield the rows of `fits` of agents all of whose fits, three or more, have dimensions."""
    for agent in world.agents:
        every = world.fitted(agent)
        match = {
            seed: float(np.mean([_both_ways(weights, other) for number, other in every.items() if number != seed]))
            for seed, weights in every.items()
        }
        for seed, weights in every.items():
            curve = world.of("learning_curves", agent=agent, seed=seed).sort("epoch")
            last, checks = curve.filter("kept").row(0, named=True), curve.filter(pl.col("match").is_not_null())
            yield (agent, seed), {
                "n_dimensions": weights.shape[1], "held_out_loss": last["validation_loss"],
                "reproducibility": match[seed], "representative": match[seed] == max(match.values()),
                "n_epochs": curve["epoch"].max(), "objective": last["objective"], "match": checks["match"][-1],
                "converged": checks["converged"][-1], "p_chance": last["p_chance"], "note": None,
            }  # fmt: skip


def _both_ways(one: Array, other: Array) -> float:
    return float(np.tanh(best(one, other).mean()) + np.tanh(best(other, one).mean())) / 2


@pytest.mark.reference
def test_learning_curves_end_as_their_embeddings(base: World) -> None:
    wanted = base.params.spose
    assert wanted.patience is None and wanted.pruning == "max-weight"
    for agent, seed in product(base.agents, base.params.fit_seeds):
        curve, weights = base.of("learning_curves", agent=agent, seed=seed).sort("epoch"), base.weights(agent, seed)
        last, l1 = curve.row(-1, named=True), float(base.params.agents[agent].l1)
        assert curve["epoch"].to_list() == list(range(len(curve)))
        assert curve["kept"].arg_true().to_list() == [last["epoch"]]
        assert weights.shape[1] == last["n_dimensions"] == wanted.dimensions  # nothing was pruned
        validation = base.answers(agent, "main", "validation")
        found = scored(weights, validation)
        assert last["validation_loss"] == pytest.approx(found.loss, abs=2e-6)
        assert last["validation_accuracy"] == pytest.approx(found.accuracy, abs=1e-9 + found.slack)
        assert last["objective"] - last["train_loss"] == pytest.approx(l1 * weights.sum() / len(weights), rel=1e-5)
        right = math.floor(found.accuracy * len(validation) + 1e-6)
        assert last["p_chance"] == pytest.approx(stats.binom.sf(right - 1, len(validation), 1 / 3), rel=1e-6)
        assert curve["p_chance"].null_count() == last["epoch"]
        assert last["train_loss"] == pytest.approx(scored(weights, base.answers(agent, "main", "train")).loss, rel=0.2)
        assert curve["lapse"].unique().to_list() == [0.0]
        _assert_checks(curve, wanted)
        assert last["converged"] or last["epoch"] == wanted.max_epochs


def _assert_checks(curve: pl.DataFrame, wanted: Any) -> None:
    """Require that a fit is said to have converged if objective and dimensions rest, and that it then ends."""
    is_check = (pl.col("epoch") % wanted.convergence_epochs == 0) & (pl.col("epoch") > 0)
    others, checks = curve.filter(~is_check), curve.filter(is_check)
    assert others["match"].null_count() == others["converged"].null_count() == len(others)
    for row in checks.iter_rows(named=True):
        before = curve.row(row["epoch"] - wanted.convergence_epochs, named=True)
        rests = before["objective"] and abs(row["objective"] - before["objective"]) <= 1e-3 * row["objective"]
        is_like = row["match"] > 0.99 and row["n_dimensions"] == before["n_dimensions"]
        assert row["converged"] == bool(rests and is_like)
    assert not checks.filter(pl.col("epoch") < curve["epoch"].max())["converged"].any()


@pytest.mark.reference
def test_embeddings_are_optimal_for_the_training_triplets_alone(base: World) -> None:
    """At an optimum, the gradient of the objective is 0 where weights are positive, and not negative elsewhere."""
    for agent, seed in product(base.agents, base.params.fit_seeds):
        weights, l1 = base.weights(agent, seed), float(base.params.agents[agent].l1)
        splits = [base.answers(agent, "main", split) for split in ("train", "validation", "test")]
        sets = [splits[0], np.vstack(splits[:2]), np.vstack([splits[0], splits[2]])]
        norms = [_descent(weights, answers, l1) for answers in sets]
        assert norms[0] < 0.9 * min(norms[1:])


def _descent(weights: Array, answers: Ints, l1: float) -> float:
    """Return the length of the objective's gradient, without the part that non-negative weights cannot follow."""
    gradient = np.full(weights.shape, l1 / len(weights))
    similar = [(weights[answers[:, a]] * weights[answers[:, b]]).sum(1) for a, b in ((0, 1), (0, 2), (1, 2))]
    error = softmax(np.stack(similar), axis=0) - np.array([1.0, 0.0, 0.0])[:, None]
    for (a, b), pull in zip(((0, 1), (0, 2), (1, 2)), error / len(answers), strict=True):
        np.add.at(gradient, answers[:, a], pull[:, None] * weights[answers[:, b]])
        np.add.at(gradient, answers[:, b], pull[:, None] * weights[answers[:, a]])
    return float(np.linalg.norm(np.where((weights > 0) | (gradient < 0), gradient, 0.0)))


@pytest.mark.reference
def test_sweeps_are_those_that_were_planned(base: World) -> None:
    wanted = base.params.sweeps
    for agent in base.agents:
        n_train, n_test = (len(base.answers(agent, "main", split)) for split in ("train", "test"))
        kept = {"judgments": [one for one in wanted.judgments if one <= n_train], "dimensions": wanted.dimensions}
        planned = {(sweep, float(setting), replicate) for sweep, settings in kept.items() for setting in settings
                   for replicate in range(wanted.replicates)}  # fmt: skip
        rows = base.of("sweeps", agent=agent)
        assert {row[1:4] for row in rows.iter_rows()} == planned and len(rows) == len(planned)
        fits, whole = base.fitted(agent), base.of("metrics", agent=agent, analysis="held_out", measure="accuracy")
        for row in rows.iter_rows(named=True):
            sixths = row["test_accuracy"] * n_test * 6
            assert abs(sixths - round(sixths)) < 1e-5  # a share of the test triplets, with ties of two and three
            assert row["test_loss"] >= (1 - row["test_accuracy"]) * math.log(2)  # a wrong one has at most 1/2
            started = row["setting"] if row["sweep"] == "dimensions" else base.params.spose.dimensions
            assert row["n_dimensions"] <= started
            assert 0 <= row["n_recovered"] <= fits[min(fits)].shape[1]
            assert row["test_accuracy"] <= whole["value"].min()  # of fits with more judgments, dimensions and epochs
        for sweep in kept:
            mine = rows.filter(sweep=sweep)
            assert mine["test_loss"].n_unique() == len(mine)  # replicates are different subsets
            losses = mine.group_by("setting").agg(pl.col("test_loss").mean()).sort("setting")["test_loss"]
            assert losses.is_sorted(descending=True)  # more dimensions, or more judgments, predict better
