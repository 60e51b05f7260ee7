"""Parts of the variance: planted worlds, the arithmetic of sets, intervals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.folds import nested_folds
from affectlake.brain.encoding.shares import explained_shares, intervals, shares_of, winners

N, V = 400, 30
COARSE = np.logspace(-3, 3, 13)


def parts_of(features: dict[str, NDArray[np.float64]], signal: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Mean parts over voxels whose signal explains half of their variance."""
    rng = np.random.default_rng(seed)
    y = signal / signal.std(axis=0) if signal.any() else signal
    y = y + rng.normal(size=(N, V))
    found = encode_bands(features, y, nested_folds(N, 5, 5, rng), ratios=[0.01, 0.1, 1.0], penalties=COARSE)
    shares = shares_of(found.models)
    values = (shares.coefficients @ found.r2).mean(axis=1)
    return dict(zip([*map("+".join, shares.bands[:-1]), "all"], values.tolist(), strict=True))


@pytest.fixture
def sources() -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=(N, 6)) for name in ("own a", "own b", "both")}


def driven(x: NDArray[np.float64], seed: int = 3) -> NDArray[np.float64]:
    return np.asarray(x @ np.random.default_rng(seed).normal(size=(x.shape[1], V)))


def bands(sources: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Two bands of their own features, and of features that both have, with a little noise."""
    rng = np.random.default_rng(8)

    def beside(own: str) -> NDArray[np.float64]:
        return np.concatenate([sources[own], sources["both"] + 0.1 * rng.normal(size=(N, 6))], axis=1)

    return {"a": beside("own a"), "b": beside("own b")}


def test_only_one_band(sources: dict[str, NDArray[np.float64]]) -> None:
    for own, other in (("a", "b"), ("b", "a")):
        found = parts_of(bands(sources), driven(sources[f"own {own}"]), 1)
        assert found[own] > 0.4 and abs(found[other]) < 0.02 and abs(found["a+b"]) < 0.03


def test_both_the_same(sources: dict[str, NDArray[np.float64]]) -> None:
    found = parts_of(bands(sources), driven(sources["both"]), 2)
    assert found["a+b"] > 0.4 and abs(found["a"]) < 0.03 and abs(found["b"]) < 0.03


def test_both_apart(sources: dict[str, NDArray[np.float64]]) -> None:
    found = parts_of(bands(sources), driven(sources["own a"]) + driven(sources["own b"], 4), 3)
    assert min(found["a"], found["b"]) > 0.17 and abs(found["a+b"]) < 0.04


def test_neither(sources: dict[str, NDArray[np.float64]]) -> None:
    found = parts_of(bands(sources), np.zeros((N, V)), 4)
    assert max(map(abs, found.values())) < 0.02


def test_three_bands_share_what_two_and_three_have() -> None:
    rng = np.random.default_rng(9)
    common, pair = rng.normal(size=(N, 5)), rng.normal(size=(N, 5))
    features = {name: np.concatenate([common, pair], axis=1) + 0.05 * rng.normal(size=(N, 10)) for name in "ab"}
    features["c"] = np.concatenate([common, rng.normal(size=(N, 5))], axis=1)
    in_two, in_three = parts_of(features, driven(pair), 5), parts_of(features, driven(common), 6)
    assert (
        in_two["a+b"] > 0.4 and max(abs(value) for name, value in in_two.items() if name not in ("a+b", "all")) < 0.03
    )
    assert in_three["a+b+c"] > 0.4
    assert max(abs(value) for name, value in in_three.items() if name not in ("a+b+c", "all")) < 0.03


def test_parts_add_up_to_what_any_model_explains() -> None:
    models = [some for n in range(4) for some in combinations("abc", n)]
    r2 = np.random.default_rng(0).normal(size=(len(models), 4))
    shares = shares_of(models)
    values = shares.coefficients @ r2
    assert shares.is_whole == [False] * 7 + [True]
    for model, own in zip(models, r2, strict=True):
        inside = [set(part) & set(model) != set() for part in shares.bands[:-1]]
        assert np.allclose(values[:-1][inside].sum(axis=0), own - r2[0])
    assert np.allclose(values[-1], r2[-1] - r2[0])


def test_intervals_are_those_of_the_corrected_mean() -> None:
    """Student's intervals, wider by the factor for training sets of folds that overlap (Nadeau & Bengio 2003)."""
    from scipy import stats

    rng = np.random.default_rng(1)
    losses = rng.gamma(2.0, size=(4, 50, 3))
    shares = shares_of([(), ("a",), ("b",), ("a", "b")])
    found = intervals(losses, shares.coefficients, 5)
    gain = losses[2] - losses[3]  # without a, and with it
    expected = stats.ttest_1samp(gain, 0.0)
    wider = np.sqrt(5 * (1 / 5 + 1 / 4))  # one fold is tested, four are for training
    assert np.allclose(found.value[0], gain.mean(axis=0))
    assert np.allclose(found.p[0], 2 * stats.t.sf(np.abs(expected.statistic) / wider, 49))
    ends = expected.confidence_interval(0.95)
    assert np.allclose(found.high[0] - found.value[0], wider * (ends.high - gain.mean(axis=0)))
    assert np.allclose(found.value[0] - found.low[0], wider * (gain.mean(axis=0) - ends.low))
    # ten runs of five stimuli: the interval of the means of the runs
    by_run = intervals(losses, shares.coefficients, 5, np.repeat(np.arange(10), 5))
    means = stats.ttest_1samp(gain.reshape(10, 5, 3).mean(axis=1), 0.0)
    assert np.allclose(by_run.high[0] - by_run.low[0], wider * np.diff(means.confidence_interval(0.95), axis=0)[0])
    assert np.allclose(by_run.p[0], 2 * stats.t.sf(np.abs(means.statistic) / wider, 9))


def test_shares_of_what_is_explainable() -> None:
    """R² over reliability: the ends are those S at which R² - S ρ is just t standard errors from 0 (Fieller)."""
    parts = intervals(np.random.default_rng(2).gamma(2.0, size=(2, 40, 3)), shares_of([(), ("a",)]).coefficients, 5)
    explainable, error = np.array([0.5, 0.5, 0.1]), np.array([0.0, 0.2, 0.08])
    found = explained_shares(parts, explainable, error)
    assert np.allclose(found.value[:, :2], parts.value[:, :2] / 0.5) and np.isnan(found.value[:, 2]).all()
    assert np.allclose(found.low[:, 0], parts.low[:, 0] / 0.5) and np.allclose(found.high[:, 0], parts.high[:, 0] / 0.5)
    for end in (found.low[:, :2], found.high[:, :2]):
        apart = np.abs(parts.value[:, :2] - end * explainable[:2])
        assert np.allclose(apart, parts.quantile * np.sqrt(parts.error[:, :2] ** 2 + (end * error[:2]) ** 2))
    assert (found.low[:, :2] < found.value[:, :2]).all() and (found.value[:, :2] < found.high[:, :2]).all()


def test_a_band_that_is_never_chosen_has_no_interval() -> None:
    found = intervals(np.ones((2, 20, 1)), shares_of([(), ("a",)]).coefficients, 5)
    assert found.value[0, 0] == 0 and np.isnan(found.low[0, 0]) and np.isnan(found.p[0, 0])


def test_one_run_has_no_interval() -> None:
    losses = np.random.default_rng(1).gamma(2.0, size=(2, 50, 3))
    found = intervals(losses, shares_of([(), ("a",)]).coefficients, 5, np.ones(50, dtype=int))
    assert np.isfinite(found.value).all() and np.isnan([found.low, found.high, found.p]).all()


def test_the_winner_explains_more_alone_than_every_other_band() -> None:
    """Two draws of stimuli, n = 40: the t-tests of the mean, and of the paired differences, of values of stimuli."""
    from scipy import stats

    rng = np.random.default_rng(4)
    values = rng.normal(size=(3, 40, 50)) + rng.normal(size=(3, 1, 50)) * 0.5
    covariance = np.stack([np.cov(values[:, :, v]) / 40 for v in range(50)], axis=2)
    found = winners(values.mean(axis=1), covariance, 5, 40)
    wider = np.sqrt(5 * (1 / 5 + 1 / 4))
    for voxel in range(50):
        p = []
        for band in range(3):
            tests = [
                values[band, :, voxel],
                *(values[band, :, voxel] - values[o, :, voxel] for o in {0, 1, 2} - {band}),
            ]
            t = [stats.ttest_1samp(one, 0.0).statistic / wider for one in tests]
            p.append(max(stats.t.sf(t, 39)))
        assert found.band[voxel] == np.argmin(p) and np.isclose(found.p[voxel], min(1.0, 3 * min(p)))


def test_nothing_wins_where_bands_are_equal_or_nothing_is_known() -> None:
    alone = np.array([[0.2, 0.0, np.nan, -0.1], [0.2, 0.0, 0.1, -0.2]])
    covariance = np.stack([np.full((2, 2), 0.01), np.zeros((2, 2)), np.eye(2), 0.01 * np.eye(2)], axis=2)
    found = winners(alone, covariance, 5, 40)
    assert found.p[:2].tolist() == [1.0, 1.0] and np.isnan(found.p[2]) and found.p[3] > 0.5
    assert found.band[2] == -1
    one = winners(np.array([[0.5, -0.5]]), np.full((1, 1, 2), 0.001), 5, 40)
    assert one.p[0] < 0.001 and one.p[1] > 0.5 and one.band.tolist() == [0, 0]
