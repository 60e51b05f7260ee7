"""Are planted patterns recovered from BIDS data sets as they occur?

    python benchmarks/validity/recordings.py [--studies 20]

Each study is a made-up data set of one participant: two runs of eight stimuli, a trend, motion that is larger than the
planted patterns, and noise. The table has the correlation of ingested with planted patterns (within a run, median over
voxels; mean and range over studies), or the message with which a data set is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the data sets of the tests

IDS = [f"{number:04d}.mp4" for number in range(1, 18)]


def main() -> None:
    """Print a row for each kind of data set."""
    from affectlake.brain.recordings.subjects import align
    from affectlake.brain.recordings.volumes import find_fmriprep, read_runs
    from affectlake.errors import SourceError
    from tests.support.bids import DataSet, agreement

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20)
    n_studies = parser.parse_args().studies
    print("| data set | planted patterns recovered, r | presentations |\n|---|---|---|")
    for name, (change, more) in CASES.items():
        found, counts, refusal = [], set(), ""
        for seed in range(n_studies):
            with tempfile.TemporaryDirectory() as folder:
                data = DataSet(Path(folder), rng=np.random.default_rng(seed))
                planted = data.write()
                change(data)
                options = {"label_column": "trial_type", "repetition_time_s": None} | more
                runs = [
                    run._replace(repetition_time_s=options["repetition_time_s"])
                    for run in find_fmriprep(data.prep, data.raw, "01")
                ]
                try:
                    recording = read_runs(
                        runs, data.root / "mask.nii.gz", stimulus_ids=IDS, label_column=options["label_column"]
                    )
                except SourceError as error:
                    refusal = error.summary.replace(folder, "").replace(f"{data.stem(1)}_space-", "…")
                    continue
                patterns = align(recording, IDS).patterns
                found.append(min(agreement(patterns[at], planted[at]) for at in (slice(0, 8), slice(8, 16))))
                counts.add(len(recording.labels))
        r = f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})" if found else f"refused: {refusal}"
        print(f"| {name} | {r} | {', '.join(map(str, sorted(counts))) or '–'} |")


def _confounds(name: str, edit: Callable[[list[str]], list[str]] = lambda cells: cells) -> Callable[[Any], None]:
    """Rename the confounds files, and edit the cells of each row below the header."""

    def change(data: Any) -> None:
        for run in (1, 2):
            head, *rows = data.confounds(run).read_text().splitlines()
            data.confounds(run).unlink()
            if name:
                lines = [head, *("\t".join(edit(row.split("\t"))) for row in rows)]
                data.confounds(run).with_name(f"{data.stem(run)}_{name}").write_text("\n".join(lines) + "\n")

    return change


def _header(data: Any) -> None:
    import nibabel as nib

    from tests.support.bids import write_image

    for run in (1, 2):
        write_image(data.bold(run), np.asarray(nib.load(data.bold(run)).dataobj), tr_s=1.0)


def _events(data: Any, more: list[list[object]], column: str = "trial_type", to: Path | None = None) -> None:
    from tests.support.bids import write_table

    for run in (1, 2):
        rows = [[row[0], row[1], row[2] if column == "trial_type" else "video", row[2]] for row in data.rows(run)]
        path = to / f"task-video_run-{run}_events.tsv" if to else data.events(run)
        data.events(run).unlink()
        write_table(path, ("onset", "duration", "trial_type", "stim_file"), [*rows, *more])


def _utf16(data: Any) -> None:
    for run in (1, 2):
        data.events(run).write_text(data.events(run).read_text(), encoding="utf-16")


OTHERS: list[list[object]] = [
    [12, 0, "button", "n/a"], [20, "n/a", "rest3", "n/a"], [500, 30, "rest1", "n/a"], ["n/a", "", "run-2", ""], [30],
]  # fmt: skip
CASES: dict[str, tuple[Callable[[Any], None], dict[str, Any]]] = {
    "as fMRIPrep writes it": (lambda _data: None, {}),
    "`desc-confounds_regressors.tsv`": (_confounds("desc-confounds_regressors.tsv"), {}),
    "without confounds (`motion: false`)": (_confounds(""), {}),
    "one motion parameter constant": (
        _confounds("desc-confounds_timeseries.tsv", lambda cells: [*cells[:5], "0.0"]),
        {},
    ),
    "one motion parameter twice, in place of another": (
        _confounds("desc-confounds_timeseries.tsv", lambda cells: [*cells[:5], cells[0]]),
        {},
    ),
    "a gap in a motion parameter": (
        _confounds("desc-confounds_timeseries.tsv", lambda cells: [*cells[:5], "n/a"]),
        {},
    ),
    "header without its repetition time (1 s), sidecar 2 s": (_header, {}),
    "the same, `repetition_time_s: 2`": (_header, {"repetition_time_s": 2.0}),
    "inherited events": (lambda data: _events(data, [], to=data.raw), {}),
    "stimuli in `stim_file`": (lambda data: _events(data, [], "stim_file"), {"label_column": "stim_file"}),
    "button presses, rest, `n/a`, short rows, rows past the end": (lambda data: _events(data, OTHERS), {}),
    "a stimulus of which the scan has half": (lambda data: _events(data, [[152, 8, "0017.mp4", "0017.mp4"]]), {}),
    "UTF-16": (_utf16, {}),
}

if __name__ == "__main__":
    main()
