"""Recordings: BData written by bdpy itself, NIfTI images, events, fMRIPrep's layout, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from affectlake.brain.recordings import preprocessing, regions
from affectlake.brain.recordings.bdata import read_bdata
from affectlake.brain.recordings.preprocessing import Block
from affectlake.brain.recordings.subjects import Recording, align, z_scored
from affectlake.brain.recordings.volumes import Atlas, find_fmriprep, fitted_affine, read_patterns, read_runs, write_map
from affectlake.errors import SourceError

RNG = np.random.default_rng(6)
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.5, 0, -120], [0, 0, 3, -70], [0, 0, 0, 1]])


DATA = Path(__file__).parent / "data"  # written once by bdpy, as the published files are


@pytest.fixture
def bdata(tmp_path: Path) -> Path:
    """A file that bdpy wrote: voxels, labels by name, runs, places, regions."""
    return Path(shutil.copy(DATA / "recording.h5", tmp_path / "s1.h5"))


def test_bdata_round_trip(bdata: Path) -> None:
    found = read_bdata(bdata, regions.needed_columns())
    assert found.patterns.dtype == np.float32
    assert np.array_equal(found.patterns, np.random.default_rng(6).normal(size=(7, 11)).astype(np.float32))
    assert found.labels == [f"{s:04d}.mp4" for s in range(1, 8)]
    assert found.runs is not None
    assert found.runs.tolist() == [1, 1, 1, 2, 2, 2, 3]
    assert found.voxels[:, 0].tolist() == list(range(11))
    assert np.allclose(fitted_affine(found.voxels, found.mm), AFFINE, atol=1e-3)
    assert set(found.columns) == {"hcp180_r_lh.L_TF_ROI", "thalamus"}
    member = regions.membership(found.columns, 11)
    assert dict(zip(member.keys, member.voxels.sum(axis=1).tolist(), strict=True)) == {"TF": 4, "thalamus": 1}


@pytest.mark.parametrize(
    ("key", "column", "message"),
    [
        ("Run", "dataset", "2 samples of the recording .* have no run"),
        ("voxel_j", "metadata/value", "2 voxels of the recording .* have no coordinates"),
        ("stimulus_name", "mark", "cannot be read as BData"),
    ],
)
def test_bdata_with_holes_is_refused(bdata: Path, key: str, column: str, message: str) -> None:
    import h5py

    with h5py.File(bdata, "r+") as file:
        row = [name.decode() for name in file["metadata/key"][:]].index(key)
        values = file["metadata/value"][:]
        if column == "dataset":
            at = int(np.flatnonzero(values[row] == 1)[0])
            file["dataset"][[1, 3], at] = np.nan
        elif column == "mark":
            file["metadata/value"][row] = np.nan
        else:
            file["metadata/value"][row, [2, 5]] = np.nan
    with pytest.raises(SourceError, match=message):
        read_bdata(bdata, regions.needed_columns())


@pytest.mark.parametrize("axes", ["xyz", "z"])
def test_bdata_without_coordinates_in_mm_is_refused(bdata: Path, axes: str) -> None:
    import h5py

    with h5py.File(bdata, "r+") as file:
        keys = [name.decode() for name in file["metadata/key"][:]]
        for axis in axes:
            keys[keys.index(f"voxel_{axis}")] = f"other_{axis}"
        del file["metadata/key"]
        file["metadata/key"] = [key.encode() for key in keys]
    with pytest.raises(SourceError, match=f"lacks 'voxel_{axes[0]}'") as caught:
        read_bdata(bdata, regions.needed_columns())
    assert "voxel_x, voxel_y, voxel_z (mm)" in caught.value.todo


def test_large_numbers_as_labels_stay_apart(bdata: Path) -> None:
    import h5py

    numbers = np.array([1_000_001, 1_000_002, 12_345_678, 3, 0.5, 16_777_215, 7])
    with h5py.File(bdata, "r+") as file:
        row = [name.decode() for name in file["metadata/key"][:]].index("stimulus_name")
        column = int(np.flatnonzero(file["metadata/value"][row] == 1)[0])
        del file["vmap/stimulus_name"]
        file["dataset"][:, column] = numbers
    expected = ["1000001", "1000002", "12345678", "3", "0.5", "16777215", "7"]
    assert list(read_bdata(bdata, ()).labels) == expected
    with h5py.File(bdata, "r+") as file:
        values = file["dataset"][:].astype(np.float32)
        del file["dataset"]
        file["dataset"] = values
    assert list(read_bdata(bdata, ()).labels) == expected
    with h5py.File(bdata, "r+") as file:
        file["dataset"][0, column] = 16_777_217  # the same float32 as 16,777,216
    with pytest.raises(SourceError, match="too large for the precision"):
        read_bdata(bdata, ())


@pytest.mark.reference
def test_what_is_read_is_what_bdpy_reads(bdata: Path) -> None:
    theirs, ours = json.loads((DATA / "recording.json").read_text()), read_bdata(bdata, ("thalamus",))
    assert np.allclose(theirs["patterns"], ours.patterns)
    assert theirs["labels"] == list(ours.labels)
    assert np.array_equal(theirs["runs"], ours.runs)
    assert np.allclose(theirs["thalamus"], ours.patterns[:, ours.columns["thalamus"]])


def test_a_truncated_file_is_named(bdata: Path, tmp_path: Path) -> None:
    path = bdata
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match="cannot be read as BData"):
        read_bdata(path, ())
    path.write_text("no HDF5")
    with pytest.raises(SourceError, match="cannot be read as BData"):
        read_bdata(path, ())
    with pytest.raises(SourceError, match="there is no recording"):
        read_bdata(tmp_path / "other.h5", ())
    (tmp_path / "link.h5").symlink_to("gone")
    with pytest.raises(SourceError, match=r"the content of the recording .* is not in this clone"):
        read_bdata(tmp_path / "link.h5", ())


def test_a_file_without_the_label_offers_the_nearest(bdata: Path) -> None:
    with pytest.raises(SourceError, match="did you mean 'stimulus_name'"):
        read_bdata(bdata, (), label="stimulus_names")


def recording(labels: list[str], runs: list[int] | None = None) -> Recording:
    n = len(labels)
    voxels = np.stack([np.arange(3), np.zeros(3), np.zeros(3)], axis=1).astype(np.int32)
    patterns = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    mm = voxels.astype(np.float32)
    return Recording(patterns, labels, None if runs is None else np.array(runs), voxels, mm, {})


IDS = ["0001.mp4", "0002.mp4", "0003.mp4", "0010.mp4"]


@pytest.mark.parametrize("labels", [["0002.mp4", "0010.mp4", "0001.mp4"], ["2", "10", "1"], ["2.0", "10.0", "1.0"]])
def test_labels_are_matched_as_they_stand_or_by_their_number(labels: list[str]) -> None:
    found = align(recording(labels), IDS)
    assert found.stimulus_index.tolist() == [0, 1, 3]
    assert found.patterns[:, 0].tolist() == [6, 0, 3]
    assert found.missing == ("0003.mp4",)
    assert found.runs.tolist() == [-1, -1, -1]


def test_repeated_presentations_are_averaged_and_all_is_counted() -> None:
    found = align(recording(["0001.mp4", "0002.mp4", "0001.mp4", "9999.mp4"], [1, 1, 2, 2]), IDS)
    assert found.patterns[0].tolist() == [3, 4, 5]
    assert found.n_presentations.tolist() == [2, 1]
    assert found.runs.tolist() == [1, 1]
    assert found.unknown == ("9999.mp4",)
    line = found.account("s1")
    assert "1 stimuli shown repeatedly (averaged), 2 not shown, 1 labels of other stimuli ignored" in line


def test_labels_of_another_study_are_refused() -> None:
    with pytest.raises(SourceError, match="no label of the recording is a stimulus"):
        align(recording(["face", "house"]), IDS)
    with pytest.raises(SourceError, match="do not fit together"):
        align(recording(["1", "2"])._replace(labels=["1"]), IDS)


def test_a_bad_voxel_is_counted_and_stays_nan() -> None:
    one = recording(["1", "2", "3"])
    one.patterns[1, 0] = np.nan
    one.patterns[:, 2] = 0.1
    found = align(one, IDS)
    assert found.n_bad_voxels == 2
    z = z_scored(found.patterns)
    assert np.isnan(z[:, [0, 2]]).all()
    assert z[:, 1].mean() == pytest.approx(0, abs=1e-6)
    assert z[:, 1].std() == pytest.approx(1, abs=1e-6)


def write_image(path: Path, values: NDArray[np.floating], affine: NDArray[np.float64] = AFFINE) -> Path:
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.0)[: values.ndim])
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def test_images_with_an_attributes_file(tmp_path: Path) -> None:
    values = RNG.normal(size=(4, 3, 2, 5)).astype(np.float32)
    mask = RNG.random((4, 3, 2)) < 0.6
    bold, brain = write_image(tmp_path / "bold.nii.gz", values), write_image(tmp_path / "mask.nii.gz", mask)
    lines = tmp_path / "attributes.txt"
    lines.write_text("1 0\n2 0\n3 1\n10 1\n1 2\n")
    found = read_patterns(bold, brain, lines)
    assert np.array_equal(found.patterns, values[mask].T)
    assert found.runs is not None
    assert found.runs.tolist() == [0, 0, 1, 1, 2]
    assert np.allclose(found.mm, nib.affines.apply_affine(AFFINE, found.voxels), atol=1e-4)
    assert align(found, IDS).n_presentations.tolist() == [2, 1, 1, 1]
    lines.write_text("1 0\n2 0\n")
    with pytest.raises(SourceError, match="a line for each volume"):
        read_patterns(bold, brain, lines)
    lines.write_text("1 0\n2 0\n3 1\n10 one\n1 2\n")
    with pytest.raises(SourceError, match="are not a label and a run"):
        read_patterns(bold, brain, lines)
    with pytest.raises(SourceError, match="another shape"):
        read_patterns(bold, write_image(tmp_path / "small.nii.gz", mask[:3]), lines)
    moved = AFFINE.copy()
    moved[0, 3] += 2
    with pytest.raises(SourceError, match="another affine"):
        read_patterns(bold, write_image(tmp_path / "moved.nii.gz", mask, moved), lines)


def test_an_atlas_gives_images_their_regions(tmp_path: Path) -> None:
    values, numbers = RNG.normal(size=(4, 3, 2, 3)), RNG.integers(0, 4, (4, 3, 2))
    brain = write_image(tmp_path / "mask.nii.gz", np.ones((4, 3, 2)))
    bold, atlas = write_image(tmp_path / "bold.nii.gz", values), write_image(tmp_path / "atlas.nii.gz", numbers)
    lines, labels = tmp_path / "attributes.txt", tmp_path / "dseg.tsv"
    lines.write_text("1 0\n2 0\n3 1\n")
    labels.write_text("index\tname\n1\tL_V1_ROI\n2\tRight-Amygdala\n3\tCSF\n")
    found = read_patterns(bold, brain, lines, Atlas(atlas, labels))
    inside = numbers[tuple(found.voxels.T)]
    member = regions.membership(found.columns, len(inside))
    assert member.keys == ("VC", "amygdala")
    assert np.array_equal(member.voxels, [inside == 1, inside == 2])
    labels.write_text("index\tname\n3\tCSF\n")
    with pytest.raises(SourceError, match=r"no label of .* belongs to a region"):
        read_patterns(bold, brain, lines, Atlas(atlas, labels))
    moved = write_image(tmp_path / "moved.nii.gz", numbers, np.diag([3.0, 3, 3, 1]))
    with pytest.raises(SourceError, match="another shape or affine than the mask"):
        read_patterns(bold, brain, lines, Atlas(moved, labels))


def test_an_atlas_must_have_whole_numbers_and_regions_need_voxels(tmp_path: Path) -> None:
    numbers = RNG.integers(0, 3, (4, 3, 2))
    brain = write_image(tmp_path / "mask.nii.gz", np.ones((4, 3, 2)))
    bold, lines = write_image(tmp_path / "bold.nii.gz", RNG.normal(size=(4, 3, 2, 2))), tmp_path / "attributes.txt"
    lines.write_text("1 0\n2 0\n")
    labels = tmp_path / "dseg.tsv"
    labels.write_text("index\tname\n1.0\tL_V1_ROI\n2\tRight-Amygdala\n9\tBrain-Stem\n")
    exact = read_patterns(bold, brain, lines, Atlas(write_image(tmp_path / "exact.nii.gz", numbers), labels)).columns
    near = write_image(tmp_path / "near.nii.gz", numbers + RNG.uniform(-0.009, 0.009, numbers.shape))
    found = read_patterns(bold, brain, lines, Atlas(near, labels)).columns
    assert all(np.array_equal(found[name], exact[name]) for name in exact)
    assert found["hcp180_r_lh.L_V1_ROI"].sum() == (numbers == 1).sum()
    member = regions.membership(found, 24)
    assert (member.keys, member.empty) == (("VC", "amygdala"), ("brainstem",))
    assert "brainstem" not in member.absent
    for shift in (0.02, 0.5, np.nan):
        far = write_image(tmp_path / "far.nii.gz", numbers + np.where(numbers == 1, shift, 0.0))
        with pytest.raises(SourceError, match="are not whole numbers"):
            read_patterns(bold, brain, lines, Atlas(far, labels))
    other = write_image(tmp_path / "other.nii.gz", numbers + 100)
    with pytest.raises(SourceError, match="no voxel of the mask belongs to a region"):
        read_patterns(bold, brain, lines, Atlas(other, labels))
    labels.write_text("index\tname\none\tL_V1_ROI\n")
    with pytest.raises(SourceError, match=r"an index of .* is not an integer"):
        read_patterns(bold, brain, lines, Atlas(near, labels))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    mask = write_image(tmp_path / "mask.nii", np.ones((4, 4, 4)))
    bold = write_image(tmp_path / "bold.nii", RNG.normal(size=(4, 4, 4, 30)))
    bold.write_bytes(bold.read_bytes()[:3000])
    with pytest.raises(SourceError, match="ends before its last volume"):
        read_patterns(bold, mask, tmp_path / "none.txt")


def test_fmriprep_time_series_give_back_what_was_planted(tmp_path: Path) -> None:
    n, tr = 80, 2.0
    mask = np.ones((3, 3, 2), bool)
    write_image(tmp_path / "mask.nii.gz", mask)
    planted = RNG.normal(size=(16, 18)) * 3
    for run in (1, 2):
        onsets = np.arange(8) * 18.0 + 4
        times = np.arange(n) * tr
        motion = RNG.normal(size=(n, 6))
        series = 500 + times[:, None] * 0.3 + motion @ RNG.normal(size=(6, 18)) * 4
        for row, onset in enumerate(onsets):
            inside = (times - 4 >= onset) & (times - 4 < onset + 8)
            series[inside] += planted[(run - 1) * 8 + row]
        series += RNG.normal(size=series.shape) * 0.05
        stem = f"sub-01_task-video_run-{run}"
        image = series.T.reshape(3, 3, 2, n)
        folder = tmp_path / "prep" / "sub-01" / "func"
        write_image(folder / f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz", image)
        names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
        rows = ["\t".join(names), *("\t".join(f"{v:.6f}" for v in row) for row in motion)]
        (folder / f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(rows) + "\n")
        raw = tmp_path / "raw" / "sub-01" / "func"
        raw.mkdir(parents=True, exist_ok=True)
        lines = [f"{onset}\t8.0\t{(run - 1) * 8 + row + 1:04d}.mp4" for row, onset in enumerate(onsets)]
        (raw / f"{stem}_events.tsv").write_text("\n".join(["onset\tduration\ttrial_type", *lines]) + "\n")
    runs = find_fmriprep(tmp_path / "prep", tmp_path / "raw", "01")
    found = read_runs(runs, tmp_path / "mask.nii.gz")
    assert found.labels[:2] == ["0001.mp4", "0002.mp4"]
    assert found.runs is not None
    assert found.runs.tolist() == [1] * 8 + [2] * 8
    for run in (0, 8):  # within a run, as baseline and trend are taken out of each
        mine, truth = found.patterns[run : run + 8], planted[run : run + 8]
        r = [np.corrcoef(mine[:, v], truth[:, v])[0, 1] for v in range(18)]
        assert np.median(r) > 0.9
    with pytest.raises(SourceError, match="there are no runs of sub-02"):
        find_fmriprep(tmp_path / "prep", tmp_path / "raw", "02")


def test_runs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        stem = f"sub-01_ses-2_task-video_run-{number}"
        for folder, name in (("prep", f"{stem}_space-T1w_desc-preproc_bold.nii.gz"), ("raw", f"{stem}_events.tsv")):
            path = tmp_path / folder / "sub-01" / "func" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    runs = find_fmriprep(tmp_path / "prep", tmp_path / "raw", "01", "T1w")
    assert [run.bold.name.split("run-")[1].split("_")[0] for run in runs] == ["1", "2", "9", "10"]
    assert all(run.confounds is None for run in runs)


def test_a_map_of_negative_voxels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="negative"):
        write_map(np.ones(2), np.array([[0, 0, -1], [0, 0, 1]]), np.eye(4), tmp_path / "map.nii.gz")


@pytest.mark.reference
def test_a_run_is_prepared_as_the_paper_says() -> None:
    """Regress, clip at 3 s.d. per voxel, shift by 4 s, average: each step by NumPy and SciPy alone."""
    from scipy.stats import linregress

    n, tr = 60, 1.5
    series = RNG.normal(size=(n, 4)) + np.arange(n)[:, None] * 0.2
    series[[20, 45], [1, 3]] += 40  # spikes within blocks
    blocks = [Block("a", 20.0, 9.0), Block("b", 60.0, 7.5)]
    expected = np.empty((2, 4))
    for voxel in range(4):
        line = linregress(np.arange(n), series[:, voxel])
        rest = series[:, voxel] - line.intercept - line.slope * np.arange(n)
        rest = np.minimum(np.maximum(rest, rest.mean() - 3 * rest.std()), rest.mean() + 3 * rest.std())
        for row, block in enumerate(blocks):
            inside = [t for t in range(n) if block.onset_s <= t * tr - 4 < block.onset_s + block.duration_s]
            expected[row, voxel] = rest[inside].mean()
    found = preprocessing.prepare_run(series, blocks, tr)
    assert np.allclose(found, expected)
    unclipped = preprocessing.block_means(preprocessing.regress_out(series), blocks, tr)
    assert np.abs(unclipped - found).max() > 0.5  # the spikes matter


def test_preparation_step_by_step() -> None:
    n = 50
    motion = RNG.normal(size=(n, 2))
    series = 7 + np.linspace(0, 5, n)[:, None] + motion @ np.array([[1.0], [2.0]])
    assert np.abs(preprocessing.regress_out(series, motion)).max() < 1e-9
    spiky = np.zeros((100, 1))
    spiky[50] = 100
    assert preprocessing.despike(spiky).max() == pytest.approx(1 + 3 * spiky.std())
    series = np.arange(10.0)[:, None]
    spikes = RNG.normal(size=(60, 4))
    spikes[30] = 80.0  # in the block of volumes 29 to 31: without despiking, a third of it is the block's mean
    prepared = preprocessing.prepare_run(spikes, [Block("a", 58, 6), Block("b", 20, 6)], tr_s=2, delay_s=0)
    residual = spikes - np.stack([np.polyval(np.polyfit(np.arange(60), one, 1), np.arange(60)) for one in spikes.T]).T
    bound = residual.mean(0) + 3 * residual.std(0)
    assert np.allclose(prepared[0], np.minimum(residual, bound)[29:32].mean(0))
    assert (prepared[0] < 0.5 * residual[29:32].mean(0)).all()
    means = preprocessing.block_means(series, [Block("a", 0, 4), Block("b", 4, 6)], tr_s=2, delay_s=4)
    assert means.ravel().tolist() == [2.5, 5.0]
    with pytest.raises(SourceError, match="no volume belongs to the block 'late'"):
        preprocessing.block_means(series, [Block("late", 30, 4)], tr_s=2)
    with pytest.raises(SourceError, match="cannot be regressed out"):
        preprocessing.regress_out(series[:3], RNG.normal(size=(3, 6)))


def test_maps_are_written_as_images_and_nan_stays_nan(tmp_path: Path) -> None:
    voxels = np.array([[0, 1, 2], [3, 0, 1], [2, 2, 0]])
    write_map(np.array([0.5, np.nan, -1.0]), voxels, AFFINE, tmp_path / "maps" / "m.nii.gz")
    image = nib.load(tmp_path / "maps" / "m.nii.gz")
    values = np.asarray(image.dataobj)
    assert values.shape == (4, 3, 3)
    assert values[0, 1, 2] == 0.5
    assert values[2, 2, 0] == -1
    assert np.isnan(values).sum() == 34
    assert np.allclose(image.affine, AFFINE)
    with pytest.raises(SourceError, match="no affine maps"):
        fitted_affine(np.argwhere(np.ones((2, 2, 2))), RNG.normal(size=(8, 3)) * 10)
