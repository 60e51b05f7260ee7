"""Leave-one-out encoding against the loop that fits every model."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from affectlake.brain.encoding.reliability import leave_one_out, most_reliable
from affectlake.errors import SourceError


@pytest.mark.reference
@pytest.mark.parametrize("d", [6, 40], ids=["few features", "more features than stimuli"])
def test_is_the_explicit_loop(d: int) -> None:
    rng = np.random.default_rng(d)
    n, v = 25, 700
    x = np.abs(rng.normal(size=(n, d))) + 1
    y = (x @ rng.normal(size=(d, v)) + rng.normal(size=(n, v)) + 4).astype(np.float32)
    penalties = np.array([0.01, 3.0, 200.0])[rng.integers(0, 3, v)]
    predicted = np.empty((n, v))
    for i in range(n):
        others = np.arange(n) != i
        predicted[i] = Ridge(alpha=penalties).fit(x[others], y[others].astype(float)).predict(x[[i]])
    expected = [np.corrcoef(predicted[i], y[i])[0, 1] for i in range(n)]
    found = leave_one_out(x, y, penalties, workers=2)
    assert np.allclose(found.r, expected, atol=1e-8)
    assert found.n_voxels == v


def test_planted_noise_is_found() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5))
    y = x @ rng.normal(size=(5, 300)) + 0.5 * rng.normal(size=(80, 300))
    noisy = rng.permutation(80)[:20]
    y[noisy] = rng.normal(size=(20, 300))
    found = leave_one_out(x, y, np.ones(300))
    kept = most_reliable(found.r, 60)
    assert len(np.intersect1d(kept, noisy)) <= 2
    assert (np.diff(kept) > 0).all()


def test_bad_voxels_are_left_out_and_counted() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 50))
    clean = leave_one_out(x, y, np.ones(50))
    bad = np.column_stack([y, np.full(20, 0.1), np.where(np.arange(20) == 4, np.nan, 1.0)])
    found = leave_one_out(x, bad, np.ones(52))
    assert np.allclose(found.r, clean.r)
    assert found.n_voxels == 50


def test_what_cannot_be_done_is_refused() -> None:
    x, y = np.ones((5, 2)), np.ones((5, 3))
    with pytest.raises(SourceError, match="one penalty per voxel"):
        leave_one_out(x, y, np.ones(2))
    with pytest.raises(SourceError, match="fewer than two voxels"):
        leave_one_out(np.random.default_rng(0).normal(size=(5, 2)), y, np.ones(3))
    with pytest.raises(SourceError, match="found: 3 stimuli"):
        most_reliable(np.array([0.1, np.nan, 0.3, 0.2]), 4)
