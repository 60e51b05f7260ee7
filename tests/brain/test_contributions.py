"""Stacked encoding; voxel-encoded, weighted and partial RSA: independent references, equal bands, resumption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from affectlake.brain.contributions import stacked_encoding
from affectlake.brain.contributions.estimates import estimates
from affectlake.brain.contributions.pair_scores import correlations, partial_correlations, ranked
from affectlake.brain.contributions.partial_rsa import PartialRSA, band_distances, squared_distances
from affectlake.brain.contributions.pattern_products import PatternProducts, pattern_distances
from affectlake.brain.contributions.quantities import Scores, quantities_of
from affectlake.brain.contributions.stacked_encoding import StackedEncoding, encode_stacked, losses
from affectlake.brain.contributions.stacking import stack_weights
from affectlake.brain.contributions.voxel_encoded_rsa import voxel_encoded_rsa
from affectlake.brain.contributions.weighted_rsa import WeightedRSA, cross_sums, non_negative_weights, pair_sums
from affectlake.brain.encoding.folds import Folds, nested_folds
from affectlake.errors import SourceError, UsageError

N = 80
PENALTIES = np.logspace(-2, 3, 6)
Array = NDArray[np.float64]


def world(v: int = 12, sizes: tuple[int, ...] = (4, 6), seed: int = 0) -> tuple[dict[str, Array], Array, Folds]:
    """Bands with a part in common, and voxels that follow the first one."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(N, 1))
    bands = {f"band{at}": rng.normal(size=(N, d)) + common for at, d in enumerate(sizes)}
    first = bands["band0"]
    y = (first - first.mean(axis=0)) @ rng.normal(size=(sizes[0], v)) + 2 * rng.normal(size=(N, v)) + 5.0
    return bands, y, nested_folds(N, 4, 3, rng)


def triangle(square: Array) -> Array:
    return squareform(square, checks=False)


def test_stacking_is_quadratic_programming() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(50, 4, 20)) + rng.normal(size=(50, 1, 20))
    products = np.einsum("ibv,icv->bcv", errors, errors)
    found = stack_weights(products)
    assert np.allclose(found.sum(axis=0), 1) and (found >= 0).all() and (found == 0).any()
    for voxel in range(20):
        sums = {"type": "eq", "fun": lambda a: a.sum() - 1}
        peer = minimize(
            lambda a, p=products[:, :, voxel]: a @ p @ a, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=sums,
            method="SLSQP", options={"ftol": 1e-14},
        )  # fmt: skip
        assert np.allclose(peer.x, found[:, voxel], atol=1e-5)


def test_equal_models_get_equal_weights_and_none_is_not_finite() -> None:
    one = np.ones((1, 1, 3)) * np.array([1.0, 2.0, 0.0])
    assert np.allclose(stack_weights(np.tile(one, (2, 2, 1))), 0.5)


@pytest.mark.reference
@pytest.mark.parametrize("sizes", [(4, 6), (4, 90)], ids=["few", "more features than stimuli"])
def test_stacked_encoding_is_that_of_scikit_learn(sizes: tuple[int, ...]) -> None:
    bands, y, folds = world(v=2, sizes=sizes)
    found = encode_stacked(bands, y, folds, penalties=PENALTIES)
    errors = losses(found, y, folds, np.eye(2, dtype=bool))
    xs = [x / np.sqrt(x.var(axis=0).sum()) for x in bands.values()]
    for voxel in range(2):
        squares, total = np.zeros(N), np.zeros(N)
        for fold, inner in enumerate(folds.inner):
            train, test = inner >= 0, inner == -1
            split, target = PredefinedSplit(inner[train]), y[train, voxel]
            validated, predicted = [], []
            for x in xs:
                tries = [cross_val_predict(Ridge(alpha=a), x[train], target, cv=split) for a in PENALTIES]
                scores = [np.mean([np.mean((target - one)[inner[train] == k] ** 2) for k in range(3)]) for one in tries]
                best = int(np.argmin(scores))
                validated.append(target - tries[best])
                predicted.append(Ridge(alpha=PENALTIES[best]).fit(x[train], target).predict(x[test]))
            products = np.array(validated) @ np.array(validated).T
            weights = stack_weights(products[:, :, None])[:, 0]
            assert np.allclose(found.weights[fold, -1, :, voxel], weights, atol=1e-5)
            squares[test] = (y[test, voxel] - weights @ np.array(predicted)) ** 2
            total[test] = (y[test, voxel] - target.mean()) ** 2
        assert np.allclose(errors[-1, :, voxel], squares / total.mean(), atol=1e-4)
        assert np.allclose(errors[0, :, voxel], total / total.mean())
    assert found.models == [(), ("band0",), ("band1",), ("band0", "band1")]


