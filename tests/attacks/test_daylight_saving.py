"""Slots where the clocks change: in order, each once, never in the past, and the moments of Prefect's own server."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from affectlake.flows.schedules.slots import LONGEST_GRACE, MOST_SLOTS, grace, next_slots, slots_between
from tests.support.schedules import make_schedule

SKIPPED = "01:30" if sys.version_info < (3, 13) else "03:30"  # what Prefect makes of 02:30
MINUTE = timedelta(minutes=1)
# zone, and days in whose night a clock changes: forward and back by an hour, by half an hour, by two, a day left out
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),
    "Antarctica/Troll": ("2026-03-29", "2026-10-25"),
    "Africa/Cairo": ("2026-04-24", "2026-10-30"),  # at midnight
    "Asia/Gaza": ("2026-03-28", "2026-10-24"),
    "America/Santiago": ("2026-04-05", "2026-09-06"),
    "Pacific/Apia": ("2011-12-30", "2011-12-31"),
    "UTC": ("2026-03-29",),
}
# minute, hour, and whether it is a day of the week or of the month that is named
CRONS = {
    "0 * * * *": ({0}, set(range(24))),
    "*/20 * * * *": ({0, 20, 40}, set(range(24))),
    "*/7 * * * *": (set(range(0, 60, 7)), set(range(24))),
    "30 2 * * *": ({30}, {2}),
    "10,35 2 * * *": ({10, 35}, {2}),
    "0,30 1-3 * * *": ({0, 30}, {1, 2, 3}),
    "15,45 0-2 * * *": ({15, 45}, {0, 1, 2}),
    "0 0 * * *": ({0}, {0}),
    "59 23 * * *": ({59}, {23}),
    "* * * * *": (set(range(60)), set(range(24))),
}


@cache
def clock(timezone: str, start: datetime, end: datetime) -> dict[datetime, datetime]:
    """Return at which moment a clock first shows a date and time, for every minute, skipped ones included."""
    shown: dict[datetime, datetime] = {}
    moment, before = start, start.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    while moment <= end:
        now = moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
        for n in range(1, (now - before) // MINUTE):  # the clock was put forward: Prefect moves what it skips
            skipped = before + n * MINUTE
            by = now - before - MINUTE
            shown[skipped] = moment + (n - 1) * MINUTE - (by if sys.version_info < (3, 13) else timedelta())
        shown.setdefault(now, moment)
        moment, before = moment + MINUTE, now
    return shown


def reference(cron: str, timezone: str, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots, read off a clock that is looked at every minute."""
    minutes, hours = CRONS[cron]
    shown = clock(timezone, start - timedelta(days=1), end + timedelta(days=2))
    found = {slot for reading, slot in shown.items() if reading.minute in minutes and reading.hour in hours}
    return [slot for slot in sorted(found) if start <= slot <= end]


def window(day: str, days: int = 2) -> tuple[datetime, datetime]:
    middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return middle - timedelta(days=days), middle + timedelta(days=days)


@pytest.mark.parametrize("timezone", list(CHANGES))
def test_slots_around_a_change_are_those_of_a_clock_looked_at_every_minute(timezone: str) -> None:
    for cron in CRONS:
        schedule = make_schedule("s", "a", cron, None, timezone=timezone)
        for day in CHANGES[timezone]:
            start, end = window(day)
            expected = reference(cron, timezone, start, end)
            assert slots_between(schedule, start, end) == expected[:MOST_SLOTS], cron


@pytest.mark.parametrize("timezone", list(CHANGES))
def test_the_next_slot_is_after_any_moment_of_a_change_and_grace_is_time(timezone: str) -> None:
    for cron in ("0 * * * *", "*/7 * * * *", "30 2 * * *", "10,35 2 * * *", "0,30 1-3 * * *", "0 0 * * *"):
        schedule = make_schedule("s", "a", cron, None, timezone=timezone)
        for day in CHANGES[timezone]:
            start, end = window(day)
            slots = reference(cron, timezone, start, end)
            moment = start + timedelta(days=1, hours=8)
            while moment < end - timedelta(days=1, hours=4):
                expected = [slot for slot in slots if slot > moment][:3]
                assert next_slots(schedule, moment, 3)[: len(expected)] == expected, (cron, moment)
                moment += timedelta(minutes=217, seconds=30)
            for slot in slots[len(slots) // 3 : 2 * len(slots) // 3 : 1 + len(slots) // 60]:
                assert timedelta() < grace(schedule, slot) <= LONGEST_GRACE


@pytest.mark.parametrize("timezone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "*/20 2 * * 0", "15 1-3 */5 * *", "0 */6 1,15 * mon", "45 2 * 3,10 sun"]
)
def test_a_year_of_slots_is_what_prefect_s_server_schedules(cron: str, timezone: str) -> None:
    schedule, prefect = (
        make_schedule("s", "a", cron, None, timezone=timezone),
        CronSchedule(cron=cron, timezone=timezone),
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = start + timedelta(days=365)
    ours = slots_between(schedule, start, end)
    assert all(one < other for one, other in pairwise(ours))
    theirs = set()
    moment = start
    while moment <= end:  # its server looks some days ahead, again and again
        looked = asyncio.run(prefect.get_dates(100, moment, moment + timedelta(days=20)))
        theirs |= {datetime.fromtimestamp(date.timestamp(), UTC) for date in looked}
        moment += timedelta(days=12, hours=5, minutes=7)
    assert sorted(slot for slot in theirs if start <= slot <= ours[-1]) == ours


@pytest.mark.parametrize("timezone", list(CHANGES))
def test_prefect_asked_within_a_change_names_no_other_moments(timezone: str) -> None:
    for cron in ("*/20 * * * *", "10,35 2 * * *", "0,30 0-3 * * *"):
        for day in CHANGES[timezone]:
            start, end = window(day)
            known = set(slots_between(make_schedule("s", "a", cron, None, timezone=timezone), start, end))
            prefect, moment = CronSchedule(cron=cron, timezone=timezone), start + timedelta(days=1, hours=8)
            while moment < end - timedelta(days=1):
                looked = asyncio.run(prefect.get_dates(4, moment, moment + timedelta(hours=12)))
                assert {datetime.fromtimestamp(one.timestamp(), UTC) for one in looked} <= known, (cron, moment)
                moment += timedelta(minutes=23)


def test_the_doubled_and_the_skipped_hour() -> None:
    berlin = make_schedule("s", "a", "30 2 * * *", None, timezone="Europe/Berlin")
    spring = slots_between(berlin, *window("2026-03-29", days=1))
    assert [f"{slot.astimezone(ZoneInfo('Europe/Berlin')):%d %H:%M}" for slot in spring] == [
        "28 02:30",
        f"29 {SKIPPED}",
    ]
    autumn = slots_between(berlin, *window("2026-10-25", days=1))
    assert [f"{slot:%d %H:%M}" for slot in autumn] == ["24 00:30", "25 00:30"]  # the first of 02:30 and 02:30
    second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert next_slots(berlin, second_pass) == [datetime(2026, 10, 26, 1, 30, tzinfo=UTC)]
