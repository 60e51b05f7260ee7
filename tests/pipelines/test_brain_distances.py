"""Crossnobis distances as a step, from image files with repeated presentations: planted regions, agents, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import yaml
from numpy.typing import NDArray

from affectlake.brain.crossfitted import crossfitted_distances
from affectlake.errors import UsageError
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.engine.graph import stages, steps_of
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.steps.brain_distances import measure_distances
from affectlake.pipelines.steps.brain_selection import share_stimuli
from affectlake.pipelines.stored import Stored
from affectlake.rsm import correlation_rsm, pairs
from tests.support.brain_worlds import AGENTS, TEXT, context, lazy, with_embedding

N, RUNS, SHAPE = 40, 3, (10, 6, 4)
REGIONS = {"VC": slice(0, 80), "TPJ": slice(80, 160), "ACC": slice(160, 162)}
"""Voxels of the regions: VC follows the first agent, patterns of TPJ are equal, ACC is too small, others have noise."""

STUDY = parse(override(TEXT, ("sources.n_stimuli=60",)))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    here = context(tmp_path_factory.mktemp("study"))
    tables = stimuli_steps.ingest({}, STUDY, here)
    both = [with_embedding(tables, STUDY, agent) for agent in AGENTS]
    tables |= {name: pl.concat([one[name] for one in both]) for name in ("embeddings", "fits")}
    return tables | share_stimuli(lazy(tables), STUDY, here)


def embedding(study: OutputTables, agent: str) -> NDArray[np.float64]:
    rows = study["embeddings"].filter(agent=agent).sort("stimulus_index", "dimension")
    return rows["weight"].to_numpy().reshape(-1, rows["dimension"].n_unique()).astype(np.float64)


def write(folder: Path, study: OutputTables, shown: Sequence[tuple[int, int]], name: str = "S1", seed: int = 0) -> None:
    """Write the images of a subject that was shown pairs of a stimulus and a run."""
    rng, n_voxels = np.random.default_rng(seed), int(np.prod(SHAPE))
    features = embedding(study, "human-category")
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    patterns = np.zeros((len(features), n_voxels))
    patterns[:, REGIONS["VC"]] = features @ np.random.default_rng(9).normal(size=(features.shape[1], 80)) * 0.15
    which, runs = np.array(shown).T
    values = 100 + patterns[which] + rng.normal(size=(len(which), n_voxels)) + 0.5 * rng.normal(size=(len(which), 1))
    values[:, -1] = 7.0  # a constant voxel
    areas = np.zeros(n_voxels)
    for number, voxels in enumerate(REGIONS.values(), start=1):
        areas[voxels] = number
    ids = study["stimuli"].sort("stimulus_index")["stimulus_id"].to_list()
    lines = [f"{ids[at]} {run}" for at, run in zip(which.tolist(), runs.tolist(), strict=True)]
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "dseg.tsv").write_text("index\tname\n" + "".join(f"{i + 1}\t{key}\n" for i, key in enumerate(REGIONS)))
    for file, volumes in (
        (f"{name}.nii.gz", values.T.reshape(*SHAPE, -1)),
        ("mask.nii.gz", np.ones(SHAPE)),
        ("dseg.nii.gz", areas.reshape(SHAPE)),
    ):
        nib.save(nib.Nifti1Image(volumes.astype(np.float32), np.eye(4)), folder / file)


def asked(folder: Path, names: Sequence[str] = ("S1",), more: Sequence[str] = ("brain.crossnobis={}",)) -> Params:
    one = {"mask": str(folder / "mask.nii.gz"),
           "atlas": {"image": str(folder / "dseg.nii.gz"), "labels": str(folder / "dseg.tsv")}}  # fmt: skip
    files = {
        name: one | {"bold": str(folder / f"{name}.nii.gz"), "attributes": str(folder / f"{name}.txt")}
        for name in names
    }
    raw = yaml.safe_load(TEXT)
    raw["sources"]["n_stimuli"], raw["brain"]["sources"] = 60, {"kind": "images", "subjects": files}
    return parse(override(yaml.safe_dump(raw, sort_keys=False), tuple(more)))


def twice_in_every_run(stimuli: Sequence[int] = tuple(range(N)), runs: int = RUNS) -> list[tuple[int, int]]:
    rng = np.random.default_rng(3)
    return [(int(s), run) for run in range(1, runs + 1) for s in rng.permutation(stimuli)]


def run(
    tables: OutputTables, folder: Path, params: Params | None = None, lines: list[str] | None = None
) -> OutputTables:
    return measure_distances(lazy(tables), params or asked(folder), context(folder, lines=lines))


@pytest.fixture(scope="module")
def folder(study: OutputTables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a subject with three presentations of 40 stimuli and one of 20 others; and of one without repeats."""
    found = tmp_path_factory.mktemp("images")
    write(found, study, [*twice_in_every_run(), *((s, 1) for s in range(N, 60))])
    write(found, study, [(s, 1) for s in range(60)], "S2")
    return found


