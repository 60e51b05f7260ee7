"""Lakes with an agent of kind experiment, and session stores that are filled without a server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.store_operations import add_participant, digest, number_stimuli, set_state, withdraw
from affectlake.experiment.store_rows import Participant
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.experiment.entry import store_path
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override
from tests.support.builds import built_once, copy_of
from tests.support.chat_lakes import SETTINGS, run

STARTED = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
AGENT = "people"


def raw_params(entry: Mapping[str, Any] | None = None, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the parameters of a study of 30 simulated stimuli whose agent ``people`` has the given entry."""
    raw: dict[str, Any] = yaml.safe_load(override(templates.starting_params("demo"), (*SETTINGS, *settings)))
    people = {"kind": "experiment", "l1": "auto", "per_participant": 12, "practice": 2, "catch_every": 5}
    raw["agents"] = {"human-category": raw["agents"]["human-category"], AGENT: people | dict(entry or {})}
    raw["sweeps"] |= {"dimensions": [], "judgments": []}
    raw["easy_trials"] = {"n": 40, "ratings": "category"}
    return raw


def make(lake: Path) -> None:
    """Make a lake in which no answer was given yet, and build it."""
    repository.init(lake, yaml.safe_dump(raw_params(), sort_keys=False))
    run(lake)


def experiment_lake(target: Path, entry: Mapping[str, Any] | None = None) -> Path:
    """Return a copy of the built lake, whose agent has the given entry besides."""
    lake = copy_of(built_once("experiment", make), target)
    if entry:
        (lake / "params.yaml").write_text(yaml.safe_dump(raw_params(entry), sort_keys=False))
    return lake


def ids_of(lake: Path) -> list[str]:
    """Return the ids of the stimuli."""
    stimuli = read_output(lake, Output("stimuli")).sort("stimulus_index").select("stimulus_id").collect()
    return list(stimuli["stimulus_id"])


def trials_of(lake: Path) -> np.ndarray:
    """Return the trials of the main set, (m, 3)."""
    return read_output(lake, Output("triplets")).filter(trial_set="main").select("i", "j", "k").collect().to_numpy()


def answer(
    lake: Path,
    participant: str,
    trials: np.ndarray,
    *,
    positions: list[int | None] | None = None,
    kinds: list[str] | None = None,
    right: list[int | None] | None = None,
    state: str = "done",
    reason: str = "timed_out",
    at: datetime = STARTED,
) -> None:
    """Record in the session store what a participant who was given these trials answered.

    By default, each trial is one of the plan whose first position is chosen. A position of None is `reason`.
    """
    n = len(trials)
    kinds, right, positions = kinds or ["trial"] * n, right or [None] * n, positions or [1] * n
    times = [(at + timedelta(seconds=5 * number)).isoformat(timespec="milliseconds") for number in range(n + 2)]
    with SessionStore(store_path(lake, AGENT)) as store:

        def record(database: Any) -> None:
            numbers = number_stimuli(database, ids_of(lake))
            who = Participant(
                participant, digest(participant), None, "en", "consent", times[0], None, None, times[0], None
            )
            add_participant(database, who)
            if state == "consent":
                return
            set_state(database, participant, "running", times[0])
            given, answers = [], []
            for at_trial, (row, kind, odd, position) in enumerate(zip(trials, kinds, right, positions, strict=True)):
                a, b, c = (numbers[one] for one in row)
                i, j, k = sorted((a, b, c))
                number, answer = at_trial + 1, None if odd is None else numbers[odd]
                expires = (at + timedelta(days=365)).isoformat(timespec="milliseconds")
                given.append((participant, number, kind, i, j, k, a, b, c, answer, times[at_trial], expires, 0))
                why = None if position is not None else reason
                answers.append((participant, number, position, why, None, 900.0 + at_trial, times[at_trial + 1]))
            database.executemany(f"INSERT INTO given VALUES ({', '.join('?' * 13)})", given)
            database.executemany(
                "INSERT INTO answers (participant, number, position, reason, detail, response_ms, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                answers,
            )
            if state == "withdrawn":
                withdraw(database, participant, times[-1])
            elif state != "running":
                set_state(database, participant, state, times[-1])

        store.do(record)
