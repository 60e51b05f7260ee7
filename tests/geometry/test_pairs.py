"""Similarity matrices from choices: a loop as reference, planted truths, the limits, and what is refused."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from affectlake.errors import AffectlakeError
from affectlake.geometry.estimates import Estimate
from affectlake.geometry.pairs import (
    Reliability,
    equation_4,
    matrix_correlation,
    odd_shares,
    pair_matrix,
    split_half_reliability,
    weighted_r,
)

ITEMS = np.array([1, 3, 4, 7, 8], np.int32)


def trials(n_stimuli: int = 10) -> np.ndarray:
    return np.array(list(combinations(range(n_stimuli), 3)), np.int32)


def symmetric(values: np.ndarray) -> np.ndarray:
    n = round((1 + (1 + 8 * len(values)) ** 0.5) / 2)
    matrix = np.full((n, n), np.nan)
    matrix[np.triu_indices(n, 1)] = values
    return np.where(np.isnan(matrix), matrix.T, matrix)


def test_a_matrix_is_what_a_loop_over_the_trials_counts() -> None:
    rng = np.random.default_rng(0)
    triplets = rng.permuted(trials(), axis=1)
    odd = triplets[np.arange(len(triplets)), rng.integers(0, 3, len(triplets))]
    found = pair_matrix(triplets, odd_shares(triplets, odd), ITEMS)
    for a, b in combinations(range(len(ITEMS)), 2):
        both = [(row, o) for row, o in zip(triplets, odd, strict=True) if {ITEMS[a], ITEMS[b]} <= set(row)]
        together = [o not in (ITEMS[a], ITEMS[b]) for _, o in both]
        assert found[a, b] == found[b, a] == pytest.approx(np.mean(together))
    assert np.isnan(np.diag(found)).all()


def test_a_pair_without_trials_is_no_number() -> None:
    triplets = np.array([[1, 3, 4]], np.int32)
    found = pair_matrix(triplets, odd_shares(triplets, np.array([4], np.int32)), ITEMS)
    assert found[0, 1] == 1 and found[0, 2] == 0 and found[1, 2] == 0
    assert np.isnan(found[3]).all()
    assert np.isnan(pair_matrix(triplets[:0], np.empty((0, 3)), ITEMS)).all()


def test_the_correlation_is_pearsons_over_the_pairs() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random(45), rng.random(45)
    y[3] = np.nan
    found = matrix_correlation(symmetric(x), symmetric(y), rng)
    kept = ~np.isnan(y)
    assert found.value == pytest.approx(stats.pearsonr(x[kept], y[kept]).statistic)
    assert found.n == 44 and found.ci_low < found.value < found.ci_high
    assert found.p_value > 0.05 and abs(found.chance) < 0.05


def test_a_planted_likeness_is_found_and_an_absent_one_seldom() -> None:
    rng = np.random.default_rng(2)
    x = rng.random(190)
    near = matrix_correlation(symmetric(x), symmetric(x + 0.1 * rng.normal(size=190)), rng)
    assert near.value > 0.9 and near.ci_low > 0.8 and near.p_value == pytest.approx(1 / 1001)
    levels = [
        matrix_correlation(symmetric(rng.random(45)), symmetric(rng.random(45)), rng, 2, 99).p_value for _ in range(60)
    ]
    assert np.mean(np.array(levels) <= 0.1) < 0.25


def test_intervals_resample_stimuli_and_so_are_wider_than_fishers_where_stimuli_matter() -> None:
    rng = np.random.default_rng(3)
    strength, other = rng.normal(size=20), rng.normal(size=20)  # each stimulus moves all its pairs
    a, b = np.triu_indices(20, 1)
    x = strength[a] + strength[b]
    y = x + other[a] + other[b]
    found = matrix_correlation(symmetric(x), symmetric(y), rng, 2000, 0)
    r = np.arctanh(found.value)
    fisher = np.tanh(r + 1.96 / np.sqrt(187)) - np.tanh(r - 1.96 / np.sqrt(187))
    assert found.ci_high - found.ci_low > 1.3 * fisher


def test_what_cannot_be_correlated_says_why() -> None:
    rng = np.random.default_rng(4)
    flat = symmetric(np.full(45, 0.5))
    assert "equally similar" in matrix_correlation(flat, symmetric(rng.random(45)), rng).note
    assert "three are needed" in matrix_correlation(np.full((9, 9), np.nan), flat[:9, :9], rng).note
    with pytest.raises(AffectlakeError, match="differ in size"):
        matrix_correlation(flat, flat[:3, :3], rng)


def test_halves_of_a_certain_judge_agree_and_of_a_guessing_one_do_not() -> None:
    rng = np.random.default_rng(5)
    place, items = rng.normal(size=30), np.arange(30, dtype=np.int32)
    triplets = trials(30)
    distance = np.abs(place[triplets[:, [1, 0, 0]]] - place[triplets[:, [2, 2, 1]]])
    odd = triplets[np.arange(len(triplets)), distance.argmin(axis=1)]  # opposite the nearest two
    sure = split_half_reliability(triplets, odd_shares(triplets, odd), items, rng)
    guessed = triplets[np.arange(len(triplets)), rng.integers(0, 3, len(triplets))]
    guess = split_half_reliability(triplets, odd_shares(triplets, guessed), items, rng)
    assert sure.value > 0.9 > sure.value - 0.2 > abs(guess.value)
    assert abs(guess.value) < 0.1  # halves that overlap agree also for a guessing judge


def test_the_correction_is_equation_4() -> None:
    raw = Estimate(0.6, 0.5, 0.7, 0.01, 0.001, 45)
    found = equation_4(raw, Reliability(0.81, (0.8, 0.82), 20), Reliability(0.64, (0.6, 0.7), 20))
    assert found.value == pytest.approx(0.6 / np.sqrt(0.81 * 0.64))
    assert (found.ci_low, found.ci_high) == pytest.approx((0.5 / 0.72, 0.7 / 0.72))
    assert "above 0" in equation_4(raw, Reliability(-0.1, (0, 0), 20), Reliability(0.6, (0, 0), 20)).note


@pytest.mark.reference
def test_weighted_correlations_are_those_of_repeated_pairs() -> None:
    rng = np.random.default_rng(9)
    x, y, counts = rng.random(30), rng.random(30), rng.integers(0, 4, (20, 30))
    expected = [stats.pearsonr(np.repeat(x, one), np.repeat(y, one)).statistic for one in counts]
    assert weighted_r(x, y, counts.astype(float)) == pytest.approx(expected)
    for one, other in ((1e-6, 1.0), (1.0, 1e-6), (1e6, 1e-6)):
        assert weighted_r(one * x, other * y, counts.astype(float)) == pytest.approx(expected)


def test_a_constant_has_no_correlation_whatever_the_rounding() -> None:
    """The variance of equal numbers is often a rounding error above 0."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(5, 40))
        x, y, weights = np.full(n, rng.random()), rng.random(n), rng.integers(0, 4, (50, n)).astype(float)
        assert np.isnan(weighted_r(x, y, weights)).all() and np.isnan(weighted_r(y, x, weights)).all()
        x[0], weights[:, 0] = 0.0, 0.0  # constant where the weight is not 0
        assert np.isnan(weighted_r(x, y, weights)).all()