@pytest.fixture(scope="module")
def found(study: OutputTables, folder: Path) -> OutputTables:
    return run(study, folder, asked(folder, ("S1", "S2")))


def test_the_tables_keep_their_contracts(study: OutputTables, found: OutputTables, tmp_path: Path) -> None:
    repository.init(tmp_path / "lake", TEXT)
    read = {"stimuli": study["stimuli"].lazy()}
    assert write_outputs(tmp_path / "lake", "parts", {Output(name): table for name, table in found.items()}, read) > 0


def test_planted_structure_is_found_and_equal_patterns_have_distances_around_zero(found: OutputTables) -> None:
    rows = {row["region"]: row for row in found["crossnobis_reliability"].filter(subject="S1").to_dicts()}
    assert rows["VC"]["ci_low"] > 0 and rows["VC"]["p_above_zero_fdr"] < 0.001
    assert rows["TPJ"]["ci_low"] < 0 < rows["TPJ"]["ci_high"] and rows["TPJ"]["p_above_zero"] > 0.05
    assert abs(rows["TPJ"]["mean_distance"]) < rows["VC"]["mean_distance"] / 10
    assert {row["n_stimuli"] for row in rows.values()} == {N}
    assert (rows["VC"]["folds"], rows["VC"]["whitening"]) == ("runs", "covariance")
    assert rows["all"]["n_voxels"] == 239 and rows["VC"]["n_voxels"] == 80  # one is constant
    distances = found["crossnobis_distances"]
    assert set(distances["region"]) == {"VC", "TPJ", "all"} and set(distances["subject"]) == {"S1"}
    assert distances.filter(region="VC").height == N * (N - 1) // 2
    assert (distances.filter(region="TPJ")["crossnobis_distance"] < 0).mean() > 0.4  # type: ignore[operator]


def test_the_agent_that_made_the_patterns_scores_higher(found: OutputTables) -> None:
    scores = found["crossnobis_scores"].filter(subject="S1")
    made, other = (scores.filter(region="VC", agent=agent).row(0, named=True) for agent in AGENTS)
    assert made["distance_r"] > other["distance_r"] + 0.1 and made["ci_low"] > 0 and made["p"] < 0.01
    assert scores.filter(region="TPJ")["p"].min() > 0.01  # type: ignore[operator]


