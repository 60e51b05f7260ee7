"""Simulated participants: their rules, lapses and habits, and requests with random contents."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import numpy as np
import orjson
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affectlake.experiment.app import Experiment, application
from affectlake.experiment.assets import Assets
from affectlake.experiment.refusals import STATUS
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.simulated import Habits, Outcome, SimulatedParticipant, at_random, by_vectors
from tests.experiment.serving import Served
from tests.experiment.worlds import KEY, contents, offer, settings


def outcomes(served: Served, *habits: Habits) -> list[Outcome]:
    """Let participants with some habits take part at once, each choosing by the planted vectors."""
    vectors = np.eye(4)[np.arange(12) % 4]

    async def run() -> list[Outcome]:
        async with aiohttp.ClientSession() as http:
            people = [
                SimulatedParticipant(http, served.url, by_vectors(vectors), seed, one)
                for seed, one in enumerate(habits)
            ]
            return list(await asyncio.gather(*(one.run() for one in people)))

    return asyncio.run(run())


def test_rules_lapses_and_habits(tmp_path: Path) -> None:
    n = 220
    habits = (
        Habits(), Habits(lapse=1.0), Habits(reload=0.1, resend=0.3), Habits(drop=0.3, offline=0.1),
        Habits(leave_after=30),
    )  # fmt: skip
    with Served(tmp_path, offer={"n": 12, "m": n}, settings={"per_participant": 40, "practice": 0}) as served:
        sure, lapsing, reloading, offline, leaving = outcomes(served, *habits)

    def n_by_rule(one: Outcome) -> tuple[int, int]:
        """Return how many answers to trials in which exactly two stimuli are alike follow the rule, and of how many."""
        n_right = n_all = 0
        for number, position in one.sent.items():
            kinds = [int(key) % 4 for key in one.stimuli[number]]
            if len(set(kinds)) == 2:
                odd = next(at for at, kind in enumerate(kinds) if kinds.count(kind) == 1)
                n_right, n_all = n_right + (odd + 1 == position), n_all + 1
        return n_right, n_all

    for one in (sure, reloading, offline):
        n_right, n_all = n_by_rule(one)
        assert one.state == "done" and n_right == n_all > 10
        assert one.acknowledged == set(one.sent) == set(range(1, 51))
    n_right, n_all = n_by_rule(lapsing)
    assert n_right < 0.7 * n_all
    assert min(Counter(lapsing.sent.values()).values()) > 5
    assert (leaving.state, len(leaving.sent)) == ("running", 30)


def test_a_panel_s_participant_continues_from_another_browser(tmp_path: Path) -> None:
    async def run(served: Served) -> list[Outcome]:
        async with aiohttp.ClientSession() as http:
            people = [
                SimulatedParticipant(http, served.url, at_random(seed), seed, habits, panel="5f3c")
                for seed, habits in ((1, Habits(leave_after=10)), (2, Habits()))
            ]
            return [await one.run() for one in people]

    with Served(tmp_path, offer={"n": 12, "m": 50}, settings={"panel": "PROLIFIC_PID"}) as served:
        first, second = asyncio.run(run(served))
    assert first.participant == second.participant and second.state == "done"
    assert sorted([*first.sent, *second.sent]) == list(range(1, 28))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ANSWERS = st.lists(
    st.fixed_dictionaries(
        {"number": st.integers(0, 6) | JSON},
        optional={
            "position": st.sampled_from([1, 2, 3, None]) | JSON, "reason": st.sampled_from(["timed_out", None]) | JSON,
            "detail": st.text() | JSON, "response_ms": st.floats(0, 1e6) | JSON,
        },
    ) | JSON,
    max_size=4,
)  # fmt: skip
FIELDS = {
    "participant": JSON, "secret": JSON, "study": JSON, "link": JSON, "panel": JSON, "language": JSON, "n": JSON,
    "how": st.sampled_from(["done", "left"]) | JSON, "answers": ANSWERS | JSON,
}  # fmt: skip


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["join", "consent", "trials", "answers", "end"]), st.fixed_dictionaries({}, optional=FIELDS)
    ),
    max_size=8,
)


@hypothesis_settings(max_examples=40, deadline=None)
@given(CALLS)
def test_requests_with_random_contents_are_answered_or_refused(calls: list[tuple[str, dict[str, Any]]]) -> None:
    async def run(folder: Path) -> None:
        with SessionStore(folder / "x.sqlite") as store:
            shown, given_settings = contents(12), settings(panel="id")
            experiment = Experiment(store, offer(12, 20), shown, given_settings, Assets(b""), KEY)
            app = application(experiment)
            experiment.writer.start()

            async def call(name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
                sent: list[Any] = []

                async def receive() -> Any:
                    return {"type": "http.request", "body": json.dumps(body).encode()}

                async def send(message: Any) -> None:
                    sent.append(message)

                scope = {"type": "http", "method": "POST", "path": f"/api/{name}", "headers": [], "query_string": b""}
                await app(scope, receive, send)
                return sent[0]["status"], orjson.loads(sent[1]["body"])

            token = experiment.sessions.study_token
            _, joined = await call("join", {"study": token})
            who = {name: joined[name] for name in ("participant", "secret")}
            await call("consent", who)
            await call("trials", who | {"n": 4})
            for name, body in calls:
                status, found = await call(name, ({"study": token} if name == "join" else who) | body)
                assert status == 200 or (status == STATUS[found["error"]] and status != 503), found
            rows = store.do(
                lambda database: database.execute("SELECT number, position, reason FROM answers").fetchall()
            )
            assert all(1 <= row[0] <= 20 and (row[1] is None) != (row[2] is None) for row in rows)
            await experiment.writer.stop()

    with TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
