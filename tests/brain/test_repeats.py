"""Explainable variance of voxels: analysis of variance, planted noise, recordings that cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from affectlake.brain.repeats import error_of_explainable, explainable_variance


def test_with_equally_many_presentations_it_is_the_intraclass_correlation() -> None:
    """ICC(1, m) = (MS between - MS within) / MS between = 1 - 1 / F of the one-way analysis of variance."""
    rng = np.random.default_rng(0)
    stimulus = rng.permutation(np.repeat(np.arange(12), 3))
    y = (rng.normal(size=(12, 1500))[stimulus] + rng.normal(size=(36, 1500))).astype(np.float32)
    groups = [y[stimulus == s].astype(np.float64) for s in range(12)]
    expected = 1 - 1 / stats.f_oneway(*groups).statistic
    np.testing.assert_allclose(explainable_variance(y, stimulus), expected, atol=1e-6)


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_unequal_numbers_of_presentations(noise: float) -> None:
    """The share of the signal in the variance of means, of which many are of one presentation; any scale and mean."""
    rng = np.random.default_rng(1)
    counts = np.array([1] * 200 + [2] * 60 + [5] * 40)
    stimulus = np.repeat(np.arange(300), counts)
    y = rng.normal(size=(300, 2000))[stimulus] + noise * rng.normal(size=(len(stimulus), 2000))
    found = explainable_variance(100 + 7 * y, stimulus)
    truth = 1 / (1 + noise**2 * np.mean(1 / counts))
    assert abs(found.mean() - truth) < 0.02
    none = explainable_variance(rng.normal(size=(len(stimulus), 2000)), stimulus)
    assert abs(none.mean()) < 0.02 and (none < 0).any()


def test_the_error_bounds_that_of_a_region_whose_voxels_have_one_noise() -> None:
    rng = np.random.default_rng(2)
    stimulus = np.tile(np.arange(400), 2)[:440]  # 40 of 400 twice
    signal = rng.normal(size=(400, 3000))
    y = signal[stimulus] + rng.normal(size=(440, 3000))
    found = explainable_variance(y, stimulus)
    expected = error_of_explainable(np.array(found.mean()), np.bincount(stimulus))
    assert 0.85 * expected < found.std() < 1.25 * expected


def test_recordings_that_cannot_tell() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=(20, 5))
    assert np.isnan(explainable_variance(y, np.arange(20))).all()  # nothing repeated
    assert np.isnan(explainable_variance(y, np.r_[np.arange(17), 0, 1, 2])).all()  # three stimuli
    assert np.isnan(explainable_variance(y, np.full(20, -1))).all()
    assert np.isnan(error_of_explainable(np.array([0.5]), np.ones(20, dtype=int))).all()
    stimulus = np.tile(np.arange(10), 2)
    y[3, 0], y[:, 1], y[:10, 2] = np.nan, 1.23456, y[10:, 2]
    found = explainable_variance(y, stimulus)
    assert np.isnan(found[:2]).all() and np.isclose(found[2], 1.0) and np.isfinite(found[3:]).all()


def test_presentations_that_are_not_used_do_not_count() -> None:
    rng = np.random.default_rng(4)
    stimulus = np.tile(np.arange(30), 2)
    y = rng.normal(size=(60, 8))
    more, among = np.insert(y, [0, 30], 1e3, axis=0), np.insert(stimulus, [0, 30], -1)
    np.testing.assert_allclose(explainable_variance(more, among), explainable_variance(y, stimulus), atol=1e-9)
    gaps = explainable_variance(y, stimulus * 2 + 1)  # numbers that no stimulus has
    np.testing.assert_allclose(gaps, explainable_variance(y, stimulus), atol=1e-12)
