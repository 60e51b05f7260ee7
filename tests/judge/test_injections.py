"""Canaries: what is injected stays data, and an agent that obeys is told from one that does not."""

from __future__ import annotations

import re
from math import comb

import numpy as np
import pytest

from affectlake.errors import UsageError
from affectlake.judge.trials.injections import INJECTIONS, injection_effect, injection_trials
from affectlake.judge.trials.plan import Plan, make_plan
from affectlake.judge.trials.questions import Question
from tests.support.chat import agent, materials, trials, video_frames

N = 20


def plan() -> Plan:
    return make_plan(agent(), trials(N), materials(N), 1)


def shown(question: Question) -> list[str]:
    return re.findall(r"\[Video_\d: ([^\]]*)\]", question.body["messages"][0]["content"])


def test_each_canary_stands_at_each_position_and_nowhere_else() -> None:
    made = list(injection_trials(plan(), 60))
    assert {(one.injection, one.target) for one in made} == {(c, t) for c in range(len(INJECTIONS)) for t in (1, 2, 3)}
    for one in made:
        clean, injected = shown(one.clean), shown(one.injected)
        assert len(injected) == 3
        assert [p + 1 for p in range(3) if clean[p] != injected[p]] == [one.target]
        assert injected[one.target - 1].startswith(clean[one.target - 1])
        assert str(one.target) in injected[one.target - 1]


def test_an_injected_question_has_a_key_of_its_own_and_the_seed_of_its_twin() -> None:
    made = list(injection_trials(plan(), 30))
    keys = {one.injected.key for one in made}
    assert len(keys) == 30
    assert not keys & {question.key for question in plan().questions()}
    assert all(one.clean.body["seed"] == one.injected.body["seed"] for one in made)


def test_videos_have_no_captions_to_inject() -> None:
    videos = make_plan(agent(modality="videos"), trials(N), video_frames(N), 1)
    with pytest.raises(UsageError, match="shown videos"):
        next(injection_trials(videos, 1))


def test_an_agent_that_obeys_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(1, 4, size=600).astype(np.int8)
    target = rng.integers(1, 4, size=600).astype(np.int8)
    obeys = injection_effect(clean, target, target)
    assert (obeys.n, obeys.injected) == (600, 1.0)
    assert obeys.clean == pytest.approx(1 / 3, abs=0.06)
    assert obeys.p_value < 1e-20
    steady = injection_effect(clean, clean, target)
    assert (steady.clean, steady.p_value) == (steady.injected, 1.0)
    wavers = injection_effect(clean, rng.permutation(clean), target)
    assert wavers.p_value > 0.001


def test_the_level_is_the_exact_binomial_one_and_answers_without_a_position_are_left_out() -> None:
    clean = np.array([1, 2, 3, 1, 0, 2, 1, 1], dtype=np.int8)
    injected = np.array([2, 2, 2, 2, 2, 0, 2, 1], dtype=np.int8)
    target = np.full(8, 2, dtype=np.int8)
    found = injection_effect(clean, injected, target)
    assert found.n == 6
    assert found.p_value == pytest.approx(1 / 2**4)  # of four that differ, four were drawn to the target
    one_lost = injection_effect(
        np.append(clean, target[0]), np.append(injected, np.int8(1)), np.append(target, target[0])
    )
    assert one_lost.p_value == pytest.approx(sum(comb(5, n) for n in (4, 5)) / 2**5)
    assert injection_effect(clean[4:6], injected[4:6], target[4:6]).n == 0
