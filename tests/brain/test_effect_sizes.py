"""Effect sizes and Bayes factors of t-tests: published values, independent quadrature, and limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from affectlake.brain.effect_sizes import bayes_factors, effect_sizes
from affectlake.brain.statistics import paired_interval, paired_t_test
from affectlake.errors import AffectlakeError

# pingouin 0.7.0, bayesfactor_ttest(t, n, r=0.707)
PINGOUIN = {
    (0.0, 2): 0.5231980736200655,
    (0.0, 5): 0.3974031233361965,
    (2.5, 5): 1.8075163040354039,
    (-4.2, 5): 5.616461007683014,
    (10.0, 5): 57.45825420507031,
    (3.5, 20): 17.184748951561883,
    (2.0, 80): 0.8146306639057391,
}
PRIOR = stats.cauchy(scale=np.sqrt(0.5))


def quadrature(t: float, n: int, scale: float) -> float:
    """Equation 1 of Rouder et al. 2009, integrated over log g."""
    df = n - 1

    def integrand(log_g: float) -> float:
        g = np.exp(log_g)
        wide = 1 + n * g * scale**2
        ratio = (1 + t**2 / (wide * df)) / (1 + t**2 / df)
        return float(wide**-0.5 * ratio ** (-(df + 1) / 2) * (2 * np.pi) ** -0.5 * g**-1.5 * np.exp(-0.5 / g) * g)

    return float(
        integrate.quad(integrand, -8, 70, points=np.linspace(-7, 60, 25), limit=500, epsabs=0, epsrel=1e-10)[0]
    )


def noncentral(t: float, df: int, delta: float) -> float:
    """P(T ≤ t) of the noncentral t-distribution: the normal probability, averaged over quantiles of the denominator."""
    denominator = stats.chi.ppf((np.arange(100_000) + 0.5) / 100_000, df) / np.sqrt(df)
    return float(special.ndtr(t * denominator - delta).mean())


def test_bayes_factors_are_pingouins() -> None:
    t, n = np.array(list(PINGOUIN)).T
    assert bayes_factors(t, n, scale=0.707) == pytest.approx(np.array(list(PINGOUIN.values())), rel=1e-8)


def test_bayes_factors_are_the_published_integral() -> None:
    # beyond |t| of about 100, pingouin's own quadrature over g misses most of the integral
    cases = [(t, n) for n in (2, 3, 5, 20, 200) for t in (0.0, 0.3, -2.0, 7.0, 1000.0) if (n, t) != (200, 1000.0)]
    t, n = np.array(cases).T
    for scale in (0.5, np.sqrt(0.5), 1.0):
        expected = [quadrature(one, int(size), scale) for one, size in cases]
        assert bayes_factors(t, n, scale) == pytest.approx(np.array(expected), rel=1e-9)
    assert bayes_factors(t, n) == pytest.approx(bayes_factors(-t, n, np.sqrt(0.5)), rel=1e-14)


def test_bayes_factors_are_finite_numbers_that_rise_with_t() -> None:
    for n in (2, 5, 50, 10_000):
        found = bayes_factors([0, 0.1, 1, 10, 1e3, 1e6, 1e12], n)
        assert np.isfinite(found).all() and (np.diff(found) >= 0).all() and found[0] < 1
    assert bayes_factors(0.0, [2, 5, 50]) == pytest.approx(np.sort(bayes_factors(0.0, [2, 5, 50]))[::-1])
    assert np.isnan(bayes_factors([np.nan, 1.0, np.inf], [5, 1, 5])).all()
    assert bayes_factors(np.empty(0), 5).shape == (0,)
    with pytest.raises(AffectlakeError, match="must be above 0"):
        bayes_factors(1.0, 5, scale=0.0)


def test_a_bayes_factor_is_the_mean_likelihood_ratio_over_the_prior() -> None:
    """Another route: the noncentral t density of the observed t, averaged over the Cauchy prior of the effect."""
    for t, n in ((0.4, 5), (3.0, 5), (2.2, 12)):

        def integrand(share: float, t: float = t, n: int = n) -> float:
            return float(stats.nct.pdf(t, n - 1, PRIOR.ppf(share) * np.sqrt(n)))

        mean = integrate.quad(integrand, 1e-9, 1 - 1e-9, limit=400)[0]
        assert bayes_factors(t, n) == pytest.approx(mean / stats.t.pdf(t, n - 1), rel=1e-5)


def test_intervals_are_those_of_the_noncentral_t_distribution() -> None:
    for n in (2, 3, 5, 20):
        for t in (0.0, 0.5, -3.0, 12.0, 45.0):
            found = effect_sizes(t, n)
            assert found.d == pytest.approx(t / np.sqrt(n))
            for end, share in ((found.low, 0.975), (found.high, 0.025)):
                assert noncentral(t, n - 1, float(end) * np.sqrt(n)) == pytest.approx(share, abs=2e-5)
    upper = optimize.brentq(lambda d: noncentral(3.0, 4, d) - 0.05, 0, 30)
    assert effect_sizes(3.0, 5, level=0.9).high * np.sqrt(5) == pytest.approx(upper, rel=1e-4)


def test_intervals_of_large_t_and_two_subjects_are_finite() -> None:
    t = np.array([0, 1e3, -1e3, 29.999, 30.001, 1e9])
    for n in (2, 5, 100):
        found = effect_sizes(t, n)
        assert np.isfinite([found.d, found.low, found.high]).all()
        assert np.isfinite(found.g).all() == (n > 2)
        assert ((found.low < found.d) & (found.d < found.high)).all()
        assert found.low[1] == pytest.approx(-found.high[2]) and found.high[1] == pytest.approx(-found.low[2])
        # the two computations agree where the second takes over
        assert found.low[3] / t[3] == pytest.approx(found.low[4] / t[4], rel=1e-4)
        assert found.high[3] / t[3] == pytest.approx(found.high[4] / t[4], rel=1e-4)
        # far from 0 only the standard deviation is uncertain
        scale = np.sqrt(stats.chi2.ppf([0.025, 0.975], n - 1) / (n - 1))
        assert [found.low[5] / found.d[5], found.high[5] / found.d[5]] == pytest.approx(scale, rel=1e-6)
    none = effect_sizes([np.nan, 1.0, np.inf], [5, 1, 5])
    assert np.isnan(none).all()
    with pytest.raises(AffectlakeError, match="confidence level"):
        effect_sizes(1.0, 5, level=1.0)


def test_an_interval_contains_zero_exactly_if_the_t_test_does_not_reject() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        a, b = rng.normal(0.7, 1, 5), np.zeros(5)
        tested, ends = paired_t_test(a, b), paired_interval(a, b)
        found = effect_sizes(tested.t, tested.n)
        assert (found.low < 0 < found.high) == (tested.p > 0.05) == (ends[0] < 0 < ends[1])
        assert found.d == pytest.approx(a.mean() / a.std(ddof=1))


def test_the_mean_of_g_is_the_effect_and_that_of_d_is_not() -> None:
    """20,000 samples of five subjects whose mean is one standard deviation: the standard error of a mean is 0.007."""
    draws = np.random.default_rng(1).normal(1.0, 1.0, (20_000, 5))
    t = draws.mean(axis=1) / draws.std(axis=1, ddof=1) * np.sqrt(5)
    found = effect_sizes(t, 5)
    assert found.g.mean() == pytest.approx(1.0, abs=0.03)
    assert found.d.mean() == pytest.approx(1.0 / 0.7979, abs=0.04)
    assert ((found.low < 1.0) & (found.high > 1.0)).mean() == pytest.approx(0.95, abs=0.006)
