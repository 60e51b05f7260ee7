"""Time series: repetition times, confounds and events, on planted patterns and against NumPy's least squares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from affectlake.brain.recordings import preprocessing
from affectlake.brain.recordings.preprocessing import Block
from affectlake.brain.recordings.runs import read_confounds
from affectlake.brain.recordings.subjects import Recording, align
from affectlake.brain.recordings.volumes import Run, find_fmriprep, read_patterns, read_runs
from affectlake.errors import SourceError
from tests.support.bids import (
    DURATION_S,
    MOTION,
    N_VOLUMES,
    SHAPE,
    SPACE,
    TR_S,
    DataSet,
    agreement,
    write_image,
    write_table,
)

IDS = [f"{number:04d}.mp4" for number in range(1, 17)]
RNG = np.random.default_rng(8)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path)


def read(data: DataSet, label_column: str = "trial_type", space: str = SPACE) -> Recording:
    runs = find_fmriprep(data.prep, data.raw, data.subject, space)
    return read_runs(runs, data.root / "mask.nii.gz", stimulus_ids=IDS, label_column=label_column)


def lose_repetition_time(data: DataSet, unit: str) -> None:
    import nibabel as nib

    for run in (1, 2):
        values = np.asarray(nib.load(data.bold(run)).dataobj)
        write_image(data.bold(run), values, tr_s=1.0, unit=unit)


def sidecar(path: Path) -> Path:
    return path.with_name(path.name.replace(".nii.gz", ".json"))


def test_the_repetition_time_is_printed_for_every_run(data: DataSet) -> None:
    planted = data.write()
    found = read(data)
    assert len(found.notes) == 2
    assert all("repetition time 2 s (header and sidecar)" in line for line in found.notes)
    assert "80 volumes" in found.notes[0] and "8 presentations of stimuli, 0 other events" in found.notes[0]
    assert agreement(found.patterns[:8], planted[:8]) > 0.9


@pytest.mark.parametrize("unit", ["sec", "unknown"])
def test_a_header_that_lost_its_repetition_time_is_not_believed(data: DataSet, unit: str) -> None:
    planted = data.write()
    lose_repetition_time(data, unit)
    with pytest.raises(SourceError, match=r"header and sidecar of .* contradict each other") as caught:
        read(data)
    assert "1 s in the header, 2 s in" in caught.value.found
    assert "`repetition_time_s`" in caught.value.todo
    runs = [run._replace(repetition_time_s=TR_S) for run in find_fmriprep(data.prep, data.raw, "01")]
    found = read_runs(runs, data.root / "mask.nii.gz", stimulus_ids=IDS)
    assert "repetition time 2 s (as set)" in found.notes[0]
    assert agreement(found.patterns[:8], planted[:8]) > 0.9
    with pytest.raises(SourceError, match="contradicts its sidecar"):
        read_runs([run._replace(repetition_time_s=1.0) for run in runs], data.root / "mask.nii.gz", None, IDS)


def test_without_a_sidecar_a_header_must_state_its_unit_or_differ_from_the_default(data: DataSet) -> None:
    data.write()
    for run in (1, 2):
        sidecar(data.bold(run)).unlink()
    assert "repetition time 2 s (header; no sidecar)" in read(data).notes[0]
    lose_repetition_time(data, "unknown")
    with pytest.raises(SourceError, match="has no repetition time") as caught:
        read(data)
    assert "the default of a header that lost it" in caught.value.found


def test_sidecars_of_the_raw_data_are_read_and_must_agree(data: DataSet) -> None:
    data.write()
    (data.raw / "task-video_bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    assert len(read(data).notes) == 2
    (data.raw / "task-video_bold.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    with pytest.raises(SourceError, match=r"two sidecars of .* contradict each other"):
        read(data)
    nearer = data.events(1).with_name(f"sub-{data.subject}_task-video_bold.json")
    nearer.write_text(json.dumps({"RepetitionTime": 2.0}))  # the nearest file counts
    assert len(read(data).notes) == 2
    sidecar(data.bold(1)).write_text("{")
    with pytest.raises(SourceError, match="is not JSON"):
        read(data)
    for value in ('"2"', "0", "-2", "true", "60.1"):
        sidecar(data.bold(1)).write_text(f'{{"RepetitionTime": {value}}}')
        with pytest.raises(SourceError, match="has no repetition time"):
            read(data)
    sidecar(data.bold(1)).write_text('{"RepetitionTime": 60}')  # the longest
    with pytest.raises(SourceError, match="contradict each other"):
        read(data)
    sidecar(data.bold(1)).write_text('{"VolumeTiming": [0, 1]}')
    with pytest.raises(SourceError, match="sparse sampling"):
        read(data)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("desc-confounds_timeseries.tsv", MOTION),
        ("desc-confounds_regressors.tsv", MOTION),
        ("bold_confounds.tsv", ("X", "Y", "Z", "RotX", "RotY", "RotZ")),
    ],
)
def test_confounds_of_every_release_of_fmriprep_are_regressed_out(
    data: DataSet, name: str, columns: tuple[str, ...]
) -> None:
    planted = data.write()
    for run in (1, 2):
        rows = data.confounds(run).read_text().splitlines()[1:]
        data.confounds(run).unlink()
        data.confounds(run).with_name(f"{data.stem(run)}_{name}").write_text(
            "\n".join(["\t".join(columns), *rows]) + "\n"
        )
    found = read(data)
    assert all("regressed out: baseline, linear trend and 6 motion parameters;" in line for line in found.notes)
    assert agreement(found.patterns[:8], planted[:8]) > 0.9
    for path in data.bold(1).parent.glob("*confounds*"):
        path.unlink()
    without = read(data)
    assert all("baseline and linear trend (no motion parameters)" in line for line in without.notes)
    assert agreement(without.patterns[:8], planted[:8]) < 0.9


def test_a_gap_in_a_confound_is_an_error_not_a_zero(data: DataSet) -> None:
    data.write()
    lines = data.confounds(1).read_text().splitlines()
    cells = lines[10].split("\t")
    for gap in ("n/a", "", "inf"):
        lines[10] = "\t".join([*cells[:4], gap, cells[5]])
        data.confounds(1).write_text("\n".join(lines) + "\n")
        with pytest.raises(SourceError, match=r"rot_y of .* has a gap") as caught:
            read(data)
        assert caught.value.found == f"{gap or 'an empty cell'} in row 10"
    lines[10] = "\t".join(cells[:3])  # a short row
    data.confounds(1).write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError, match=r"rot_x of .* has a gap"):
        read(data)
    with pytest.raises(SourceError, match="a nuisance variable has gaps"):
        preprocessing.regress_out(np.ones((9, 2)), np.where(np.arange(18).reshape(9, 2) == 7, np.nan, 1.0))


def test_the_first_volume_of_a_derivative_takes_the_second_value(tmp_path: Path) -> None:
    values = RNG.normal(size=(20, 6))
    path = write_table(tmp_path / "c.tsv", MOTION, [["n/a"] * 6, *values[1:].tolist()])
    names, read_back = read_confounds(path, 20)
    assert names == MOTION
    assert np.isnan(read_back[0]).all()
    series = RNG.normal(size=(20, 4))
    filled = np.vstack([values[1:2], values[1:]])
    assert np.allclose(preprocessing.regress_out(series, read_back), residuals(series, filled))


def residuals(series: np.ndarray, variables: np.ndarray) -> np.ndarray:
    """The residuals of NumPy's least squares, which takes the solution of least norm."""
    n = len(series)
    scaled = variables / np.maximum(np.abs(variables).max(axis=0), 1e-300)
    design = np.column_stack([np.ones(n), np.linspace(-1, 1, n), scaled])
    return np.asarray(series - design @ np.linalg.lstsq(design, series, rcond=1e-9)[0])


