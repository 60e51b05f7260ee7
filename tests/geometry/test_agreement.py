"""Agreement, positions and ceilings: other libraries as reference, limits, and coverage of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from affectlake.errors import AffectlakeError
from affectlake.geometry.agreement import cohen_kappa
from affectlake.geometry.ceiling import explained_share, explained_shares, noise_ceiling
from affectlake.geometry.estimates import Estimate, left_out, percentile_interval, permutation_level


def judges(rng: np.random.Generator, n: int, same: float) -> np.ndarray:
    first = rng.integers(0, 3, n)
    second = np.where(rng.random(n) < same, first, rng.integers(0, 3, n))
    table = np.zeros((3, 3), np.int64)
    np.add.at(table, (first, second), 1)
    return table


def test_kappa_is_scikit_learns() -> None:
    table = judges(np.random.default_rng(0), 500, 0.4)
    rows, columns = np.divmod(np.repeat(np.arange(9), table.ravel()), 3)
    assert cohen_kappa(table).value == pytest.approx(cohen_kappa_score(rows, columns))


def test_the_interval_of_kappa_is_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(1)
    table = judges(rng, 800, 0.5)
    drawn = rng.multinomial(800, table.ravel() / 800, size=4000).reshape(-1, 3, 3)
    low, high = np.quantile([cohen_kappa(one).value for one in drawn], [0.025, 0.975])
    found = cohen_kappa(table)
    assert found.ci_high - found.ci_low == pytest.approx(high - low, rel=0.08)


def test_kappa_at_its_limits() -> None:
    assert cohen_kappa(np.diag([3, 4, 5])).value == pytest.approx(1)
    assert abs(cohen_kappa(np.outer([10, 20, 30], [1, 1, 4])).value) < 1e-12
    assert "in common" in cohen_kappa(np.zeros((3, 3), int)).note
    assert "one and the same" in cohen_kappa(np.diag([5, 0, 0])).note
    with pytest.raises(AffectlakeError, match="not square"):
        cohen_kappa(np.ones((2, 3), int))


def test_a_certain_judge_has_a_ceiling_of_one_and_a_guessing_one_that_of_luck() -> None:
    sure = noise_ceiling(np.tile([20, 0, 0], (50, 1)))
    assert sure.consistency.value == sure.agreement.value == 1
    guesses = np.random.default_rng(2).multinomial(20, [1 / 3] * 3, size=4000)
    found = noise_ceiling(guesses)
    assert found.agreement.value == pytest.approx(1 / 3, abs=0.01)
    assert found.consistency.value == pytest.approx(found.consistency.chance, abs=0.005)
    assert found.consistency.value > 0.42  # the most frequent of 20 guesses is above a third by luck


def softmax(rng: np.random.Generator, scale: float, n: int) -> np.ndarray:
    logits = np.exp(scale * rng.normal(size=(n, 3)))
    return logits / logits.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_attainable_accuracy_is_that_of_a_perfect_model_and_the_consistency_is_above_it(scale: float) -> None:
    rng = np.random.default_rng(1)
    p = softmax(rng, scale, 4000)
    truth = p.max(axis=1).mean()
    found = noise_ceiling(rng.multinomial(20, p), 40)
    assert found.attainable.value == pytest.approx(truth, abs=0.006)
    assert found.attainable.ci_low < truth < found.attainable.ci_high
    assert found.consistency.value > truth + 0.006
    assert found.attainable.chance == 1 / 3


def test_a_perfect_model_explains_all_by_the_attainable_accuracy_and_less_by_the_consistency() -> None:
    rng = np.random.default_rng(2)
    ceiling = noise_ceiling(rng.multinomial(20, softmax(rng, 0.5, 4000)), 40)
    right = (rng.random(200_000) < softmax(rng, 0.5, 200_000).max(axis=1)).mean()
    shares = explained_shares(Estimate(right, right - 0.002, right + 0.002, n=200_000), ceiling)
    assert shares.attainable.ci_low < 1 < shares.attainable.ci_high
    assert shares.consistency.ci_high < 0.9


@pytest.mark.soak
def test_the_interval_of_the_attainable_accuracy_contains_it_as_often_as_stated() -> None:
    truth, held = softmax(np.random.default_rng(0), 0.2, 1_000_000).max(axis=1).mean(), 0
    for seed in range(200):
        rng = np.random.default_rng([1, seed])
        found = noise_ceiling(rng.multinomial(20, softmax(rng, 0.2, 2000)), 100).attainable
        held += found.ci_low <= truth <= found.ci_high
    assert held >= 188  # without the variance of the correction, 183


def test_an_agent_that_guesses_has_nothing_to_explain() -> None:
    guesses = np.random.default_rng(4).multinomial(20, [1 / 3] * 3, size=2000)
    ceiling = noise_ceiling(guesses, 2)
    assert ceiling.consistency.value - 1 / 3 > 0.1  # by luck
    for share in explained_shares(Estimate(0.34, 0.33, 0.35, n=1000), ceiling):
        assert "no more than guesses" in share.note
    sure = explained_shares(Estimate(0.8, 0.79, 0.81, n=1000), noise_ceiling(np.tile([20, 0, 0], (50, 1)), 2))
    assert sure.attainable.value == pytest.approx(0.7, abs=0.001) and sure.consistency.value == pytest.approx(0.7)


def test_few_answers_do_not_determine_the_attainable_accuracy() -> None:
    found = noise_ceiling(np.random.default_rng(5).multinomial(4, [0.6, 0.3, 0.1], size=100))
    assert "10 times or more" in found.attainable.note and not found.consistency.note


def test_agreement_is_the_chance_that_two_answers_are_the_same() -> None:
    p = np.array([0.7, 0.2, 0.1])
    found = noise_ceiling(np.random.default_rng(3).multinomial(20, p, size=5000))
    assert found.agreement.ci_low < (p**2).sum() < found.agreement.ci_high


def test_triplets_asked_once_have_no_ceiling() -> None:
    assert "twice or more" in noise_ceiling(np.tile([1, 0, 0], (50, 1))).consistency.note
    assert noise_ceiling(np.empty((0, 3), int)).agreement.note


def test_explained_share_runs_from_chance_to_the_ceiling() -> None:
    ceiling = Estimate(0.8, 0.79, 0.81, n=100)
    assert explained_share(Estimate(0.8, 0.79, 0.81, n=10), ceiling).value == pytest.approx(1)
    assert explained_share(Estimate(1 / 3, 0.3, 0.36, n=10), ceiling).value == pytest.approx(0)
    assert "not above chance" in explained_share(Estimate(0.5, 0.4, 0.6), Estimate(0.3, 0.2, 0.4)).note
    assert "not above chance" in explained_share(Estimate(0.5, 0.4, 0.6), Estimate(1 / 3, 0.2, 0.4)).note
    none = left_out("there is none", 7)
    for found in (explained_share(none, ceiling), explained_share(Estimate(0.5, 0.4, 0.6, n=7), none)):
        assert (found.note, found.n) == ("there is none", 7)


def test_the_delta_interval_of_the_share_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(4)
    accuracy, ceiling = rng.normal(0.6, 0.01, 200_000), rng.normal(0.8, 0.02, 200_000)
    low, high = np.quantile((accuracy - 1 / 3) / (ceiling - 1 / 3), [0.025, 0.975])
    z = 1.96
    found = explained_share(
        Estimate(0.6, 0.6 - z * 0.01, 0.6 + z * 0.01), Estimate(0.8, 0.8 - z * 0.02, 0.8 + z * 0.02)
    )
    assert found.ci_high - found.ci_low == pytest.approx(high - low, rel=0.03)


def test_levels_and_intervals_of_draws() -> None:
    assert permutation_level(0.5, np.array([0.1, 0.5, 0.9])) == 3 / 4
    assert np.isnan(permutation_level(0.5, np.empty(0)))
    assert percentile_interval(np.append(np.arange(1001.0), np.nan)) == pytest.approx((25, 975))
    assert np.isnan(percentile_interval(np.array([1.0]))).all()
