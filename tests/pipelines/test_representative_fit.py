"""Two fits of each agent, of which the second is better: whatever speaks of the agent's fit speaks of the second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import Version
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.outputs import report
from affectlake.pipelines.outputs.nifti import write_maps
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import (
    arrays,
    brain,
    brain_groups,
    brain_maps,
    brain_selection,
    choices,
    embedding,
    meaning,
    stimuli,
)
from affectlake.pipelines.steps.rows import to_table
from affectlake.report import agent_summary
from affectlake.report.figures.agent_comparison import community_names
from affectlake.report.figures.emotion_graph import first_labels
from affectlake.report.page import render

AGENTS = ("human-category", "human-dimension")
TEXT = override(
    templates.starting_params("demo"),
    (
        "sources.n_stimuli=90",
        "triplets.noise_ceiling=40",
        "triplets.thirds_per_pair=10",
        "geometry.permutations=20",
        "geometry.resamples=20",
        "geometry.perplexity=10.0",
        "brain.partition=null",
        "brain.sources.n_subjects=2",
        "brain.sources.voxel_mm=24.0",
        "brain.encoding.by_run=false",
        "brain.encoding.permutations=0",
        "brain.searchlight.n_stimuli=60",
        "brain.searchlight.radius_voxels=1.5",
        "brain.searchlight.min_voxels=5",
        "brain.searchlight.permutations=0",
    ),
).replace("  caption-tfidf:", "  # caption-tfidf:")
PARAMS = parse(TEXT)
BETTER = 1


def lazy(frames: OutputTables) -> dict[str, pl.LazyFrame]:
    return {name: one.lazy() for name, one in frames.items()}


def planted(n_stimuli: int, n_communities: int, rng: np.random.Generator) -> np.ndarray:
    """Return an embedding (n_stimuli, 3 n_communities), float32, whose dimensions correlate by threes."""
    own = rng.random((n_stimuli, n_communities)).repeat(3, axis=1)
    return (own + 0.2 * rng.random(own.shape)).astype(np.float32)


def with_two_fits(tables: OutputTables, agent: str) -> OutputTables:
    """Give an agent a fit with few communities under seed 0, and one with more, which predicts better, under seed 1."""
    rng, n_communities = np.random.default_rng(AGENTS.index(agent)), 4 + AGENTS.index(agent)
    fits = [planted(tables["stimuli"].height, n, rng) for n in (2, n_communities)]
    curves = [
        {"agent": agent, "seed": seed, "epoch": epoch, "train_loss": 1.0, "validation_loss": loss,
         "validation_accuracy": 0.5, "n_dimensions": 4, "lapse": 0.0, "kept": epoch == 1, "p_chance": 1e-9}
        for seed, losses in ((0, (1.0, 0.8)), (1, (0.9, 0.5)))
        for epoch, loss in enumerate(losses)
    ]  # fmt: skip
    weights = [embedding._weights(agent, seed, weights) for seed, weights in enumerate(fits)]
    return tables | {"embeddings": pl.concat(weights), "learning_curves": to_table("learning_curves", curves)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OutputTables]:
    """The tables of each agent; under "" those of the study."""

    def context(agent: str = "") -> StepContext:
        folder = tmp_path_factory.mktemp(f"work-{agent}")
        return StepContext(agent, folder, folder, 2, lambda _: None, lambda _: None, agents=AGENTS)

    own = stimuli.ingest({}, PARAMS, context())
    for step in (stimuli.sample, brain.ingest_brains):
        own |= step(lazy(own), PARAMS, context())
    fitted = {}
    for agent in AGENTS:
        fits = with_two_fits(own, agent)
        fitted[agent] = fits | embedding.rank_fits(lazy(fits), PARAMS, context(agent))
    both = {name: pl.concat([mine[name] for mine in fitted.values()]) for name in ("embeddings", "fits")}
    own |= brain_selection.share_stimuli(lazy(own | both), PARAMS, context())
    own |= brain_selection.select_stimuli(lazy(own), PARAMS, context())
    found = {}
    for agent in AGENTS:
        mine = fitted[agent] | own
        mine["sweeps"] = to_table("sweeps", [])
        for step in (
            choices.choose_by_ratings, embedding.lay_out, meaning.describe, meaning.measure,
            brain_maps.encode_brains, brain_maps.search_brains, brain_groups.score_regions,
        ):  # fmt: skip
            mine |= step(lazy(mine), PARAMS, context(agent))
        found[agent] = {name: one for name, one in mine.items() if name not in own}
    every = {name: pl.concat([found[agent][name] for agent in AGENTS]) for name in found[AGENTS[0]]}
    for step in (meaning.compare, brain_groups.compare_brains):
        own |= step(lazy(own | every), PARAMS, context())
    return {"": own, **found}


def published(lake: Path, study: dict[str, OutputTables], without: tuple[str, ...] = ()) -> Version:
    """Publish the study's tables as one version."""
    repository.init(lake, TEXT)
    outputs = {Output(name, agent): one for agent, frames in study.items()
               for name, one in frames.items() if name not in without}  # fmt: skip
    write_outputs(lake, "made", outputs, lazy(study[""]))
    outs = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in outputs]
    body = {"stages": {"made": {"cmd": "affectlake step made --step-version 1", "outs": outs}}}
    (lake / "dvc.yaml").write_text(yaml.safe_dump(body))
    record_done(lake, "made")
    version = repository.publish(lake)
    assert version is not None
    return version


