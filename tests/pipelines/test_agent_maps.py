"""Agents as maps, as steps: planted dimensions and choices come out in the tables; what is missing is a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps.agent_maps import align_agents, rank_agents
from affectlake.pipelines.steps.embedding import _weights
from affectlake.pipelines.steps.rows import to_table
from affectlake.triplets import TRIPLET
from tests.support.brain_worlds import TEXT, context, lazy

PEOPLE = "{kind: judgments, l1: 0.008}"
MODELS = ("near", "also-near", "far")
SETTINGS = (
    "geometry.permutations=199",
    *(f"agents.{name}={{kind: features, encoder: {{name: tfidf-svd, n_components: 6}}, l1: 0.008}}" for name in MODELS),
    f"agents.people={PEOPLE}",
)
WANTED = parse(override(TEXT, SETTINGS))
N = 60


def world() -> dict[str, np.ndarray]:
    """Weights of five agents: far shares one dimension with people and has a sum of two others."""
    rng = np.random.default_rng(0)
    people = rng.gamma(0.3, size=(N, 5))
    near, also = (people + 0.1 * rng.gamma(0.3, size=(N, 5)) for _ in range(2))
    far = np.column_stack([people[:, 2], people[:, 0] + people[:, 1], rng.gamma(0.3, size=N)])
    return {"people": people, "human-category": people.copy(), "near": near, "also-near": also, "far": far}


def chosen(
    agent: str, weights: np.ndarray, triplets: np.ndarray, sets: list[str], seed: int, repeat: int = 0
) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    i, j, k = (weights[triplets[:, at]] for at in range(3))
    similar = np.stack([(j * k).sum(axis=1), (i * k).sum(axis=1), (i * j).sum(axis=1)], axis=1)
    odd = triplets[np.arange(len(triplets)), (similar + 0.2 * rng.gumbel(size=similar.shape)).argmax(axis=1)]
    key = {"agent": agent, "protocol": "p/1", "repeat": repeat, "tied": False}
    rows = zip(sets, triplets.tolist(), odd.tolist(), strict=True)
    return to_table(
        "choices",
        [{**key, "trial_set": where, **dict(zip(TRIPLET, row, strict=True)), "odd": o} for where, row, o in rows],
    )


@pytest.fixture(scope="module")
def tables() -> OutputTables:
    rng = np.random.default_rng(1)
    triplets = np.unique(np.sort([rng.choice(N, 3, replace=False) for _ in range(2600)], axis=1), axis=0)
    sets = ["validation" if at % 2 else "main" for at in range(len(triplets))]
    of_people = triplets[::3]
    choices, embeddings, fits = [], [], []
    for seed, (agent, weights) in enumerate(world().items()):
        if agent == "people":
            for repeat in range(3):
                where = ["main"] * len(of_people)
                choices.append(chosen(agent, weights, of_people, where, 90 + repeat, repeat))
        else:
            choices.append(chosen(agent, weights, triplets, sets, seed))
        embeddings.append(_weights(agent, 0, weights.astype(np.float32)))
        fits.append({"agent": agent, "seed": 0, "n_dimensions": weights.shape[1], "held_out_loss": 1.0,
                     "representative": True})  # fmt: skip
    asked = [{"trial_set": where, **dict(zip(TRIPLET, map(int, row), strict=True)), "split": "train", "n_repeats": 1}
             for where, row in zip(sets, triplets, strict=True)]  # fmt: skip
    return {"triplets": to_table("triplets", asked), "choices": pl.concat(choices), "embeddings": pl.concat(embeddings),
            "fits": to_table("fits", fits)}  # fmt: skip


def run(step: object, tables: OutputTables, folder: Path, agents: tuple[str, ...] = (), params: Params = WANTED,
        lines: list[str] | None = None) -> OutputTables:  # fmt: skip
    here = replace(context(folder, lines=lines), agents=agents or tuple(world()))
    return step(lazy(tables), params, here)  # type: ignore[operator]


@pytest.fixture(scope="module")
def aligned(tables: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return run(align_agents, tables, tmp_path_factory.mktemp("aligned"))


@pytest.fixture(scope="module")
def ranked(tables: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return run(rank_agents, tables, tmp_path_factory.mktemp("ranked"))


def test_the_tables_keep_their_contracts(aligned: OutputTables, ranked: OutputTables, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", TEXT)
    for found in (aligned, ranked):
        outputs = {Output(name): table for name, table in found.items()}
        assert write_outputs(tmp_path / "lake", "parts", outputs, {}) > 0


def test_similar_agents_are_similar_in_both_orders(aligned: OutputTables) -> None:
    table = aligned["alignments"]
    assert table.height == 5 * 4 * 3
    for measure in ("cka", "procrustes"):
        own = table.filter(measure=measure)
        values = {(row["agent"], row["against"]): row["value"] for row in own.to_dicts()}
        assert values["people", "human-category"] == pytest.approx(1)
        assert values["near", "far"] == values["far", "near"]
        assert values["people", "near"] > 0.9 > values["people", "far"] > 0.3
    assert (table.drop_nulls("ci_low")["ci_low"] <= table.drop_nulls("ci_low")["value"] + 1e-12).all()


def test_planted_dimensions_are_matched(aligned: OutputTables) -> None:
    table = aligned["dimension_matches"].filter(agent="far", against="people").sort("dimension")
    assert table["match_kind"].to_list()[2] == "unique" and table["match_kind"][0] == "one_to_one"
    assert table["matched_dimension"][0] == 3 and table["match_r"][0] == pytest.approx(1)
    assert "2" in table["several_dimensions"][1].split() and table["several_r"][1] > 0.98
    whole = aligned["dimension_matches"].filter(agent="near", against="people")
    assert (whole["match_kind"] == "one_to_one").all() and whole["matched_dimension"].to_list() == [1, 2, 3, 4, 5]
    assert (
        aligned["dimension_matches"].height == 4 * (5 * 4 + 3)
        and (aligned["dimension_matches"]["n_stimuli"] == N).all()
    )


def test_equal_agents_tie_and_the_far_one_is_last(ranked: OutputTables) -> None:
    for reference in ("people", "human-category"):
        own = ranked["closeness"].filter(reference=reference)
        rows = {row["agent"]: row for row in own.to_dicts()}
        assert (
            reference not in rows and rows["far"]["rank_low"] == rows["far"]["rank_high"] == rows["far"]["agent_rank"]
        )
        assert "also-near" in rows["near"]["tied_with"].split() and "near" in rows["also-near"]["tied_with"].split()
        assert rows["near"]["rank_low"] < rows["near"]["rank_high"]
        assert all(row["ci_low"] < row["share_same"] < row["ci_high"] for row in rows.values())
    pairs = ranked["closeness_pairs"].filter(reference="people")
    one, other = (pairs.filter(agent=a, against=b).row(0, named=True) for a, b in (("near", "far"), ("far", "near")))
    assert one["apart"] and one["share_difference"] == -other["share_difference"] > 0.1
    assert (one["ci_low"], one["ci_high"]) == (-other["ci_high"], -other["ci_low"])


def test_shares_are_those_of_a_query(tables: OutputTables, ranked: OutputTables) -> None:
    """People's several answers count equally; ratings are compared on the validation triplets."""
    choices = tables["choices"]
    people = choices.filter(agent="people").select(*TRIPLET, theirs="odd")
    near = choices.filter(agent="near").join(people, on=TRIPLET)
    rows = ranked["closeness"].filter(agent="near")
    of_people = rows.filter(reference="people")
    assert of_people["share_same"].item() == pytest.approx((near["odd"] == near["theirs"]).mean())
    assert of_people["n_triplets"].item() == near.select(TRIPLET).n_unique()
    rated = choices.filter(agent="human-category", trial_set="validation").select(*TRIPLET, theirs="odd")
    near = choices.filter(agent="near").join(rated, on=TRIPLET)
    answered = people.select(TRIPLET).unique()  # fewer triplets than half: people are left out of this ranking
    found = rows.filter(reference="human-category")
    assert found["n_triplets"].item() == near.height > 2 * near.join(answered, on=TRIPLET, how="semi").height
    assert found["share_same"].item() == pytest.approx((near["odd"] == near["theirs"]).mean())
    left = ranked["closeness"].filter(agent="people", reference="human-category").row(0, named=True)
    assert "fewer than half" in left["note"] and left["agent_rank"] is None and left["share_same"] > 0.5