def test_sums_over_pairs_are_those_of_the_pairs() -> None:
    rng = np.random.default_rng(1)
    x, d = rng.normal(size=(30, 5)) + 3, squareform(rng.random(435))
    i, j = np.triu_indices(30, 1)
    pairs = (x[i] - x[j]) ** 2
    apart = pairs - pairs.mean(axis=0)
    sums = pair_sums(x)
    assert np.allclose(sums.mean, pairs.mean(axis=0)) and np.allclose(sums.covariance, apart.T @ apart)
    cross = cross_sums(x, d)
    assert np.allclose(cross, apart.T @ (d[i, j] - d[i, j].mean()))
    assert (np.diag(d) == 0).all()
    peer, _ = nnls(apart, d[i, j] - d[i, j].mean())
    assert (peer > 0).any() and np.allclose(non_negative_weights(sums.covariance, cross), peer)


@pytest.mark.reference
def test_weights_are_rsatoolboxs() -> None:
    from rsatoolbox.model import ModelWeighted
    from rsatoolbox.model.fitter import fit_regress_nn
    from rsatoolbox.rdm import RDMs

    rng = np.random.default_rng(2)
    x = rng.normal(size=(25, 4))
    each = np.array([pdist(x[:, [k]], "sqeuclidean") for k in range(4)])
    data = 2 * each[0] + each[2] + rng.normal(size=each.shape[1])
    peer = fit_regress_nn(
        ModelWeighted("m", each / 1e3), RDMs(data[None]), method="corr"
    )  # it stops at an absolute 2e-14
    found = non_negative_weights(pair_sums(x).covariance, cross_sums(x, squareform(data - data.min())))
    assert np.allclose(found / np.linalg.norm(found), peer / np.linalg.norm(peer), atol=1e-6)


def test_correlations_of_pairs_and_their_jackknife() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20, 4))
    one, two = squared_distances(x), squared_distances(x[:, :2])
    data = squareform(pdist(x[:, 1:3], "sqeuclidean") + rng.random(190))
    found = correlations(ranked(data), [ranked(one), ranked(two)])
    expected = [spearmanr(triangle(data), triangle(model))[0] for model in (one, two)]
    assert np.allclose(found.value, expected)
    ranks = [squareform(rankdata(triangle(square))) for square in (data, one)]
    without = np.array([pearsonr(*(triangle(np.delete(np.delete(r, i, 0), i, 1)) for r in ranks))[0]
                        for i in range(20)])  # fmt: skip
    assert np.allclose(found.influence[0], 19 / 20 * (without.mean() - without))
    ends = estimates(found)
    error = np.sqrt(19 / 20 * ((without - without.mean()) ** 2).sum())
    assert np.allclose(ends.high[0] - ends.value[0], 2.093024 * error, rtol=1e-5)


@pytest.mark.reference
def test_partial_correlations_are_those_of_residual_ranks() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(4)
    x = rng.normal(size=(20, 6))
    models = [squared_distances(x[:, at]) for at in (slice(0, 3), slice(2, 5), slice(4, 6))]
    data = squareform(pdist(x[:, :4], "sqeuclidean") + 3 * rng.random(190))
    found = partial_correlations(ranked(data), [ranked(m) for m in models], [[1, 2], [0], []])
    y, *r = [rankdata(triangle(square)) for square in (data, *models)]
    for model, held in enumerate(([1, 2], [0], [])):
        rest = sm.add_constant(np.column_stack([r[k] for k in held])) if held else np.ones((len(y), 1))
        left = [sm.OLS(values, rest).fit().resid for values in (y, r[model])]
        assert np.allclose(found.value[model], pearsonr(*left)[0])


def test_what_other_bands_determine_has_no_partial_correlation() -> None:
    rng = np.random.default_rng(5)
    x, data = rng.normal(size=(20, 5)), ranked(squareform(rng.random(190)))
    same = PartialRSA({"one": band_distances(x), "two": band_distances(2 * x)}, {})
    found = same.scores(data)
    assert np.isnan(found.value[2:]).all() and np.isfinite(found.value[:2]).all()
    constant = correlations(data, [ranked(np.zeros((20, 20)))])
    assert constant.value[0] == 0 and (constant.influence == 0).all()
    assert np.isnan(estimates(constant).p[0])


def test_distances_in_blocks_are_those_of_all_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    from affectlake.brain.contributions import pattern_products

    y = np.random.default_rng(6).normal(size=(9, 50)) + 100
    monkeypatch.setattr(pattern_products, "VOXELS", 7)
    assert np.allclose(pattern_distances(y, np.ones(50, dtype=bool)), 1 - np.corrcoef(y), atol=1e-9)
    products = PatternProducts(2)
    products.add(np.array([[0.1] * 5, [1, 2, 3, 4, 5.5]]))
    assert np.isnan(products.distances()[0]).all()


