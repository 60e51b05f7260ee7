"""Contributions of bands as a step: planted regions are explained by their agent, by all methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.brain.recordings.synthetic import CATEGORY, DIMENSION
from affectlake.errors import UsageError
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.engine.graph import stages, steps_of
from affectlake.pipelines.params.study import override, parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps.brain_contributions import METHODS, estimate_contributions
from affectlake.pipelines.stored import Stored
from tests.support.brain_worlds import TEXT, context, lazy, world_of_bands

BANDS = "brain.partition={bands: {category: [human-category], dimension: [human-dimension]}, ratios: [1.0]}"
ASKED = (BANDS, "brain.contributions={}", "brain.sources.n_subjects=2")
WANTED = parse(override(TEXT, ASKED))
NOTHING = Stored(frozenset(), frozenset())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return world_of_bands(WANTED, tmp_path_factory.mktemp("brains"))


@pytest.fixture(scope="module")
def found(world: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return estimate_contributions(lazy(world), WANTED, context(tmp_path_factory.mktemp("step")))


def test_the_tables_keep_their_contracts(world: OutputTables, found: OutputTables, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", TEXT)
    read = {name: world[name].lazy() for name in ("stimuli", "voxels", "betas")}
    assert write_outputs(tmp_path / "lake", "parts", {Output(name): table for name, table in found.items()}, read) > 0
    rows = found["band_contributions"]
    of_one = rows.filter(subject=rows["subject"][0], region="all").group_by("contribution_method").len()
    assert dict(of_one.iter_rows()) == {
        "stacked_encoding": 7, "voxel_encoded_rsa": 5, "weighted_rsa": 5, "partial_rsa": 4
    }  # fmt: skip
    weights = rows.filter(quantity="weight").group_by("subject", "region").agg(pl.col("contribution").sum())
    assert np.allclose(weights["contribution"], 1.0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_regions_are_explained_by_the_agent_that_was_planted(found: OutputTables, method: str) -> None:
    rows = found["band_contributions"].filter(contribution_method=method, quantity="unique").drop_nulls("contribution")
    wide = rows.filter(pl.col("n_voxels") >= 10).pivot("band", index=["subject", "region"], values="contribution")
    of_category, of_dimension = (wide.filter(pl.col("region").is_in(list(some))) for some in (CATEGORY, DIMENSION))
    assert min(of_category.height, of_dimension.height) >= 6
    assert (of_category["category"] > of_category["dimension"]).all()
    assert (of_dimension["dimension"] > of_dimension["category"]).mean() > 0.7  # weighted RSA has little power here
    nothing = wide.filter(~pl.col("region").is_in([*CATEGORY, *DIMENSION, "all"]))
    assert abs(nothing["category"].mean()) < 0.02 and abs(nothing["dimension"].mean()) < 0.02  # type: ignore[arg-type]


def test_subjects_are_averaged_with_a_test(found: OutputTables) -> None:
    keys = ["region", "contribution_method", "quantity", "band"]
    expected = (
        found["band_contributions"]
        .filter(pl.col("quantity") != "weight")
        .group_by(keys)
        .agg(pl.col("contribution").mean())
    )
    joined = found["contribution_stats"].join(expected, on=keys, suffix="_mean")
    assert joined.height == found["contribution_stats"].height == expected.height
    known = joined.drop_nulls("contribution")
    assert np.allclose(known["contribution"], known["contribution_mean"]) and (known["n_subjects"] == 2).any()
    assert (known.drop_nulls("p")["p_fdr"] >= known.drop_nulls("p")["p"]).all()


def test_small_regions_say_why_they_have_no_value(found: OutputTables) -> None:
    few = found["band_contributions"].filter(
        pl.col("n_voxels") < 3, pl.col("contribution_method") != "stacked_encoding"
    )
    assert few.height and few["contribution"].is_null().all()
    assert set(few["note"]) == {"fewer than 3 voxels of the region can be used"}


def test_a_band_without_a_fit_is_rows_with_the_reason(world: OutputTables, tmp_path: Path) -> None:
    fits = world["fits"].with_columns(representative=pl.col("representative") & (pl.col("agent") != "human-dimension"))
    rows = estimate_contributions(lazy(world | {"fits": fits}), WANTED, context(tmp_path))
    found = rows["band_contributions"]
    assert found["contribution"].is_null().all() and found.height > 0
    assert set(found["note"]) == {"the band dimension has no features: human-dimension has no fit with a dimension"}
    assert rows["contribution_stats"]["p"].is_null().all()


def test_bands_of_few_dimensions_and_equal_stimuli_are_notes_of_partial_rsa(
    world: OutputTables, tmp_path: Path
) -> None:
    params = parse(override(TEXT, (*ASKED, "brain.contributions.methods=[partial_rsa, weighted_rsa]")))
    own = pl.col("agent") == "human-dimension"
    two = world["embeddings"].filter(~own | (pl.col("dimension") <= 2))
    found = estimate_contributions(lazy(world | {"embeddings": two}), params, context(tmp_path))["band_contributions"]
    notes = found.filter(contribution_method="partial_rsa", region="VC")["note"]
    assert set(notes) == {"dimension has fewer than 3 dimensions, and so no correlation distances"}
    assert found.filter(contribution_method="weighted_rsa", region="VC")["contribution"].is_not_null().all()
    zero = world["embeddings"].with_columns(
        weight=pl.when(own & (pl.col("stimulus_index") == 0)).then(0.0).otherwise("weight").cast(pl.Float32)
    )
    found = estimate_contributions(lazy(world | {"embeddings": zero}), params, context(tmp_path))["band_contributions"]
    notes = found.filter(contribution_method="partial_rsa", region="VC")["note"]
    assert set(notes) == {"1 stimuli have equal values on all dimensions of dimension, and so no distances"}


def test_equal_bands_say_that_they_determine_one_another(world: OutputTables, tmp_path: Path) -> None:
    bands = "brain.partition={bands: {one: [human-category], two: [human-category]}, ratios: [1.0]}"
    asked = (bands, "brain.contributions={methods: [partial_rsa]}", "brain.sources.n_subjects=2")
    found = estimate_contributions(lazy(world), parse(override(TEXT, asked)), context(tmp_path))["band_contributions"]
    unique = found.filter(region="VC", quantity="unique")
    assert unique["contribution"].is_null().all()
    assert set(unique["note"]) == {"the other bands determine the band's distances"}
    assert found.filter(region="VC", quantity="alone")["contribution"].is_not_null().all()


def test_one_subject_has_values_and_no_test(world: OutputTables, tmp_path: Path) -> None:
    first = world["voxels"]["subject"].min()
    one = {name: world[name].filter(subject=first) for name in ("voxels", "betas")}
    params = parse(override(TEXT, (*ASKED, "brain.contributions.methods=[weighted_rsa]")))
    found = estimate_contributions(lazy(world | one), params, context(tmp_path))
    stats = found["contribution_stats"].filter(region="VC")
    assert stats["contribution"].is_not_null().all() and stats["p"].is_null().all() and (stats["n_subjects"] == 1).all()


def test_too_few_stimuli_are_one_message_or_a_note(world: OutputTables, tmp_path: Path) -> None:
    def of(n: int) -> dict[str, pl.LazyFrame]:
        return lazy(world | {"betas": world["betas"].filter(pl.col("stimulus_index") < n)})

    with pytest.raises(UsageError, match="too few runs for the folds"):
        estimate_contributions(of(5), WANTED, context(tmp_path / "five"))
    params = parse(override(TEXT, (*ASKED, "brain.encoding.by_run=false")))
    found = estimate_contributions(of(16), params, context(tmp_path / "sixteen"))["band_contributions"]
    rsa = found.filter(pl.col("contribution_method").is_in(["voxel_encoded_rsa", "weighted_rsa"]), region="VC")
    assert set(rsa["note"]) == {"an outer fold has 3 stimuli; correlations of pairs need 5"}
    stacked = found.filter(contribution_method="stacked_encoding", region="VC")
    assert stacked["contribution"].is_not_null().all()


def test_adding_the_section_adds_one_step_and_makes_no_other_stale() -> None:
    without = parse(override(TEXT, (BANDS, "brain.sources.n_subjects=2")))
    assert {one.name for one in steps_of(WANTED)} - {one.name for one in steps_of(without)} == {
        "estimate_contributions"
    }
    before, after = ({one.name: one for one in stages(params, NOTHING).values()} for params in (without, WANTED))
    assert set(after) - set(before) == {"estimate_contributions"}
    assert all(before[name].reads == after[name].reads for name in before)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("brain.contributions={}",), "needs the bands of brain.partition"),
        ((BANDS, "brain.contributions={methods: []}"), "methods must be a list of one or more"),
        ((BANDS, "brain.contributions={methods: [magic]}"), "magic"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(override(TEXT, settings))
