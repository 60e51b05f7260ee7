"""Time series with events: which events are stimuli, repetition times, confounds, and one pattern per presentation.

The arithmetic is in :mod:`~affectlake.brain.recordings.preprocessing`. Labels are matched first: an event that is not a
stimulus of the study (rest, a button press) needs no duration and may lie outside the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.files import number, read_json, read_table
from affectlake.brain.recordings.images import Mask, Series, Timing
from affectlake.brain.recordings.labels import StimulusLabels
from affectlake.brain.recordings.preprocessing import Block, block_volumes, nuisance_basis, prepare_run
from affectlake.errors import SourceError

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""The six motion parameters, as fMRIPrep's confounds files name them since release 1.2."""
EARLIER_MOTION = ("X", "Y", "Z", "RotX", "RotY", "RotZ")
"""The same, as earlier releases named them."""

_LONGEST_TR_S = 60.0


class Run(NamedTuple):
    """A time series and its files.

    Parameters
    ----------
    bold : Path
        4-D image.
    events : Path or None
        None: the run has no stimuli (rest).
    confounds : Path or None
        None: only baseline and trend are removed.
    sidecars : tuple of Path
        JSON files that may state the repetition time, besides the one of the image's own name.
    repetition_time_s : float or None
        The repetition time, if it is known better than from header and sidecars.
    mask : Path or None
        Brain mask of this run.
    """

    bold: Path
    events: Path | None
    confounds: Path | None
    sidecars: tuple[Path, ...] = ()
    repetition_time_s: float | None = None
    mask: Path | None = None

    def files(self) -> list[Path]:
        """Return the files that are read of this run."""
        named = [self.bold, self.events, self.confounds, *_sidecars(self), self.mask]
        return [path for path in named if path is not None]


class Events(NamedTuple):
    """The events of a run: presentations of stimuli, and the labels of all other events, one per event."""

    blocks: list[Block]
    others: list[str]


class PreparedRuns(NamedTuple):
    """Patterns of runs: float32 (n, n_voxels), labels, number of the run, and one line per run."""

    patterns: NDArray[np.float32]
    labels: list[str]
    numbers: NDArray[np.int64]
    notes: list[str]


def events_of(runs: Sequence[Run], stimulus_ids: Sequence[str] | None, label_column: str) -> list[Events]:
    """Return the events of each run; a run without an events file has none.

    Raises
    ------
    SourceError
        As in :func:`read_events`; if no event of any run is a stimulus.
    """
    is_stimulus = _matcher(stimulus_ids)
    found = [read_events(run.events, is_stimulus, label_column) if run.events else Events([], []) for run in runs]
    if not any(one.blocks for one in found):
        others = [label for one in found for label in one.others]
        raise _no_stimuli(runs, is_stimulus, label_column, others, stimulus_ids)
    return found


def prepare_runs(runs: Sequence[Run], every: Sequence[Events], brain: Mask, mask: str) -> PreparedRuns:
    """Read and preprocess the runs that have stimuli; see :func:`affectlake.brain.recordings.volumes.read_runs`."""
    parts, labels, numbers, notes = [], list[str](), list[int](), list[str]()
    for at, (run, events) in enumerate(zip(runs, every, strict=True), start=1):
        if not events.blocks:
            why = "no event is a stimulus" if run.events else "it has no events"
            notes.append(f"run {at}, {run.bold.name}: not used, since {why}")
            continue
        series = Series(run.bold, brain, mask)
        tr_s, source = repetition_time(run, series.timing)
        whole = whole_blocks(events.blocks, series.n_volumes, tr_s, run)
        nuisance, regressed = _nuisance(run.confounds, series.n_volumes)
        parts.append(prepare_run(series.read(), whole, tr_s, nuisance).astype(np.float32))
        labels += [block.label for block in whole]
        numbers += [at] * len(whole)
        cut = len(events.blocks) - len(whole)
        notes.append(
            f"run {at}, {run.bold.name}: {series.n_volumes:,} volumes, repetition time {tr_s:g} s ({source}); "
            f"regressed out: {regressed}; {len(whole):,} presentations of stimuli, {len(events.others):,} other events"
            + (f"; {cut:,} presentations left out, which the run does not contain completely" if cut else "")
        )
    return PreparedRuns(np.concatenate(parts), labels, np.array(numbers, dtype=np.int64), notes)


def _matcher(stimulus_ids: Sequence[str] | None) -> Callable[[str], bool]:
    """Return a function that says whether a label is a stimulus; every label is one if the stimuli are not known."""
    if stimulus_ids is None:
        return lambda _label: True
    stimuli = StimulusLabels(stimulus_ids)
    return lambda label: stimuli.index_of(label) is not None


