"""Attention of participants beside enumeration, simulation and planted truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from affectlake.geometry.attention import STEPS, followed, longest_run, recognised, run_p_value


def rounded(m: int, n_answers: int, seed: int = 0) -> NDArray[np.float64]:
    """Return probabilities that are multiples of the step of the test."""
    counts = np.random.default_rng(seed).multinomial(STEPS, [1 / n_answers] * n_answers, m)
    return counts / STEPS


@pytest.mark.parametrize("n_answers", [2, 3])
def test_p_value_and_power_are_those_of_all_answers(n_answers: int) -> None:
    q = rounded(6, n_answers)
    every = np.array(list(product(range(n_answers), repeat=6)))
    sums = q[np.arange(6), every].sum(axis=1)
    for answers in every[::37]:
        expected = float((sums >= q[np.arange(6), answers].sum() - 1e-9).mean())
        assert followed(q, answers).p_value == pytest.approx(expected)
    level, share = 0.1, 0.7
    p_values = np.array([float((sums >= one - 1e-9).mean()) for one in sums])
    chances = (share * q + (1 - share) / n_answers)[np.arange(6), every].prod(axis=1)
    assert recognised(q, share, level) == pytest.approx(float(chances[p_values <= level].sum()))
    assert recognised(q, 0.0, level) <= level


def test_the_share_is_recovered_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(0)
    q = rng.dirichlet([0.5] * 3, 400)
    for share in (0.0, 0.4, 0.9):
        inside, estimates = 0, []
        for _ in range(60):
            p = share * q + (1 - share) / 3
            answers = (rng.random(400)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
            one = followed(q, answers)
            inside += one.low <= share <= one.high
            estimates.append(one.share)
        assert inside >= 50
        assert np.median(estimates) == pytest.approx(share, abs=0.03)


def test_one_position_or_a_habit_is_chance() -> None:
    rng = np.random.default_rng(1)
    p_values = [followed(rng.dirichlet([0.5] * 3, 60), np.full(60, 1)).p_value for _ in range(400)]
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


def test_runs_are_counted_within_sessions() -> None:
    positions, groups = np.array([1, 1, 2, 2, 2, 2, 3]), np.array([0, 0, 0, 0, 1, 1, 1])
    assert longest_run(positions, groups) == 2
    assert longest_run(positions, np.zeros(7, int)) == 4
    assert longest_run(np.array([2]), np.array([0])) == 1
    assert longest_run(np.empty(0, int), np.empty(0, int)) == 0


@pytest.mark.parametrize(("length", "n", "k"), [(3, 7, 3), (2, 5, 2), (7, 7, 3), (8, 7, 3), (1, 4, 3), (4, 9, 2)])
def test_the_probability_of_a_run_is_that_of_all_sequences(length: int, n: int, k: int) -> None:
    every = np.array(list(product(range(k), repeat=n)))
    runs = np.array([longest_run(one, np.zeros(n, int)) for one in every])
    assert run_p_value(length, np.array([n]), k) == pytest.approx(float((runs >= length).mean()), abs=1e-12)


def test_runs_of_two_sessions_are_independent() -> None:
    one, two = (run_p_value(4, np.array([n])) for n in (12, 20))
    assert run_p_value(4, np.array([12, 20])) == pytest.approx(1 - (1 - one) * (1 - two))
