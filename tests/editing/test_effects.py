"""What edits do to ratings, against scipy, enumeration, and planted effects."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from affectlake.editing.effects import dose_trend, effect, mean_of_repeats, read_share, sign_test, specificity
from affectlake.errors import SourceError


@pytest.mark.parametrize(("n_up", "n_down", "n_ties"), list(product((0, 1, 5, 14), (0, 2, 6), (0, 3))))
def test_the_sign_test_is_the_binomial_test_without_ties(n_up: int, n_down: int, n_ties: int) -> None:
    differences = np.array([0.5] * n_up + [-2.0] * n_down + [0.0] * n_ties + [np.nan])
    for direction, alternative in (("up", "greater"), ("down", "less"), ("either", "two-sided")):
        found = sign_test(differences, direction)  # type: ignore[arg-type]
        n = n_up + n_down
        wanted = stats.binomtest(n_up, n, alternative=alternative).pvalue if n else 1.0
        assert found[:3] == (n_up, n_down, n_ties)
        assert found.p_value == pytest.approx(wanted, rel=1e-12)


def test_five_of_five_are_not_enough_for_two_sides() -> None:
    assert sign_test(np.ones(5), "up").p_value == 1 / 32
    assert sign_test(np.ones(5)).p_value == 1 / 16


def test_repeats_are_averaged_and_answers_without_a_rating_left_out() -> None:
    stimulus = np.array([0, 0, 0, 1, 3, 3])
    rating = np.array([9.0, 6.0, np.nan, np.nan, 0.0, 1.0])
    np.testing.assert_array_equal(mean_of_repeats(stimulus, rating, 4), [7.5, np.nan, np.nan, 0.5])
    np.testing.assert_allclose(read_share(stimulus, rating, 4), [2 / 3, 0, np.nan, 1])


def test_an_effect_is_over_stimuli_with_both_ratings() -> None:
    before, after = np.array([9.0, 8, 7, np.nan, 6, 5]), np.array([0.0, 2, 7, 3, np.nan, 1])
    found = effect(after, before, "down")
    assert (found.n, found.n_missing, found.mean_before, found.mean_after) == (4, 2, 7.25, 2.5)
    wanted = stats.ttest_rel([0.0, 2, 7, 1], [9.0, 8, 7, 5]).confidence_interval()
    assert (found.ci_low, found.ci_high) == pytest.approx((wanted.low, wanted.high))
    assert found.signs == (0, 3, 1, 1 / 8)
    assert effect(after, before, "up").signs.p_value == 1.0


def test_an_effect_without_ratings_has_no_numbers() -> None:
    found = effect(np.full(3, np.nan), np.ones(3), "up")
    assert (found.n, found.n_missing, found.signs.p_value) == (0, 3, 1.0)
    assert np.isnan(found.difference)
    with pytest.raises(SourceError, match="not of the same stimuli"):
        effect(np.ones(2), np.ones(3), "up")


def test_a_trend_without_ties_is_pages_test() -> None:
    rng = np.random.default_rng(1)
    for n, k in ((3, 3), (5, 4), (12, 3)):
        ratings = rng.normal(size=(n, k)) + 0.3 * np.arange(k)
        wanted = stats.page_trend_test(ratings, method="exact").pvalue
        assert dose_trend(ratings, np.linspace(0, 1, k)).p_value == pytest.approx(wanted)


def test_a_trend_with_ties_and_gaps_is_that_of_all_orders() -> None:
    ratings = np.array([[0.0, 0, 7], [2, np.nan, 5], [3, 3, 3]])
    doses = np.array([0.0, 0.5, 1.0])

    def total(rows: tuple[tuple[float, ...], ...]) -> float:
        kept = [doses[~np.isnan(row)] for row in ratings]
        return float(sum(stats.rankdata(d) @ stats.rankdata(r) for d, r in zip(kept, rows, strict=True)))

    own = tuple(tuple(row[~np.isnan(row)].tolist()) for row in ratings)
    every = [total(rows) for rows in product(*(permutations(row) for row in own))]
    assert dose_trend(ratings, doses).p_value == pytest.approx(np.mean(np.array(every) >= total(own) - 1e-9))


def test_the_slope_is_that_of_least_squares() -> None:
    doses = np.array([0.0, 0.2, 1.0])
    ratings = np.array([[1.0, 2, 8], [0, 0, 5], [9, 1, 2]])
    slopes = [stats.linregress(doses, row).slope for row in ratings]
    found = dose_trend(ratings, doses)
    assert found.n == 3
    assert found.slope == pytest.approx(np.mean(slopes))
    assert found.ci_low < found.slope < found.ci_high
    assert dose_trend(np.full((2, 3), np.nan), doses).n == 0
    with pytest.raises(SourceError, match="too many doses"):
        dose_trend(np.ones((1, 8)), np.arange(8.0))


def test_specific_edits_are_told_from_edits_that_lower_everything() -> None:
    rng = np.random.default_rng(0)
    own = 5 * np.eye(5) + rng.normal(0, 0.3, (5, 5))
    found = specificity(own, rng)
    assert (found.p_value, found.n_orders) == (1 / 120, 120)
    assert found.difference == pytest.approx(np.diag(own).mean() - own[~np.eye(5, dtype=bool)].mean())
    alike = np.full((5, 5), 3.0)
    assert specificity(alike, rng).p_value == 1.0


def test_many_dimensions_are_assigned_at_random_and_gaps_left_out() -> None:
    rng = np.random.default_rng(0)
    matrix = 5 * np.eye(9) + rng.normal(size=(9, 9))
    matrix[2, 2] = matrix[0, 5] = np.nan
    found = specificity(matrix, rng, n_random=499)
    assert found.n_orders == 500
    assert found.p_value == 1 / 500
    assert found.diagonal == pytest.approx(np.nanmean(np.diag(matrix)))
    with pytest.raises(SourceError, match="not square"):
        specificity(np.ones((2, 3)), rng)


def test_one_dimension_has_no_specificity() -> None:
    found = specificity(np.array([[4.0]]), np.random.default_rng(0))
    assert found.diagonal == 4.0
    assert np.isnan(found.p_value)
