"""The recorded comparisons of held-out accuracy of a lake's schedules, and which schedules they have stopped.

A comparison belongs to its terms: the settings of the schedule, the agent and the fits under which it was made. When
one of them changes, the schedule starts again, and its comparisons are counted from one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from affectlake.judge.trials.request_keys import canonical
from affectlake.lake.files import layout
from affectlake.pipelines.collection.planning import chat_agent
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import Params

_FITTED = ("l1", "init_std", "learn_from", "orders", "calibrate")


class Comparison(NamedTuple):
    """A comparison of two versions of an agent's embedding, on the same validation choices.

    Attributes
    ----------
    slot : datetime
        The slot after which it was made, UTC.
    newer, earlier : str
        The versions.
    n_judgments : int
        Choices of the main set in the newer version.
    n, n_gained, n_lost : int
        Validation choices of both versions; those that only the newer embedding predicts, and only the earlier one.
    gain, upper, confidence : float
        Gain of accuracy, the upper limit of its one-sided confidence interval, and the confidence of the interval.
    n_needed : int
        About how many validation choices it takes to tell whether accuracy still rises; 0 if these are enough, so that
        the comparison counts.
    has_stopped : bool
        Whether the schedule stops.
    gain_below : float
        The threshold of the gain.
    """

    slot: datetime
    newer: str
    earlier: str
    n_judgments: int
    n: int
    n_gained: int
    n_lost: int
    gain: float
    upper: float
    confidence: float
    n_needed: int
    has_stopped: bool
    gain_below: float

    def __str__(self) -> str:
        what = (
            f"{self.earlier} to {self.newer}: {100 * self.gain:+.2f} points on {self.n:,} validation choices, upper"
            f" {100 * self.confidence:.4g} % limit {100 * self.upper:+.2f}, threshold {100 * self.gain_below:g}"
        )
        if self.has_stopped:
            return f"held-out accuracy no longer rises; {what}"
        if self.n_needed:
            return f"too few validation choices to tell, of about {self.n_needed:,} that are needed; {what}"
        return f"held-out accuracy may still rise; {what}"


def to_start_again(schedule: Schedule) -> str:
    """Return what starts a stopped schedule again."""
    return (
        f"to start again: remove schedules.{schedule.name}.stop_when or change it, or raise the number of triplets;"
        " the next slot then runs"
    )


def terms_of(params: Params, schedule: Schedule) -> str:
    """Return the settings under which a schedule's comparisons are made, as one text."""
    agent, entry = chat_agent(params, schedule.agent), params.raw["agents"][schedule.agent]
    return canonical(
        {
            "stop_when": None if schedule.stop_when is None else schedule.stop_when.model_dump(),
            "agent": [agent.name, agent.identity(), {key: entry.get(key) for key in _FITTED}],
            "study": {key: params.raw.get(key) for key in ("seed", "triplets", "spose")},
        }
    )


def stop_of(lake: Path, params: Params, schedule: Schedule) -> Comparison | None:
    """Return the comparison that has stopped a schedule; None if it runs."""
    if schedule.stop_when is None:
        return None
    found = Comparisons(lake).made(schedule.name, terms_of(params, schedule))
    return found[-1] if found and found[-1].has_stopped else None


class Comparisons:
    """The comparisons of a lake's schedules, in a small SQLite file.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    """

    def __init__(self, lake: Path) -> None:
        self._path = lake / layout.COLLECTING / "comparisons.sqlite"

    def made(self, schedule: str, terms: str) -> list[Comparison]:
        """Return the comparisons of a schedule under these terms, the first one first."""
        if not self._path.exists():
            return []
        with self._opened() as database:
            rows: list[tuple[float, bool, *tuple[object, ...]]] = database.execute(
                f"SELECT slot_s, has_stopped, {', '.join(_PLAIN)} FROM comparisons"
                " WHERE schedule = ? AND terms = ? ORDER BY at_s",
                (schedule, terms),
            ).fetchall()
        return [
            Comparison(
                slot=datetime.fromtimestamp(slot_s, UTC),
                has_stopped=bool(has_stopped),
                **dict(zip(_PLAIN, values, strict=True)),  # type: ignore[arg-type]
            )
            for slot_s, has_stopped, *values in rows
        ]

    def record(self, schedule: str, terms: str, one: Comparison) -> None:
        """Record a comparison."""
        values = (one.slot.timestamp(), one.has_stopped, *(getattr(one, name) for name in _PLAIN))
        with self._opened() as database:
            marks = ", ".join("?" * (len(values) + 3))
            database.execute(
                f"INSERT INTO comparisons (schedule, terms, at_s, slot_s, has_stopped, {', '.join(_PLAIN)})"
                f" VALUES ({marks})",
                (schedule, terms, time.time(), *values),
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS comparisons (schedule TEXT NOT NULL, terms TEXT NOT NULL, at_s REAL NOT"
                " NULL, slot_s REAL NOT NULL, has_stopped INTEGER NOT NULL, newer TEXT NOT NULL, earlier TEXT NOT NULL,"
                " n_judgments INTEGER NOT NULL, n INTEGER NOT NULL, n_gained INTEGER NOT NULL, n_lost INTEGER NOT NULL,"
                " gain REAL NOT NULL, upper REAL NOT NULL, confidence REAL NOT NULL, n_needed INTEGER NOT NULL,"
                " gain_below REAL NOT NULL)"
            )
            yield database


_PLAIN = tuple(name for name in Comparison._fields if name not in ("slot", "has_stopped"))