def dependent(kind: str) -> np.ndarray:
    variables = RNG.normal(size=(60, 6))
    if kind == "constant":
        variables[:, [1, 4]] = 0.0, 3.5
    elif kind == "twice":
        variables[:, 5] = variables[:, 0]
    elif kind == "sum":
        variables[:, 3] = variables[:, 0] - 2 * variables[:, 1] + 7
    elif kind == "all zero":
        variables[:] = 0.0
    elif kind == "trend":
        variables[:, 2] = np.arange(60) * 1e-4
    return variables


@pytest.mark.reference
@pytest.mark.parametrize("kind", ["constant", "twice", "sum", "all zero", "trend", "independent"])
def test_dependent_confounds_take_away_what_least_squares_takes(kind: str) -> None:
    variables = dependent(kind)
    series = RNG.normal(size=(60, 5))
    found = preprocessing.regress_out(series, variables)
    assert np.allclose(found, residuals(series, variables), atol=1e-9)
    if kind == "all zero":
        assert np.sqrt((found[:4] ** 2).mean()) > 0.5  # the first volumes keep their size


@pytest.mark.reference
def test_motion_is_regressed_out_as_nilearn_does(data: DataSet) -> None:
    pytest.importorskip("nilearn")
    from nilearn.signal import clean

    data.write()
    names, ours = read_confounds(data.confounds(1), N_VOLUMES)
    written = np.loadtxt(data.confounds(1), skiprows=1)
    assert names == MOTION and np.array_equal(ours, written)
    series = RNG.normal(size=(N_VOLUMES, 7)) + np.arange(N_VOLUMES)[:, None] * 0.1
    cleaned = clean(series, detrend=True, standardize=None, confounds=written, standardize_confounds=False)
    assert np.allclose(preprocessing.regress_out(series, ours), cleaned, atol=1e-6)


