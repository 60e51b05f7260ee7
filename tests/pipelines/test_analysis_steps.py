"""The analyses as steps on the demo world: every number has an interval or a level, and what is missing says why."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from statsmodels.stats.proportion import proportion_confint

from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import arrays, meaning
from affectlake.pipelines.steps import choices as choices_steps
from affectlake.pipelines.steps import embedding as embedding_steps
from affectlake.pipelines.steps import metrics as measuring
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps import sweeps as sweep_steps
from affectlake.pipelines.steps.rows import to_table
from affectlake.pipelines.stored import NOTHING
from affectlake.stimuli import prototypes

AGENTS = ("human-category", "human-dimension", "caption-tfidf")
PARAMS = parse(
    override(
        templates.starting_params("demo"),
        (
            "sources.n_stimuli=60",
            "triplets.noise_ceiling=40",
            "triplets.thirds_per_pair=10",
            "spose.max_epochs=40",
            "spose.dimensions=6",
            "spose.seeds=[0, 1, 2]",
            "geometry.permutations=50",
            "geometry.resamples=50",
            "sweeps.dimensions=[1, 2, 4, 6]",
            "sweeps.judgments=[500, 1500, 4000]",
            "sweeps.n_judgments=4000",
            "sweeps.max_epochs=25",
            "agents.caption-tfidf.encoder.n_components=20",
        ),
    )
)


def context(agent: str = "") -> StepContext:
    return StepContext(agent, Path(), Path(), 2, lambda _: None, lambda _: None, agents=tuple(AGENTS))


def lazy(frames: OutputTables) -> dict[str, pl.LazyFrame]:
    return {name: one.lazy() for name, one in frames.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OutputTables]:
    """The tables of the demo world by agent, up to the embeddings; under "" those of the study."""
    study = stimuli_steps.ingest({}, PARAMS, context())
    study |= stimuli_steps.sample(lazy(study), PARAMS, context())
    found = {"": study}
    for agent in AGENTS:
        here = StepContext(agent, Path(), tmp_path_factory.mktemp(agent), 2, lambda _: None, lambda _: None)
        own = dict(study)
        if agent == "caption-tfidf":
            own |= choices_steps.encode(lazy(own), PARAMS, here)
            own |= choices_steps.choose_by_features(lazy(own), PARAMS, here)
        else:
            own |= choices_steps.choose_by_ratings(lazy(own), PARAMS, here)
        own |= embedding_steps.embed(lazy(own), PARAMS, here)
        found[agent] = own | embedding_steps.rank_fits(lazy(own), PARAMS, here)
    return found


@pytest.fixture(scope="module")
def analysed(world: dict[str, OutputTables]) -> dict[str, OutputTables]:
    """The tables of every agent with all its analyses."""
    found = {}
    for agent in AGENTS:
        own = dict(world[agent])
        own |= meaning.describe(lazy(own), PARAMS, context(agent))
        own |= sweep_steps.sweep(lazy(own), PARAMS, context(agent))
        found[agent] = own | meaning.measure(lazy(own), PARAMS, context(agent))
    return found


def together(analysed: dict[str, OutputTables], *tables: str) -> dict[str, pl.LazyFrame]:
    first = analysed[AGENTS[0]]
    shared = {name: first[name].lazy() for name in ("stimuli", "families", "ratings", "triplets")}
    return shared | {name: pl.concat([analysed[agent][name] for agent in AGENTS]).lazy() for name in tables}


def test_every_number_has_an_interval_or_a_level_and_every_gap_a_reason(analysed: dict[str, OutputTables]) -> None:
    bare = {"cross_entropy", "n_categories", "n_tied"}  # counts and a loss beside its chance
    for own in analysed.values():
        metrics = own["metrics"]
        assert metrics.filter(pl.col("value").is_null() != pl.col("note").is_not_null()).is_empty()
        without = metrics.filter(
            pl.col("value").is_not_null() & pl.col("ci_low").is_null() & pl.col("p_value").is_null()
        )
        left = set(without["measure"]) - bare
        assert left <= {"dimensions", "judgments"}, left  # two replicates that agree to the last have an interval


def test_all_analyses_of_the_contract_are_made(analysed: dict[str, OutputTables]) -> None:
    compared = {"agreement", "human_consistency"}
    known = set(contract("metrics").column("analysis").values) - compared
    assert set(analysed["human-category"]["metrics"]["analysis"]) == known


def test_the_metrics_are_the_tables_own(analysed: dict[str, OutputTables]) -> None:
    own = analysed["human-dimension"]
    held_out = arrays.judged(lazy(own), "test")
    weights = arrays.embedding(lazy(own), 1)
    similarity = np.einsum("msd,msd->ms", weights[held_out[:, [0, 0, 1]]], weights[held_out[:, [1, 2, 2]]])
    best = np.isclose(similarity, similarity.max(axis=1, keepdims=True), rtol=0, atol=1e-7)
    right = (best[:, 0] / best.sum(axis=1)).mean()  # a tie of two is half right
    accuracy = own["metrics"].filter(
        pl.col("analysis") == "held_out", pl.col("measure") == "accuracy", pl.col("seed") == 1
    )
    assert accuracy["value"].item() == pytest.approx(right, abs=2e-3)
    components = own["metrics"].filter(
        pl.col("analysis") == "components", pl.col("measure") == "accuracy", pl.col("seed") == 1
    )
    assert components.sort("setting")["value"][-1] == pytest.approx(accuracy["value"].item())


def test_each_row_of_metrics_rests_on_its_own_trials_and_ceiling(analysed: dict[str, OutputTables]) -> None:
    """Recomputed from the tables with NumPy alone: wrong sets, ceilings and denominators give other numbers."""
    own = analysed["caption-tfidf"]
    metrics = own["metrics"].filter(pl.col("seed").is_null() | (pl.col("seed") == 1))

    def value(measure: str, analysis: str, column: str = "value", setting: float | None = None) -> float:
        rows = metrics.filter(pl.col("analysis") == analysis, pl.col("measure") == measure)
        rows = rows if setting is None else rows.filter(pl.col("setting") == setting)
        return rows[column].item()

    weights = arrays.embedding(lazy(own), 1).astype(np.float64)
    validation = own["choices"].filter(pl.col("trial_set") == "validation")
    triplets, odd = validation.select("i", "j", "k").to_numpy(), validation["odd"].to_numpy()
    opposite = ((1, 2), (0, 2), (0, 1))
    similar = np.stack([(weights[triplets[:, a]] * weights[triplets[:, b]]).sum(1) for a, b in opposite])
    p = np.exp(similar - similar.max(axis=0)) / np.exp(similar - similar.max(axis=0)).sum(axis=0)  # p of the odd one
    sums = {name: {} for name in ("measured", "predicted")}  # type: ignore[var-annotated]
    for row, which, probability in zip(triplets.tolist(), odd.tolist(), p.T.tolist(), strict=True):
        for at in range(3):
            pair = tuple(sorted(set(row) - {row[at]}))
            sums["measured"].setdefault(pair, []).append(float(which == row[at]))
            sums["predicted"].setdefault(pair, []).append(probability[at])
    kept = prototypes(own["ratings"], own["families"], PARAMS.triplets.prototypes_per_category).tolist()
    pairs = [(a, b) for a, b in combinations(kept, 2) if (a, b) in sums["measured"]]
    measured, predicted = ([np.mean(sums[name][pair]) for pair in pairs] for name in ("measured", "predicted"))
    assert value("rsm_pearson_r", "generalisation") == pytest.approx(np.corrcoef(measured, predicted)[0, 1], abs=1e-5)

    ceiling = own["choices"].filter(pl.col("trial_set") == "noise_ceiling")
    counts = [
        np.array([(rows["odd"] == stimulus).sum() for stimulus in key]) for key, rows in ceiling.group_by("i", "j", "k")
    ]
    consistency = np.mean([one.max() / one.sum() for one in counts])
    assert value("consistency", "noise_ceiling") == pytest.approx(consistency)
    accuracy, n = value("accuracy", "held_out"), value("accuracy", "held_out", "n")
    share = (accuracy - 1 / 3) / (consistency - 1 / 3)
    assert value("explained_share", "held_out") == pytest.approx(share)
    best = value("attainable", "noise_ceiling")
    assert value("attainable_share", "held_out") == pytest.approx((accuracy - 1 / 3) / (best - 1 / 3))
    test = own["triplets"].filter(pl.col("trial_set") == "main", pl.col("split") == "test")
    assert n == len(test)
    ends = value("accuracy", "held_out", "ci_low"), value("accuracy", "held_out", "ci_high")
    assert ends == pytest.approx(proportion_confint(accuracy * n, n, method="wilson"))

    labels = own["labels"].filter(pl.col("seed") == 1).unique("dimension")
    kinds = labels["character"].to_list()
    named = [kind for kind in kinds if kind != "uninterpretable"]
    assert value("interpretable_share", "labels") == pytest.approx(len(named) / len(kinds))
    for kind in ("categorical", "dimensional", "mixed"):
        assert value(f"{kind}_share", "labels") == pytest.approx(named.count(kind) / len(named))
    assert value("mixed_share", "labels", "n") == len(named)

    among = np.array([set(row) <= set(kept) for row in triplets.tolist()])
    assert 0 < among.sum() < len(triplets)
    triplets, odd = triplets[among], odd[among]

    def right(k: int) -> float:  # accuracy with the k largest weights of each stimulus; a tie of two is half right
        lowest = np.sort(weights, axis=1)[:, -k][:, None]
        some = np.where(weights >= lowest, weights, 0)
        s = np.stack([(some[triplets[:, a]] * some[triplets[:, b]]).sum(1) for a, b in opposite], axis=1)
        top = np.isclose(s, s.max(axis=1, keepdims=True), rtol=0, atol=1e-7)
        return float((top & (triplets == odd[:, None])).sum(axis=1) @ (1 / top.sum(axis=1)) / len(triplets))

    curve = np.array([right(k) for k in range(1, weights.shape[1] + 1)])
    of_prototypes = "n_components_of_prototypes", "components", "value"
    assert value(*of_prototypes, 0.95) == int(np.argmax(curve >= 0.95 * curve[-1])) + 1
    assert value(*of_prototypes, 0.99) == max(int(np.flatnonzero(curve < 0.99 * curve[-1]).max(initial=0)), 0) + 1


def test_the_explained_shares_use_their_own_ceilings_of_an_agent_that_varies(
    analysed: dict[str, OutputTables],
) -> None:
    own = analysed["caption-tfidf"]
    rng = np.random.default_rng(0)
    repeated = rng.multinomial(20, rng.dirichlet([0.6, 0.6, 0.6], size=300))
    evidence = measuring.Evidence(
        agent="caption-tfidf",
        params=PARAMS,
        task="odd-one-out",
        held_out=arrays.judged(lazy(own), "test"),
        validation=arrays.answers(own["choices"].lazy(), "validation"),
        repeated=repeated,
        prototypes=prototypes(own["ratings"], own["families"], 2),
        category_family="category",
        ratings=arrays.ratings(lazy(own)),
        categories=own["stimuli"]["category"].to_list(),
        fits=arrays.fits(lazy(own)),
    )
    rows = measuring.agent_rows(evidence, own["sweeps"])
    ceilings = {row["measure"]: row["value"] for row in rows if row["analysis"] == "noise_ceiling"}
    found = {row["measure"]: row["value"] for row in measuring._held_out(evidence, 1)}
    assert ceilings["consistency"] == pytest.approx((repeated.max(axis=1) / 20).mean())
    assert ceilings["agreement"] + 0.02 < ceilings["attainable"] < ceilings["consistency"] - 0.005
    for share, ceiling in (("explained_share", "consistency"), ("attainable_share", "attainable")):
        assert found[share] == pytest.approx((found["accuracy"] - 1 / 3) / (ceilings[ceiling] - 1 / 3))


def test_human_consistency_is_of_the_validation_choices(analysed: dict[str, OutputTables]) -> None:
    tables = together(analysed, "choices", "embeddings", "fits", "graph_nodes")
    rows = meaning.compare(tables, PARAMS, context())["comparisons"]
    own = analysed[AGENTS[0]]
    kept = prototypes(own["ratings"], own["families"], PARAMS.triplets.prototypes_per_category).tolist()

    def matrix(agent: str) -> dict[tuple[int, ...], float]:
        own = analysed[agent]["choices"].filter(pl.col("trial_set") == "validation")
        found: dict[tuple[int, ...], list[bool]] = {}
        for *row, odd in own.select("i", "j", "k", "odd").iter_rows():
            for stimulus in row:
                found.setdefault(tuple(one for one in row if one != stimulus), []).append(odd == stimulus)
        return {pair: float(np.mean(values)) for pair, values in found.items()}

    one, other = matrix("caption-tfidf"), matrix("human-category")
    pairs = [pair for pair in combinations(kept, 2) if pair in one and pair in other]
    r = np.corrcoef([one[pair] for pair in pairs], [other[pair] for pair in pairs])[0, 1]
    own = rows.filter(pl.col("agent") == "caption-tfidf", pl.col("against") == "human-category")
    values = dict(own.drop_nulls("value").select("measure", "value").iter_rows())
    assert values["pearson_r"] == pytest.approx(r)
    halves = dict(rows.filter(pl.col("measure") == "split_half_r").select("agent", "value").iter_rows())
    printed = r / np.sqrt(halves["caption-tfidf"] * halves["human-category"])
    assert values["equation_4_r"] == pytest.approx(printed)


def test_labels_and_graphs_speak_of_the_same_dimensions(analysed: dict[str, OutputTables]) -> None:
    for own in analysed.values():
        dimensions = own["embeddings"].select("seed", "dimension").unique().sort("seed", "dimension")
        assert own["labels"].select("seed", "dimension").unique().sort("seed", "dimension").equals(dimensions)
        assert own["graph_nodes"].select("seed", "dimension").equals(dimensions)
        joined = own["graph_edges"].select("seed", "dimension", "other_dimension", "r")
        assert (joined["dimension"] < joined["other_dimension"]).all() and (joined["r"] > 0.2).all()
        isolated = own["graph_nodes"].filter(pl.col("degree") == 0)
        assert isolated["community"].is_null().all() and isolated["pagerank"].is_null().all()


def test_the_extended_data_table_comes_out_of_a_query(analysed: dict[str, OutputTables]) -> None:
    metrics, labels = analysed["human-category"]["metrics"], analysed["human-category"]["labels"]
    strongest = (
        metrics.filter(pl.col("analysis") == "rating_correlation", pl.col("seed") == 0)
        .with_columns(size=pl.col("value").abs())
        .sort("size", descending=True)
        .unique("dimension", keep="first", maintain_order=True)
    )
    first = labels.filter(pl.col("label_rank") == 1, pl.col("seed") == 0).join(strongest, on="dimension")
    assert (first["r"] == first["value"]).all() and (first["rating"] == first["rating_right"]).all()


def test_sweeps_have_every_fit_and_more_judgments_predict_better(analysed: dict[str, OutputTables]) -> None:
    sweeps = analysed["human-category"]["sweeps"]
    assert sweeps.height == 2 * (4 + 3)
    means = sweeps.group_by("sweep", "setting").agg(pl.col("test_accuracy").mean()).sort("setting")
    for sweep in ("dimensions", "judgments"):
        curve = means.filter(pl.col("sweep") == sweep)["test_accuracy"]
        assert curve[-1] > curve[0]


def test_agents_are_compared_with_one_another(analysed: dict[str, OutputTables]) -> None:
    tables = together(analysed, "choices", "embeddings", "fits", "graph_nodes")
    found = meaning.compare(tables, PARAMS, context())
    rows = found["comparisons"]
    kappa = rows.filter(pl.col("analysis") == "agreement", pl.col("agent") != pl.col("against"))
    assert kappa.height == 6 and kappa["ci_low"].null_count() == 0
    mirrored = kappa.join(kappa, left_on=["agent", "against"], right_on=["against", "agent"])
    assert (mirrored["value"] == mirrored["value_right"]).all()
    for measure in ("halves_r", "equation_4_r"):
        consistency = rows.filter(pl.col("measure") == measure)
        pairs = {tuple(pair) for pair in consistency.select("agent", "against").iter_rows()}
        assert pairs == {(a, h) for a in AGENTS for h in AGENTS[:2] if a != h}
    overlaps = found["community_overlaps"]
    assert set(overlaps["agent"]) <= set(AGENTS) and (overlaps["agent"] != overlaps["against"]).all()


def test_an_agent_with_too_few_judgments_goes_on_without_a_fit(world: dict[str, OutputTables], tmp_path: Path) -> None:
    own = dict(world["human-category"])
    own["choices"] = own["choices"].filter(pl.col("trial_set") != "main")
    here = context("human-category")
    own |= embedding_steps.embed(lazy(own), PARAMS, here)
    own |= embedding_steps.rank_fits(lazy(own), PARAMS, here)
    for step in (embedding_steps.lay_out, meaning.describe, sweep_steps.sweep, meaning.measure):
        own |= step(lazy(own), PARAMS, here)
    assert all(own[name].is_empty() for name in ("embeddings", "layouts", "labels"))
    assert not own["fits"]["representative"].any()
    assert own["fits"]["note"].str.starts_with("not fitted: ").all()
    metrics = own["metrics"]
    assert (
        metrics.filter(pl.col("analysis") == "held_out")["note"].unique().to_list()
        == own["fits"]["note"].unique().to_list()
    )
    assert metrics.filter(pl.col("measure") == "consistency")["value"].item() > 0.9


def test_a_missing_validation_set_and_missing_ratings_are_said(world: dict[str, OutputTables]) -> None:
    own = dict(world["human-category"])
    own["choices"] = own["choices"].filter(pl.col("trial_set") == "main")
    own["ratings"] = own["ratings"].clear()
    own["stimuli"] = own["stimuli"].with_columns(category=pl.lit(None, pl.String))
    own["sweeps"] = to_table("sweeps", [])
    metrics = meaning.measure(lazy(own), PARAMS, context("human-category"))["metrics"]
    notes = dict(metrics.drop_nulls("note").select("analysis", "note").iter_rows())
    assert notes["generalisation"] == "the agent has no validation choices"
    assert notes["rating_correlation"] == measuring.NO_RATINGS == notes["labels"]
    assert "two are needed" in notes["nearest_centroid"] and "twice or more" in notes["noise_ceiling"]
    assert metrics.filter(pl.col("measure") == "accuracy")["value"].null_count() == 0
    assert meaning.describe(lazy(own), PARAMS, context("human-category"))["labels"].is_empty()


def test_the_same_numbers_come_out_twice(analysed: dict[str, OutputTables]) -> None:
    own = analysed["caption-tfidf"]
    for step, table in ((sweep_steps.sweep, "sweeps"), (meaning.measure, "metrics")):
        assert step(lazy(own), PARAMS, context("caption-tfidf"))[table].equals(own[table])


def test_a_study_step_reads_the_outputs_of_all_agents() -> None:
    graph = stages(PARAMS, NOTHING)
    assert {Output("choices", agent) for agent in AGENTS} <= set(graph["compare"].reads)
    assert list(graph).index("compare") > list(graph).index("describe@caption-tfidf")
