"""The rules of sessions, on a real store: what is given, what an answer counts for, and what a restart changes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affectlake.experiment import store_operations as operations
from affectlake.experiment.offer import Offer, ServeSettings
from affectlake.experiment.participants import Answer, Given, Person
from affectlake.experiment.refusals import Refused
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.sessions import IDLE_S, Sessions
from affectlake.experiment.writer import Writer
from tests.experiment.worlds import KEY, contents, offer, settings

N = 12
HOUR = 3600.0


class World:
    """Sessions with a clock that is set."""

    def __init__(self, folder: Path, plan: Offer, given: ServeSettings, n: int = N) -> None:
        self.folder, self.plan, self.settings, self.n, self.at = folder, plan, given, n, 1_700_000_000.0
        self.store = SessionStore(folder / "x.sqlite")
        self.writer = Writer(self.store)
        self.writer.start()
        self.sessions = self.opened()

    def opened(self) -> Sessions:
        return Sessions(
            self.store, self.writer, self.plan, contents(self.n), self.settings, KEY, clock=lambda: self.at
        )  # fmt: skip

    def restart(self) -> None:
        self.sessions = self.opened()

    async def joined(self, **given: Any) -> Person:
        values = {"link": None, "panel": None, "language": "en", "participant": None, "secret": None} | given
        person = (await self.sessions.join(**values)).person
        if person.state == "consent":
            await self.sessions.consent(person)
        return person

    async def next(self, person: Person, n: int = 1) -> list[Given]:
        return (await self.sessions.trials(person, n))[0]

    async def answer(self, person: Person, number: int, position: int | None = 1, reason: str | None = None) -> None:
        await self.sessions.answer(person, [Answer(number, position, reason, None, 500.0)])

    def rows(self, query: str) -> list[Any]:
        return self.store.do(lambda database: database.execute(query).fetchall())


def in_world(
    test: Callable[[World], Coroutine[Any, Any, None]], plan: Offer | None = None, n: int = N, **changes: object
) -> None:
    """Run a test in a world of its own."""

    async def run() -> None:
        with TemporaryDirectory() as folder:
            world = World(
                Path(folder),
                offer(N, 100) if plan is None else plan,
                settings(**({"practice": 0, "catch_every": None, "break_every": None} | changes)),
                n,
            )
            try:
                await test(world)
            finally:
                await world.writer.stop()
                world.store.close()

    asyncio.run(run())


def test_trials_that_are_not_answered_come_first_and_two_tabs_see_the_same() -> None:
    async def test(world: World) -> None:
        person = await world.joined()
        first, second = await asyncio.gather(world.next(person, 4), world.next(person, 4))
        assert [one.number for one in first] == [one.number for one in second] == [1, 2, 3, 4]
        assert [one.key for one in first] == [one.key for one in second]
        await world.answer(person, 2)
        assert [one.number for one in await world.next(person, 5)] == [1, 3, 4, 5, 6]
        assert len(world.rows("SELECT * FROM given")) == 6

    in_world(test)


def test_the_first_answer_stays() -> None:
    async def test(world: World) -> None:
        person = await world.joined()
        await world.next(person, 2)
        two = [Answer(1, 2, None, None, 1.0)], [Answer(1, 3, None, None, 1.0)]
        await asyncio.gather(*(world.sessions.answer(person, one) for one in two))
        stored, refused = await world.sessions.answer(
            person, [Answer(1, 1, None, None, 1.0), Answer(9, 1, None, None, 1)]
        )
        assert (stored, refused) == ([1], [9])
        assert world.rows("SELECT number, position FROM answers") == [(1, 2)]

    in_world(test)


def test_nobody_is_given_a_trial_twice_and_the_plan_ends() -> None:
    async def test(world: World) -> None:
        people = [await world.joined() for _ in range(4)]
        for person in people:
            while found := await world.next(person, 7):
                for one in found:
                    await world.answer(person, one.number)
            assert person.n_left == 0
        rows = world.rows("SELECT participant, i, j, k FROM given")
        assert len(rows) == len(set(rows)) == 60 and set(Counter(row[1:] for row in rows).values()) == {2}
        assert [person.n_trials for person in people] == [20, 20, 20, 0]
        with pytest.raises(Refused) as caught:
            await world.joined()
        assert caught.value.code == "full"
        again = await world.joined(participant=people[0].id, secret=(await _secret_of(world, people[0])))
        assert again is people[0]

    in_world(test, offer(N, 30, wanted=2))


async def _secret_of(world: World, person: Person) -> str:
    """Give a participant a known secret."""
    person.secret_hash = operations.digest("s" * 43)
    return "s" * 43


def test_a_trial_without_an_answer_is_given_to_somebody_else_and_a_late_answer_counts() -> None:
    async def test(world: World) -> None:
        one, other, third = [await world.joined() for _ in range(3)]
        lost = (await world.next(one, 2))[:2]
        world.at += 31 * 60
        found = await world.next(other, 1)
        assert found[0].key == lost[0].key  # the first to expire is the first to be given again
        assert world.sessions.allocation.n_free == 99
        await world.answer(one, 1)  # late: kept, and one answer more than wanted
        await world.answer(other, 1)
        assert world.sessions.allocation.n_free == 99
        await world.answer(one, 2)  # late, and nobody has it: it takes the place
        assert world.sessions.allocation.n_free == 98
        keys = {found.key for found in await world.next(third, 20)}
        assert not keys & {found.key for found in lost}
        assert len(world.rows("SELECT * FROM answers")) == 3
        world.restart()
        assert world.sessions.allocation.n_free == 78

    in_world(test, give_again_after_min=30)


def test_one_who_comes_back_gets_the_same_trial_again_if_nobody_else_has_it() -> None:
    async def test(world: World) -> None:
        one, other = await world.joined(), await world.joined()
        before = await world.next(one, 1)
        world.at += 31 * 60
        assert [found.key for found in await world.next(one, 1)] == [before[0].key]
        assert before[0].key not in {found.key for found in await world.next(other, 10)}
        world.restart()
        assert world.sessions.allocation.n_free == 89

    in_world(test, give_again_after_min=30)


def test_an_answer_without_a_choice_lets_three_others_answer() -> None:
    async def test(world: World) -> None:
        asked = 0
        for number in range(6):
            if number == 4:
                with pytest.raises(Refused):
                    await world.joined()
                return
            person = await world.joined()
            for one in await world.next(person, 5):
                asked += 1
                await world.answer(person, one.number, None, "media_failed")
        raise AssertionError

    in_world(test, offer(N, 1))


def test_the_same_id_of_a_panel_is_the_same_person_also_at_once() -> None:
    async def test(world: World) -> None:
        ask = {"link": None, "panel": "5f3c", "language": "en", "participant": None, "secret": None}
        one, two = await asyncio.gather(world.sessions.join(**ask), world.sessions.join(**ask | {"secret": "x" * 43}))
        assert one.person is two.person and one.secret == two.secret
        assert (await world.sessions.join(**ask | {"panel": "5f3d"})).person is not one.person
        world.restart()
        assert (await world.sessions.join(**ask)).person.id == one.person.id
        assert b"5f3c" not in world.store.path.read_bytes() + Path(f"{world.store.path}-wal").read_bytes()

    in_world(test)


def test_joining_twice_with_the_secret_of_the_browser_is_one_participant() -> None:
    async def test(world: World) -> None:
        found = await asyncio.gather(*(world.joined(secret="x" * 43) for _ in range(5)))
        assert len({one.id for one in found}) == 1
        token = world.store.do(lambda database: operations.add_links(database, 1))[0]
        first = await world.joined(link=token, secret="y" * 43)
        assert await world.joined(link=token, secret="y" * 43) is first
        with pytest.raises(Refused) as caught:
            await world.joined(link=token, secret="z" * 43)
        assert caught.value.code == "used_link"
        with pytest.raises(Refused) as caught:
            await world.joined(link="unknown", secret="w" * 43)
        assert caught.value.code == "bad_token"
        assert len(world.rows("SELECT * FROM participants")) == 2

    in_world(test)


def test_who_is_away_for_too_long_cannot_continue_but_what_was_answered_is_taken() -> None:
    async def test(world: World) -> None:
        person = await world.joined()
        await world.next(person, 2)
        world.at += 25 * HOUR
        with pytest.raises(Refused) as caught:
            await world.next(person, 2)
        assert caught.value.code == "over"
        await world.answer(person, 1)
        assert len(world.rows("SELECT * FROM answers")) == 1

    in_world(test, resume_within_h=24)


def test_leaving_gives_the_trials_to_others() -> None:
    async def test(world: World) -> None:
        person = await world.joined()
        await world.next(person, 5)
        await world.sessions.end(person, "done")
        assert person.state == "running"
        await world.sessions.end(person, "left")
        assert (person.state, world.sessions.allocation.n_free) == ("left", 100)
        await world.answer(person, 1)
        assert world.sessions.allocation.n_free == 99
        assert await world.next(person, 5) == []
        assert world.sessions.n_answers == 1
        await world.sessions.end(person, "withdrawn")
        assert (world.sessions.n_answers, world.sessions.allocation.n_free) == (0, 100)
        with pytest.raises(Refused):
            await world.answer(person, 2)
        with pytest.raises(Refused):  # one that was already on its way
            person.state = "running"
            await world.answer(person, 2)
        assert world.store.do(lambda database: database.execute("SELECT count(*) FROM answers").fetchone()[0]) == 0
        world.restart()
        assert (world.sessions.n_answers, world.sessions.allocation.n_free) == (0, 100)

    in_world(test)


def test_a_full_disk_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        person = await world.joined()
        await world.next(person, 3)

        def full(_operations: object) -> list[Any]:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(world.store, "transact", full)
            with pytest.raises(sqlite3.OperationalError):
                await world.answer(person, 1)
            with pytest.raises(sqlite3.OperationalError):
                await world.next(person, 6)
        assert world.sessions.allocation.n_free == 97
        person = await world.sessions._loaded(person.id)  # what the next request does
        assert [one.number for one in await world.next(person, 4)] == [1, 2, 3, 4]
        await world.answer(person, 1)
        world.at += 31 * 60
        other = await world.joined()
        await world.next(other, 1)
        assert world.sessions.allocation.n_free == 98  # an answer, and the other's trial; three are free again
        world.restart()
        assert world.sessions.allocation.n_free == 98

    in_world(test, give_again_after_min=30)


def test_idle_participants_are_dropped_from_memory_and_nothing_changes_for_them() -> None:
    async def test(world: World) -> None:
        person, busy = await world.joined(secret="x" * 43), await world.joined()
        before = await world.next(person, 3)
        world.at += IDLE_S + 1
        busy.used = world.at
        await world.next(busy, 1)
        assert person.id not in world.sessions._people
        back = await world.joined(secret="x" * 43)
        assert back is not person
        assert [one.key for one in await world.next(back, 3)] == [one.key for one in before]
        world.restart()
        assert world.sessions.allocation.n_free == 96

    in_world(test, give_again_after_min=600)


def test_another_offer_while_it_runs() -> None:
    async def test(world: World) -> None:
        person = await world.joined()
        had = {one.key for one in await world.next(person, 20)}
        assert len(had) == 10 and person.n_trials == 10
        world.sessions.update(offer(N, 40))
        found = await world.next(person, 20)
        assert len(found) == 20 and had < {one.key for one in found}
        assert world.sessions.allocation.n_free == 20

    in_world(test, offer(N, 10))


def test_stimuli_that_were_added_later_shift_nothing() -> None:
    async def test(world: World) -> None:
        person = await world.joined()
        await world.next(person, 20)
        rows = {(row[0], *row[1:4]) for row in world.rows("SELECT number, i, j, k FROM given")}
        ids = dict(world.rows("SELECT number, stimulus_id FROM stimuli"))
        shown = contents(N)
        later = type(shown)("captions", ("new", *shown.stimulus_ids), ("", *shown.captions), (None, *shown.media))
        plan = offer(N, 100)
        moved = Offer(plan.trials + 1, plan.wanted, plan.answered, plan.catch + 1, plan.practice + 1)
        sessions = Sessions(world.store, world.writer, moved, later, world.settings, KEY, clock=lambda: world.at)
        assert sessions.allocation.n_free == 80
        again = await sessions._loaded(person.id)
        assert {
            (one.number, *(later.stimulus_ids[index] for index in sorted(one.shown))) for one in again.open.values()
        } == {(number, *(ids[one] for one in members)) for number, *members in rows}

    in_world(test)


def test_orders_are_balanced_over_participants_and_over_the_trials_of_each() -> None:
    async def test(world: World) -> None:
        for _ in range(12):
            person = await world.joined()
            while found := await world.next(person, 20):
                for one in found:
                    await world.answer(person, one.number)
        orders = Counter[tuple[int, ...]]()
        of_trial: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
        for i, j, k, *shown in world.rows("SELECT i, j, k, shown_1, shown_2, shown_3 FROM given"):
            order = tuple((i, j, k).index(one) for one in shown)
            orders[order] += 1
            of_trial.setdefault((i, j, k), set()).add(order)
        assert orders == Counter(dict.fromkeys(permutations(range(3)), 48))
        assert np.mean([len(one) for one in of_trial.values()]) > 4.4  # of six; 4.0 at random

    in_world(test, offer(N, 48, wanted=6), per_participant=24)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.just(0), st.just(0)),
        st.tuples(st.just("trials"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("answer"), st.integers(0, 3), st.integers(0, 8)),
        st.tuples(st.just("fail"), st.integers(0, 3), st.integers(0, 8)),
        st.tuples(st.just("wait"), st.just(0), st.integers(1, 40)),
        st.tuples(st.just("left"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("withdrawn"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


_JOINED = [("join", 0, 0), ("trials", 0, 6)]


@hypothesis_settings(max_examples=60, deadline=None)
@example(steps=[*_JOINED, *[("answer", 0, 0)] * 4, ("restart", 0, 0)], wanted=1)
@example(steps=[*_JOINED, *[("answer", 0, 0)] * 4, ("withdrawn", 0, 0), ("restart", 0, 0)], wanted=1)
@example(steps=[*_JOINED, *[("fail", 0, 0)] * 6, ("withdrawn", 0, 0), ("restart", 0, 0)], wanted=1)
@given(steps=STEPS, wanted=st.integers(1, 3))
def test_a_restart_changes_nothing(steps: list[tuple[str, int, int]], wanted: int) -> None:
    async def test(world: World) -> None:
        ids: list[str] = []
        for step, who, n in steps:
            if step == "join":
                if world.sessions.allocation.n_free:
                    ids.append((await world.joined()).id)
                continue
            if step == "wait":
                world.at += n * 60
            if step == "restart":
                world.sessions._expire()
                before = world.sessions
                world.restart()
                assert world.sessions.allocation._taken.tolist() == before.allocation._taken.tolist()
                assert world.sessions.allocation._failed == before.allocation._failed
                assert world.sessions.n_answers == before.n_answers
            if who >= len(ids):
                continue
            person = world.sessions._people.get(ids[who]) or await world.sessions._loaded(ids[who])
            if step == "trials":
                await world.next(person, n)
            elif step in {"answer", "fail"} and person.open:
                number = sorted(person.open)[n % len(person.open)]
                await world.answer(person, number, *((1, None) if step == "answer" else (None, "timed_out")))
            elif step in {"left", "withdrawn"}:
                await world.sessions.end(person, step)
        rows = world.rows("SELECT participant, i, j, k FROM given WHERE kind = 'trial'")
        assert len(rows) == len(set(rows))

    kinds = {"practice": 1, "catch_every": 3, "repeats": 0.2}
    in_world(test, offer(N, 12, wanted=wanted), per_participant=10, give_again_after_min=30, **kinds)