def test_what_is_constant_or_dependent_is_named() -> None:
    basis = preprocessing.nuisance_basis(60, dependent("constant"))
    assert (basis.constant, basis.n_dependent, basis.basis.shape) == ((1, 4), 0, (60, 6))
    basis = preprocessing.nuisance_basis(60, dependent("sum"))
    assert (basis.constant, basis.n_dependent, basis.basis.shape) == ((), 1, (60, 7))
    rounded = np.round(dependent("twice"), 6)
    rounded[:, 5] += RNG.normal(size=60) * 1e-8  # the same parameter, written with other digits
    assert preprocessing.nuisance_basis(60, rounded).n_dependent == 1
    assert np.allclose(basis.basis.T @ basis.basis, np.eye(7), atol=1e-12)


def test_more_volumes_than_variables_are_needed() -> None:
    motion = RNG.normal(size=(9, 6))
    assert preprocessing.nuisance_basis(9, motion).basis.shape == (9, 8)  # baseline, trend and six variables
    with pytest.raises(SourceError, match="more volumes than variables"):
        preprocessing.nuisance_basis(8, motion[:8])
    with pytest.raises(SourceError, match="more volumes than variables"):
        preprocessing.nuisance_basis(10, motion)


def test_despiking_clips_each_voxel_on_both_sides() -> None:
    series = RNG.normal(size=(80, 3)) * [1.0, 5.0, 0.2] + [0.0, 40.0, -7.0]
    series[[4, 9], [0, 1]], series[[20, 33], [2, 1]] = 1e3, -1e3
    found = preprocessing.despike(series, 2.5)
    for voxel, column in enumerate(series.T):
        low, high = column.mean() - 2.5 * column.std(), column.mean() + 2.5 * column.std()
        assert np.allclose(found[:, voxel], [min(max(one, low), high) for one in column])


def test_constant_parameters_are_named_in_the_line_of_the_run(data: DataSet) -> None:
    data.write()
    rows = [[*line.split("\t")[:5], "0.0"] for line in data.confounds(2).read_text().splitlines()[1:]]
    write_table(data.confounds(2), MOTION, rows)
    assert "linear trend and 5 motion parameters (rot_z constant)" in read(data).notes[1]


def test_events_that_are_not_stimuli_need_nothing(data: DataSet) -> None:
    planted = data.write()
    rows = [
        *data.rows(1),
        [12, 0, "button"],
        [20, "n/a", "button"],
        [30, "", "rest"],
        [500, 30, "rest"],
        ["n/a"],
        [40, 1],
    ]
    write_table(data.events(1), ("onset", "duration", "trial_type"), rows)
    found = read(data)
    assert agreement(found.patterns[:8], planted[:8]) > 0.9
    assert list(found.labels) == IDS
    assert "8 presentations of stimuli, 6 other events" in found.notes[0]
    assert align(found, IDS).unknown == ("button", "rest", "n/a")


@pytest.mark.parametrize(
    ("row", "message", "what"),
    [
        ([10, "n/a", "0001.mp4"], "has no duration", "n/a"),
        ([10, 0, "0001.mp4"], "has no duration", "0"),
        ([10, "", "0001.mp4"], "has no duration", "an empty cell"),
        (["n/a", 3, "0001.mp4"], "has no onset", "n/a"),
        (["soon", 3, "0001.mp4"], "is not a number", "soon"),
        ([10.5, 0.5, "0001.mp4"], "no volume starts within the stimulus", "a duration of 0.5 s"),
    ],
)
def test_stimuli_need_onset_and_duration(data: DataSet, row: list[object], message: str, what: str) -> None:
    data.write()
    write_table(data.events(1), ("onset", "duration", "trial_type"), [*data.rows(1), row])
    with pytest.raises(SourceError, match=message) as caught:
        read(data)
    assert what in caught.value.found
    if "volume" not in message:
        kind = {"has no onset": "a finite number of seconds", "has no duration": "seconds above 0"}
        assert caught.value.wanted == f"{kind.get(message, 'seconds')} in row 9, '0001.mp4'"


def test_a_stimulus_that_the_scan_cut_off_is_left_out_and_counted(data: DataSet) -> None:
    planted = data.write()
    rows = [*data.rows(1), [N_VOLUMES * TR_S - DURATION_S, DURATION_S, "0016.mp4"]]  # its last 4 s were not recorded
    write_table(data.events(1), ("onset", "duration", "trial_type"), rows)
    found = read(data)
    assert "8 presentations of stimuli" in found.notes[0]
    assert "1 presentations left out, which the run does not contain completely" in found.notes[0]
    aligned = align(found, IDS)
    assert aligned.n_presentations.tolist() == [1] * 16
    assert agreement(aligned.patterns[8:], planted[8:]) > 0.9
    write_table(data.events(1), ("onset", "duration", "trial_type"), [[900, 8, name] for name in IDS[:8]])
    with pytest.raises(SourceError, match=r"most stimuli of .* are outside the run"):
        read(data)


