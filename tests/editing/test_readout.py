"""Readouts with planted truth, their error rate without any relation, and measures of localisation by hand."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.editing.localising import energy_inside, enlarged, half_area, insertion, overlap, peak, points_at
from affectlake.editing.readout import read_out
from affectlake.errors import SourceError

PENALTIES = (1.0, 100.0, 10000.0)


def test_a_planted_readout_is_recovered_and_noise_is_not_read() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(160, 10)) * 3 + 1
    planted = rng.normal(size=(2, 10))
    y = np.hstack([x @ planted.T + 0.1 * rng.normal(size=(160, 2)), rng.normal(size=(160, 3)), np.ones((160, 1))])
    found = read_out(x, y, (0.1, 1.0), 4, 99, np.random.default_rng(1))
    np.testing.assert_allclose(found.weights[:2], planted, atol=0.02)
    np.testing.assert_allclose(x @ found.weights[:2].T + found.intercepts[:2], y[:, :2], atol=0.8)
    assert found.is_read.tolist() == [True, True, False, False, False, False]
    assert np.isnan(found.r[5]) and np.isnan(found.p_fdr[5]) and (found.r[:2] > 0.99).all()
    assert (found.ci_low[:5] < found.r[:5]).all() and (found.r[:5] < found.ci_high[:5]).all()


def test_least_squares_and_more_features_than_stimuli_equal_a_reference() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 50)), rng.normal(size=(30, 1))
    found = read_out(x, y, (0.0,), 3, 19, rng)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(found.weights[0], np.linalg.pinv(centred) @ (y[:, 0] - y.mean()), atol=1e-8)
    penalty = 7.0
    scaled = centred / np.sqrt(x.var(axis=0).mean())
    ridge = np.linalg.solve(scaled.T @ scaled + penalty * np.eye(50), scaled.T @ (y[:, 0] - y.mean()))
    again = read_out(x, y, (penalty,), 3, 19, rng)
    np.testing.assert_allclose(again.weights[0] * np.sqrt(x.var(axis=0).mean()), ridge, atol=1e-8)


def test_the_p_value_has_its_level_without_a_relation() -> None:
    """500 dimensions with heavy tails, in 10 worlds: 5 % below 0.05, within four standard errors."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y = np.maximum(rng.normal(size=(40, 50)), 0) ** 2
        found.append(read_out(rng.normal(size=(40, 6)), y, PENALTIES, 4, 39, rng).p_value)
    share = float(np.mean(np.concatenate(found) <= 0.05))
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 500)


def test_features_that_do_not_vary_are_refused() -> None:
    with pytest.raises(SourceError, match="the features of all stimuli are the same"):
        read_out(np.ones((30, 3)), np.eye(30)[:, :2], PENALTIES, 3, 19, np.random.default_rng(0))


def test_measures_of_localisation_by_hand() -> None:
    values = np.zeros((4, 4))
    values[1, 2] = 1.0
    mask = np.zeros((16, 16), bool)
    mask[4:8, 8:12] = True
    assert peak(values) == (0.625, 0.375)
    assert points_at(values, mask) and not points_at(values, np.roll(mask, 8, axis=0))
    assert not points_at(values, np.zeros_like(mask))
    assert overlap(values, mask) == pytest.approx(1.0) and energy_inside(values, mask) > 0.5
    assert half_area(values) == pytest.approx(1 / 32) and half_area(np.ones((4, 4))) == pytest.approx(0.5)
    assert np.isnan(half_area(-values)) and np.isnan(energy_inside(-values, mask))
    np.testing.assert_allclose(enlarged(np.array([[0.0, 1.0]]), 1, 4), [[0.0, 0.25, 0.75, 1.0]])
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = 200
    curve = insertion(lambda shown: shown[:, 0, 0, 0].astype(float), picture, np.array([0, 1, 2, 3]), (2, 2))
    assert curve.tolist() == [50.0, 200.0, 200.0, 200.0, 200.0]
