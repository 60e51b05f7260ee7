"""Correlation of dimensions with ratings, against SciPy one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from affectlake.errors import AffectlakeError
from affectlake.geometry.correlations import rating_correlations


def test_equals_scipy_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    weights = np.maximum(rng.normal(size=(60, 5)), 0).astype(np.float32)
    scores = rng.random((60, 7)) + weights[:, [0] * 7]
    found = rating_correlations(weights, scores)
    for dimension in range(5):
        for rating in range(7):
            x, y = weights[:, dimension].astype(float), scores[:, rating]
            r = stats.pearsonr(x, y).statistic
            assert found.r[dimension, rating] == pytest.approx(r, abs=1e-12)
            a, b = stats.zscore(x), stats.zscore(y)
            sigma = max(1.0, float(np.std(a * b - r * (a**2 + b**2) / 2)) / (1 - r**2))
            ends = np.tanh(np.arctanh(r) + np.array([-1, 1]) * stats.norm.ppf(0.975) * sigma / 57**0.5)
            assert found.ci_low[dimension, rating] == pytest.approx(ends[0], abs=1e-10)
            assert found.ci_high[dimension, rating] == pytest.approx(ends[1], abs=1e-10)
    assert found.n == 60


def test_values_with_light_tails_have_scipys_interval() -> None:
    rng = np.random.default_rng(4)
    x = rng.random((80, 2))
    y = x[:, :1] + 2 * rng.random((80, 3))
    found = rating_correlations(x, y)
    for (a, b), low in np.ndenumerate(found.ci_low):
        interval = stats.pearsonr(x[:, a], y[:, b]).confidence_interval(0.95)
        assert (low, found.ci_high[a, b]) == pytest.approx((interval.low, interval.high), abs=1e-12)


@pytest.mark.parametrize("kind", ["normal", "sparse"])
def test_the_interval_holds_a_planted_correlation_whatever_the_distribution(kind: str) -> None:
    held = []
    for seed in range(400):
        rng = np.random.default_rng([7, seed])
        causes = rng.normal(size=(300, 3)) if kind == "normal" else rng.gamma(0.3, 0.3**-0.5, (300, 3))
        found = rating_correlations(causes[:, :1] + 0.5 * causes[:, 1:2], causes[:, :1] + 0.5 * causes[:, 2:])
        held.append(found.ci_low[0, 0] <= 1 / 1.25 <= found.ci_high[0, 0])
    assert 0.92 <= np.mean(held) <= 0.98


def test_constant_columns_have_no_correlation() -> None:
    rng = np.random.default_rng(1)
    weights, scores = rng.random((20, 3)), rng.random((20, 2))
    weights[:, 1], scores[:, 0] = 0.1, 7.3
    found = rating_correlations(weights, scores)
    assert np.isnan(found.r[1]).all() and np.isnan(found.r[:, 0]).all()
    assert np.isnan(found.ci_low[1]).all() and np.isnan(found.ci_high[:, 0]).all()
    assert np.isfinite(found.r[[0, 2], 1]).all()


def test_scale_shift_and_order_of_stimuli_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    weights, scores, order = rng.random((40, 4)), rng.random((40, 6)), rng.permutation(40)
    found = rating_correlations(weights, scores).r
    np.testing.assert_allclose(rating_correlations(weights[order] * 9 + 4, scores[order]).r, found, atol=1e-12)
    np.testing.assert_allclose(rating_correlations(weights, -scores).r, -found, atol=1e-12)


def test_a_planted_rating_is_found() -> None:
    scores = np.random.default_rng(3).random((100, 4))
    found = rating_correlations(scores[:, [2, 0]] * 3 + 1, scores).r
    assert found.argmax(axis=1).tolist() == [2, 0]
    np.testing.assert_allclose(found.max(axis=1), 1, atol=1e-12)
    assert np.abs(found).max() <= 1


def test_unlike_rows_and_missing_scores_are_refused() -> None:
    with pytest.raises(AffectlakeError, match="same stimuli"):
        rating_correlations(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(AffectlakeError, match="not finite"):
        rating_correlations(np.ones((3, 2)), np.full((3, 2), np.nan))
