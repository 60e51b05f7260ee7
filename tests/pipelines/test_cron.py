"""Schedules in params.yaml: what is legal is legal to Prefect too, and each mistake is one message."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.server.schemas.schedules import CronSchedule

from affectlake.errors import UsageError
from affectlake.flows.schedules.backfill import moment
from affectlake.flows.schedules.slots import LONGEST_GRACE, grace, next_slots, slots_between
from affectlake.pipelines.engine.dvcfile import render
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.cron import check_cron
from affectlake.pipelines.params.notify import Notify
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.stored import NOTHING
from tests.support.chat import ENTRY
from tests.support.schedules import make_schedule

NIGHTLY = {"agent": "tiny", "cron": "0 2 * * *", "limit": 100}


def with_keys(**keys: Any) -> Params:
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["agents"]["tiny"] = ENTRY | {"l1": 0.004}
    if "notify" in keys:
        raw["schedules"] = {"nightly": NIGHTLY}
    return parse(yaml.safe_dump(raw | keys))


def test_schedules_are_read() -> None:
    more = NIGHTLY | {"limit": None, "trial_set": "noise_ceiling", "timezone": "Europe/Berlin"}
    params = with_keys(schedules={"nightly": NIGHTLY, "more": more}, notify={"webhook_env": "HOOK"})
    assert params.schedules["nightly"] == make_schedule(
        "nightly", "tiny", "0 2 * * *", 100, trial_set="main", timezone="UTC"
    )
    berlin = {"trial_set": "noise_ceiling", "timezone": "Europe/Berlin"}
    assert params.schedules["more"] == make_schedule("more", "tiny", "0 2 * * *", None, **berlin)
    asked = with_keys(schedules={"n": NIGHTLY | {"proposed": True}}).schedules["n"]
    assert asked == make_schedule("n", "tiny", "0 2 * * *", 100, proposed=True)
    assert params.notify == Notify(webhook_env="HOOK")


def test_a_file_without_them_has_none_and_a_change_makes_nothing_stale() -> None:
    bare = with_keys()
    assert (bare.schedules, bare.notify) == ({}, None)
    assert render(bare, NOTHING) == render(
        with_keys(schedules={"nightly": NIGHTLY}, notify={"webhook": "https://x.org/y"}), NOTHING
    )


MISTAKES = {
    "no mapping": ({"schedules": [1]}, "schedules must be null or a mapping"),
    "name": ({"schedules": {"a b": NIGHTLY}}, "not a name for a schedule"),
    "unknown key": ({"schedules": {"n": NIGHTLY | {"limits": 1}}}, "did you mean 'limit'"),
    "missing key": ({"schedules": {"n": {"agent": "tiny", "cron": "* * * * *"}}}, "schedules.n.limit is missing"),
    "unknown agent": ({"schedules": {"n": NIGHTLY | {"agent": "tinny"}}}, "did you mean 'tiny'"),
    "other kind": ({"schedules": {"n": NIGHTLY | {"agent": "human-category"}}}, "an agent of kind ratings"),
    "limit 0": (
        {"schedules": {"n": NIGHTLY | {"limit": 0}}},
        "schedules.n.limit must be null or an integer, 1 or more",
    ),
    "trial set": ({"schedules": {"n": NIGHTLY | {"trial_set": "mian"}}}, "did you mean 'main'"),
    "proposed": ({"schedules": {"n": NIGHTLY | {"proposed": "yes"}}}, "proposed must be true or false"),
    "proposed, all": ({"schedules": {"n": NIGHTLY | {"proposed": True, "limit": None}}}, "found: limit: null"),
    "proposed of another set": (
        {"schedules": {"n": NIGHTLY | {"proposed": True, "trial_set": "validation"}}},
        "cannot propose triplets",
    ),
    "time zone": (
        {"schedules": {"n": NIGHTLY | {"timezone": "Berlin"}}},
        "is not a time zone\n  wanted: a name such as UTC or Europe/Berlin\n  found: 'Berlin'",
    ),
    "time zone path": ({"schedules": {"n": NIGHTLY | {"timezone": "../../etc/passwd"}}}, "is not a time zone"),
    "cron": ({"schedules": {"n": NIGHTLY | {"cron": "0 25 * * *"}}}, "schedules.n.cron: hour"),
    "cron number": ({"schedules": {"n": NIGHTLY | {"cron": 5}}}, "schedules.n.cron must be a text"),
    "two webhooks": (
        {"notify": {"webhook": "http://a", "webhook_env": "B"}},
        "notify needs exactly one of webhook, webhook_env",
    ),
    "password": ({"notify": {"webhook": "https://me:s3same@x.org"}}, "put a secret URL in an environment"),
    "no URL": ({"notify": {"webhook": "x.org/hook"}}, "notify.webhook is not a valid URL"),
    "no variable": (
        {"notify": {"webhook_env": "https://x.org"}},
        "notify.webhook_env is not the name of an environment variable",
    ),
    "unknown notify": ({"notify": {"web_hook": "https://x.org"}}, "did you mean 'webhook'"),
}


@pytest.mark.parametrize("case", list(MISTAKES))
def test_a_mistake_is_one_message(case: str) -> None:
    keys, expected = MISTAKES[case]
    with pytest.raises(UsageError) as caught:
        with_keys(**keys)
    assert expected in str(caught.value)
    assert "s3same" not in str(caught.value)


@pytest.mark.parametrize(
    "cron", ["*/15 8-18/2 1,15 jan-jun mon-fri", "5 4 29 2 *", "0 0 31 1,2 *", "0 0 30 1,2 mon", "0 0 * * 7"]
)
def test_legal_crons_come_true(cron: str) -> None:
    check_cron("cron", cron)
    (found,) = next_slots(make_schedule("s", "a", cron, None), datetime(2026, 1, 1, tzinfo=UTC))
    assert found > datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("@daily", "wanted: five fields"),
        ("0 * * * * *", "wanted: five fields"),  # cronsim takes the first of six for seconds
        ("60 * * * *", "minute is not valid\n  found: '60'\n  allowed: 0 to 59, ranges"),
        ("* 9-3 * * *", "hour is not valid"),  # Prefect starts again at midnight
        ("* * L * *", "day of month is not valid"),
        ("* * * */٣ *", "month is not valid"),
        ("* * * * 5L", "day of week is not valid"),  # cronsim takes it, Prefect does not
        ("* * * * ſun", "day of week is not valid"),  # its capitals are SUN
        ("* * * * sat-6", "day of week is not valid"),  # every day to Prefect, Saturday to everybody else
        (f"{'1' * 5000} * * * *", "minute is not valid"),  # more digits than int() reads
        ("5/10 * * * *", "minute is not valid"),
        ("0 0 30 2 *", "never matches"),
        ("0 0 30 2 mon", "never matches"),  # cronsim takes it, Prefect does not
        ("0 0 31 4,6,9,11 *", "never matches"),
    ],
)
def test_illegal_crons_are_one_message(cron: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_cron("cron", cron)


def _field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    span = (
        st.tuples(number, number).filter(lambda ends: ends[0] != ends[1]).map(lambda ends: f"{min(ends)}-{max(ends)}")
    )
    step = st.tuples(st.just("*") | span, st.integers(1, most)).map(lambda parts: f"{parts[0]}/{parts[1]}")
    return st.lists(st.just("*") | number.map(str) | span | step, min_size=1, max_size=3).map(",".join)


@settings(max_examples=60)
@given(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 7))
def test_prefect_takes_whatever_is_legal_here(minute: str, hour: str, day: str, month: str, weekday: str) -> None:
    cron = f"{minute} {hour} {day} {month} {weekday}"
    try:
        check_cron("cron", cron)
    except UsageError as error:
        assert "never matches" in str(error)
        return
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found = asyncio.run(CronSchedule(cron=cron, timezone="UTC").get_dates(1, start))
    assert start <= found[0] < start + timedelta(days=366 * 8 + 31)


def test_slots_hang_on_the_clock_of_their_time_zone() -> None:
    schedule = make_schedule("s", "a", "0 2 * * *", None, timezone="Europe/Berlin")
    start = datetime(2026, 10, 23, tzinfo=UTC)
    found = slots_between(schedule, start, start + timedelta(days=4))
    assert [f"{slot:%d %H}" for slot in found] == ["23 00", "24 00", "25 00", "26 01"]  # on the 25th 2:00 comes twice
    assert slots_between(schedule, found[0], found[1]) == found[:2]


def test_grace_is_half_of_the_time_to_the_next_slot_and_an_hour_at_most() -> None:
    slot = datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert grace(make_schedule("s", "a", "*/10 * * * *", None), slot) == timedelta(minutes=5)
    assert grace(make_schedule("s", "a", "0 2 * * *", None), slot) == LONGEST_GRACE


@pytest.mark.parametrize(
    ("text", "end_of_day", "expected"),
    [
        ("2026-01-31", False, "2026-01-30T23:00:00+00:00"),
        ("2026-01-31", True, "2026-01-31T22:59:59+00:00"),
        ("2026-01-31T14:00", True, "2026-01-31T13:00:00+00:00"),
        ("2026-01-31T14:00Z", False, "2026-01-31T14:00:00+00:00"),
    ],
)
def test_moments_are_read_in_the_schedule_s_time_zone(text: str, end_of_day: bool, expected: str) -> None:
    assert moment("--from", text, "Europe/Berlin", end_of_day=end_of_day).isoformat() == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "2026-13-01T00:00", "9999-12-31"])
def test_what_is_no_moment_is_one_message(text: str) -> None:
    with pytest.raises(UsageError, match="not a date or time"):
        moment("--to", text, "UTC", end_of_day=True)