def seeds(rows: pl.DataFrame) -> set[int]:
    return set(rows["seed"])


def n_communities(study: dict[str, OutputTables], agent: str, seed: int) -> int:
    return study[agent]["graph_nodes"].filter(pl.col("seed") == seed)["community"].drop_nulls().n_unique()


def test_the_table_names_one_fit(study: dict[str, OutputTables]) -> None:
    for agent in AGENTS:
        fits = study[agent]["fits"]
        assert fits.filter("representative")["seed"].to_list() == [BETTER]
        assert fits["held_out_loss"].to_list() == [0.8, 0.5]
        n_dimensions = study[agent]["embeddings"].group_by("seed").agg(pl.col("dimension").n_unique()).sort("seed")
        assert fits["n_dimensions"].to_list() == n_dimensions["dimension"].to_list()
        assert fits["reproducibility"].n_unique() == 1  # neither of two fits is more central


def test_layouts_and_brain_maps_are_of_that_fit(study: dict[str, OutputTables], tmp_path: Path) -> None:
    for agent in AGENTS:
        mine = study[agent]
        assert seeds(mine["layouts"]) == seeds(mine["encoding_weights"]) == {BETTER}
        alone = study[""] | {"embeddings": mine["embeddings"].filter(pl.col("seed") == BETTER)}
        alone |= {"fits": mine["fits"].filter(pl.col("seed") == BETTER)}
        (tmp_path / agent).mkdir()
        context = StepContext(agent, tmp_path, tmp_path / agent, 2, lambda _: None, lambda _: None)
        for step, table in ((brain_maps.encode_brains, "encoding_maps"), (brain_maps.search_brains, "rsa_maps")):
            assert step(lazy(alone), PARAMS, context)[table].equals(mine[table])


def test_communities_that_are_compared_are_those_of_that_fit(study: dict[str, OutputTables]) -> None:
    overlaps = study[""]["community_overlaps"]
    for agent, other in (AGENTS, AGENTS[::-1]):
        own = overlaps.filter(pl.col("agent") == agent)
        assert n_communities(study, agent, 0) < n_communities(study, agent, BETTER)
        assert own["community"].n_unique() == n_communities(study, agent, BETTER)
        assert own["other_community"].n_unique() == n_communities(study, other, BETTER)


@pytest.mark.parametrize("without", [(), ("fits",)], ids=["with the table", "a version older than the table"])
def test_the_report_and_the_headlines_are_of_that_fit(
    study: dict[str, OutputTables], tmp_path: Path, without: tuple[str, ...]
) -> None:
    lake = tmp_path / "lake"
    version = published(lake, study, without)
    inputs = report.gather(lake, version)
    lines = report.headlines(lake, version)
    for agent, line in zip(AGENTS, lines, strict=True):
        facts = agent_summary.agent_facts(inputs, agent)
        assert facts.seed == BETTER
        metrics = study[agent]["metrics"].filter(pl.col("seed") == BETTER)
        accuracy = metrics.filter(pl.col("analysis") == "held_out", pl.col("measure") == "accuracy")["value"].item()
        assert line.startswith(f"{agent}: held-out accuracy {accuracy:.2%}")
        assert f" of {facts.n_dimensions} dimensions" in line
        weights = arrays.embedding(lazy(study[agent]), BETTER)
        assert facts.n_dimensions == weights.shape[1]
        assert set(community_names(inputs, facts)) == set(
            study[""]["community_overlaps"].filter(pl.col("agent") == agent)["community"]
        )
        labels = study[agent]["labels"].filter(pl.col("seed") == BETTER, pl.col("label_rank") == 1)
        named = {dimension: label.removesuffix("-low") for dimension, label in first_labels(inputs, facts).items()}
        assert named == dict(labels.select("dimension", "rating").iter_rows())
    assert f"(seed {BETTER})" in render(inputs)


def test_exported_weights_are_of_that_fit(study: dict[str, OutputTables], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    published(lake, study)
    names = {path.name for path in write_maps(lake, tmp_path / "maps")}
    n_dimensions = {agent: len({name for name in names if name.startswith(f"{agent}_weights_")}) for agent in AGENTS}
    assert n_dimensions == {agent: arrays.embedding(lazy(study[agent]), BETTER).shape[1] for agent in AGENTS}
