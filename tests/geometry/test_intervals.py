"""Wilson and Fisher-z intervals against SciPy, at their limits and under invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from affectlake.errors import AffectlakeError
from affectlake.geometry.intervals import fisher_interval, wilson_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (1, 3), (2136, 2167), (703_000, 712_533)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_equals_scipy(successes: int, n: int, level: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    low, high = wilson_interval(successes, n, level)
    np.testing.assert_allclose((low, high), (expected.low, expected.high), atol=1e-12)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_holds_the_share_and_mirrors(successes: int, n: int) -> None:
    successes = min(successes, n)
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson_interval(n - successes, n)
    np.testing.assert_allclose((1 - mirrored.high, 1 - mirrored.low), (low, high), atol=1e-12)


def test_wilson_is_nan_without_trials() -> None:
    assert np.isnan(wilson_interval(0, 0)).all()


def test_wilson_covers_the_truth() -> None:
    # exact coverage jumps with the share because counts are whole; over shares it averages to the level
    shares, hits = np.linspace(0.05, 0.95, 181), np.arange(41)
    low, high = wilson_interval(hits, 40)
    inside = (low <= shares[:, None]) & (high >= shares[:, None])
    coverage = (stats.binom.pmf(hits, 40, shares[:, None]) * inside).sum(axis=1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("r", "n"), [(0.0, 10), (0.83, 2181), (-0.4, 5)])
def test_fisher_equals_scipy(r: float, n: int) -> None:
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(2, n))
    x = (x - x.mean()) / x.std()
    noise -= noise.mean() + (noise @ x) / n * x
    y = r * x + np.sqrt(1 - r**2) * noise / noise.std()  # a sample whose correlation is exactly r
    expected = stats.pearsonr(x, y).confidence_interval(0.95)
    np.testing.assert_allclose(fisher_interval(r, n), (expected.low, expected.high), atol=1e-7)


def test_fisher_limits() -> None:
    assert fisher_interval(1.0, 10) == (1.0, 1.0)
    assert np.isnan(fisher_interval(0.3, 3)).all()
    assert np.isnan(fisher_interval(np.nan, 100)).all()


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(AffectlakeError, match="0 <= successes <= n"):
        wilson_interval(5, 4)
    with pytest.raises(AffectlakeError, match="-1 <= r <= 1"):
        fisher_interval(1.2, 10)
    with pytest.raises(AffectlakeError, match="0 < level < 1"):
        wilson_interval(1, 4, 95)
