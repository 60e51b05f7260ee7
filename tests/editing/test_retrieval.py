"""Ranks, exact binomial intervals and bootstrap intervals of retrieval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, rankdata

from affectlake.editing.retrieval import difference, ranks, retrieval, share_interval


def test_ranks_equal_those_of_scipy_also_with_copies() -> None:
    rng = np.random.default_rng(0)
    predicted, targets = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    targets[5] = targets[9] * 2
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (predicted, targets)]
    similar = np.round(unit[0] @ unit[1].T, 6)
    expected = [rankdata(-similar[i])[i] for i in range(30)]
    np.testing.assert_allclose(ranks(predicted, targets), expected)


def test_a_constant_prediction_has_the_middle_rank_of_equal_targets() -> None:
    same = np.ones((11, 3))
    np.testing.assert_array_equal(ranks(same, same), np.full(11, 6.0))


@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 218), (110, 218), (217, 218), (20, 20)])
def test_intervals_of_shares_are_exact(k: int, n: int) -> None:
    found, expected = share_interval(k, n), binomtest(k, n).proportion_ci(method="exact")
    assert found.value == k / n
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)


def test_a_perfect_prediction_and_one_at_chance() -> None:
    rng = np.random.default_rng(1)
    targets = rng.normal(size=(200, 16))
    perfect = retrieval(targets * 3, targets, rng)
    assert perfect.top[1].value == 1
    assert perfect.median_rank == (1, 1, 1)
    assert perfect.cosine.value == pytest.approx(1)
    chance = retrieval(rng.normal(size=(200, 16)), targets, rng)
    assert chance.top[10].low <= 10 / 200 <= chance.top[10].high
    assert chance.median_rank.low <= 100.5 <= chance.median_rank.high
    assert chance.cosine.low <= 0 <= chance.cosine.high


def test_paired_differences_contain_a_planted_one() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(100):
        own = rng.normal(size=100)
        found = difference(own + 0.2 + rng.normal(size=100), own, rng, 400)
        inside += found.low <= 0.2 <= found.high
    assert binomtest(inside, 100, 0.95).pvalue > 0.001
