"""Closeness of agents to a reference: the mixed model against statsmodels and by hand, ranks, false separations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec
from statsmodels.stats.multitest import multipletests

from affectlake.errors import AffectlakeError
from affectlake.geometry.closeness import closeness, holm
from affectlake.geometry.stimulus_effects import combined, moments, stimulus_means

Array = NDArray[np.float64]


def drawn(rng: np.random.Generator, n: int, m: int) -> NDArray[np.int64]:
    rows = np.array([rng.choice(n, 3, replace=False) for _ in range(m)])
    return np.unique(np.sort(rows, axis=1), axis=0)


def membership(triplets: NDArray[np.int64], n: int) -> Array:
    z = np.zeros((len(triplets), n))
    z[np.arange(len(triplets))[:, None], triplets] = 1
    return z


@pytest.fixture(scope="module")
def planted() -> tuple[NDArray[np.int64], Array]:
    rng = np.random.default_rng(1)
    triplets = drawn(rng, 25, 400)
    z = membership(triplets, 25)
    y = np.array([0.6, 0.4, 0.5]) + z @ rng.normal(0, [0.1, 0.08, 0.0], (25, 3))
    return triplets, y + rng.normal(0, 0.4, (len(triplets), 3))


# statsmodels warns of the boundary, which is far; the next test shows that the likelihood is highest there
@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
@pytest.mark.reference
def test_variances_are_those_of_statsmodels(planted: tuple[NDArray[np.int64], Array]) -> None:
    triplets, y = planted
    found = stimulus_means(moments(triplets, y))
    z = membership(triplets, 25)
    names = VCSpec(["stimulus"], [[[str(at) for at in range(25)]]], [[z]])
    fitted = MixedLM(y[:, 0], np.ones((len(y), 1)), groups=np.ones(len(y)), exog_vc=names).fit(
        reml=True,
        method=["powell"],  # its default method ends before the maximum
    )
    assert found.of_stimuli[0] == pytest.approx(fitted.vcomp[0], rel=2e-3)
    assert found.of_triplets[0] == pytest.approx(fitted.scale, rel=1e-3)
    v = fitted.scale * np.eye(len(y)) + fitted.vcomp[0] * z @ z.T
    assert found.error[0] == pytest.approx(v.sum() ** 0.5 / len(y), rel=1e-3)
    assert abs(found.value[0] - fitted.fe_params[0]) < 0.1 * found.error[0]
    assert np.allclose(found.value, y.mean(axis=0))


def test_the_restricted_likelihood_is_highest_at_the_variances(planted: tuple[NDArray[np.int64], Array]) -> None:
    triplets, y = planted
    found = stimulus_means(moments(triplets, y))
    z, one = membership(triplets, 25), np.ones((len(y), 1))

    def loss(of_stimuli: float, of_triplets: float, at: int) -> float:
        v = of_stimuli * z @ z.T + of_triplets * np.eye(len(y))
        inverse = np.linalg.inv(v)
        p = inverse - inverse @ one @ one.T @ inverse / (one.T @ inverse @ one)
        return float(np.linalg.slogdet(v)[1] + np.linalg.slogdet(one.T @ inverse @ one)[1] + y[:, at] @ p @ y[:, at])

    for at in range(3):
        best = found.of_stimuli[at], found.of_triplets[at]
        for change in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98)):
            assert loss(best[0] * change[0], best[1] * change[1], at) >= loss(*best, at)
        assert loss(best[0] + 1e-4, best[1], at) > loss(*best, at)


def test_degrees_of_freedom_are_satterthwaites(planted: tuple[NDArray[np.int64], Array]) -> None:
    triplets, y = planted
    found = stimulus_means(moments(triplets, y[:, :1]))
    z, m = membership(triplets, 25), len(y)
    parts, one = (z @ z.T, np.eye(m)), np.ones((m, 1))
    inverse = np.linalg.inv(found.of_stimuli[0] * parts[0] + found.of_triplets[0] * parts[1])
    p = inverse - inverse @ one @ one.T @ inverse / (one.T @ inverse @ one)
    information = np.array([[np.trace(p @ a @ p @ b) / 2 for b in parts] for a in parts])
    gradient = np.array([part.sum() for part in parts]) / m**2
    expected = 2 * found.error[0] ** 4 / (gradient @ np.linalg.inv(information) @ gradient)
    assert found.df[0] == pytest.approx(expected, rel=1e-6)


def test_balanced_clusters_have_the_error_of_their_means() -> None:
    """Triplets in which one stimulus varies and two are those of the cluster: a design with a known answer."""
    rng = np.random.default_rng(3)
    triplets = np.array([(100 + 2 * c, 101 + 2 * c, 1000 + 40 * c + t) for c in range(12) for t in range(40)])
    y = np.repeat(rng.normal(0.5, 0.2, 12), 40) + rng.normal(0, 0.4, 480)
    found = stimulus_means(moments(triplets, y[:, None]))
    means = y.reshape(12, 40).mean(axis=1)
    assert found.error[0] == pytest.approx(means.std(ddof=1) / 12**0.5, rel=0.02)
    assert found.df[0] == pytest.approx(11, rel=0.05)


def test_triplets_without_a_common_stimulus_are_independent() -> None:
    y = np.random.default_rng(4).random((50, 1))
    found = stimulus_means(moments(np.arange(150).reshape(50, 3), y))
    expected = stats.ttest_1samp(y[:, 0], 0).confidence_interval()
    assert found.error[0] == pytest.approx(stats.sem(y[:, 0]))
    half = stats.t.ppf(0.975, found.df[0]) * found.error[0]
    assert (found.value[0] - half, found.value[0] + half) == pytest.approx((expected.low, expected.high))


def test_a_difference_is_the_difference_of_the_shares(planted: tuple[NDArray[np.int64], Array]) -> None:
    triplets, y = planted
    direct = stimulus_means(moments(triplets, y[:, :1] - y[:, 1:2]))
    through = stimulus_means(combined(moments(triplets, y), np.array([[1.0, -1.0, 0.0]])))
    for a, b in zip(direct, through, strict=True):
        assert np.allclose(a, b, rtol=1e-6)


def test_what_a_stimulus_does_to_both_agents_is_no_error_of_their_difference() -> None:
    rng = np.random.default_rng(5)
    triplets = drawn(rng, 30, 1000)
    hard = membership(triplets, 30) @ rng.normal(0, 0.15, (30, 1))
    y = 0.5 + hard + np.array([0.03, 0.0]) + rng.normal(0, 0.1, (len(triplets), 2))
    found = closeness(triplets, y)
    (pair,) = found.differences
    assert pair.apart and found.ranks.tolist() == [1, 2] and found.highest.tolist() == [1, 2]
    assert found.shares[0].ci_low < found.shares[1].value  # their own intervals overlap
    assert pair.estimate.ci_low < 0.03 < pair.estimate.ci_high


def test_holm_is_that_of_statsmodels() -> None:
    p = np.random.default_rng(0).random(20) ** 4
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])
    assert holm(np.empty(0)).shape == (0,)


def test_ranks_and_ties_follow_from_the_pairs() -> None:
    rng = np.random.default_rng(6)
    triplets = drawn(rng, 60, 3000)
    y = (rng.random((len(triplets), 5)) < [0.4, 0.6, 0.61, 0.2, 0.4]).astype(float)
    y[:, 4] = y[:, 0]  # the same answers
    found = closeness(triplets, y)
    assert found.lowest.tolist() == [3, 1, 1, 5, 3] and found.highest.tolist() == [4, 2, 2, 5, 4]
    assert [found.ties(at) for at in range(5)] == [[4], [2], [1], [], [0]]
    assert found.ranks[0] == found.ranks[4] == 3 and sorted(found.ranks[[1, 2]]) == [1, 2]
    (same,) = [one for one in found.differences if (one.first, one.second) == (0, 4)]
    assert same.estimate[:3] == (0, 0, 0) and same.p_holm == 1
    order = [2, 0, 3, 1, 4]
    again = closeness(triplets[::-1], y[::-1][:, order])
    assert again.lowest.tolist() == found.lowest[order].tolist()
    assert [one.ci_low for one in again.shares] == pytest.approx([found.shares[at].ci_low for at in order])


def test_equal_agents_are_rarely_told_apart_and_shares_are_covered() -> None:
    """Agents whose answers depend on stimuli, each in its own way, with the same mean over stimuli."""
    n_apart, held, n = 0, [], 80
    for seed in range(n):
        rng = np.random.default_rng([9, seed])
        triplets = drawn(rng, 30, 400)
        effects = membership(triplets, 30) @ rng.normal(0, 0.12, (30, 3))
        found = closeness(triplets, (rng.random(effects.shape) < np.clip(0.5 + effects, 0, 1)).astype(float))
        n_apart += any(one.apart for one in found.differences)
        held += [one.ci_low <= 0.5 <= one.ci_high for one in found.shares]
    assert n_apart <= 0.1 * n and np.mean(held) > 0.92


def test_a_single_agent_and_answers_without_variation() -> None:
    triplets = drawn(np.random.default_rng(0), 12, 60)
    found = closeness(triplets, np.ones((len(triplets), 1)))
    assert found.shares[0][:3] == (1, 1, 1) and found.ranks.tolist() == [1] and found.differences == []
    apart = closeness(triplets, np.ones((len(triplets), 2)) * [1.0, 0.0])
    assert apart.differences[0].apart and apart.ranks.tolist() == [1, 2]


def test_wrong_input_is_one_message() -> None:
    triplets = drawn(np.random.default_rng(0), 12, 60)
    with pytest.raises(AffectlakeError, match="too few triplets"):
        closeness(triplets[:19], np.ones((19, 2)))
    with pytest.raises(AffectlakeError, match="not finite"):
        closeness(triplets, np.full((len(triplets), 2), np.nan))
    with pytest.raises(AffectlakeError, match="not those of the triplets"):
        closeness(triplets, np.ones((3, 2)))