def test_values_are_those_of_the_images(study: OutputTables, folder: Path, found: OutputTables) -> None:
    """The distances are those of the volumes in the files; the scores, Spearman's correlations of the table's pairs."""
    from scipy import stats

    volumes = nib.load(folder / "S1.nii.gz").get_fdata(dtype=np.float32)  # type: ignore[attr-defined]
    x = volumes.reshape(-1, volumes.shape[-1]).T[: N * RUNS, REGIONS["VC"]]
    which, runs = np.array(twice_in_every_run()).T
    rows = found["crossnobis_distances"].filter(region="VC").sort("stimulus_index", "other_stimulus_index")
    own = rows["crossnobis_distance"].to_numpy()
    assert np.allclose(own, pairs(crossfitted_distances(x, which, runs).distances))
    model = pairs(1 - correlation_rsm(embedding(study, "human-dimension")[:N]))
    score = found["crossnobis_scores"].filter(region="VC", agent="human-dimension", subject="S1")
    assert score["distance_r"].item() == pytest.approx(stats.spearmanr(model, own).statistic, abs=1e-6)


def test_what_a_subject_or_region_cannot_have_is_rows_with_the_reason(found: OutputTables) -> None:
    once = found["crossnobis_reliability"].filter(subject="S2")
    assert once.height == 4 and set(once["note"]) == {"0 stimuli were presented repeatedly; 5 are needed"}
    small = found["crossnobis_reliability"].filter(subject="S1", region="ACC").row(0, named=True)
    assert small["note"] == "fewer than 3 voxels of the region can be used" and small["n_voxels"] == 2
    scores = found["crossnobis_scores"]
    assert scores.filter(subject="S2").height == 8 and scores.filter(subject="S2")["distance_r"].null_count() == 8
    assert set(scores.filter(region="ACC", subject="S1")["note"]) == {small["note"]}
    for name, value in (("crossnobis_reliability", "mean_distance"), ("crossnobis_scores", "distance_r")):
        assert (found[name]["note"].is_null() == found[name][value].is_not_null()).all()


def test_one_or_two_workers_give_the_same_rows(study: OutputTables, folder: Path) -> None:
    params = asked(folder, ("S1", "S2"))
    first, second = (
        measure_distances(lazy(study), params, StepContext("", folder, folder, n, lambda _: None, lambda _: None,
                                                           agents=AGENTS))
        for n in (1, 2)
    )  # fmt: skip
    assert all(first[name].equals(second[name]) for name in first)


def test_four_repeated_stimuli_are_too_few_and_five_are_enough(study: OutputTables, tmp_path: Path) -> None:
    for n in (1, 4, 5):
        write(tmp_path, study, [(s, 1 + r) for r in range(4) for s in range(60) if r == 0 or s < n])
        rows = run(study, tmp_path)["crossnobis_reliability"].filter(region="VC")
        said = {1: "1 stimulus was presented repeatedly; 5 are needed", 4: "4 stimuli were presented repeatedly; 5 are"}
        assert (rows["note"].item() or "").startswith(said.get(n, "")) and rows["n_stimuli"].item() == n
        assert rows["mean_distance"].is_null().item() == (n < 5)


def test_more_stimuli_than_wanted_are_the_most_repeated_ones(study: OutputTables, tmp_path: Path) -> None:
    write(tmp_path, study, [*twice_in_every_run(runs=2), *((s, 3) for s in (7, 11, 30))])
    lines: list[str] = []
    found = run(study, tmp_path, asked(tmp_path, more=("brain.crossnobis={max_stimuli: 6}",)), lines)
    used = set(found["crossnobis_distances"]["stimulus_index"]) | set(
        found["crossnobis_distances"]["other_stimulus_index"]
    )
    assert len(used) == 6 and {7, 11, 30} <= used
    assert any(
        "40 stimuli were presented repeatedly; the 6 with the most presentations are used" in one for one in lines
    )


def test_other_folds_are_named(study: OutputTables, tmp_path: Path) -> None:
    blocked = [(s, 1 + r + 4 * (s % 2)) for r in range(4) for s in range(N)]
    within = [(s, 1 + s % 4) for s in range(N) for _ in range(4)]
    for shown, kind in ((blocked, "halves_of_runs"), (within, "halves")):
        write(tmp_path, study, shown)
        rows = run(study, tmp_path)["crossnobis_reliability"].filter(pl.col("region").is_in(["VC", "TPJ"]))
        assert (rows["folds"] == kind).all()
        assert rows.filter(region="VC")["ci_low"].item() > 0 > rows.filter(region="TPJ")["ci_low"].item()


