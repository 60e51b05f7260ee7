"""Which trial is given next: compared with a plain model, and for a plan of seven million trials."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlake.errors import UsageError
from affectlake.experiment.allocation import MOST_FAILED, Allocation
from affectlake.experiment.offer import Offer, key_of, keys_of, members_of
from affectlake.experiment.store_rows import Counted
from tests.experiment.worlds import offer

NOTHING = Counted(np.zeros((0, 3), np.int32), *(np.zeros(0, np.int64) for _ in range(3)))


def all_of(allocation: Allocation, seen: set[int] | None = None) -> list[tuple[int, int, int]]:
    """Take until nothing is left."""
    found = []
    while (one := allocation.take(seen or set())) is not None:
        found.append(one.trial)
        assert len(found) < 100_000
    return found


def test_every_trial_is_given_as_often_as_wanted_in_passes() -> None:
    plan = offer(9, 80, wanted=3)
    found = all_of(Allocation(plan, 1, NOTHING))
    for lap in range(3):
        assert sorted(found[lap * 80 : (lap + 1) * 80]) == sorted(map(tuple, plan.trials.tolist()))
    assert found[:80] != sorted(found[:80])
    assert found == all_of(Allocation(plan, 1, NOTHING)) != all_of(Allocation(plan, 2, NOTHING))


def test_published_answers_and_those_of_the_store_take_places() -> None:
    plan = offer(9, 50, wanted=2)
    plan.answered[:10] = 1
    plan.answered[10:20] = 2
    plan.answered[20] = 5
    counted = Counted(plan.trials[30:34], np.array([1, 2, 0, 0]), np.array([0, 0, 1, 5]), np.array([0, 0, 0, 0]))
    allocation = Allocation(plan, 1, counted)
    left = Counter(all_of(allocation))
    wanted = dict.fromkeys(range(50), 2) | dict.fromkeys(range(10), 1) | dict.fromkeys(range(10, 21), 0)
    wanted |= {30: 1, 31: 0, 32: 2, 33: 0}
    assert left == Counter({tuple(plan.trials[at].tolist()): n for at, n in wanted.items() if n})


@given(st.data())
def test_against_a_plain_model(data: st.DataObject) -> None:
    m, wanted = data.draw(st.integers(1, 12)), data.draw(st.lists(st.integers(0, 3), min_size=12, max_size=12))
    plan = offer(9, m)
    plan = Offer(plan.trials, np.array(wanted[:m], np.int16), plan.answered, plan.catch, plan.practice)
    allocation = Allocation(plan, data.draw(st.integers(0, 3)), NOTHING)
    keys = keys_of(plan.trials).tolist()
    taken, failed = Counter[int](), Counter[int]()
    outside = key_of(100, 101, 102)
    for _ in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["take", "take", "put_back", "fill", "fail", "late fail", "update"]))
        key = data.draw(st.sampled_from([*keys, outside]))
        if step == "take":
            seen = set(data.draw(st.lists(st.sampled_from(keys), max_size=4)))
            found = allocation.take(seen)
            free = {one for one, n in zip(keys, wanted, strict=False) if n > taken[one] and one not in seen}
            assert (found is None) == (not free)
            if found is not None:
                one = key_of(*found.trial)
                assert one in free and found.n_before == taken[one]
                taken[one] += 1
        elif step == "put_back" and taken[key] > 0:
            allocation.put_back(key)
            taken[key] -= 1
        elif step == "fill":
            allocation.fill(key)
            taken[key] += 1
        elif step == "fail" and taken[key] > 0:
            allocation.fail(key, had_place=True)
            failed[key] += 1
            taken[key] -= failed[key] <= MOST_FAILED
        elif step == "late fail":
            allocation.fail(key, had_place=False)
            failed[key] += 1
            taken[key] += failed[key] > MOST_FAILED
        elif step == "update":
            allocation.update(plan)
        places = [n - taken[one] for one, n in zip(keys, wanted, strict=False)]
        assert allocation.n_free == sum(max(0, n) for n in places)
        assert [allocation.is_open(one) for one in keys] == [n > 0 for n in places]


def test_another_offer_keeps_what_is_taken_also_of_trials_that_come_back() -> None:
    first = offer(9, 60)
    second = Offer(first.trials[40:], first.wanted[40:], first.answered[40:], first.catch, first.practice)
    allocation = Allocation(first, 1, NOTHING)
    had = {allocation.take(set()).trial for _ in range(30)}  # type: ignore[union-attr]
    allocation.update(second)
    had_too = set(all_of(allocation))
    assert had_too == set(map(tuple, second.trials.tolist())) - had
    allocation.update(first)
    assert set(all_of(allocation)) == set(map(tuple, first.trials.tolist())) - had - had_too


def test_seen_trials_stay_for_others() -> None:
    plan = offer(9, 10, wanted=2)
    allocation = Allocation(plan, 1, NOTHING)
    seen = set(keys_of(plan.trials[:9]).tolist())
    assert all_of(allocation, seen) == [tuple(plan.trials[9].tolist())] * 2
    assert sorted(all_of(allocation)) == sorted([*map(tuple, plan.trials[:9].tolist())] * 2)


@pytest.mark.parametrize(
    "rows", [[[0, 2, 1]], [[0, 1, 2], [0, 1, 2]], [[0, 1, 3], [0, 1, 2]], [[-1, 0, 1]], [[1, 1, 2]]]
)
def test_an_offer_that_is_not_canonical(rows: list[list[int]]) -> None:
    ones = np.ones(len(rows), np.int16)
    with pytest.raises(UsageError, match="not canonical"):
        Offer(np.array(rows, np.int32), ones, ones * 0)


@given(st.lists(st.integers(0, 199_999), min_size=3, max_size=3, unique=True))
def test_keys(members: list[int]) -> None:
    i, j, k = sorted(members)
    assert members_of(key_of(i, j, k)) == (i, j, k)
    assert keys_of(np.array([[i, j, k]], np.int32)).tolist() == [key_of(i, j, k)]


def test_seven_million_trials() -> None:
    m = 7_000_000
    i, rest = np.divmod(np.arange(m, dtype=np.int64), 100_000)
    trials = np.column_stack([i, 100 + rest // 300, 1000 + rest % 300]).astype(np.int32)
    one = np.ones(m, np.int16)
    plan = Offer(trials, one, one * 0)
    tracemalloc.start()
    allocation = Allocation(plan, 1, NOTHING)
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now < 12 * m + 2**22  # bytes: an order, and two counts
    since = time.process_time()
    taken = [allocation.take(set()) for _ in range(20_000)]
    assert (time.process_time() - since) / 20_000 < 1e-3  # seconds for each; 0.00001 on an idle machine
    assert len({one.trial for one in taken if one}) == 20_000
