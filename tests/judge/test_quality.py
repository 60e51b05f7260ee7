"""The verdict on answers: rates of wrong verdicts under the null, and what each fault is called."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.judge.responses.quality import ENOUGH, LEVEL, STOP_AFTER, Quality, quality, useless

UNREAD = {"no_key_phrase": 70, "truncated": 20}


@pytest.mark.parametrize("n", [100, 300, 3_000])
def test_agents_that_depend_on_the_stimuli_rarely_have_a_verdict(n: int) -> None:
    rng = np.random.default_rng(n)
    drawn = rng.multinomial(n, [1 / 3] * 3, size=4_000)
    kinds = [Quality(tuple(map(int, one)), {}).kind for one in drawn]  # type: ignore[arg-type]
    assert np.mean([bool(kind) for kind in kinds]) <= 2 * LEVEL
    assert set(kinds) <= {"", "position"}


@pytest.mark.parametrize(
    ("positions", "unread", "kind", "words"),
    [
        ((3000, 0, 0), {}, "constant", "chose position 1 in 100.0% of 3,000 answers: these answers do not depend on"),
        ((2, 3, 295), {}, "constant", "chose position 3 in 98.3% of 300 answers"),
        ((200, 60, 40), {}, "position", "chose position 1 in 66.7% of 300 answers (p = 1e-33 under equal shares)"),
        ((110, 95, 95), {}, "", ""),
        ((4, 3, 3), UNREAD, "unreadable", "did not name a position in 90.0% of 100 answers (mostly no_key_phrase)"),
        ((60, 0, 0), {"refusal": 10}, "", ""),  # fewer than ENOUGH
        ((0, 0, 0), {}, "", ""),
        ((0, 0, 0), {"empty": ENOUGH}, "unreadable", "did not name a position in 100.0% of 100 answers (mostly empty)"),
    ],
)
def test_each_fault_is_named(positions: tuple[int, int, int], unread: dict[str, int], kind: str, words: str) -> None:
    found = Quality(positions, unread)
    assert found.kind == kind
    assert found.verdict.startswith(words)
    assert bool(found.verdict) == bool(kind)


def test_shares_and_the_test_are_those_of_the_parsed_answers() -> None:
    found = quality({1: 50, 3: 25}, {"refusal": 25})
    assert (found.n_answers, found.n_parsed, found.share_parsed) == (100, 75, 0.75)
    assert found.shares == pytest.approx((2 / 3, 0, 1 / 3))
    assert found.p_value == pytest.approx(np.exp(-(25**2 + 25**2) / 25 / 2))  # chi-squared with two degrees of freedom
    nothing = quality({}, {})
    assert np.isnan([nothing.share_parsed, *nothing.shares, nothing.p_value]).all()


def test_an_agent_is_given_up_after_some_hundred_answers_that_are_of_no_use() -> None:
    assert not useless(quality({1: STOP_AFTER - 1}, {}))
    assert "position 1 in 100.0%" in useless(quality({1: STOP_AFTER}, {}))
    assert not useless(quality({1: STOP_AFTER}, {}, weighs=True))
    assert "before they are combined" in quality({1: STOP_AFTER}, {}, weighs=True).verdict
    assert not useless(quality({1: 200, 2: 60, 3: 40}, {}))
    assert useless(quality({1: 40, 2: 40, 3: 40}, {"refusal": 200}, weighs=True))


def test_mean_probabilities_leave_out_answers_without_any() -> None:
    chances = np.array([[0.8, 0.1, 0.1], [np.nan] * 3, [0.6, 0.3, 0.1]])
    assert quality({1: 3}, {}, probabilities=chances).probabilities == pytest.approx((0.7, 0.2, 0.1))
    assert quality({1: 3}, {}, probabilities=chances[1:2]).probabilities is None
    assert quality({}, {}, probabilities=np.empty((0, 3))).probabilities is None
