"""What a participant is asked: numbers of each kind, catch trials, repeats, and orders."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlake.errors import UsageError
from affectlake.experiment.schedule import Schedule
from tests.experiment.worlds import settings


def asked(schedule: Schedule) -> list[tuple[str, tuple[int, int, int], int]]:
    """Go through a schedule; return the kind, the order and the key of each trial."""
    found = []
    while (kind := schedule.following()) is not None:
        key = schedule.seen[schedule.source()] if kind == "repeat" else len(found)
        order = schedule.order(kind, key % 6)
        schedule.add(kind, key, order)
        found.append((kind, order, key))
        assert len(found) < 5000
    return found


@given(
    per=st.integers(1, 130),
    practice=st.integers(0, 8),
    every=st.none() | st.integers(2, 30),
    repeats=st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    name=st.sampled_from(["a", "b", "c"]),
)
def test_kinds(per: int, practice: int, every: int | None, repeats: float, name: str) -> None:
    schedule = Schedule(
        settings(per_participant=per, practice=practice, catch_every=every, repeats=repeats), name, 5, 4
    )
    n_in_all = schedule.n_in_all
    found = asked(schedule)
    kinds = [one[0] for one in found]
    counts = Counter(kinds)
    assert len(found) == n_in_all == schedule.n_in_all
    assert counts["trial"] + counts["repeat"] == per
    assert counts["repeat"] == int(repeats * per + 1e-9)
    assert counts["practice"] == min(practice, 5) and kinds[: counts["practice"]] == ["practice"] * counts["practice"]
    main = kinds[counts["practice"] :]
    if every is not None:
        assert counts["catch"] == per // (every - 1)
        for block in range(counts["catch"]):
            assert main[block * every : (block + 1) * every].count("catch") == 1
    else:
        assert counts["catch"] == 0


@given(per=st.integers(2, 120), every=st.none() | st.integers(2, 20), name=st.text("abc", min_size=1, max_size=4))
def test_every_order_is_shown_once_in_each_six(per: int, every: int | None, name: str) -> None:
    found = asked(Schedule(settings(per_participant=per, catch_every=every, repeats=0.2), name, 5, 4))
    for kinds in ({"trial", "repeat"}, {"practice", "catch"}):
        orders = [order for kind, order, _ in found if kind in kinds]
        for start in range(0, len(orders) - 5, 6):
            assert sorted(orders[start : start + 6]) == list(permutations(range(3)))
        assert len(set(orders[len(orders) // 6 * 6 :])) == len(orders) % 6


def test_repeats_are_of_the_first_half_and_in_the_second() -> None:
    found = asked(Schedule(settings(per_participant=40, catch_every=None, practice=0, repeats=0.25), "p", 0, 0))
    at = [index for index, (kind, _, _) in enumerate(found) if kind == "repeat"]
    assert len(at) == 10 and min(at) >= 20
    repeated = [found[index][2] for index in at]
    first = [key for kind, _, key in found[:20]]
    assert len(set(repeated)) == 10 and set(repeated) <= set(first)


def test_catch_trials_are_all_used_before_one_is_used_again_and_at_other_places_for_others() -> None:
    schedule = Schedule(settings(), "p", 0, 4)
    used = []
    for _ in range(12):
        used.append(schedule.catch(4))
        schedule.add("catch", 0, (0, 1, 2) if len(used) % 6 else (0, 2, 1))
    assert [sorted(used[start : start + 4]) for start in (0, 4, 8)] == [[0, 1, 2, 3]] * 3
    places = set()
    for name in "abcdefgh":
        found = asked(Schedule(settings(per_participant=40, catch_every=20, practice=0), name, 0, 4))
        places.add(next(index for index, one in enumerate(found) if one[0] == "catch"))
    assert len(places) > 3


def test_breaks() -> None:
    schedule = Schedule(settings(per_participant=30, break_every=10, practice=0, catch_every=6), "p", 0, 4)
    breaks, n = [], 0
    while (kind := schedule.following()) is not None:
        schedule.add(kind, 0, schedule.order(kind, 0))
        n += kind == "trial"
        if schedule.is_before_break():
            breaks.append(n)
    assert breaks == [10, 20]  # not after the last, and once each, even if a catch trial follows


def test_a_schedule_depends_on_seed_and_participant_alone() -> None:
    def of(name: str) -> list[object]:
        return list(asked(Schedule(settings(per_participant=60), name, 5, 4)))

    assert of("p") == of("p") != of("q")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("per_participant", 0), ("practice", -1), ("catch_every", 1), ("break_every", 0), ("repeats", 0.6),
        ("repeats", float("nan")), ("languages", ()), ("time_limit_s", 0), ("resume_within_h", 0),
        ("give_again_after_min", -1),
    ],
)  # fmt: skip
def test_settings_out_of_range(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name} is out of its range") as caught:
        settings(**{name: value})
    assert caught.value.allowed and caught.value.todo
