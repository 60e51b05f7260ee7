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
            expected = stats.pearsonr(weights[:, dimension].astype(float), scores[:, rating])
            interval = expected.confidence_interval(0.95)
            assert found.r[dimension, rating] == pytest.approx(expected.statistic, abs=1e-12)
            assert found.ci_low[dimension, rating] == pytest.approx(interval.low, abs=1e-12)
            assert found.ci_high[dimension, rating] == pytest.approx(interval.high, abs=1e-12)
    assert found.n == 60


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