def read_events(path: Path, is_stimulus: Callable[[str], bool], label_column: str = "trial_type") -> Events:
    """Read an events file of BIDS.

    Parameters
    ----------
    path : Path
        ``events.tsv`` with the columns `onset`, `duration` and `label_column`.
    is_stimulus : callable
        Whether a label is a stimulus of the study. Onset and duration of other events are not read.
    label_column : str, default="trial_type"

    Raises
    ------
    SourceError
        If a column is missing, or a stimulus has no onset or no duration above 0.
    """
    rows = read_table(path, ("onset", "duration"), "events file")
    if rows and label_column not in rows[0]:
        raise SourceError(
            f"{path} lacks columns",
            wanted=label_column,
            found=", ".join(rows[0]),
            todo="name the column of the stimuli with `label_column`, or choose the runs with `task`",
        )
    blocks, others = [], []
    for at, row in enumerate(rows, start=1):
        label = row[label_column]
        if is_stimulus(label):
            blocks.append(Block(label, *(_seconds(row[name], name, at, label, path) for name in ("onset", "duration"))))
        else:
            others.append(label or "n/a")
    return Events(blocks, others)


def _seconds(text: str, column: str, row: int, label: str, path: Path) -> float:
    try:
        value = number(text)
    except ValueError as error:
        raise SourceError(
            f"an onset or duration of {path} is not a number", wanted=f"seconds in row {row:,}, {label!r}", found=text
        ) from error
    if value is None or not np.isfinite(value) or (column == "duration" and value <= 0):
        wanted = "a finite number of seconds" if column == "onset" else "seconds above 0"
        raise SourceError(
            f"a stimulus of {path} has no {column}",
            wanted=f"{wanted} in row {row:,}, {label!r}",
            found=text or "an empty cell",
        )
    return value


def whole_blocks(blocks: Sequence[Block], n_volumes: int, tr_s: float, run: Run) -> list[Block]:
    """Return the blocks of which the run contains all volumes.

    Raises
    ------
    SourceError
        If a block is too short to contain the start of a volume, or more than half of the blocks are not contained.
    """
    places = [block_volumes(block, tr_s) for block in blocks]
    for block, place in zip(blocks, places, strict=True):
        if place.last <= place.first:
            raise SourceError(
                f"no volume starts within the stimulus {block.label!r} of {run.events}",
                found=f"a duration of {block.duration_s:g} s, and a repetition time of {tr_s:g} s",
                todo="give the duration of the response that the pattern is averaged over",
            )
    whole = [block for block, place in zip(blocks, places, strict=True) if place.are_within(n_volumes)]
    if 2 * len(whole) < len(blocks):
        ends = [block.onset_s + block.duration_s for block in blocks]
        raise SourceError(
            f"most stimuli of {run.events} are outside the run {run.bold.name}",
            found=f"stimuli up to {max(ends):g} s, in a run of {n_volumes:,} × {tr_s:g} = {n_volumes * tr_s:g} s",
            todo="check the onsets and the repetition time",
        )
    return whole


def repetition_time(run: Run, header: Timing) -> tuple[float, str]:
    """Return the repetition time of a run in seconds, and where it is from.

    Raises
    ------
    SourceError
        If header and sidecar differ, or neither states it: a header with 1 s and no unit has the default of programs
        that lost it.
    """
    sidecar = _stated(run)
    given = run.repetition_time_s
    todo = "set `repetition_time_s` to the right one, beside the images in params.yaml, or correct the file"
    if given is not None:
        if sidecar and not _same(given, sidecar[0]):
            raise SourceError(
                f"the repetition time of {run.bold.name} contradicts its sidecar",
                wanted=f"{given:g} s, as set", found=f"{sidecar[0]:g} s in {sidecar[1]}", todo=todo,
            )  # fmt: skip
        return given, "as set"
    if sidecar:
        if not _same(header.seconds, sidecar[0]):
            raise SourceError(
                f"header and sidecar of {run.bold.name} contradict each other in the repetition time",
                found=f"{header.seconds:g} s in the header, {sidecar[0]:g} s in {sidecar[1]}", todo=todo,
            )  # fmt: skip
        return sidecar[0], "header and sidecar"
    if header.seconds == 1.0 and not header.has_unit:
        raise SourceError(
            f"{run.bold} has no repetition time",
            wanted="seconds, in the header or in a sidecar (JSON)",
            found="the default of a header that lost it: 1, without a unit",
            todo=todo,
        )
    if not 0 < header.seconds <= _LONGEST_TR_S:
        raise SourceError(f"{run.bold} has no repetition time", found=f"{header.seconds:g} s", todo=todo)
    return header.seconds, "header; no sidecar"


