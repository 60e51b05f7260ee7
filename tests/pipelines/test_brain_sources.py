"""The files of recordings: what the step of ingestion reads, what DVC follows, and what the settings change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.errors import SourceError, UsageError
from affectlake.lake import repository
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import brain as brain_steps
from affectlake.pipelines.steps import stimuli as stimuli_steps
from affectlake.pipelines.stored import NOTHING, stored
from tests.support.bids import AFFINE, SHAPE, DataSet, write_image, write_table

IDS = [f"{number:04d}.mp4" for number in range(1, 17)]
STIMULI = pl.DataFrame({"stimulus_index": np.arange(16, dtype=np.int32), "stimulus_id": IDS})


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    made = DataSet(tmp_path)
    made.write()
    return made


def params(**settings: Any) -> Params:
    return parse(text(**settings))


def text(**settings: Any) -> str:
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["brain"]["sources"] = {
        "kind": "fmriprep", "derivatives": "../prep", "raw": "../raw", "space": "MNI152NLin2009cAsym",
        "participants": ["01"],
    } | settings  # fmt: skip
    return yaml.safe_dump(raw, sort_keys=False)


def ingest(data: DataSet, lines: list[str] | None = None, **settings: Any) -> OutputTables:
    lake = data.root / "lake"
    lake.mkdir(exist_ok=True)
    log: Callable[[str], None] = (lines if lines is not None else []).append
    context = StepContext("", lake, lake, 1, log, lambda _: None)
    return brain_steps.ingest_brains({"stimuli": STIMULI.lazy()}, params(**settings), context)


def followed(data: DataSet, **settings: Any) -> list[str]:
    """The files outside the lake that DVC follows."""
    lake = data.root / "lake"
    lake.mkdir(exist_ok=True)
    body = yaml.safe_load(dvcfile.render(params(**settings), NOTHING, lake))["stages"]["ingest_brains"]
    return [path for path in body["deps"] if path.startswith("..")]


def test_every_run_and_what_was_regressed_out_is_printed(data: DataSet) -> None:
    lines: list[str] = []
    found = ingest(data, lines)
    assert found["betas"].height == 16
    assert [line.split(",")[0] for line in lines[:2]] == ["01: run 1", "01: run 2"]
    assert all("repetition time 2 s (header and sidecar); regressed out: baseline" in line for line in lines[:2])
    assert found["voxels"].select("grid_i", "grid_j", "grid_k").unique().rows() == [SHAPE]


def test_a_run_without_confounds_needs_a_decision(data: DataSet) -> None:
    data.confounds(2).unlink()
    with pytest.raises(SourceError, match=r"1 runs of sub-01 have no confounds file") as caught:
        ingest(data)
    assert "`motion: false`" in caught.value.todo
    lines: list[str] = []
    ingest(data, lines, motion=False)
    assert all("baseline and linear trend (no motion parameters)" in line for line in lines[:2])


def test_settings_choose_task_column_mask_and_repetition_time(data: DataSet) -> None:
    shutil.copy(data.bold(1), data.bold(1, task="other"))
    for run in (1, 2):
        rows = [[*row[:2], "video", row[2]] for row in data.rows(run)]
        write_table(data.events(run), ("onset", "duration", "trial_type", "stim_file"), rows)
        data.bold(run).with_name(data.bold(run).name.replace(".nii.gz", ".json")).unlink()
    inside = np.zeros(SHAPE)
    inside[1:, :, 1] = 1
    write_image(data.root / "own.nii.gz", inside)
    chosen = {"task": "video", "label_column": "stim_file", "masks": {"01": "../own.nii.gz"}, "repetition_time_s": 2.0}
    lines: list[str] = []
    found = ingest(data, lines, **chosen)
    assert found["voxels"].select("voxel_i", "voxel_j", "voxel_k").rows() == [
        (i, j, 1) for i in (1, 2) for j in (0, 1, 2)
    ]
    assert "repetition time 2 s (as set)" in lines[0]
    assert len([line for line in lines if "run" in line]) == 2
    with pytest.raises(UsageError, match=r"brain\.sources\.masks\.02 has no effect"):
        params(masks={"02": "m"})
    with pytest.raises(UsageError, match="call it 'a-b'"):
        params(masks={"a/b": "m"})
    with pytest.raises(UsageError, match=r"repetition_time_s"):
        params(repetition_time_s=0)


def test_dvc_follows_the_files_that_are_read_and_not_the_folders(data: DataSet) -> None:
    (data.prep / "sub-01" / "figures").mkdir()
    (data.prep / "sub-01" / "figures" / "report.svg").write_text("large")
    shutil.copy(data.bold(1), data.bold(1, task="rest"))
    found = followed(data)
    func, raw = "../prep/sub-01/func/sub-01_task-video", "../raw/sub-01/func/sub-01_task-video"
    space = "space-MNI152NLin2009cAsym"
    read = ("preproc_bold.nii.gz", "preproc_bold.json", "brain_mask.nii.gz")
    assert sorted(found) == sorted(
        [f"{func}_run-{run}_{space}_desc-{name}" for run in (1, 2) for name in read]
        + [f"{func}_run-{run}_desc-confounds_timeseries.tsv" for run in (1, 2)]
        + [f"{raw}_run-{run}_events.tsv" for run in (1, 2)]
    )
    (data.raw / "task-video_bold.json").write_text('{"RepetitionTime": 2.0}')
    assert followed(data, mask="../mask.nii.gz", motion=False) == [
        path
        for run in (1, 2)
        for path in (
            f"{func}_run-{run}_{space}_desc-preproc_bold.nii.gz",
            f"{raw}_run-{run}_events.tsv",
            f"{func}_run-{run}_{space}_desc-preproc_bold.json",
            *(("../raw/task-video_bold.json",) if run == 1 else ()),
        )
    ] + ["../mask.nii.gz"]
    absolute = followed(data, derivatives=str(data.prep), mask="../mask.nii.gz", motion=False)
    assert absolute == [path for path in absolute if path.startswith("../raw") or path == "../mask.nii.gz"]


def test_a_clone_without_content_stops_in_the_step_that_names_the_file(data: DataSet) -> None:
    data.bold(2).unlink()
    data.bold(2).symlink_to("gone")
    assert not [path for path in followed(data) if "run-2" in path and path.endswith("preproc_bold.nii.gz")]
    with pytest.raises(SourceError, match=r"the content of the image .*run-2.* is not in this clone"):
        ingest(data)
    shutil.rmtree(data.prep)
    assert followed(data, mask="../mask.nii.gz") == ["../mask.nii.gz"]


def test_a_file_that_appears_makes_the_stage_stale(data: DataSet) -> None:
    lake = data.root / "lake"
    repository.init(lake, text())
    dvcfile.write(lake)
    assert not dvcfile.write(lake)
    shutil.copy(data.events(1), data.raw / "sub-01" / "func" / "sub-01_task-more_run-1_events.tsv")
    assert not dvcfile.write(lake)  # nothing that is read
    shutil.copy(data.bold(1), data.bold(1, task="more"))
    assert dvcfile.write(lake)
    written = (lake / "dvc.yaml").read_text()
    assert written == dvcfile.render(parse(text()), stored(lake), lake)
    assert "task-more_run-1_events.tsv" in written


def test_a_run_that_disappears_makes_the_stage_stale(data: DataSet) -> None:
    """DVC ignores a recorded input that is not listed any more, so the record is removed."""
    lake = data.root / "lake"
    repository.init(lake, text(derivatives=str(data.prep)))
    dvcfile.write(lake)
    deps = yaml.safe_load((lake / "dvc.yaml").read_text())["stages"]["ingest_brains"]["deps"]
    record = {"cmd": "c", "deps": [{"path": path, "md5": "0", "size": 1} for path in deps]}
    (lake / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"ingest_brains": record}}))
    dvcfile.write(lake)
    assert yaml.safe_load((lake / "dvc.lock").read_text())["stages"]["ingest_brains"] == record
    data.bold(2).unlink()
    dvcfile.write(lake)
    assert "deps" not in yaml.safe_load((lake / "dvc.lock").read_text())["stages"]["ingest_brains"]


def test_each_file_is_followed_once(data: DataSet) -> None:
    runs = [{"bold": f"../{run}.nii.gz", "events": "../e.tsv", "confounds": "../c.tsv"} for run in (1, 2)]
    series = {"mask": "../m.nii.gz", "runs": runs, "label_column": "stim_file"}
    (data.root / "1.json").write_text("{}")
    settings = {"kind": "images", "subjects": {"S1": series, "S2": series}}
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["brain"]["sources"] = settings
    found = parse(yaml.safe_dump(raw))
    (data.root / "lake").mkdir()
    body = yaml.safe_load(dvcfile.render(found, NOTHING, data.root / "lake"))["stages"]["ingest_brains"]
    assert [path for path in body["deps"] if path.startswith("..")] == [
        "../1.nii.gz", "../e.tsv", "../c.tsv", "../2.nii.gz", "../1.json", "../m.nii.gz",
    ]  # fmt: skip


def test_images_of_patterns_are_those_of_each_subject(tmp_path: Path) -> None:
    rng, subjects, planted = np.random.default_rng(6), {}, {}
    write_image(tmp_path / "mask.nii.gz", np.ones(SHAPE))
    for name in ("S2", "S1"):
        planted[name] = rng.normal(size=(*SHAPE, 16)).astype(np.float32)
        write_image(tmp_path / f"{name}.nii.gz", planted[name])
        order = rng.permutation(16)
        (tmp_path / f"{name}.txt").write_text("".join(f"{at + 1} {row // 4}\n" for row, at in enumerate(order)))
        planted[name] = planted[name].reshape(-1, 16).T[np.argsort(order)]
        subjects[name] = {"bold": f"{name}.nii.gz", "mask": "mask.nii.gz", "attributes": f"{name}.txt"}
    raw = yaml.safe_load(text())
    raw["brain"]["sources"] = {"kind": "images", "subjects": subjects}
    context = StepContext("", tmp_path, tmp_path, 1, lambda _: None, lambda _: None)
    found = brain_steps.ingest_brains({"stimuli": STIMULI.lazy()}, parse(yaml.safe_dump(raw)), context)
    assert found["betas"]["subject"].unique(maintain_order=True).to_list() == ["S1", "S2"]
    for name, patterns in planted.items():
        rows = found["betas"].filter(pl.col("subject") == name)
        assert rows["stimulus_index"].to_list() == list(range(16))
        assert np.array_equal(np.array(rows["pattern"].to_list(), np.float32), patterns)


@pytest.mark.parametrize("motion", [True, False])
def test_time_series_of_images_are_those_of_the_same_files_as_fmriprep(data: DataSet, motion: bool) -> None:
    runs = [
        {
            "bold": f"../{data.bold(run).relative_to(data.root)}",
            "events": f"../{data.events(run).relative_to(data.root)}",
        }
        | ({"confounds": f"../{data.confounds(run).relative_to(data.root)}"} if motion else {})
        for run in (1, 2)
    ]
    raw = yaml.safe_load(text())
    raw["brain"]["sources"] = {"kind": "images", "subjects": {"01": {"mask": "../mask.nii.gz", "runs": runs}}}
    context = StepContext("", data.root / "lake", data.root, 1, lambda _: None, lambda _: None)
    expected = ingest(data, motion=motion, mask="../mask.nii.gz")
    found = brain_steps.ingest_brains({"stimuli": STIMULI.lazy()}, parse(yaml.safe_dump(raw)), context)
    assert found["betas"].equals(expected["betas"])
    other = ingest(data, motion=not motion, mask="../mask.nii.gz")
    assert not found["betas"].equals(other["betas"])


def test_regions_of_each_participant_and_regions_without_a_voxel(data: DataSet) -> None:
    numbers = np.full(SHAPE, 7.004)
    numbers[0] = 12.997
    write_image(data.root / "dseg.nii.gz", numbers)
    rows = [[7, "Brain-Stem"], ["13.0", "Left-Pallidum"], [18, "Left-Amygdala"], [0, ""]]
    write_table(data.root / "dseg.tsv", ("index", "name"), rows)
    lines: list[str] = []
    found = ingest(data, lines, atlases={"01": {"image": "../dseg.nii.gz", "labels": "../dseg.tsv"}})
    regions = found["voxels"].select("voxel_i", "regions").unique().sort("voxel_i").rows()
    assert regions == [(0, "pallidum"), (1, "brainstem"), (2, "brainstem")]
    assert "01: no voxel is in 1 regions: amygdala" in lines
    write_image(data.root / "dseg.nii.gz", numbers + 0.02)
    with pytest.raises(SourceError, match=r"18 values of the atlas .* are not whole numbers"):
        ingest(data, atlas={"image": "../dseg.nii.gz", "labels": "../dseg.tsv"})


def test_maps_have_the_grid_of_the_mask(data: DataSet, tmp_path: Path) -> None:
    from affectlake.brain.recordings.volumes import fitted_affine, write_map
    from affectlake.pipelines.outputs.nifti import _shape

    inside = np.zeros(SHAPE)
    inside[:2, :2, 0] = 1  # one slice, away from the end of each axis
    write_image(data.root / "own.nii.gz", inside)
    voxels = ingest(data, masks={"01": "../own.nii.gz"})["voxels"]
    grid, mm = (
        voxels.select("voxel_i", "voxel_j", "voxel_k").to_numpy(),
        voxels.select("x_mm", "y_mm", "z_mm").to_numpy(),
    )
    affine = fitted_affine(grid, mm)
    write_map(np.ones(len(grid)), grid, affine, tmp_path / "map.nii.gz", _shape(voxels))
    image = nib.load(tmp_path / "map.nii.gz")
    assert image.shape == SHAPE
    assert np.allclose(image.affine[:, :2], AFFINE[:, :2], atol=1e-4)
    assert np.allclose(image.affine[:3, 3], AFFINE[:3, 3], atol=1e-3)
    assert image.affine[:3, 2] == pytest.approx([0, 0, 2.25])  # the mean of the others, as nothing says how thick it is
    assert _shape(voxels.drop("grid_i")) is None
    assert _shape(voxels.with_columns(grid_k=pl.lit(None, pl.Int32))) is None


def test_subjects_that_share_no_stimulus_have_no_ceilings(tmp_path: Path) -> None:
    small = ("sources.n_stimuli=120", "brain.sources.n_subjects=2", "brain.sources.voxel_mm=24.0")
    study = parse(override(templates.starting_params("demo"), (*small, "brain.searchlight.n_stimuli=30")))
    here = StepContext("", tmp_path, tmp_path, 1, lambda _: None, lambda _: None)
    tables = stimuli_steps.ingest({}, study, here)
    tables |= brain_steps.ingest_brains({name: frame.lazy() for name, frame in tables.items()}, study, here)
    is_first = pl.col("subject") == "synthetic-1"
    tables["betas"] = tables["betas"].filter((pl.col("stimulus_index") < 60) == is_first)
    tables["shared_stimuli"] = tables["stimuli"].select("stimulus_index", shared=pl.lit(True))
    found = STEPS["select_stimuli"]({name: frame.lazy() for name, frame in tables.items()}, study, here)
    assert found["noise_ceilings"]["n_stimuli"].unique().to_list() == [0]
    assert found["noise_ceilings"]["ceiling_low"].null_count() == found["noise_ceilings"].height