def test_agents_without_fits_choices_or_company_are_rows_with_the_reason(tables: OutputTables, tmp_path: Path) -> None:
    fits = tables["fits"].with_columns(representative=pl.col("agent") != "far")
    found = run(align_agents, tables | {"fits": fits}, tmp_path)
    missing = found["alignments"].filter((pl.col("agent") == "far") | (pl.col("against") == "far"))
    assert set(missing["note"]) == {"far has no fit with a dimension"} and missing.height == 4 * 2 * 3
    assert found["alignments"].filter(pl.col("note").is_null()).height == 4 * 3 * 3
    silent = tables["choices"].filter(pl.col("agent") != "far")
    rows = run(rank_agents, tables | {"choices": silent}, tmp_path)["closeness"].filter(agent="far", reference="people")
    assert (
        rows["n_triplets"].item() == 0 and rows["share_same"].item() is None and "far answered 0" in rows["note"].item()
    )
    alone = run(align_agents, tables, tmp_path, agents=("near",))
    assert all(table.is_empty() for table in alone.values())
    lines: list[str] = []
    nobody = run(rank_agents, tables, tmp_path, agents=("near", "far"), lines=lines)
    assert nobody["closeness"]["note"].n_unique() == 1 and nobody["closeness"].height == 2 and len(lines) == 1
    assert nobody["closeness_pairs"].is_empty()
    assert run(rank_agents, tables, tmp_path, agents=("people",))["closeness"].is_empty()


def test_five_stimuli(tables: OutputTables, tmp_path: Path) -> None:
    few = {
        "embeddings": tables["embeddings"].filter(pl.col("stimulus_index") < 5),
        "choices": tables["choices"].filter(pl.col("k") < 5),
    }
    found = run(align_agents, tables | few, tmp_path)
    assert set(found["alignments"]["n"]) == {5} and found["dimension_matches"]["match_kind"].is_null().all()
    assert found["dimension_matches"]["note"].str.contains("5 stimuli are too few|same for every").all()
    rows = run(rank_agents, tables | few, tmp_path)["closeness"]
    assert rows["share_same"].is_null().all() and not rows["note"].is_null().any()


def test_one_and_two_workers_give_the_same_tables(tables: OutputTables, aligned: OutputTables, tmp_path: Path) -> None:
    here = replace(context(tmp_path), agents=tuple(world()), workers=1)
    again = align_agents(lazy(tables), WANTED, here)
    assert all(again[name].equals(aligned[name]) for name in again)
