"""Null distributions of maps: their levels under the null hypothesis, and against explicit counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from affectlake.brain import nulls, statistics
from affectlake.rsm import correlation_rsm


def test_levels_are_the_explicit_counts() -> None:
    rng = np.random.default_rng(0)
    values, null = rng.normal(size=7) + 1, rng.normal(size=(19, 7)) * np.linspace(0.5, 3, 7)
    values[2] = np.nan
    null[:, 2] = np.nan
    found = nulls.levels(values, null)
    both = np.vstack([values, null])
    z = (both - both.mean(axis=0)) / both.std(axis=0)
    known = [0, 1, 3, 4, 5, 6]
    pool = z[1:, known].ravel()
    for v in known:
        assert found.mean[v] == pytest.approx(null[:, v].mean())
        assert found.p[v] == (1 + (abs(z[1:, v]) >= abs(z[0, v])).sum()) / 20
        assert found.pooled[v] == pytest.approx((1 + (pool >= z[0, v] - 1e-6).sum()) / (1 + len(pool)))
        assert found.familywise[v] == (1 + (z[1:, known].max(axis=1) >= z[0, v]).sum()) / 20
    assert np.isnan([column[2] for column in found]).all()
    assert np.isnan(nulls.levels(values, null[:0]).familywise).all()


def test_under_the_null_hypothesis_the_levels_are_kept_with_dependent_voxels_of_unequal_width_and_bias() -> None:
    rng = np.random.default_rng(1)
    common, width, bias = rng.normal(size=(1, 60)), rng.uniform(0.2, 4, 60), rng.normal(size=60)
    any_fwe, pooled = [], []
    for _ in range(400):
        maps = (rng.normal(size=(40, 1)) * common + 0.5 * rng.normal(size=(40, 60))) * width + bias
        found = nulls.levels(maps[0], maps[1:])
        any_fwe.append((found.familywise <= 0.05).any())
        pooled.append((found.pooled <= 0.05).mean())
    assert stats.binomtest(int(sum(any_fwe)), 400, 0.05).pvalue > 0.01
    assert np.mean(pooled) == pytest.approx(0.05, abs=0.012)


def test_the_maximum_is_the_explicit_count_and_keeps_its_level() -> None:
    rng = np.random.default_rng(2)
    values, null = rng.normal(size=9), rng.normal(size=(99, 9))
    found = statistics.maximum_p_values(values, null)
    assert found == pytest.approx([(1 + (null.max(axis=1) >= value).sum()) / 100 for value in values])
    holed = statistics.maximum_p_values(np.append(values, np.nan), np.column_stack([null, np.full(99, np.nan)]))
    assert holed[:9] == pytest.approx(found)
    assert np.isnan(holed[9])
    assert np.isnan(statistics.maximum_p_values(values, null[:0])).all()
    maps = rng.normal(size=(400, 40, 30))
    hits = sum((statistics.maximum_p_values(one[0], one[1:]) <= 0.05).any() for one in maps)
    assert stats.binomtest(int(hits), 400, 0.05).pvalue > 0.01


def test_relabelled_rsms_are_those_of_relabelled_stimuli() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(2, 8, 4))
    orders = np.vstack([np.arange(8), nulls.orders(8, 3, rng)])[:, [0, 2, 3, 7]]
    found = nulls.Relabelled(np.stack([correlation_rsm(one) for one in vectors]), orders)
    assert len(found) == 8
    for at, rsm in enumerate(found):
        k, which = divmod(at, 2)
        assert np.allclose(rsm, correlation_rsm(vectors[which][orders[k]]))
    assert nulls.orders(8, 0, rng).shape == (0, 8)


def test_selected_stimuli_are_packed_and_unpacked() -> None:
    rng = np.random.default_rng(4)
    for count in (1, 8, 19):
        selected = rng.random((count, 11)) < 0.4
        again = np.stack(list(nulls.unpacked(nulls.packed(selected), count)))
        assert np.array_equal(again, selected)