def test_volumes_of_a_block_are_those_whose_start_is_in_it() -> None:
    for onset, duration, tr in ((0.0, 8.0, 2.0), (3.1, 5.0, 0.72), (1.44, 2.16, 0.72), (-6.0, 4.0, 1.5)):
        times = np.arange(-50, 200) * tr - 4
        inside = np.flatnonzero((times >= onset - 1e-6) & (times < onset + duration - 1e-6)) - 50
        found = preprocessing.block_volumes(Block("a", onset, duration), tr)
        assert list(range(found.first, found.last)) == inside.tolist()
        assert found.are_within(100) == bool(inside.min() >= 0)


def test_stimuli_in_another_column_are_found_and_named(data: DataSet) -> None:
    planted = data.write()
    for run in (1, 2):
        rows = [[*row[:2], "video", f"stimuli/{row[2]}"] for row in data.rows(run)]
        write_table(data.events(run), ("onset", "duration", "trial_type", "stim_file"), rows)
    with pytest.raises(SourceError, match="no label of the recording is a stimulus") as caught:
        read(data)
    assert "label_column: stim_file" in caught.value.todo
    found = align(read(data, label_column="stim_file"), IDS)
    assert agreement(found.patterns[:8], planted[:8]) > 0.9


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_with_byte_order_marks_are_read(data: DataSet, encoding: str) -> None:
    data.write()
    expected = read(data)
    for run in (1, 2):
        for path in (data.events(run), data.confounds(run)):
            path.write_text(path.read_text(), encoding=encoding)
    assert np.array_equal(read(data).patterns, expected.patterns)
    write_image(data.root / "patterns.nii.gz", RNG.normal(size=(*SHAPE, 3)))
    (data.root / "attributes.txt").write_text("1 0\n2 0\n3 1\n", encoding=encoding)
    paths = (data.root / name for name in ("patterns.nii.gz", "mask.nii.gz", "attributes.txt"))
    assert list(read_patterns(*paths).labels) == ["1", "2", "3"]


def test_tables_that_cannot_be_read_say_why(data: DataSet) -> None:
    data.write()
    text = data.events(1).read_text()
    data.events(1).write_text(text, encoding="utf-16-le")  # without a byte-order mark
    with pytest.raises(SourceError, match="is not UTF-8 text") as caught:
        read(data)
    assert "zero bytes" in caught.value.found
    data.events(1).write_bytes(text.replace("0001", "caf\xe9").encode("latin-1"))
    with pytest.raises(SourceError, match="is not UTF-8 text"):
        read(data)
    data.events(1).write_text("onset\tduration\ttrial_type\n4\t8\t0001.mp4\tmore\n")
    with pytest.raises(SourceError, match=r"row 1 of .* has more cells than the header"):
        read(data)
    data.events(1).write_text("")
    with pytest.raises(SourceError, match="lacks columns"):
        read(data)


def test_five_dimensions_are_read_if_one_is_single_and_named_otherwise(data: DataSet) -> None:
    values = RNG.normal(size=(*SHAPE, 5)).astype(np.float32)
    mask = write_image(data.root / "mask.nii.gz", np.ones(SHAPE))
    lines = data.root / "attributes.txt"
    lines.write_text("".join(f"{number} 1\n" for number in range(1, 6)))
    flat = read_patterns(write_image(data.root / "4.nii.gz", values), mask, lines).patterns
    for shape in ((*SHAPE, 1, 5), (*SHAPE, 5, 1)):
        one = write_image(data.root / "5.nii.gz", values.reshape(shape))
        assert np.array_equal(read_patterns(one, mask, lines).patterns, flat)
    for shape in ((*SHAPE, 5, 2), SHAPE):
        other = write_image(data.root / "other.nii.gz", np.ones(shape))
        with pytest.raises(SourceError, match="is not a 4-D image") as caught:
            read_patterns(other, mask, lines)
        assert " × ".join(map(str, shape)) in caught.value.found
    with pytest.raises(SourceError, match="has another shape than"):
        read_patterns(data.root / "4.nii.gz", write_image(data.root / "small.nii.gz", np.ones((2, 3, 2))), lines)


def test_a_run_needs_a_mask(data: DataSet) -> None:
    data.write()
    with pytest.raises(SourceError, match="there is no brain mask"):
        read_runs([Run(data.bold(1), data.events(1), None)], None, stimulus_ids=IDS)