def test_voxel_encoded_rsa_is_the_correlation_of_held_out_distances() -> None:
    bands, y, folds = world()
    found = encode_stacked({"one": bands["band0"]}, y, folds, penalties=PENALTIES)
    region = np.arange(12) < 8
    scores = voxel_encoded_rsa(found, y, folds, region)
    each = []
    x = bands["band0"] / np.sqrt(bands["band0"].var(axis=0).sum())
    for fold, inner in enumerate(folds.inner):
        train, test = inner >= 0, inner == -1
        beta = found.coefficients[fold][:, region]
        predicted = (x[test] - x[train].mean(axis=0)) @ beta
        patterns = y[test][:, region] - y[train][:, region].mean(axis=0)
        each.append(spearmanr(pdist(predicted, "correlation"), pdist(patterns, "correlation"))[0])
    assert np.allclose(scores.value, [0, np.mean(each)], atol=1e-4)
    two = voxel_encoded_rsa(found, y, folds, region, workers=2)
    assert np.array_equal(two.value, scores.value) and np.array_equal(two.influence, scores.influence)


def test_equal_bands_add_nothing_to_one_another() -> None:
    bands, y, folds = world()
    both = {"one": bands["band0"], "two": bands["band0"][:, ::-1]}
    found = encode_stacked(both, y, folds, penalties=PENALTIES)
    names, signs = quantities_of(found.models)
    unique = signs[[at for at, q in enumerate(names) if q.name == "unique"]]
    r2 = -losses(found, y, folds, np.ones((1, 12), dtype=bool)).mean(axis=1)[:, 0]
    assert r2[-1] - r2[0] > 0.1 and np.abs(unique @ r2).max() < 1e-5
    region = np.ones(12, dtype=bool)
    assert np.abs(unique @ voxel_encoded_rsa(found, y, folds, region).value).max() < 2e-3
    features = np.concatenate(list(both.values()), axis=1)
    weighted = WeightedRSA(features, np.repeat([0, 1], 4), [(), (0,), (1,), (0, 1)], folds.outer)
    assert np.abs(unique @ weighted.scores(pattern_distances(y, region)).value).max() < 1e-9


def test_a_band_of_zeros_adds_nothing() -> None:
    bands, y, folds = world()
    found = encode_stacked(bands | {"zeros": np.zeros((N, 3))}, y, folds, penalties=PENALTIES)
    r2 = -losses(found, y, folds, np.ones((1, 12), dtype=bool)).mean(axis=1)[:, 0]
    at = {model: k for k, model in enumerate(found.models)}
    assert r2[at["zeros",]] == pytest.approx(r2[at[()]])
    scores = voxel_encoded_rsa(found, y, folds, np.ones(12, dtype=bool)).value
    assert scores[at[()]] == scores[at["zeros",]] == 0


def test_workers_and_resumption_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked_encoding, "voxel_blocks", lambda n: (slice(k, min(k + 5, n)) for k in range(0, n, 5)))
    bands, y, folds = world()
    y[:, 3] = 7.0
    whole = encode_stacked(bands, y, folds, penalties=PENALTIES)
    assert not whole.usable[3] and whole.usable.sum() == 11

    def stop(done: int, _n: int) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_stacked(bands, y, folds, penalties=PENALTIES, checkpoint=tmp_path / "a", on_voxels=stop)
    seen: list[tuple[int, int]] = []
    again = encode_stacked(
        bands, y, folds, penalties=PENALTIES, workers=2, checkpoint=tmp_path / "a",
        on_voxels=lambda done, n: seen.append((done, n)),
    )  # fmt: skip
    assert seen == [(10, 12), (12, 12)]
    assert_same(again, whole)
    region = np.ones((1, 12), dtype=bool)
    assert np.array_equal(losses(whole, y, folds, region), losses(again, y, folds, region, workers=2))
    other = encode_stacked(bands, y * 2, folds, penalties=PENALTIES, checkpoint=tmp_path / "a")  # of other patterns
    assert not np.array_equal(other.coefficients, whole.coefficients, equal_nan=True)


def assert_same(one: StackedEncoding, other: StackedEncoding) -> None:
    for name in ("weights", "coefficients", "usable"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


def test_runs_are_what_is_independent() -> None:
    influence = np.random.default_rng(7).normal(size=(1, 40))
    runs, folds = np.repeat(np.arange(8), 5), np.repeat(np.arange(4), 10)
    found = estimates(Scores(np.zeros(1), influence), runs, folds)
    sums = influence.reshape(4, 2, 5).sum(axis=2)
    variance = 2 * (sums**2).sum() * (1 + 4 / 3)
    assert found.high[0] == pytest.approx(2.776445 * np.sqrt(variance), rel=1e-5)
    alone = estimates(Scores(np.zeros(1), influence), folds, folds)  # one run in each fold
    assert np.isnan(alone.high[0]) and np.isnan(alone.p[0]) and alone.value[0] == 0


def test_bad_input_is_one_message() -> None:
    bands, y, folds = world()
    with pytest.raises(UsageError, match="at least one band"):
        encode_stacked({}, y, folds)
    with pytest.raises(SourceError, match="not of the same stimuli"):
        encode_stacked(bands, y[:-1], folds)
    with pytest.raises(UsageError, match="also a nuisance feature"):
        encode_stacked(bands, y, folds, nuisance={"band0": bands["band0"]})