def _sidecars(run: Run) -> list[Path]:
    own = run.bold.with_name(run.bold.name.split(".nii")[0] + ".json")
    return list(dict.fromkeys([*([own] if own.exists() or own.is_symlink() else []), *run.sidecars]))


def _stated(run: Run) -> tuple[float, str] | None:
    """Return the repetition time of the sidecars, and the file: of the first of each folder that states one."""
    found: dict[Path, tuple[float, str]] = {}
    for path in _sidecars(run):
        content = read_json(path)
        if "VolumeTiming" in content:
            raise SourceError(
                f"{path} describes sparse sampling", found="VolumeTiming", wanted="volumes at regular intervals"
            )
        value = content.get("RepetitionTime")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST_TR_S:
            raise SourceError(f"{path} has no repetition time", wanted="seconds", found=f"RepetitionTime {value!r}")
        found.setdefault(run.bold.parent if path.parent == run.bold.parent else Path(), (float(value), str(path)))
    stated = list(found.values())
    if len(stated) > 1 and not _same(stated[0][0], stated[1][0]):
        raise SourceError(
            f"two sidecars of {run.bold.name} contradict each other in the repetition time",
            found=", ".join(f"{seconds:g} s in {where}" for seconds, where in stated),
        )
    return stated[0] if stated else None


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-3 + 1e-4 * other


def _nuisance(path: Path | None, n_volumes: int) -> tuple[NDArray[np.float64] | None, str]:
    """Return the motion parameters of a run, and what is regressed out, in words."""
    if path is None:
        return None, "baseline and linear trend (no motion parameters)"
    names, values = read_confounds(path, n_volumes)
    basis = nuisance_basis(n_volumes, values)
    constant = [names[at] for at in basis.constant]
    words = f"baseline, linear trend and {len(names) - len(constant)} motion parameters"
    words += f" ({', '.join(constant)} constant)" if constant else ""
    words += f", {basis.n_dependent} of them combinations of the others" if basis.n_dependent else ""
    return values, words


def read_confounds(path: Path, n_volumes: int) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return the names and values (n_volumes, 6) of the motion parameters in a confounds file.

    Raises
    ------
    SourceError
        If the parameters are missing, the number of rows is not that of the volumes, or a value after the first row is
        not a finite number.
    """
    rows = read_table(path, (), "confounds file")
    names = next((some for some in (MOTION, EARLIER_MOTION) if rows and set(some) <= set(rows[0])), ())
    if not names:
        raise SourceError(
            f"{path} lacks columns",
            wanted=", ".join(MOTION),
            found=", ".join(list(rows[0])[:12]) if rows else "nothing",
        )
    if len(rows) != n_volumes:
        raise SourceError(
            f"{path} does not have a row for each volume", wanted=f"{n_volumes:,}", found=f"{len(rows):,}"
        )
    values = np.full((n_volumes, len(names)), np.nan)
    for at, row in enumerate(rows):
        for column, name in enumerate(names):
            try:
                value = number(row[name])
            except ValueError as error:
                raise SourceError(f"{name} of {path} is not a number in row {at + 1:,}", found=row[name]) from error
            if at and (value is None or not np.isfinite(value)):
                raise SourceError(
                    f"{name} of {path} has a gap", wanted="a number for every volume",
                    found=f"{row[name] or 'an empty cell'} in row {at + 1:,}",
                )  # fmt: skip
            values[at, column] = np.nan if value is None else value
    return names, values


def _no_stimuli(
    runs: Sequence[Run],
    is_stimulus: Callable[[str], bool],
    label_column: str,
    others: Sequence[str],
    stimulus_ids: Sequence[str] | None,
) -> SourceError:
    """Return the error of runs without a stimulus, with the column of the events that contains stimuli, if one does."""
    if not any(run.events for run in runs):
        return SourceError("there are no runs with events to read", todo="check the folder of the derivatives")
    better = next(
        (
            name
            for run in runs
            if run.events
            for row in read_table(run.events, (), "events file")
            for name, label in row.items()
            if name not in ("onset", "duration", label_column) and is_stimulus(label)
        ),
        "",
    )
    return SourceError(
        "no label of the recording is a stimulus of the study",
        wanted=f"ids such as {', '.join((stimulus_ids or ())[:3])}",
        found=f"labels such as {', '.join(list(dict.fromkeys(others))[:3])} in the column {label_column}",
        todo=f"the column {better} of the events has stimuli: set `label_column: {better}`"
        if better
        else "check that the recording belongs to this study",
    )
