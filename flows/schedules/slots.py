"""The slots of a schedule: when they are, how late a run may begin, and what became of each.

The times of day are computed by the code with which Prefect's server schedules runs, so both always mean the same ones.
Which moments these are in a time zone is computed here: around a change of the clocks, Prefect's answer depends on when
it is asked, and may lie in the past. What became of slots is kept in a small SQLite file of the lake, whichever Prefect
server ran them.

A time of day that comes twice is a slot the first time. One that the clocks skip is a slot earlier by as much as they
are put forward (01:30 for 02:30) or, under Python 3.13, so much later (03:30); if another slot is there, they are one.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from affectlake.lake.files import layout
from affectlake.pipelines.params.schedules import Schedule

LONGEST_GRACE = timedelta(hours=1)
"""A run never begins later than this after its slot, or than half of the time to the next slot."""

MOST_SLOTS = 1000
"""So many slots are looked at in one go; what Prefect computes at once."""

_LONGEST_CHANGE = timedelta(days=2)  # of a clock; Samoa once left out a day
_SKIPPED_GO_BACK = sys.version_info < (3, 13)  # from there on Prefect reads time zones with another package

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
    return list(islice(takewhile(lambda slot: slot <= end, _slots(schedule, start, end)), MOST_SLOTS))


def next_slots(schedule: Schedule, after: datetime, n: int = 1) -> list[datetime]:
    """Return the next `n` slots after a moment, in UTC."""
    return list(islice((slot for slot in _slots(schedule, after) if slot > after), n))


def grace(schedule: Schedule, slot: datetime) -> timedelta:
    """Return how late the run of a slot may begin: half of the time to the next slot, and at most `LONGEST_GRACE`."""
    return min((next_slots(schedule, slot)[0] - slot) / 2, LONGEST_GRACE)


def _slots(schedule: Schedule, start: datetime, end: datetime | None = None) -> Iterator[datetime]:
    """Give the slots from `start` on, in UTC, each once and in order; where there is an `end`, up to days after it."""
    zone = ZoneInfo(schedule.timezone)
    naive = start.astimezone(UTC).replace(tzinfo=None)
    first = naive + min(_offset(start, zone), _offset(start - _LONGEST_CHANGE, zone))
    last = None if end is None else end.astimezone(UTC).replace(tzinfo=None) + _LONGEST_CHANGE
    waiting: list[datetime] = []  # a later time of day may be an earlier moment, if the clocks skip it
    for time_of_day in _times_of_day(schedule.cron, first, last):
        slot = _moment(time_of_day, zone)
        ahead = max(_offset(slot, zone), _offset(slot + _LONGEST_CHANGE, zone))
        n_ready = bisect_left(waiting, (time_of_day - ahead).replace(tzinfo=UTC))
        yield from waiting[:n_ready]
        del waiting[:n_ready]
        if slot >= start and slot not in waiting:
            insort(waiting, slot)
    yield from waiting


def _moment(time_of_day: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment at which Prefect's server runs what is scheduled for a date and time of day of a zone."""
    moment = time_of_day.replace(tzinfo=zone).astimezone(UTC)
    if _SKIPPED_GO_BACK and moment.astimezone(zone).replace(tzinfo=None) != time_of_day:
        return time_of_day.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return moment


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _times_of_day(cron: str, start: datetime, end: datetime | None) -> Iterator[datetime]:
    """Give the dates and times that a cron expression names, without a time zone, from `start` to `end`."""
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    clock, after = CronSchedule(cron=cron, timezone="UTC"), start.replace(tzinfo=UTC)
    last = None if end is None else end.replace(tzinfo=UTC)
    n = 10
    while True:
        found = [datetime.fromtimestamp(date.timestamp(), UTC) for date in asyncio.run(clock.get_dates(n, after, last))]
        yield from (date.replace(tzinfo=None) for date in found)
        if len(found) < n:
            return
        after, n = found[-1] + timedelta(seconds=1), min(4 * n, 640)


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
