"""BIDS as it is in the wild: rest, inherited events, spaces, older releases, masks, and clones without content."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from affectlake.brain.recordings.bids import NATIVE, find_fmriprep, name_of
from affectlake.brain.recordings.subjects import Recording
from affectlake.brain.recordings.volumes import read_runs
from affectlake.errors import SourceError
from tests.support.bids import SHAPE, SPACE, DataSet, agreement, write_image, write_table

IDS = [f"{number:04d}.mp4" for number in range(1, 17)]


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path)


def read(data: DataSet, space: str = SPACE, task: str = "", own_mask: bool = True) -> Recording:
    runs = find_fmriprep(data.prep, data.raw, data.subject, space, task)
    return read_runs(runs, None if own_mask else data.root / "mask.nii.gz", stimulus_ids=IDS)


def test_names_are_read_as_bids_defines_them() -> None:
    name = name_of(Path("sub-01_task-video_run-002_space-MNI_desc-preproc_bold.nii.gz"))
    assert dict(name.entities) == {"sub": "01", "task": "video", "run": "2", "space": "MNI", "desc": "preproc"}
    assert (name.suffix, name.extension) == ("bold", ".nii.gz")


def test_a_resting_run_is_not_used_and_needs_no_events(data: DataSet) -> None:
    planted = data.write()
    rest = data.bold(1, task="rest")
    shutil.copy(data.bold(1), rest)
    found = read(data)
    assert agreement(found.patterns[:8], planted[:8]) > 0.9
    assert found.notes[0] == f"run 1, {rest.name}: not used, since it has no events"
    assert len(read(data, task="video").notes) == 2
    with pytest.raises(SourceError, match=r"sub-01_task-rest_run-1.* has no events"):
        read(data, task="rest")
    with pytest.raises(SourceError, match="there are no runs of sub-01") as caught:
        read(data, task="music")
    assert caught.value.found.endswith("tasks rest, video")


def test_a_run_without_events_whose_task_has_them_is_refused(data: DataSet) -> None:
    data.write()
    data.events(2).unlink()
    with pytest.raises(SourceError, match=r"run-2.* has no events") as caught:
        read(data)
    assert "sub-01_task-video_run-2_events.tsv" in caught.value.wanted


def test_events_are_inherited_and_the_nearest_file_counts(data: DataSet) -> None:
    planted = data.write()
    rows = data.rows(1)
    for run in (1, 2):
        data.events(run).unlink()
    write_table(data.raw / "task-video_run-2_events.tsv", ("onset", "duration", "trial_type"), data.rows(2))
    write_table(data.raw / "task-other_events.tsv", ("onset", "duration", "trial_type"), data.rows(2))
    write_table(data.raw / "task-video_events.tsv", ("onset", "duration", "trial_type"), rows)
    found = read(data)
    assert list(found.labels) == IDS  # run 2 has the file with more entities
    assert agreement(found.patterns[:8], planted[:8]) > 0.9
    shifted = [[row[0], row[1], IDS[15 - at]] for at, row in enumerate(rows)]
    write_table(data.raw / "sub-01" / "sub-01_task-video_events.tsv", ("onset", "duration", "trial_type"), shifted)
    assert list(read(data).labels) == IDS[:7:-1] * 2  # the participant's file is nearer than the data set's
    write_table(data.raw / "sub-01" / "sub-01_run-1_events.tsv", ("onset", "duration", "trial_type"), rows)
    with pytest.raises(SourceError, match="two events files apply to sub-01_task-video_run-1"):
        read(data)


@pytest.mark.parametrize("entity", ["echo-1", "part-mag"])
def test_events_of_an_echo_or_a_part_are_those_of_the_run(data: DataSet, entity: str) -> None:
    data.write()
    expected = read(data)
    for run in (1, 2):
        path = data.events(run)
        path.rename(path.with_name(path.name.replace("_events", f"_{entity}_events")))
    found = read(data)
    assert found.labels == expected.labels and np.array_equal(found.patterns, expected.patterns)


def test_numbers_of_runs_may_have_leading_zeros(data: DataSet) -> None:
    data.write()
    expected = read(data).patterns
    for run in (1, 2):
        data.events(run).rename(data.events(run).with_name(f"sub-01_task-video_run-0{run}_events.tsv"))
    assert np.array_equal(read(data).patterns, expected)


def test_sessions_are_found_and_runs_are_in_order(tmp_path: Path) -> None:
    for session in (10, 2):
        for number in (10, 9, 1):
            stem = f"sub-01_ses-{session}_task-video_run-{number}"
            for folder, name in (("prep", f"{stem}_space-T1w_desc-preproc_bold.nii.gz"), ("raw", f"{stem}_events.tsv")):
                path = tmp_path / folder / "sub-01" / f"ses-{session}" / "func" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    runs = find_fmriprep(tmp_path / "prep", tmp_path / "raw", "01", "T1w")
    order = [(2, 1), (2, 9), (2, 10), (10, 1), (10, 9), (10, 10)]
    assert [run.bold.name.split("_space")[0] for run in runs] == [
        f"sub-01_ses-{s}_task-video_run-{n}" for s, n in order
    ]
    assert all(run.events and run.events.name.startswith(run.bold.name.split("_space")[0]) for run in runs)


def test_a_space_is_matched_as_a_whole_and_a_resolution_must_be_named(data: DataSet) -> None:
    data.write()
    for run in (1, 2):
        shutil.copy(data.bold(run), data.bold(run, "MNI152NLin2009cAsymX"))
    assert len(read(data).notes) == 2
    for run in (1, 2):
        shutil.copy(data.bold(run), data.bold(run, f"{SPACE}_res-2"))
    with pytest.raises(SourceError, match="is in the space MNI152NLin2009cAsym twice") as caught:
        read(data, own_mask=False)
    assert f"{SPACE}:res-2" in caught.value.todo
    assert len(read(data, f"{SPACE}:res-2", own_mask=False).notes) == 2
    with pytest.raises(SourceError, match="there are no runs of sub-01") as caught:
        read(data, "fsaverage")
    assert caught.value.found == f"spaces {SPACE}, MNI152NLin2009cAsymX; tasks video"


@pytest.mark.parametrize("space", ["T1w", NATIVE])
def test_native_space_has_the_masks_of_fmriprep(data: DataSet, space: str) -> None:
    planted = data.write("" if space == NATIVE else space)
    masks = [data.bold(run, "" if space == NATIVE else space) for run in (1, 2)]
    masks = [path.with_name(path.name.replace("preproc_bold", "brain_mask")) for path in masks]
    for number, path in enumerate(masks):
        inside = np.ones(SHAPE)
        inside[0, number, 0] = 0
        write_image(path, inside)
    found = read(data, space)
    assert len(found.voxels) == 16  # in both masks
    assert [0, 0, 0] not in found.voxels.tolist() and [0, 1, 0] not in found.voxels.tolist()
    kept = np.ravel_multi_index(tuple(found.voxels.T), SHAPE)
    assert agreement(found.patterns[:8], planted[:8, kept]) > 0.9
    assert found.shape == SHAPE
    masks[1].unlink()
    with pytest.raises(SourceError, match="1 runs have no brain mask"):
        read(data, space)


def test_the_names_of_the_first_releases_are_found(data: DataSet) -> None:
    planted = data.write()
    for run in (1, 2):
        stem = data.stem(run)
        data.bold(run).rename(data.bold(run).with_name(f"{stem}_bold_space-{SPACE}_preproc.nii.gz"))
        mask = data.bold(run).name.replace("preproc_bold", "brain_mask")
        data.bold(run).with_name(mask).rename(data.bold(run).with_name(f"{stem}_bold_space-{SPACE}_brainmask.nii.gz"))
        rows = [line.split("\t") for line in data.confounds(run).read_text().splitlines()[1:]]
        data.confounds(run).unlink()
        names = ("X", "Y", "Z", "RotX", "RotY", "RotZ")
        write_table(data.confounds(run).with_name(f"{stem}_bold_confounds.tsv"), names, rows)
    found = read(data)
    assert "6 motion parameters" in found.notes[0]
    assert agreement(found.patterns[:8], planted[:8]) > 0.9


def test_content_that_is_not_in_a_clone_is_named(data: DataSet) -> None:
    data.write()
    path = data.bold(2)
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to("../../.git/annex/objects/xx/MD5E-s1--0.nii.gz")
    with pytest.raises(SourceError, match=r"the content of the image .*run-2.* is not in this clone") as caught:
        read(data)
    assert caught.value.todo == f"fetch it: `datalad get {path}`"
    path.unlink()
    path.write_text("/annex/objects/MD5E-s1--0.nii.gz\n")  # an unlocked file
    with pytest.raises(SourceError, match="is not in this clone"):
        read(data)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(SourceError, match="is not in this clone") as caught:
        read(data)
    assert "git lfs pull" in caught.value.todo
    path.write_bytes(kept)
    for one in (data.events(1), data.confounds(1)):
        content = one.read_bytes()
        one.unlink()
        one.symlink_to("gone")
        with pytest.raises(SourceError, match=r"file .* is not in this clone"):
            read(data)
        one.unlink()
        one.write_bytes(content)
    assert len(read(data).notes) == 2


def test_a_participant_who_is_not_there_is_named_with_those_who_are(data: DataSet) -> None:
    data.write()
    with pytest.raises(SourceError, match="there are no runs of sub-02") as caught:
        find_fmriprep(data.prep, data.raw, "02")
    assert caught.value.found == "folders sub-01"


def test_runs_without_any_stimulus_are_not_read(data: DataSet) -> None:
    data.write()
    data.bold(1, task="localiser").write_text("not an image")
    events = data.events(1).with_name(f"{data.stem(1, 'localiser')}_events.tsv")
    write_table(events, ("onset", "duration", "trial_type"), [[0, "n/a", "face"], [20, "n/a", "house"]])
    found = read(data)
    assert found.notes[0].endswith("not used, since no event is a stimulus")
    assert tuple(found.others) == ("face", "house")