def test_a_covariance_that_cannot_be_inverted_is_a_note(study: OutputTables, folder: Path) -> None:
    rows = run(study, folder, asked(folder, more=("brain.crossnobis={regularisation: none}",)))
    note = rows["crossnobis_reliability"].filter(region="VC")["note"].item()
    # 80 voxels; two residuals of each of 40 stimuli without the 8 of two groups
    assert (
        note.startswith("the covariance of the noise cannot be inverted: 80 voxels and 64 degrees of")
        and "shrink it" in note
    )
    assert set(rows["crossnobis_scores"].filter(region="VC")["note"]) == {note}
    shrunk = run(study, folder, asked(folder, more=("brain.crossnobis={regularisation: identity}",)))
    assert shrunk["crossnobis_reliability"].filter(region="VC")["ci_low"].item() > 0


def test_agents_without_a_fit_or_similarities_are_rows_with_the_reason(study: OutputTables, folder: Path) -> None:
    own = pl.col("agent") == "human-dimension"
    fits = study["fits"].with_columns(representative=pl.col("representative") & ~own)
    rows = run(study | {"fits": fits}, folder)["crossnobis_scores"].filter(region="VC")
    assert rows.filter(own)["note"].item() == "human-dimension has no fit with a dimension"
    assert rows.filter(~own)["note"].item() is None
    equal = study["embeddings"].with_columns(
        weight=pl.when(own).then(pl.col("dimension").cast(pl.Float32)).otherwise("weight")
    )
    rows = run(study | {"embeddings": equal}, folder)["crossnobis_scores"].filter(region="VC")
    assert rows.filter(own)["note"].item() == "the agent's similarities are all equal"
    few = study["shared_stimuli"].with_columns(shared=pl.col("stimulus_index") < 4)
    rows = run(study | {"shared_stimuli": few}, folder)["crossnobis_scores"].filter(region="VC")
    assert set(rows["note"]) == {"all agents describe 4 of the repeated stimuli; 5 are needed"}


def test_agents_are_compared_on_stimuli_that_all_describe(study: OutputTables, folder: Path) -> None:
    some = study["shared_stimuli"].with_columns(shared=pl.col("stimulus_index") % 2 == 0)
    found = run(study | {"shared_stimuli": some}, folder)
    assert set(found["crossnobis_scores"].filter(region="VC")["n_stimuli"]) == {N // 2}
    assert set(found["crossnobis_reliability"]["n_stimuli"]) == {N}


def test_synthetic_subjects_have_no_repeats(study: OutputTables, tmp_path: Path) -> None:
    params = parse(override(TEXT, ("sources.n_stimuli=60", "brain.sources.n_subjects=1", "brain.crossnobis={}")))
    found = run(study, tmp_path, params)
    assert found["crossnobis_distances"].is_empty() and found["crossnobis_reliability"].height > 20
    assert set(found["crossnobis_scores"]["note"]) == {"0 stimuli were presented repeatedly; 5 are needed"}


def test_the_section_adds_one_step_and_makes_no_other_stale() -> None:
    nothing = Stored(frozenset(), frozenset())
    without, wanted = (parse(override(TEXT, more)) for more in ((), ("brain.crossnobis={}",)))
    assert {step.name for step in steps_of(wanted)} - {step.name for step in steps_of(without)} == {"measure_distances"}
    before, after = ({one.name: one for one in stages(params, nothing).values()} for params in (without, wanted))
    assert set(after) - set(before) == {"measure_distances"}
    assert all(before[name].reads == after[name].reads for name in before)
    for wrong in ("{regularisation: magic}", "{max_stimuli: 4}"):
        with pytest.raises(UsageError, match=r"brain\.crossnobis"):
            parse(override(TEXT, (f"brain.crossnobis={wrong}",)))
