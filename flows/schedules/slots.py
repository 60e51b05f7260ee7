"""The slots of a schedule: their times, how late a run may start, and the outcome of each slot.

The local times are computed with the code of Prefect's server that schedules runs, so that both agree. They are
converted to UTC here: around a clock change, the times that Prefect computes depend on the time of the request, and
may be in the past. The outcomes of slots are stored in a small SQLite file in the lake, for all Prefect servers.

A local time that occurs twice is a slot the first time. A local time that the clocks skip is a slot earlier by the
length of the change (01:30 for 02:30) or, under Python 3.13, later by it (03:30); if there is another slot at that
time, they are one slot.
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
"""A run never starts later than this after its slot, nor later than half of the time to the next slot."""

MOST_SLOTS = 1000
"""Maximum number of slots of one call, which is also the number that Prefect computes at once."""

_LONGEST_CHANGE = timedelta(days=2)  # of a clock; Samoa once skipped a day
_SKIPPED_GO_BACK = sys.version_info < (3, 13)  # since 3.13, Prefect reads time zones with another package

SlotState = Literal["running", "done", "failed", "stopped", "skipped", "missed"]


class SlotOutcome(NamedTuple):
    """The outcome of a slot.

    Attributes
    ----------
    slot : datetime
        The scheduled time, UTC.
    state : {'running', 'done', 'failed', 'stopped', 'skipped', 'missed'}
        ``running`` is also the state after a run was killed; ``skipped``: another run held the agent's lease;
        ``missed``: the scheduler was not running, or the run started too late.
    at_s : float
        When the outcome was recorded, in seconds since 1970.
    words : str
        Last line of the run.
    """

    slot: datetime
    state: SlotState
    at_s: float
    words: str


ActionState = Literal["running", "done", "failed", "stopped", "skipped"]


class ActionOutcome(NamedTuple):
    """The outcome of a command that ran after the collection of a slot (``schedules.NAME.then``).

    Attributes
    ----------
    action : str
        ``run``, ``push`` or ``report``.
    state : {'running', 'done', 'failed', 'stopped', 'skipped'}
        ``skipped``: `run` failed before it; ``stopped``: a signal ended it.
    at_s : float
        When the outcome was recorded, in seconds since 1970.
    words : str
        Last line of the command, or why it failed or was skipped.
    """

    action: str
    state: ActionState
    at_s: float
    words: str


class SlotCounts(NamedTuple):
    """Numbers of questions and answers of a slot's run, and the version that it published (empty: nothing new)."""

    n_asked: int
    n_answered: int
    n_parsed: int
    n_refused: int
    n_failed: int
    version: str


