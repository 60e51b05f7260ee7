"""Prevalence: values of the published code, quadrature of the posterior, and limits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, optimize

from affectlake.brain.prevalence import attained_level, prevalence, significant_subjects
from affectlake.errors import AffectlakeError

# bayesprev 0.1.1 (the code of Ince et al. 2021), level 0.05: mode, interval of 96 %, bound of 95 %, by (k, n)
PUBLISHED = {
    (14, 20): (0.6842105263157894, 0.4530911889837907, 0.8631734489936743, 0.48695916663277017),
    (3, 5): (0.5789473684210525, 0.18406752014884598, 0.8987438993043608, 0.23312345929049347),
    (5, 5): (1.0, 0.5629511412555677, 1.0, 0.5862760642472621),
    (1, 5): (0.15789473684210528, 0.0, 0.5842452023015032, 0.03391463690727189),
    (24, 50): (0.45263157894736844, 0.30628495676625844, 0.6012212691202069, 0.33491642065526733),
}


def test_values_are_those_of_the_published_code() -> None:
    k, n = np.array(list(PUBLISHED)).T
    wide, usual = prevalence(k, n, 0.05, credibility=0.96), prevalence(k, n, 0.05)
    found = np.stack([wide.mode, wide.low, wide.high, usual.bound], axis=1)
    assert found == pytest.approx(np.array(list(PUBLISHED.values())), abs=1e-6)


@pytest.mark.parametrize(
    ("k", "n", "alpha", "power"), [(0, 5, 0.05, 1.0), (1, 20, 0.05, 1.0), (4, 5, 5 / 101, 1.0), (9, 20, 0.01, 0.8)]
)
def test_values_follow_from_the_integrated_posterior(k: int, n: int, alpha: float, power: float) -> None:
    def likelihood(share: float) -> float:
        theta = alpha + (power - alpha) * share
        return float(theta**k * (1 - theta) ** (n - k))

    grid = np.linspace(0, 1, 2001)
    mass = np.append(0.0, np.cumsum([integrate.quad(likelihood, *ends)[0] for ends in pairwise(grid)]))
    mass /= mass[-1]
    found = prevalence(k, n, alpha, power=power)
    best = optimize.minimize_scalar(lambda share: -likelihood(share), bounds=(0, 1), method="bounded").x
    assert found.mode == pytest.approx(best, abs=1e-4)
    assert np.interp(found.bound, grid, mass) == pytest.approx(0.05, abs=1e-5)
    assert np.interp(found.high, grid, mass) - np.interp(found.low, grid, mass) == pytest.approx(0.95, abs=1e-5)
    widths = np.interp(mass + 0.95, mass, grid, right=np.nan) - grid  # of all intervals with 95 %
    assert found.high - found.low == pytest.approx(np.nanmin(widths), abs=1e-3)
    if found.low > 0 and found.high < 1:
        assert likelihood(float(found.low)) == pytest.approx(likelihood(float(found.high)), rel=1e-6)


def test_more_significant_subjects_mean_a_higher_prevalence() -> None:
    for n in (1, 2, 5, 20, 300):
        k = np.arange(n + 1)
        found = prevalence(k, n, 0.05)
        assert all((np.diff(values) >= -1e-9).all() for values in found)
        assert all(((values >= 0) & (values <= 1)).all() for values in found)
        assert ((found.low <= found.mode) & (found.mode <= found.high)).all()
        assert found.low[0] == 0 and found.mode[0] == 0 and found.high[-1] == 1 and found.mode[-1] == 1
    assert np.isnan(prevalence(0, 0, 0.05)).all()


def test_impossible_counts_and_levels_are_refused() -> None:
    with pytest.raises(AffectlakeError, match="more subjects are significant"):
        prevalence(6, 5, 0.05)
    for alpha, power in ((0.0, 1.0), (0.5, 0.4), (0.05, 1.2)):
        with pytest.raises(AffectlakeError, match="within their bounds"):
            prevalence(1, 5, alpha, power=power)


def test_subjects_are_counted_by_their_own_relabellings() -> None:
    null = np.tile(np.arange(19.0)[:, None], (1, 4))
    found = significant_subjects(np.array([18.5, 18.0, 0.0, np.nan]), null)
    assert found == (1, 3, pytest.approx(0.05))  # 18.0 is reached by one of its relabellings: p = 2 / 20
    assert significant_subjects(np.array([18.5]), null[:18, :1]) == (0, 1, pytest.approx(float("nan"), nan_ok=True))
    assert significant_subjects(np.array([1.0]), np.empty((0, 1))).n_significant == 0
    assert np.isnan(attained_level(18)) and np.isnan(attained_level(0))
    assert attained_level(19) == 0.05 and attained_level(100) == 5 / 101 and attained_level(39) == 0.05


def test_without_an_effect_subjects_are_significant_at_the_level() -> None:
    rng = np.random.default_rng(0)
    scores, null = rng.normal(size=4000), rng.normal(size=(100, 4000))
    found = significant_subjects(scores, null)
    expected = found.alpha * found.n_subjects
    assert abs(found.n_significant - expected) < 4 * np.sqrt(expected)
