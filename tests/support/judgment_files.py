"""The same judgments of simulated people, written in every layout that `affectlake import` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class People:
    """Judgments in the order given: triplets as shown, the position of the odd one, and who answered.

    ``trial`` counts the trials of a participant, and ``seconds`` is the response time.
    """

    ids: Sequence[str]
    shown: NDArray[np.int32]
    odd: NDArray[np.int64]
    participant: NDArray[np.int64]
    trial: NDArray[np.int64]
    seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.odd)

    @property
    def odd_index(self) -> NDArray[np.int32]:
        """The odd ones as indices of stimuli."""
        return self.shown[np.arange(len(self)), self.odd]

    def first(self, n: int) -> People:
        """Return the first `n` judgments."""
        parts = {name: getattr(self, name)[:n] for name in ("shown", "odd", "participant", "trial", "seconds")}
        return replace(self, **parts)

    def named(self, at: int) -> list[str]:
        """Return the ids of one triplet, in the order shown."""
        return [self.ids[index] for index in self.shown[at]]


def simulate(ids: Sequence[str], n: int, n_participants: int, seed: int = 0, repeats: int = 0) -> People:
    """Simulate people who answer by a planted embedding: p(odd) is the softmax of the similarity of the other two.

    The first `repeats` triplets are answered three times.
    """
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.5, 1.5, (len(ids), 5)) * (rng.random((len(ids), 5)) < 0.4)
    shown = np.array([rng.choice(len(ids), 3, replace=False) for _ in range(n)], dtype=np.int32)
    shown = np.concatenate([shown, shown[:repeats], shown[:repeats]])
    a, b, c = (weights[shown[:, at]] for at in range(3))
    logits = np.stack([(b * c).sum(1), (a * c).sum(1), (a * b).sum(1)], axis=1)
    odd = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    participant = np.arange(len(shown)) % n_participants
    trial = np.arange(len(shown)) // n_participants
    return People(ids, shown, odd, participant, trial, rng.lognormal(0.0, 0.4, len(shown)).round(3) + 0.5)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]], separator: str = ",") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def things(people: People, path: Path) -> Path:
    """Write three indices a line, the odd one last."""
    lines = []
    for at in range(len(people)):
        odd = int(people.odd_index[at])
        lines.append(" ".join(str(index) for index in (*(i for i in people.shown[at].tolist() if i != odd), odd)))
    path.write_text("\n".join(lines) + "\n")
    return path


def table(people: People, path: Path, separator: str = ",") -> Path:
    """Write a CSV whose odd one is an id, with seconds."""
    rows = [
        (f"P{people.participant[at]:02d}", people.trial[at], *people.named(at), people.ids[people.odd_index[at]],
         f"{people.seconds[at]:.3f}")
        for at in range(len(people))
    ]  # fmt: skip
    header = ("participant", "trial", "image_1", "image_2", "image_3", "chosen_image", "rt")
    path.write_text(_csv(header, rows, separator), encoding="utf-8-sig", newline="")
    return path


def positions(people: People, path: Path) -> Path:
    """Write a Parquet or Excel table whose odd one is a position from 1 to 3."""
    frame = pl.DataFrame(
        {
            "subject": [f"P{one:02d}" for one in people.participant],
            "trial_number": people.trial,
            **{f"stim{side}": [people.ids[one] for one in people.shown[:, at]] for at, side in enumerate("ABC")},
            "response": people.odd + 1,
            "response_time_ms": (people.seconds * 1000).round(),
        }
    )
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_excel(path)
    return path


def psychopy(people: People, path: Path) -> Path:
    """Write the wide CSV of PsychoPy: a row of instructions, one per trial, and one for the end of the experiment."""
    header = (
        "image_left", "image_middle", "image_right", "trials.thisRepN", "trials.thisTrialN", "trials.thisN",
        "trials.thisIndex", "instructions.started", "mouse.clicked_name", "mouse.time", "participant", "session",
        "date", "expName", "psychopyVersion", "frameRate", "",
    )  # fmt: skip
    sides = ("image_left", "image_middle", "image_right")
    rows: list[tuple[object, ...]] = []
    for who in np.unique(people.participant):
        own = np.flatnonzero(people.participant == who)
        about = (f"P{who:02d}", "001", "2024-03-05_10h22.31.118", "odd", "2024.1.5", "60.0", "")
        rows.append(("", "", "", "", "", "", "", "0.5", "", "", *about))
        for at in own:
            trial = people.trial[at]
            click = (f"['{sides[people.odd[at]]}']", f"[{people.seconds[at]:.3f}]")
            rows.append((*people.named(at), 0, trial, trial, trial, "", *click, *about))
        rows.append(("", "", "", "", "", "", "", "", "", "", *about))
    path.write_text(_csv(header, rows), newline="")
    return path


def _jspsych_trials(people: People) -> list[dict[str, object]]:
    trials: list[dict[str, object]] = []
    for who in np.unique(people.participant):
        subject = {"subject": f"P{who:02d}"}
        trials.append(
            {"rt": 812, "stimulus": "<p>Welcome</p>", "response": " ", "trial_type": "html-keyboard-response",
             "trial_index": 0, "time_elapsed": 900, **subject}
        )  # fmt: skip
        trials.extend(
            {
                "rt": round(float(people.seconds[at]) * 1000),
                "stimulus": "<p>Which is the odd one out?</p>",
                "response": int(people.odd[at]),
                "trial_type": "html-button-response",
                "trial_index": int(people.trial[at]) + 1,
                "time_elapsed": 1000 + int(at),
                "stimuli": [f"img/{one}" for one in people.named(at)],
                **subject,
            }
            for at in np.flatnonzero(people.participant == who)
        )
    return trials


def jspsych_json(people: People, path: Path) -> Path:
    """Write the JSON of jsPsych, with lists of stimuli and responses counted from 0."""
    path.write_text(json.dumps(_jspsych_trials(people)))
    return path


def jspsych_csv(people: People, path: Path) -> Path:
    """Write the CSV of jsPsych, in which every cell is quoted and lists are JSON."""
    trials = _jspsych_trials(people)
    names = list(dict.fromkeys(name for one in trials for name in one))
    lines = [",".join(f'"{name}"' for name in names)]
    for one in trials:
        cells = [one.get(name, "") for name in names]
        texts = [json.dumps(cell) if isinstance(cell, list) else str(cell) for cell in cells]
        lines.append(",".join('"' + text.replace('"', '""') + '"' for text in texts))
    path.write_text("\r\n".join(lines) + "\r\n", newline="")
    return path


WRITERS: dict[str, Callable[[People, Path], Path]] = {
    "things.txt": things,
    "table.csv": table,
    "semicolons.tsv": lambda people, path: table(people, path, "\t"),
    "positions.parquet": positions,
    "positions.xlsx": positions,
    "psychopy.csv": psychopy,
    "jspsych.json": jspsych_json,
    "jspsych.csv": jspsych_csv,
}
"""A function that writes each layout, by the name of the file."""
