"""Levels by TFCE, cluster mass and sign flips: explicit counts, nilearn's t, error rates, and planted blobs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from affectlake.brain import nulls
from affectlake.brain.clusters.enhancement import cluster_masses, tfce
from affectlake.brain.clusters.levels import MOST_FLIPS, group_levels, relabelled_levels, sign_flips
from affectlake.brain.clusters.neighbours import neighbours_of
from affectlake.errors import SourceError

SIDE = 8
NEIGHBOURS = neighbours_of(np.argwhere(np.ones((SIDE,) * 3)))
BLOB = np.zeros((SIDE,) * 3)
BLOB[2:6, 2:6, 2:6] = 1.0


def smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    drawn = gaussian_filter(rng.normal(size=(n, SIDE, SIDE, SIDE)), (0, 1, 1, 1))
    return (drawn / drawn.std()).reshape(n, -1)


def test_levels_of_a_map_are_the_explicit_counts() -> None:
    rng = np.random.default_rng(0)
    maps = smooth(rng, 40) * rng.uniform(0.5, 3, SIDE**3)
    maps[0] += 4 * BLOB.ravel()
    maps[:, 7] = np.nan
    found = relabelled_levels(maps[0], maps[1:], NEIGHBOURS, 0.01)
    both = (maps - maps.mean(axis=0)) / maps.std(axis=0)
    enhanced = np.stack([tfce(one, NEIGHBOURS) for one in both])
    masses = np.stack([cluster_masses(one, NEIGHBOURS, stats.norm.isf(0.01)) for one in both])
    for levels, values in ((found.tfce, enhanced), (found.cluster, masses)):
        highest = np.nanmax(values, axis=1)
        counted = np.array([(highest >= value).mean() for value in values[0]])
        assert np.isnan(levels[7])
        assert np.delete(levels, 7) == pytest.approx(np.delete(counted, 7), abs=1 / 40 + 1e-9)  # float32 scores
        assert np.mean(np.isclose(levels, counted, atol=1e-9)) > 0.98
        assert levels[np.flatnonzero(BLOB)[21]] == 1 / 40
        assert np.nanmax(levels) == 1.0
    nothing = relabelled_levels(maps[0], maps[:0], NEIGHBOURS, 0.01)
    assert np.isnan(nothing.tfce).all()
    assert np.isnan(nothing.cluster).all()


def test_all_flips_of_few_subjects_are_used_and_counted() -> None:
    rng = np.random.default_rng(1)
    maps = smooth(rng, 5) + 3 * BLOB.ravel()
    maps[2, 9], maps[:, 11] = np.nan, 0.25
    found = group_levels(maps, NEIGHBOURS, 0.001, rng)
    assert found.n_flips == 32
    known = np.delete(np.arange(SIDE**3), [9, 11])
    assert found.t[known] == pytest.approx(stats.ttest_1samp(maps[:, known], 0.0).statistic, rel=1e-9)
    assert found.mean[known] == pytest.approx(maps.mean(axis=0)[known])
    for column in found[:5]:
        assert np.isnan(column[[9, 11]]).all()
        assert np.isfinite(column[known]).all()
    t = [
        stats.ttest_1samp(np.array(signs)[:, None] * maps[:, known], 0.0).statistic
        for signs in product((1, -1), repeat=5)
    ]
    highest = np.max(t, axis=1)
    assert found.familywise[known] == pytest.approx([(highest >= value - 1e-9).mean() for value in t[0]])
    assert min(np.nanmin(column) for column in found[2:5]) == 1 / 32
    holes = np.full((32, SIDE**3), np.nan)
    holes[:, known] = t
    for levels, values in (
        (found.tfce, [tfce(one, NEIGHBOURS) for one in holes]),
        (found.cluster, [cluster_masses(one, NEIGHBOURS, stats.t.isf(0.001, 4)) for one in holes]),
    ):
        most = np.nanmax(values, axis=1)
        assert levels[known] == pytest.approx([(most >= v * (1 - 1e-9)).mean() for v in values[0][known]])


def test_flips_of_many_subjects_are_drawn_and_repeatable() -> None:
    flips = sign_flips(12, np.random.default_rng(2))
    assert flips.shape == (MOST_FLIPS, 12)
    assert (flips[0] == 1).all()
    assert set(np.unique(flips)) == {-1, 1}
    assert abs(flips[1:].mean()) < 0.05
    assert np.array_equal(flips, sign_flips(12, np.random.default_rng(2)))
    assert len(np.unique(sign_flips(10, np.random.default_rng(2)), axis=0)) == 1024
    maps = smooth(np.random.default_rng(3), 4)
    one, two = (group_levels(maps, NEIGHBOURS, 0.01, np.random.default_rng(0), workers=n) for n in (1, 2))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))
    with pytest.raises(SourceError, match="at least two subjects"):
        group_levels(maps[:1], NEIGHBOURS, 0.01, np.random.default_rng(0))


def test_levels_hold_without_an_effect_and_find_a_planted_blob() -> None:
    rng = np.random.default_rng(4)
    width = rng.uniform(0.2, 4, SIDE**3)
    false, power = [], []
    for _ in range(200):
        maps = smooth(rng, 20) * width
        for planted, hits in ((0.0, false), (1.5, power)):
            own = maps[0] + planted * BLOB.ravel() * width
            found = relabelled_levels(own, maps[1:], NEIGHBOURS, 0.01)
            levels = (nulls.levels(own, maps[1:]).familywise, found.tfce, found.cluster)
            hits.append([bool((level <= 0.05).any()) for level in levels])
    for hit in np.sum(false, axis=0):
        assert stats.binomtest(int(hit), 200, 0.05).pvalue > 0.01
    maximum, by_tfce, by_mass = np.mean(power, axis=0)
    assert min(by_tfce, by_mass) > maximum + 0.1, np.mean(power, axis=0)
    group = []
    for _ in range(200):
        maps = rng.standard_t(4, size=(6, 1)) * smooth(rng, 6)  # symmetric, with subjects of unequal width
        found_of_group = group_levels(maps, NEIGHBOURS, 0.01, rng)
        group.append([bool((level <= 0.05).any()) for level in found_of_group[2:5]])
    for hit in np.sum(group, axis=0):
        assert stats.binomtest(int(hit), 200, 3 / 64).pvalue > 0.01
