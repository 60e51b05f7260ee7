"""Easy trials: drawn from planted ratings and checked by brute force; scores against SciPy, with their error rates."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from affectlake.judge.vectors.easy import draw_easy
from affectlake.pipelines.steps.easy_trials import CHANCE, score_easy


def groups(n_stimuli: int, n_groups: int, noise: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Ratings of stimuli around the orthogonal directions of their groups, and the groups."""
    rng = np.random.default_rng(seed)
    group = np.arange(n_stimuli) % n_groups
    return np.eye(n_groups)[group] + noise * rng.random((n_stimuli, n_groups)), group


def brute_force(vectors: np.ndarray, triplet: tuple[int, ...]) -> tuple[int, float]:
    """The odd stimulus of a triplet and its margin, by hand."""
    cosines = {}
    for odd in triplet:
        a, b = (vectors[one] for one in triplet if one != odd)
        cosines[odd] = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    (odd, first), (_, second), _ = sorted(cosines.items(), key=lambda one: -one[1])
    return odd, first - second


def test_the_odd_one_is_that_of_another_group() -> None:
    vectors, group = groups(60, 6, 0.05)
    found = draw_easy(vectors, 20, np.random.default_rng(0))
    assert len(found.odd) == 20
    for triplet, odd, margin in zip(found.triplets.tolist(), found.odd.tolist(), found.margin.tolist(), strict=True):
        others = [one for one in triplet if one != odd]
        assert group[others[0]] == group[others[1]] != group[odd]
        expected = brute_force(vectors, tuple(triplet))
        assert (odd, margin) == (expected[0], pytest.approx(expected[1]))


def test_the_largest_margins_are_taken_and_no_stimulus_is_used_too_often() -> None:
    vectors, _ = groups(12, 3, 0.4)
    n = 8
    found = draw_easy(vectors, n, np.random.default_rng(0))
    margins = {triplet: brute_force(vectors, triplet)[1] for triplet in combinations(range(12), 3)}
    pool = sorted(margins, key=lambda one: -margins[one])[:16]
    for most in range(2, 9):
        uses, expected = np.zeros(12, int), set()
        for triplet in pool:
            if len(expected) < n and (uses[list(triplet)] < most).all():
                uses[list(triplet)] += 1
                expected.add(triplet)
        if len(expected) == n:
            break
    assert set(map(tuple, found.triplets.tolist())) == expected
    assert (found.triplets[:, 0] < found.triplets[:, 1]).all() and (found.triplets[:, 1] < found.triplets[:, 2]).all()
    assert found.triplets.tolist() == sorted(found.triplets.tolist())
    assert np.bincount(found.triplets.ravel()).max() <= most


def test_candidates_of_many_stimuli_are_drawn_under_the_seed() -> None:
    vectors, group = groups(400, 20, 0.05)
    assert comb(400, 3) > 200_000
    first, again, other = (draw_easy(vectors, 30, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.triplets.tobytes() == again.triplets.tobytes() != other.triplets.tobytes()
    assert first.margin.min() > 0.8 and len(np.unique(first.triplets)) == 90  # every stimulus once
    assert len(np.unique(group[first.odd])) > 5


def test_there_may_be_fewer_and_equal_ratings_have_none() -> None:
    vectors, _ = groups(4, 2, 0.1)
    assert 0 < len(draw_easy(vectors, 20, np.random.default_rng(0)).odd) <= 4
    assert len(draw_easy(np.ones((10, 3)), 5, np.random.default_rng(0)).odd) == 0


@pytest.mark.parametrize(("n_right", "n"), [(0, 60), (20, 60), (27, 60), (52, 60), (60, 60), (1, 1)])
def test_scores_are_those_of_scipy(n_right: int, n: int) -> None:
    found, expected = score_easy(n_right, n), binomtest(n_right, n, 1 / 3, alternative="greater")
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = binomtest(n_right, n).proportion_ci(method="wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
    assert bool(found.verdict) == (expected.pvalue >= 0.05)


def test_no_choices_give_no_verdict() -> None:
    found = score_easy(0, 0)
    assert np.isnan([found.share, found.p_value, found.ci_low]).all() and not found.verdict


def test_error_rates_are_those_of_the_documentation() -> None:
    """Exact, by the binomial distribution of 60 answers."""
    counts = np.arange(61)
    better = np.array([not score_easy(int(one), 60).verdict for one in counts])
    assert 0.02 < binom.pmf(counts[better], 60, CHANCE).sum() <= 0.05
    found = {share: binom.pmf(counts[better], 60, share).sum() for share in (0.5, 0.55, 0.6)}
    assert found == pytest.approx({0.5: 0.82, 0.55: 0.96, 0.6: 0.99}, abs=0.01)
    scores = [score_easy(int(one), 60) for one in counts]
    for share in np.linspace(0.2, 0.98, 40):
        covered = np.array([one.ci_low <= share <= one.ci_high for one in scores])
        assert 0.90 < binom.pmf(counts[covered], 60, share).sum() < 0.985
