"""The slots of a schedule: when they are, how late a run may begin, and what became of each.

Slots are computed by the code with which Prefect's server schedules runs, so both always mean the same moments. What
became of them is kept in a small SQLite file of the lake, whichever Prefect server ran them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from affectlake.lake import layout
from pipelines.schedules import Schedule

LONGEST_GRACE = timedelta(hours=1)
"""A run never begins later than this after its slot, or than half of the time to the next slot."""

MOST_SLOTS = 1000
"""So many slots are looked at in one go; what Prefect computes at once."""

SlotState = Literal["running", "done", "failed", "stopped", "skipped", "missed"]


class Fate(NamedTuple):
    """What became of a slot.

    Attributes
    ----------
    slot : datetime
        The scheduled moment, UTC.
    state : {'running', 'done', 'failed', 'stopped', 'skipped', 'missed'}
        ``running`` is also what a run that was killed leaves; ``skipped``: another run held the agent; ``missed``:
        nobody was there, or too late.
    at_s : float
        When that was written; seconds since 1970.
    words : str
        The run's last line.
    """

    slot: datetime
    state: SlotState
    at_s: float
    words: str


def slots_between(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots from `start` to `end`, both included, in UTC; the first `MOST_SLOTS` of them."""
    return _dates(schedule, MOST_SLOTS, start, end)


def next_slots(schedule: Schedule, after: datetime, n: int = 1) -> list[datetime]:
    """Return the next `n` slots after a moment, in UTC."""
    return _dates(schedule, n, after + timedelta(seconds=1), None)


def grace(schedule: Schedule, slot: datetime) -> timedelta:
    """Return how late the run of a slot may begin: half of the time to the next slot, and at most `LONGEST_GRACE`."""
    return min((next_slots(schedule, slot)[0] - slot) / 2, LONGEST_GRACE)


def _dates(schedule: Schedule, n: int, start: datetime, end: datetime | None) -> list[datetime]:
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    cron = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    found = asyncio.run(cron.get_dates(n, start, end))
    return [datetime.fromtimestamp(date.timestamp(), UTC) for date in found]


class Slots:
    """What became of the slots of a lake's schedules.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    """

    def __init__(self, lake: Path) -> None:
        self._path = lake / layout.COLLECTING / "slots.sqlite"

    def fate(self, schedule: str, slot: datetime) -> Fate | None:
        """Return what became of a slot; None if nothing did."""
        found = self._read("AND slot_s = ?", schedule, slot.timestamp())
        return found[0] if found else None

    def latest(self, schedule: str, n: int = 1) -> list[Fate]:
        """Return what became of the latest `n` slots of which something is known, the latest first."""
        return self._read("ORDER BY slot_s DESC LIMIT ?", schedule, n)

    def record(self, schedule: str, slot: datetime, state: SlotState, words: str = "") -> None:
        """Write what became of a slot. What is done stays done, whatever another run says of it."""
        keep = "" if state in ("done", "running") else " WHERE state != 'done'"
        with self._opened() as database:
            database.execute(
                "INSERT INTO slots VALUES (?, ?, ?, ?, ?) ON CONFLICT (schedule, slot_s) DO UPDATE SET"
                f" state = excluded.state, at_s = excluded.at_s, words = excluded.words{keep}",
                (schedule, slot.timestamp(), state, time.time(), words),
            )

    def _read(self, rest: str, *values: object) -> list[Fate]:
        if not self._path.exists():
            return []
        with self._opened() as database:
            rows: Sequence[tuple[float, SlotState, float, str]] = database.execute(
                f"SELECT slot_s, state, at_s, words FROM slots WHERE schedule = ? {rest}", values
            ).fetchall()
        return [Fate(datetime.fromtimestamp(row[0], UTC), *row[1:]) for row in rows]

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS slots (schedule TEXT NOT NULL, slot_s REAL NOT NULL, state TEXT NOT NULL,"
                " at_s REAL NOT NULL, words TEXT NOT NULL, PRIMARY KEY (schedule, slot_s))"
            )
            yield database
