"""The bootstrap over subjects and stimuli as a step: planted regions, what is missing, agreement with other tables."""

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
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables
from affectlake.pipelines.steps import brain
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps.brain_generalisation import generalise_brains
from affectlake.pipelines.steps.brain_selection import select_stimuli, share_stimuli
from affectlake.pipelines.stored import Stored
from affectlake.rsm import correlation_rsm, pairs
from tests.support.brain_worlds import AGENTS, TEXT, context, lazy, with_embedding

SIZE = ("sources.n_stimuli=60", "brain.sources.n_subjects=4")
WANTED = parse(override(TEXT, ("brain.generalisation={resamples: 100, relabellings: 19}", *SIZE)))


NOTHING = Stored(frozenset(), frozenset())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    here = context(tmp_path_factory.mktemp("brains"))
    study = stimuli_steps.ingest({}, WANTED, here)
    tables = study | brain.ingest_brains(lazy(study), WANTED, here)
    both = [with_embedding(tables, WANTED, agent) for agent in AGENTS]
    tables |= {name: pl.concat([one[name] for one in both]) for name in ("embeddings", "fits")}
    return tables | share_stimuli(lazy(tables), WANTED, here)


@pytest.fixture(scope="module")
def found(world: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    return generalise_brains(lazy(world), WANTED, context(tmp_path_factory.mktemp("step")))


def of_stimuli(world: OutputTables, n: int) -> OutputTables:
    """Return the world with `n` stimuli that can be compared."""
    return world | {"shared_stimuli": world["shared_stimuli"].with_columns(shared=pl.col("stimulus_index") < n)}


def run(tables: OutputTables, folder: Path, params: Params = WANTED, lines: list[str] | None = None) -> OutputTables:
    return generalise_brains(lazy(tables), params, context(folder, lines=lines))


def test_the_tables_keep_their_contracts(world: OutputTables, found: OutputTables, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", TEXT)
    read = {name: world[name].lazy() for name in ("stimuli", "voxels", "betas")}
    assert write_outputs(tmp_path / "lake", "parts", {Output(name): table for name, table in found.items()}, read) > 0


def test_planted_regions_are_found_and_others_are_not(found: OutputTables) -> None:
    rows = found["brain_generalisation"].filter(pl.col("region") != "all")
    planted = rows.filter(pl.col("region").is_in(list(CATEGORY)), agent="human-category")
    nothing = rows.filter(~pl.col("region").is_in([*CATEGORY, *DIMENSION])).drop_nulls("evaluation")
    assert planted["evaluation"].min() > 0 and planted["evaluation"].mean() > 0.02  # type: ignore[operator]
    assert abs(nothing["evaluation"].mean()) < 0.02  # type: ignore[arg-type]
    assert (rows["p_above_zero_fdr"] >= rows["p_above_zero"]).all()
    ceilings = found["brain_generalisation_ceilings"]
    of_planted = ceilings.filter(pl.col("region").is_in(list(CATEGORY)))
    of_nothing = ceilings.filter(pl.col("region").is_in(nothing["region"].to_list()))
    assert (of_planted["p_relabelled"] == 1 / 20).all() and (of_planted["p_above_zero"] < 0.05).mean() > 0.7
    assert of_nothing["p_relabelled"].min() > 1 / 20 and of_nothing["p_above_zero"].min() > 0.1  # type: ignore[operator]
    pairs_ = found["brain_generalisation_pairs"]
    assert (pairs_["agent"] < pairs_["other_agent"]).all() and pairs_.height == rows.drop_nulls("evaluation")[
        "region"
    ].n_unique() + 1
    ahead = pairs_.filter(pl.col("region").is_in(list(CATEGORY)))
    assert (ahead["evaluation_difference"] > 0).all()
    for table in found.values():
        inside = table.filter(pl.col("ci_low").is_not_null())
        value = next(name for name in ("evaluation", "evaluation_difference", "ceiling_low") if name in table.columns)
        assert (inside["ci_low"] < inside[value]).all() and (inside[value] < inside["ci_high"]).all()
        assert (inside["generalises_to"] == "both").all() and inside["note"].null_count() == inside.height


def test_values_are_those_of_the_regions(world: OutputTables, found: OutputTables, tmp_path: Path) -> None:
    """Evaluations are mean correlations over all shared stimuli, ceilings those of `noise_ceilings`."""
    from scipy import stats

    ceilings = select_stimuli(lazy(world), WANTED, context(tmp_path))["noise_ceilings"]
    both = ceilings.join(found["brain_generalisation_ceilings"], on="region", suffix="_own")
    for end in ("ceiling_low", "ceiling_high"):
        assert np.allclose(both[end].drop_nulls(), both[f"{end}_own"].drop_nulls(), atol=1e-9)
    shared = world["shared_stimuli"].filter("shared")["stimulus_index"].to_numpy()
    weights = world["embeddings"].filter(agent="human-category").sort("stimulus_index", "dimension")
    width = weights["dimension"].n_unique()
    model = pairs(correlation_rsm(weights["weight"].to_numpy().reshape(-1, width)[shared].astype(float)))
    r = []
    for (subject,), rows in world["betas"].group_by("subject", maintain_order=True):
        usable = world["voxels"].filter(subject=subject).sort("voxel_index")["usable"].to_numpy()
        x = rows.sort("stimulus_index").filter(pl.col("stimulus_index").is_in(shared))["pattern"].to_list()
        z = stats.zscore(np.array(x)[:, usable], axis=0)
        r.append(stats.spearmanr(model, pairs(correlation_rsm(z))).statistic)
    own = found["brain_generalisation"].filter(region="all", agent="human-category")
    assert own["evaluation"].item() == pytest.approx(np.mean(r), abs=1e-4)  # single precision


def test_a_rerun_gives_the_same_rows(world: OutputTables, found: OutputTables, tmp_path: Path) -> None:
    again = run(world, tmp_path)
    assert all(again[name].equals(table) for name, table in found.items())


def test_few_stimuli_generalise_to_subjects_and_are_named(world: OutputTables, tmp_path: Path) -> None:
    lines: list[str] = []
    few = run(of_stimuli(world, 6), tmp_path, lines=lines)
    rows = few["brain_generalisation"].drop_nulls("evaluation")
    assert (rows["generalises_to"] == "subjects").all() and rows["ci_low"].null_count() == 0
    assert rows["sd_stimuli"].null_count() == rows.height and (rows["sd"] == rows["sd_subjects"]).all()
    assert rows["note"].str.contains("6 stimuli are too few for an interval over stimuli").all()
    assert any("too few" in line for line in lines)
    none = run(of_stimuli(world, 3), tmp_path)
    assert none["brain_generalisation"]["evaluation"].null_count() == none["brain_generalisation"].height
    assert none["brain_generalisation"]["note"].str.contains("share 3 stimuli|no subject").all()
    assert none["brain_generalisation_pairs"].is_empty()


def test_one_subject_generalises_to_stimuli(world: OutputTables, tmp_path: Path) -> None:
    first = world["voxels"]["subject"].min()
    one = world | {name: world[name].filter(subject=first) for name in ("voxels", "betas")}
    found = run(one, tmp_path)
    rows = found["brain_generalisation"].drop_nulls("evaluation")
    assert (rows["generalises_to"] == "stimuli").all() and rows["ci_low"].null_count() == 0
    assert rows["sd_subjects"].null_count() == rows.height and (rows["sd"] == rows["sd_stimuli"]).all()
    assert (
        found["brain_generalisation_ceilings"]["ceiling_low"].null_count()
        == found["brain_generalisation_ceilings"].height
    )
    neither = run(of_stimuli(one, 6), tmp_path)["brain_generalisation"].drop_nulls("evaluation")
    assert neither["sd"].null_count() == neither.height and neither["note"].str.contains("one subject, and 6").all()


def test_an_agent_without_a_fit_is_rows_with_the_reason(world: OutputTables, tmp_path: Path) -> None:
    fits = world["fits"].with_columns(representative=pl.col("representative") & (pl.col("agent") != "human-dimension"))
    found = run(world | {"fits": fits}, tmp_path)
    missing = found["brain_generalisation"].filter(agent="human-dimension")
    assert set(missing["note"]) == {"human-dimension has no fit with a dimension"} and missing.height > 20
    assert found["brain_generalisation"].filter(agent="human-category")["evaluation"].null_count() < 20
    assert found["brain_generalisation_pairs"].is_empty()


def test_the_step_is_there_only_with_its_section() -> None:
    """Without the section, every stage is as it was."""
    without = parse(override(TEXT, SIZE))
    assert {step.name for step in steps_of(WANTED)} - {step.name for step in steps_of(without)} == {"generalise_brains"}
    before, after = ({one.name: one for one in stages(params, NOTHING).values()} for params in (without, WANTED))
    assert set(after) - set(before) == {"generalise_brains"}
    assert all(before[name].reads == after[name].reads for name in before if name != "generalise_brains")
    with pytest.raises(UsageError, match="resamples"):
        parse(override(TEXT, ("brain.generalisation={resamples: 5}",)))
    assert parse(override(TEXT, ("brain.generalisation={}",))).brain.generalisation.resamples == 1000  # type: ignore[union-attr]
