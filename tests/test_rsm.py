"""Similarity matrices against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from affectlake import rsm
from affectlake.errors import SourceError

RNG = np.random.default_rng(3)


def test_correlations_are_numpys() -> None:
    rows = RNG.normal(size=(12, 7)).astype(np.float32) + 5
    assert np.allclose(rsm.correlation_rsm(rows), np.corrcoef(rows), atol=1e-6)


def test_constant_row_has_no_correlation() -> None:
    rows = RNG.normal(size=(5, 4))
    rows[2] = 0.1
    found = rsm.correlation_rsm(rows)
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()


@pytest.mark.reference
def test_ranks_and_correlations_are_scipys_with_ties() -> None:
    a, b = RNG.integers(0, 20, 300).astype(float), RNG.normal(size=300)
    assert rsm.pearson(rsm.ranks(a), rsm.ranks(b)) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert rsm.pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    assert np.array_equal(rsm.ranks(a), stats.rankdata(a))


def test_undefined_comparisons_are_nan() -> None:
    x = np.arange(4.0)
    assert np.isnan(rsm.pearson(x, np.full(4, 0.1)))
    assert np.isnan(rsm.pearson(x, np.array([1, np.nan, 2, 3])))


def test_pairs_are_taken_once() -> None:
    a = rsm.correlation_rsm(RNG.normal(size=(6, 5)))
    assert rsm.pairs(a).tolist() == [a[i, j] for i in range(6) for j in range(i + 1, 6)]


def test_a_row_of_one_number_is_refused() -> None:
    with pytest.raises(SourceError, match="at least two columns"):
        rsm.correlation_rsm(np.ones((3, 1)))
