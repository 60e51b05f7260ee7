"""Statistics against SciPy and statsmodels, their limits, and NaN that never becomes a number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from affectlake import rsm
from affectlake.brain import statistics
from affectlake.brain.encoding.crossvalidation import encode
from affectlake.brain.encoding.folds import nested_folds
from affectlake.errors import SourceError

RNG = np.random.default_rng(8)


@pytest.mark.reference
def test_paired_t_is_statsmodels() -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    a, b = RNG.normal(size=5) + 0.4, RNG.normal(size=5)
    t, p, _ = DescrStatsW(a - b).ttest_mean(0)
    found = statistics.paired_t_test(a, b)
    assert (found.t, found.p, found.n) == pytest.approx((t, p, 5))
    assert found.difference == pytest.approx((a - b).mean())


def test_a_subject_with_nan_is_left_out_of_the_pairs() -> None:
    a, b = np.array([1.0, 2.0, np.nan, 4.0]), np.array([0.5, np.nan, 3.0, 3.0])
    assert statistics.paired_t_test(a, b).n == 2
    one = statistics.paired_t_test(a[:1], b[:1])
    assert (one.difference, one.n) == (0.5, 1)
    assert np.isnan(one.p)
    assert np.isnan(statistics.paired_t_test(a + 1, a).p)  # no spread: no t


@pytest.mark.reference
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_paired_interval_is_statsmodels(level: float) -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    a, b = RNG.normal(size=6) + 0.4, RNG.normal(size=6)
    expected = DescrStatsW(a - b).tconfint_mean(alpha=1 - level)
    assert statistics.paired_interval(a, b, level) == pytest.approx(expected)
    holes = np.array([np.nan, 1.0])
    with_holes = statistics.paired_interval(np.append(a, holes), np.append(b, holes[::-1]), level)
    assert with_holes == pytest.approx(expected)


def test_there_is_no_interval_of_one_subject_or_without_spread() -> None:
    a = np.array([1.0, 2.0, np.nan])
    assert np.isfinite(statistics.paired_interval(a, np.zeros(3))).all()  # two subjects
    assert np.isnan(statistics.paired_interval(a[1:], np.zeros(2))).all()
    assert np.isnan(statistics.paired_interval(a + 1, a)).all()
    assert np.isnan(statistics.paired_t_test(a[:1], a[:1]).t)


@pytest.mark.reference
def test_correlation_p_is_scipys() -> None:
    x, y = RNG.normal(size=30), RNG.normal(size=30)
    theirs = stats.pearsonr(x, y)
    found = statistics.correlation_p_values(np.array([theirs.statistic, np.nan, 1.0]), 30)
    assert found[0] == pytest.approx(theirs.pvalue)
    assert np.isnan(found[1])
    assert found[2] == 0


@pytest.mark.reference
def test_fdr_is_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.concatenate([RNG.random(200), RNG.random(50) * 1e-3, [0.5, 0.5]])
    assert np.allclose(statistics.benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], atol=1e-15)
    holed = p.copy()
    holed[[3, 60]] = np.nan
    found = statistics.benjamini_hochberg(holed)
    kept = ~np.isnan(holed)
    assert np.isnan(found[~kept]).all()
    assert np.allclose(found[kept], multipletests(holed[kept], method="fdr_bh")[1], atol=1e-15)


@pytest.mark.reference
def test_noise_ceiling_is_rsatoolboxs() -> None:
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    shared = RNG.normal(size=(15, 6))
    rsms = np.stack([rsm.correlation_rsm(shared + RNG.normal(size=(15, 6))) for _ in range(5)])
    rdms = RDMs(np.stack([1 - rsm.pairs(one) for one in rsms]))
    lower, upper = boot_noise_ceiling(rdms, method="spearman")
    found = statistics.noise_ceiling(rsms)
    assert found.lower == pytest.approx(float(np.mean(lower)), abs=1e-9)
    assert found.upper == pytest.approx(float(np.mean(upper)), abs=1e-9)
    assert found.lower < found.upper < 1


def test_noise_ceiling_of_equal_subjects_is_one() -> None:
    one = rsm.correlation_rsm(RNG.normal(size=(8, 4)))
    assert statistics.noise_ceiling(np.stack([one] * 3)) == pytest.approx((1, 1))
    with pytest.raises(SourceError, match="two subjects"):
        statistics.noise_ceiling(one[None])


def test_relabelling_keeps_the_matrix_and_p_is_uniform_under_the_null() -> None:
    one = rsm.correlation_rsm(RNG.normal(size=(10, 4)))
    copies = statistics.relabelled(one, RNG, 5)
    for copy in copies:
        assert np.allclose(np.sort(rsm.pairs(copy)), np.sort(rsm.pairs(one)))
        assert np.allclose(np.linalg.eigvalsh(copy), np.linalg.eigvalsh(one))
    levels = []
    for _ in range(200):
        a, b = (rsm.correlation_rsm(RNG.normal(size=(10, 4))) for _ in range(2))
        value, *null = (rsm.pearson(rsm.pairs(a), rsm.pairs(c)) for c in (b, *statistics.relabelled(b, RNG, 39)))
        levels.append(statistics.map_p_values(np.array([value]), np.array(null)[:, None]).item())
    assert stats.kstest(levels, "uniform").pvalue > 0.01
    assert min(levels) >= 1 / 40


def test_share_won_counts_ties_as_half_and_leaves_nan_out() -> None:
    a, b = np.array([2.0, 1, 1, np.nan]), np.array([1.0, 2, 1, 0])
    assert statistics.share_won(a, b) == (0.5, 3)
    share, n = statistics.share_won(a, np.full(4, np.nan))
    assert np.isnan(share)
    assert n == 0


def test_region_means_leave_nan_out() -> None:
    maps = np.array([[1.0, 3.0, np.nan, 5.0], [np.nan, np.nan, 2.0, 2.0]])
    member = np.array([[True, True, True, False], [False, False, False, True]])
    found = statistics.region_means(maps, member)
    assert np.array_equal(found, [[2.0, 5.0], [2.0, 2.0]])
    assert np.isnan(statistics.region_means(maps[1:], np.array([[True, True, False, False]]))).all()


def test_region_means_are_those_of_each_map_alone_to_the_last_bit() -> None:
    rng = np.random.default_rng(7)
    maps = np.where(rng.random((6, 3000)) < 0.1, np.nan, rng.normal(size=(6, 3000)))
    member = rng.random((9, 3000)) < rng.uniform(0.01, 1, (9, 1))
    found = statistics.region_means(maps, member)
    reference = [[math.fsum(one[inside & ~np.isnan(one)]) / (inside & ~np.isnan(one)).sum() for inside in member]
                 for one in maps]  # fmt: skip
    assert np.allclose(found, reference, rtol=0, atol=1e-15)
    alone = [statistics.region_means(one[None], member[at : at + 1]) for one in maps for at in range(len(member))]
    assert np.concatenate(alone).tobytes() == found.tobytes()


def test_a_pooled_level_counts_the_null_that_reaches_the_value() -> None:
    null = np.array([[0.1, 0.2, np.nan], [0.3, -0.4, 0.2]])
    found = statistics.pooled_p_values(np.array([0.2, 0.9, -1.0, np.nan]), null)
    assert found[:3] == pytest.approx([4 / 6, 1 / 6, 1.0])  # of five draws three, none, all
    assert np.isnan(found[3])
    assert np.isnan(statistics.pooled_p_values(np.array([0.2]), null[:0])).all()


def test_of_pure_noise_the_t_test_calls_too_much_significant_and_relabelling_does_not() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(200, 10)), rng.normal(size=(200, 2000))
    folds = nested_folds(200, 5, 6, rng)
    r = encode(x, y, folds).r
    null = np.stack([encode(rng.permutation(x), y, folds).r for _ in range(6)])
    assert (statistics.correlation_p_values(r, 200) < 0.05).mean() > 0.1
    assert 0.03 < (statistics.pooled_p_values(r, null) < 0.05).mean() < 0.07
