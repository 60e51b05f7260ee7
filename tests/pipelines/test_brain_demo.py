"""The demo's five subjects as they are: in the planted voxels the agents win that were planted there, nowhere else.

Every step from the ratings on runs in this process, fits included, with the demo's own parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from affectlake.brain.recordings import synthetic
from affectlake.brain.recordings.synthetic import CATEGORY, DIMENSION, make_brains
from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets
from affectlake.judge.vectors.ratings import rating_matrix
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.seeds import generator

PERMUTATIONS = ("brain.encoding.permutations=10", "brain.searchlight.permutations=60")
BANDS = "brain.partition.bands={categories: [human-category], dimensions: [human-dimension]}"
TEXT = override(templates.starting_params("demo"), ("spose.seeds=[0]", BANDS, *PERMUTATIONS))
PARAMS = parse(TEXT.replace("  caption-tfidf:", "  # caption-tfidf:"))
AGENTS = ("human-category", "human-dimension")
NOTHING = ("hypothalamus", "pallidum", "brainstem", "accumbens", "cerebellum")


class Demo(NamedTuple):
    """The tables, and what each voxel was planted to follow."""

    tables: OutputTables
    planted: np.ndarray

    def maps(self, table: str, value: str) -> pl.DataFrame:
        """Subject, voxel, what is planted, and a column for each agent's map of the embedding."""
        index = {"voxel_index": np.arange(len(self.planted), dtype=np.int32), "planted": self.planted}
        rows = self.tables[table].filter(pl.col("basis") == "embedding").drop_nulls(value)
        wide = rows.pivot("agent", index=["subject", "voxel_index"], values=value)
        return wide.join(pl.DataFrame(index), on="voxel_index").drop_nulls()

    def stats(self, method: str) -> dict[str, dict[str, float]]:
        """human-category against human-dimension, by region."""
        rows = self.tables["group_stats"].filter(pl.col("method") == method, pl.col("agent") == AGENTS[0])
        return {row["region"]: row for row in rows.to_dicts()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    def context(agent: str = "") -> StepContext:
        folder = tmp_path_factory.mktemp(agent or "study")
        return StepContext(agent, folder, folder, 2, lambda _: None, lambda _: None, agents=AGENTS)

    def run(step: str, tables: OutputTables, agent: str = "") -> OutputTables:
        made: OutputTables = STEPS[step]({name: frame.lazy() for name, frame in tables.items()}, PARAMS, context(agent))
        return tables | made

    study: OutputTables = {}
    for step in ("ingest", "sample", "ingest_brains"):
        study = run(step, study)
    fitted: dict[str, OutputTables] = {}
    for agent in AGENTS:
        fitted[agent] = study
        for step in ("choose_by_ratings", "embed", "rank_fits"):
            fitted[agent] = run(step, fitted[agent], agent)
    every = {name: pl.concat([mine[name] for mine in fitted.values()]) for name in ("embeddings", "fits")}
    shared = run("share_stimuli", study | every)["shared_stimuli"]
    study = run("select_stimuli", study | {"shared_stimuli": shared})
    per_agent: dict[str, list[pl.DataFrame]] = {}
    for agent in AGENTS:
        mine = fitted[agent] | study
        for step in ("encode_brains", "search_brains", "score_regions"):
            mine = run(step, mine, agent)
        for name in mine.keys() - study.keys():
            per_agent.setdefault(name, []).append(mine[name])
    tables = run("compare_brains", study | {name: pl.concat(frames) for name, frames in per_agent.items()})
    ids = study["stimuli"].sort("stimulus_index")["stimulus_id"].to_list()
    rated = [rating_matrix(study["ratings"], len(ids), family).scores for family in ("category", "dimension")]
    rng = generator(PARAMS.seed, "brain", "synthetic")
    return Demo(tables, make_brains(rated[0], rated[1], ids, 5, 10.0, rng).planted)


def test_there_are_five_subjects_with_one_pattern_for_every_stimulus(demo: Demo) -> None:
    found = demo.tables["betas"].group_by("subject").len().sort("subject")
    assert found.rows() == [(f"synthetic-{number}", 300) for number in range(1, 6)]
    assert set(demo.planted) == {"category", "dimension", "nothing"}


def test_runs_are_numbered_from_one_and_stimuli_are_in_random_order() -> None:
    rng, ids = np.random.default_rng(0), [f"clip-{at}" for at in range(300)]
    made = make_brains(rng.normal(size=(300, 5)), rng.normal(size=(300, 4)), ids, 2, 24.0, rng)
    assert list(made.recordings) == ["synthetic-1", "synthetic-2"]
    for one in made.recordings.values():
        assert one.runs.tolist() == [1 + at // 12 for at in range(300)]  # 25 runs
        assert sorted(one.labels) == sorted(ids) and list(one.labels) != ids
    few = make_brains(rng.normal(size=(20, 5)), rng.normal(size=(20, 4)), ids[:20], 1, 24.0, rng)
    assert few.recordings["synthetic-1"].runs.tolist() == [1 + at // 4 for at in range(20)]  # not of one stimulus


def test_each_planted_signal_is_what_the_other_ratings_do_not_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_NOISE", 0.0)
    rng, ids = np.random.default_rng(1), [f"clip-{at}" for at in range(200)]
    categories, dimensions = rng.gamma(0.5, size=(200, 6)), 1 + 8 * rng.random((200, 4)) * [0.1, 1, 1, 0.5]
    categories[:, 0] += dimensions[:, 0]
    made = make_brains(categories, dimensions, ids, 1, 12.0, rng)
    found = made.recordings["synthetic-1"]
    patterns = found.patterns[np.argsort([ids.index(label) for label in found.labels])]
    for name, other in (("category", dimensions), ("dimension", categories)):
        signal = patterns[:, made.planted == name].astype(float)
        r = np.corrcoef(signal.T, other.T)[: signal.shape[1], signal.shape[1] :]
        assert np.abs(r).max() < 1e-5
        assert np.allclose(signal.std(axis=0), 1, atol=1e-5)
    assert not patterns[:, made.planted == "nothing"].any()


def test_planted_voxels_are_encoded_best_by_their_agent_in_every_subject(demo: Demo) -> None:
    better = (pl.col(AGENTS[0]) > pl.col(AGENTS[1])).mean()
    maps = demo.maps("encoding_maps", "encoding_r")
    won = {
        (subject, planted): share
        for subject, planted, share in maps.group_by("subject", "planted").agg(better.alias("share")).iter_rows()
    }
    assert len(won) == 15
    for (_, planted), share in won.items():
        low, high = {"category": (0.9, 1.0), "dimension": (0.0, 0.1), "nothing": (0.35, 0.65)}[planted]
        assert low <= share <= high


def test_spheres_in_planted_tissue_are_closest_to_their_agent(demo: Demo) -> None:
    voxels = demo.tables["voxels"].filter(pl.col("subject") == "synthetic-1").sort("voxel_index")
    spheres = make_spheres(
        voxels.select("voxel_i", "voxel_j", "voxel_k").to_numpy(),
        sphere_offsets(PARAMS.brain.searchlight.radius_voxels),  # type: ignore[union-attr]
    )
    members = [spheres.members(centre) for centre in range(voxels.height)]
    maps = demo.maps("rsa_maps", "rho")
    for planted, least in (("category", 0.97), ("dimension", 0.85)):
        pure = [at for at, inside in enumerate(members) if (demo.planted[inside] == planted).mean() > 0.9]
        assert len(pure) > 100
        here = maps.filter(pl.col("voxel_index").is_in(pure))
        winner, other = AGENTS if planted == "category" else AGENTS[::-1]
        shares = here.group_by("subject").agg(share=(pl.col(winner) > pl.col(other)).mean())["share"]
        assert shares.len() == 5
        assert shares.min() > least


def test_group_statistics_name_the_winner_of_every_planted_region(demo: Demo) -> None:
    found = demo.stats("encoding")
    for names, sign in ((CATEGORY, 1), (DIMENSION, -1)):
        for region in names:
            assert found[region]["difference"] * sign > 0.05
            assert found[region]["p_fdr"] < 0.001
            assert (found[region]["share_won"] - 0.5) * sign > 0.35
    assert max(abs(found[region]["difference"]) for region in NOTHING) < 0.03
    near = demo.stats("searchlight")
    assert all(near[region]["difference"] > 0.05 and near[region]["p_fdr"] < 0.01 for region in CATEGORY)
    deep = ("DLPFC", "DMPFC", "VMPFC", "ACC", "caudate")  # their spheres hold little of other regions
    assert all(near[region]["difference"] < -0.015 and near[region]["p_fdr"] < 0.01 for region in deep)


def test_relabelling_finds_planted_voxels_and_no_more_noise_than_it_says(demo: Demo) -> None:
    rows = demo.maps("encoding_maps", "p_null")
    significant = {
        (agent, planted): rows.filter(pl.col("planted") == planted).select((pl.col(agent) < 0.05).mean()).item()
        for agent in AGENTS
        for planted in ("category", "dimension", "nothing")
    }
    assert significant["human-category", "category"] > 0.95
    assert significant["human-dimension", "dimension"] > 0.5
    assert significant["human-category", "dimension"] < 0.05
    assert max(significant[agent, "nothing"] for agent in AGENTS) < 0.1
    shown = demo.maps("rsa_maps", "p").filter(pl.col("planted") == "category")
    assert shown.select((pl.col("human-category") <= 1 / 50).mean()).item() > 0.9


def test_noise_ceilings_are_high_where_something_is_planted(demo: Demo) -> None:
    found = {row["region"]: row for row in demo.tables["noise_ceilings"].to_dicts()}
    assert all(found[region]["ceiling_low"] > 0.2 for region in (*CATEGORY, *DIMENSION))
    assert all(abs(found[region]["ceiling_low"]) < 0.1 for region in NOTHING)
    assert all(row["n_subjects"] == 5 for row in found.values())
