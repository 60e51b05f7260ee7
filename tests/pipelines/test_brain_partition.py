"""Variance partitioning as a step: planted voxels are explained by the agent that they were planted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.brain.recordings.synthetic import CATEGORY, DIMENSION
from affectlake.errors import SourceError, UsageError
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps.brain_partition import partition_variance
from affectlake.seeds import generator
from affectlake.stimuli.nuisance import caption_length
from tests.support.brain_worlds import AGENTS, TEXT, context, lazy, world_of_bands

BANDS = "brain.partition={bands: {category: [human-category], dimension: [human-dimension]}, ratios: [0.1, 1.0]}"
WANTED = parse(override(TEXT, (BANDS, "brain.sources.n_subjects=2")))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return world_of_bands(WANTED, tmp_path_factory.mktemp("brains"))


@pytest.fixture(scope="module")
def found(world: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return partition_variance(lazy(world), WANTED, context(tmp_path_factory.mktemp("step")))


def test_the_tables_keep_their_contracts(world: OutputTables, found: OutputTables, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", TEXT)
    read = {name: world[name].lazy() for name in ("stimuli", "voxels", "voxel_reliability", "betas")}
    assert write_outputs(tmp_path / "lake", "parts", {Output(name): table for name, table in found.items()}, read) > 0
    assert found["variance_partition"]["part"].unique().sort().to_list() == [
        "all",
        "category",
        "category+dimension",
        "dimension",
    ]


def test_planted_voxels_are_explained_by_their_agent_alone(world: OutputTables, found: OutputTables) -> None:
    """Voxels are driven by what is in the categories and not in the dimensions, the other way round, or by nothing.

    What is in one band beyond the other is predicted better by both, so that the other has a small part too.
    """
    maps = (
        found["partition_maps"].drop_nulls("r2").join(world["voxels"], on=["subject", "voxel_index"])
        .with_columns(region=pl.col("regions").str.split(" ").list.last())
        .pivot("part", index=["subject", "voxel_index", "region"], values="r2")
    )  # fmt: skip
    of_category, of_dimension = (maps.filter(pl.col("region").is_in(list(some))) for some in (CATEGORY, DIMENSION))
    nothing = maps.filter(~pl.col("region").is_in([*CATEGORY, *DIMENSION]))
    assert min(of_category.height, of_dimension.height, nothing.height) > 30
    for driven, band, other in ((of_category, "category", "dimension"), (of_dimension, "dimension", "category")):
        assert driven[band].median() > 0.2
        assert driven[band].median() > 1.5 * driven[other].median()
        assert (driven[band] > driven[other]).mean() > 0.85
    assert abs(nothing["all"].median()) < 0.02
    parts = maps.select("category", "dimension", "category+dimension").sum_horizontal()
    assert np.allclose(parts, maps["all"], atol=1e-9)


def test_the_winner_of_a_voxel_is_the_agent_that_was_planted(world: OutputTables, tmp_path: Path) -> None:
    """A third of the voxels follows the embedding of each agent, the others are noise."""
    rng, n_voxels = generator(1, "winners"), len(world["betas"]["pattern"][0])
    place = np.arange(n_voxels) % 3
    signal = np.zeros((world["stimuli"].height, n_voxels))
    for number, agent in enumerate(AGENTS):
        chosen = world["fits"].filter("representative", agent=agent).select("agent", "seed")
        wide = (
            world["embeddings"]
            .join(chosen, on=["agent", "seed"])
            .pivot("dimension", index="stimulus_index", values="weight")
        )
        x = wide.sort("stimulus_index").drop("stimulus_index").to_numpy()
        driven = (x - x.mean(axis=0)) @ rng.normal(size=(x.shape[1], n_voxels))
        signal += (place == number) * driven / driven.std(axis=0)
    patterns = [
        (signal[at] + 0.5 * rng.normal(size=n_voxels)).astype(np.float32) for at in world["betas"]["stimulus_index"]
    ]
    tables = lazy(world | {"betas": world["betas"].with_columns(pattern=pl.Series([list(row) for row in patterns]))})
    found = partition_variance(tables, WANTED, context(tmp_path))["partition_winners"]
    assert (found["best_band"].is_null() == (found["p_fdr"].fill_null(1.0) >= 0.05)).all()
    won = found.with_columns(planted=pl.col("voxel_index") % 3)
    for number, band in enumerate(("category", "dimension")):
        own = won.filter(planted=number)
        assert (own["best_band"] == band).fill_null(value=False).mean() > 0.7, band  # type: ignore[operator]
        assert own.drop_nulls("best_band").select((pl.col("best_band") == band).mean()).item() > 0.95
    assert won.filter(planted=2)["best_band"].is_not_null().mean() < 0.05  # type: ignore[operator]


def test_regions_are_the_means_of_their_voxels(found: OutputTables) -> None:
    maps = found["partition_maps"].drop_nulls("r2").group_by("subject", "part").agg(mean=pl.col("r2").mean())
    whole = found["variance_partition"].filter(region="all").join(maps, on=["subject", "part"])
    assert np.allclose(whole["r2"], whole["mean"], atol=1e-9)
    inside = (whole["ci_low"] < whole["r2"]) & (whole["r2"] < whole["ci_high"])
    assert inside.all()
    across = found["partition_stats"].filter(region="all").sort("part")
    expected = whole.group_by("part").agg(pl.col("r2").mean()).sort("part")
    assert np.allclose(across["r2"], expected["r2"], atol=1e-12) and (across["n_subjects"] == 2).all()
    assert (across["effect_ci_low"] < across["t"] / 2**0.5).all() and (across["bayes_factor"] > 0).all()


def test_what_a_nuisance_feature_explains_counts_for_no_band(world: OutputTables, tmp_path: Path) -> None:
    """Patterns that follow the length of the captions, as the categories do in the words of this study."""
    length = caption_length(world["captions"], world["stimuli"].height)[:, 0]
    driven = (length - length.mean()) / length.std()
    rng, n_voxels = generator(1, "lengths"), len(world["betas"]["pattern"][0])
    patterns = [
        (driven[at] * 2 + rng.normal(size=n_voxels)).astype(np.float32) for at in world["betas"]["stimulus_index"]
    ]
    tables = lazy(world | {"betas": world["betas"].with_columns(pattern=pl.Series([list(row) for row in patterns]))})
    params = parse(override(TEXT, (BANDS.replace("ratios", "nuisance: [caption_length], ratios"),)))

    def whole(wanted: Params) -> pl.Series:
        found = partition_variance(tables, wanted, context(tmp_path))["variance_partition"]
        return found.filter(region="all", part="all")["r2"]

    assert whole(WANTED).min() > 0.05  # type: ignore[operator]
    assert whole(params).max() < 0.01  # type: ignore[operator]


def test_parts_as_shares_of_what_is_explainable(world: OutputTables, tmp_path: Path) -> None:
    """A subject whose stimuli were repeated, and one whose were not; a voxel that repeats no better than noise."""
    params = parse(override(TEXT, (BANDS.replace("[0.1, 1.0]", "[1.0]"), "brain.sources.n_subjects=2")))
    first = pl.col("subject") == world["voxels"]["subject"].min()
    known = pl.when(pl.col("voxel_index") == 0).then(0.01).otherwise(0.25)
    tables = lazy(
        world
        | {
            "voxel_reliability": world["voxel_reliability"].with_columns(
                explainable_variance=pl.when(first).then(known)
            ),
            "betas": world["betas"].with_columns(n_presentations=pl.when(first).then(5).otherwise(1).cast(pl.Int32)),
        }
    )
    found = partition_variance(tables, params, context(tmp_path))
    maps = found["partition_maps"].drop_nulls("r2")
    with_share = maps.drop_nulls("explained_share")
    assert with_share.select(first.all()).item() and with_share["voxel_index"].min() == 1
    assert np.allclose(with_share["explained_share"], with_share["r2"] / 0.25)
    regions = found["variance_partition"].filter(region="VC")
    own, other = regions.filter(first), regions.filter(~first)
    assert np.allclose(own["explained_share"], own["r2"] / 0.25) and (own["explainable_variance"] == 0.25).all()
    assert ((own["share_low"] < own["explained_share"]) & (own["explained_share"] < own["share_high"])).all()
    assert (own["share_high"] - own["share_low"] >= (own["ci_high"] - own["ci_low"]) / 0.25).all()
    assert other.select(pl.col("explained_share", "explainable_variance", "share_low").is_null().all()).row(0) == (
        True, True, True
    )  # fmt: skip
    stats = found["partition_stats"].filter(region="VC").sort("part")
    assert np.allclose(stats["explained_share"], own.sort("part")["explained_share"])


def test_media_that_are_missing_are_one_message(world: OutputTables, tmp_path: Path) -> None:
    params = parse(override(TEXT, (BANDS.replace("ratios", "nuisance: [luminance], ratios"),)))
    with pytest.raises(SourceError, match="remove luminance from brain"):
        partition_variance(lazy(world), params, context(tmp_path))


def test_a_band_without_a_fit_is_rows_with_the_reason(world: OutputTables, tmp_path: Path) -> None:
    fits = world["fits"].with_columns(representative=pl.col("representative") & (pl.col("agent") != "human-dimension"))
    lines: list[str] = []
    tables = lazy(world | {"fits": fits})
    found = partition_variance(tables, WANTED, context(tmp_path, lines=lines))
    assert found["variance_partition"].height == 2 * 4 and found["partition_maps"].is_empty()
    assert set(found["variance_partition"]["note"]) == {
        "the band dimension has no features: human-dimension has no fit with a dimension"
    }
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("{bands: {a: [nobody-here]}}", "nobody-here"),
        ("{bands: {}}", "bands must be a mapping of 1 to 3 entries"),
        ("{bands: {all: [human-category]}}", "all"),
        ("{bands: {a+b: [human-category]}}", "a\\+b"),
        ("{bands: {a: []}}", "bands.a must be a list of one or more"),
        ("{bands: {a: [human-category]}, nuisance: [loudness]}", "loudness"),
        ("{bands: {a: [human-category]}, ratios: [0]}", "ratios"),
        (
            "{bands: {a: [human-category], b: [human-category], c: [human-category], d: [human-category]}}",
            "1 to 3 entries",
        ),
    ],
)
def test_settings_that_are_not_legal(setting: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(override(TEXT, (f"brain.partition={setting}",)))


def test_the_step_is_there_only_with_its_section() -> None:
    from affectlake.pipelines.engine.graph import steps_of

    def names(params: Params) -> set[str]:
        return {step.name for step in steps_of(params)}

    assert names(WANTED) - names(parse(TEXT)) == {"partition_variance", "measure_motion"}
