"""Weights and patterns of dimensions: a planted dimension is found where it was planted, with its sign."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.brain.encoding.crossvalidation import encode
from affectlake.brain.encoding.dimension_effects import dimension_effects
from affectlake.brain.encoding.folds import nested_folds


def correlated(n: int = 600) -> np.ndarray:
    """Five features of different scales, of which the first two correlate."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5))
    x[:, 1] = 0.7 * x[:, 0] + np.sqrt(1 - 0.7**2) * x[:, 1]
    return np.asarray(x * [1.0, 3.0, 0.2, 5.0, 1.0])


def test_a_planted_dimension_has_its_weight_in_its_voxels_and_its_companions_have_a_pattern_there() -> None:
    x = correlated()
    rng = np.random.default_rng(1)
    voxels = rng.normal(size=(600, 30))
    unit = x / x.std(axis=0)
    voxels[:, :10] += 2 * unit[:, [0]]
    voxels[:, 10:20] -= 2 * unit[:, [2]]
    voxels = (voxels - voxels.mean(axis=0)) / voxels.std(axis=0)
    fit = encode(x, voxels, nested_folds(600, 5, 6, np.random.default_rng(2)))
    found = dimension_effects(x, fit.weights)
    share = 2 / np.sqrt(5)  # standard deviations of the response per standard deviation of the planted dimension
    np.testing.assert_allclose(found.weights[0, :10], share, atol=0.1)
    np.testing.assert_allclose(found.weights[2, 10:20], -share, atol=0.1)
    assert np.abs(np.delete(found.weights[:, :10], 0, axis=0)).max() < 0.15
    assert np.abs(found.weights[:, 20:]).max() < 0.15
    np.testing.assert_allclose(found.patterns[1, :10], 0.7 * share, atol=0.12)  # it accompanies the planted one
    np.testing.assert_allclose(found.patterns[2, 10:20], -share, atol=0.1)
    assert np.abs(found.patterns[3:]).max() < 0.2


def test_patterns_are_covariances_with_the_predicted_responses() -> None:
    x, weights = correlated(50), np.random.default_rng(3).normal(size=(5, 4))
    found = dimension_effects(x, weights)
    predicted = x @ weights
    for dimension in range(5):
        for voxel in range(4):
            covariance = np.cov(x[:, dimension], predicted[:, voxel], ddof=0)[0, 1]
            assert found.patterns[dimension, voxel] == pytest.approx(covariance / x[:, dimension].std())


def test_effects_do_not_depend_on_scales_and_agree_without_correlations() -> None:
    x, weights = correlated(50), np.random.default_rng(4).normal(size=(5, 4))
    scales = np.array([1.0, 10.0, 0.1, 7.0, 3.0])
    one, other = dimension_effects(x, weights), dimension_effects(x * scales, weights / scales[:, None])
    np.testing.assert_allclose(one.weights, other.weights)
    np.testing.assert_allclose(one.patterns, other.patterns)
    apart = np.linalg.qr(x - x.mean(axis=0))[0]
    found = dimension_effects(apart, weights)
    np.testing.assert_allclose(found.weights, found.patterns, atol=1e-12)


def test_a_constant_dimension_is_0_and_a_voxel_without_a_model_stays_without() -> None:
    x, weights = correlated(50), np.random.default_rng(5).normal(size=(5, 4))
    x[:, 3] = 2.0
    weights[:, 1] = np.nan
    found = dimension_effects(x, weights)
    for values in found:
        assert np.isnan(values[:, 1]).all() and np.isfinite(np.delete(values, 1, axis=1)).all()
        np.testing.assert_allclose(values[3, [0, 2, 3]], 0, atol=1e-12)