def slots_between(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots from `start` to `end` (inclusive), in UTC; at most the first `MOST_SLOTS`."""
    return list(islice(takewhile(lambda slot: slot <= end, _slots(schedule, start, end)), MOST_SLOTS))


def next_slots(schedule: Schedule, after: datetime, n: int = 1) -> list[datetime]:
    """Return the next `n` slots after a given time, in UTC."""
    return list(islice((slot for slot in _slots(schedule, after) if slot > after), n))


def grace(schedule: Schedule, slot: datetime) -> timedelta:
    """Return how late the run of a slot may start: half of the time to the next slot, and at most `LONGEST_GRACE`."""
    return min((next_slots(schedule, slot)[0] - slot) / 2, LONGEST_GRACE)


def _slots(schedule: Schedule, start: datetime, end: datetime | None = None) -> Iterator[datetime]:
    """Yield the slots from `start` on, in UTC, each once and in order; if `end` is given, until up to days after it."""
    zone = ZoneInfo(schedule.timezone)
    naive = start.astimezone(UTC).replace(tzinfo=None)
    first = naive + min(_offset(start, zone), _offset(start - _LONGEST_CHANGE, zone))
    last = None if end is None else end.astimezone(UTC).replace(tzinfo=None) + _LONGEST_CHANGE
    waiting: list[datetime] = []  # a later local time may be earlier in UTC, if the clocks skip it
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
    """Return when Prefect's server starts a run that is scheduled for a local date and time of a zone, in UTC."""
    moment = time_of_day.replace(tzinfo=zone).astimezone(UTC)
    if _SKIPPED_GO_BACK and moment.astimezone(zone).replace(tzinfo=None) != time_of_day:
        return time_of_day.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return moment


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _times_of_day(cron: str, start: datetime, end: datetime | None) -> Iterator[datetime]:
    """Yield the dates and times of a cron expression from `start` to `end`, without a time zone."""
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
    """The recorded outcomes of the slots of a lake's schedules.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    """

    def __init__(self, lake: Path) -> None:
        self._path = lake / layout.COLLECTING / "slots.sqlite"

    def outcome(self, schedule: str, slot: datetime) -> SlotOutcome | None:
        """Return the outcome of a slot; None if none is recorded."""
        found = self._read("AND slot_s = ?", schedule, slot.timestamp())
        return found[0] if found else None

    def latest(self, schedule: str, n: int = 1) -> list[SlotOutcome]:
        """Return the outcomes of the latest `n` slots with one, the latest first."""
        return self._read("ORDER BY slot_s DESC LIMIT ?", schedule, n)

    def record(self, schedule: str, slot: datetime, state: SlotState, words: str = "") -> None:
        """Record the outcome of a slot. A slot that is done remains done if another run of it fails or is skipped."""
        keep = "" if state in ("done", "running") else " WHERE state != 'done'"
        with self._opened() as database:
            database.execute(
                "INSERT INTO slots VALUES (?, ?, ?, ?, ?) ON CONFLICT (schedule, slot_s) DO UPDATE SET"
                f" state = excluded.state, at_s = excluded.at_s, words = excluded.words{keep}",
                (schedule, slot.timestamp(), state, time.time(), words),
            )

    def counts(self, schedule: str, slot: datetime) -> SlotCounts | None:
        """Return the numbers of a slot's run; None if it did not end, or an older version of affectlake ran it."""
        found = self._counts("counts", "AND slot_s = ?", schedule, slot.timestamp())
        return found[0] if found else None

    def unfinished_counts(self, schedule: str, slot: datetime) -> SlotCounts | None:
        """Return the numbers of a slot's run so far, if it has not ended; None if it has, or none is known."""
        found = self._counts("unfinished_counts", "AND slot_s = ?", schedule, slot.timestamp())
        return found[0] if found else None

    def counts_before(self, schedule: str, slot: datetime, n: int) -> list[SlotCounts]:
        """Return the numbers of the last `n` runs of slots before this one that had an answer, the latest first."""
        return self._counts(
            "counts", "AND slot_s < ? AND n_answered > 0 ORDER BY slot_s DESC LIMIT ?", schedule, slot.timestamp(), n
        )

    def record_counts(self, schedule: str, slot: datetime, counts: SlotCounts) -> None:
        """Record the numbers of a slot's run that has ended."""
        self.forget_unfinished_counts(schedule, slot)
        self._record_counts("counts", schedule, slot, counts)

    def record_unfinished_counts(self, schedule: str, slot: datetime, counts: SlotCounts) -> None:
        """Record the numbers of a slot's run so far. They are not among those that other runs are compared with."""
        self._record_counts("unfinished_counts", schedule, slot, counts)

    def forget_unfinished_counts(self, schedule: str, slot: datetime) -> None:
        """Delete the numbers of a slot's run that has not ended."""
        with self._opened() as database:
            values = (schedule, slot.timestamp())
            database.execute("DELETE FROM unfinished_counts WHERE schedule = ? AND slot_s = ?", values)

    def _record_counts(self, table: str, schedule: str, slot: datetime, counts: SlotCounts) -> None:
        with self._opened() as database:
            values = (schedule, slot.timestamp(), *counts)
            database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _counts(self, table: str, rest: str, *values: object) -> list[SlotCounts]:
        if not self._path.exists():
            return []
        with self._opened() as database:
            rows: Sequence[tuple[int, int, int, int, int, str]] = database.execute(
                f"SELECT {', '.join(SlotCounts._fields)} FROM {table} WHERE schedule = ? {rest}", values
            ).fetchall()
        return [SlotCounts(*row) for row in rows]

    def actions(self, schedule: str, slot: datetime) -> list[ActionOutcome]:
        """Return the outcomes of the commands after a slot's collection, in the order in which they were run."""
        if not self._path.exists():
            return []
        with self._opened() as database:
            rows: Sequence[tuple[str, ActionState, float, str]] = database.execute(
                "SELECT action, state, at_s, words FROM actions WHERE schedule = ? AND slot_s = ? ORDER BY place",
                (schedule, slot.timestamp()),
            ).fetchall()
        return [ActionOutcome(*row) for row in rows]

    def record_action(self, schedule: str, slot: datetime, place: int, outcome: ActionOutcome) -> None:
        """Record the outcome of the command at `place` after a slot's collection."""
        with self._opened() as database:
            values = (schedule, slot.timestamp(), place, *outcome)
            database.execute("INSERT OR REPLACE INTO actions VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def forget_actions(self, schedule: str, slot: datetime) -> None:
        """Delete the outcomes of the commands after a slot's collection, before they are run again."""
        with self._opened() as database:
            database.execute("DELETE FROM actions WHERE schedule = ? AND slot_s = ?", (schedule, slot.timestamp()))

    def end_actions(self, schedule: str, slot: datetime, words: str) -> None:
        """Record as failed the commands after a slot's collection that are recorded as running."""
        with self._opened() as database:
            database.execute(
                "UPDATE actions SET state = 'failed', at_s = ?, words = ?"
                " WHERE schedule = ? AND slot_s = ? AND state = 'running'",
                (time.time(), words, schedule, slot.timestamp()),
            )

    def _read(self, rest: str, *values: object) -> list[SlotOutcome]:
        if not self._path.exists():
            return []
        with self._opened() as database:
            rows: Sequence[tuple[float, SlotState, float, str]] = database.execute(
                f"SELECT slot_s, state, at_s, words FROM slots WHERE schedule = ? {rest}", values
            ).fetchall()
        return [SlotOutcome(datetime.fromtimestamp(row[0], UTC), *row[1:]) for row in rows]

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS slots (schedule TEXT NOT NULL, slot_s REAL NOT NULL, state TEXT NOT NULL,"
                " at_s REAL NOT NULL, words TEXT NOT NULL, PRIMARY KEY (schedule, slot_s))"
            )
            database.execute(
                "CREATE TABLE IF NOT EXISTS actions (schedule TEXT NOT NULL, slot_s REAL NOT NULL, place INTEGER"
                " NOT NULL, action TEXT NOT NULL, state TEXT NOT NULL, at_s REAL NOT NULL, words TEXT NOT NULL,"
                " PRIMARY KEY (schedule, slot_s, place))"
            )
            for table in ("counts", "unfinished_counts"):
                database.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (schedule TEXT NOT NULL, slot_s REAL NOT NULL, n_asked INTEGER"
                    " NOT NULL, n_answered INTEGER NOT NULL, n_parsed INTEGER NOT NULL, n_refused INTEGER NOT NULL,"
                    " n_failed INTEGER NOT NULL, version TEXT NOT NULL, PRIMARY KEY (schedule, slot_s))"
                )
            yield database
