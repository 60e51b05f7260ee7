"""Encoding with bands of features: himalaya with the same candidates, models of fewer bands, regions, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

from affectlake.brain.encoding import band_choices
from affectlake.brain.encoding.bands import BandedEncoding, encode_bands
from affectlake.brain.encoding.crossvalidation import encode
from affectlake.brain.encoding.folds import Folds, nested_folds
from affectlake.errors import SourceError, UsageError

N = 150
COARSE = np.logspace(-2, 4, 7)
RATIOS = [0.01, 0.1, 1.0]

Features = dict[str, NDArray[np.float64]]


def scaled(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.sqrt(x.var(axis=0).sum())


def world(v: int = 30, sizes: tuple[int, ...] = (4, 6), seed: int = 0) -> tuple[Features, NDArray[np.float32], Folds]:
    """Bands with a part in common, and voxels of the first, the second, both, and neither."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(N, 1))
    bands = {f"band{at}": rng.normal(size=(N, d)) * 3 + common + 1.0 for at, d in enumerate(sizes)}
    signal = np.zeros((N, v))
    for at, x in enumerate(bands.values()):
        drives = (np.arange(v) % (len(sizes) + 2) == at) | (np.arange(v) % (len(sizes) + 2) == len(sizes))
        signal += (x - x.mean(0)) @ rng.normal(size=(x.shape[1], v)) * drives
    y = (signal + 8 * rng.normal(size=(N, v)) + 30).astype(np.float32)
    return bands, y, nested_folds(N, 5, 4, rng)


@pytest.mark.reference
@pytest.mark.parametrize("sizes", [(4, 6), (60, 50), (4, 160)], ids=["few", "many", "more than stimuli"])
def test_agrees_with_himalaya(sizes: tuple[int, ...]) -> None:
    from himalaya.ridge import GroupRidgeCV
    from himalaya.scoring import r2_score_split

    bands, y, folds = world(sizes=sizes)
    found = encode_bands(bands, y, folds, ratios=RATIOS, penalties=COARSE)
    gammas = np.array([(a, b) for a in (0.0, *RATIOS) for b in (0.0, *RATIOS) if max(a, b) == 1])
    xs = [scaled(x) for x in bands.values()]
    predicted, truth = np.zeros((2, *y.shape)), np.zeros(y.shape)
    for fold, inner in enumerate(folds.inner):
        train, test = inner >= 0, inner == -1
        means = [x[train].mean(axis=0) for x in xs]
        target = y[train].astype(np.float64)
        target -= target.mean(axis=0)
        options = {"n_iter": np.maximum(gammas, 1e-30), "alphas": COARSE, "progress_bar": False, "warn": False}
        peer = GroupRidgeCV(groups="input", fit_intercept=True, cv=PredefinedSplit(inner[train]), solver_params=options)
        peer.fit([x[train] - mean for x, mean in zip(xs, means, strict=True)], target)
        no_features = _errors_of_the_mean(target, inner[train])
        predicts = -peer.cv_scores_.max(axis=0) < no_features
        assert (found.weights[fold][:, ~predicts] == 0).all() and np.isnan(found.penalty[fold][~predicts]).all()
        with np.errstate(divide="ignore"):
            deltas = np.log(np.maximum(found.weights[fold], 1e-30) / found.penalty[fold])
        assert np.allclose(deltas[:, predicts], peer.deltas_[:, predicts], rtol=1e-6)
        weights = np.split(peer.coef_, [sizes[0]])
        parts = np.stack([(x[test] - mean) @ own for x, mean, own in zip(xs, means, weights, strict=True)])
        predicted[:, test] = np.where(predicts, parts, 0)
        truth[test] = y[test] - y[train].mean(axis=0, dtype=np.float64)
    assert np.allclose(found.r2[-1], r2_against(truth, predicted.sum(axis=0)), atol=1e-6)
    assert np.allclose(found.split, r2_score_split(truth, predicted), atol=1e-6)
    assert np.allclose(found.split.sum(axis=0), found.r2[-1], atol=1e-9)


def r2_against(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - ((truth - predicted) ** 2).sum(axis=0) / (truth**2).sum(axis=0)


def _errors_of_the_mean(y: NDArray[np.float64], inner: NDArray[np.int64]) -> NDArray[np.float64]:
    errors = [((y[inner == f] - y[inner != f].mean(axis=0)) ** 2).mean(axis=0) for f in np.unique(inner)]
    return np.mean(errors, axis=0)


def test_each_model_is_that_of_its_bands_alone() -> None:
    bands, y, folds = world(sizes=(4, 6, 5))
    whole = encode_bands(bands, y, folds, ratios=RATIOS, penalties=COARSE)
    assert [len(model) for model in whole.models] == [0, 1, 1, 1, 2, 2, 2, 3]
    assert (whole.r2[0] == 0).all()
    for model, r2 in list(zip(whole.models, whole.r2, strict=True))[1:-1]:
        alone = encode_bands({name: bands[name] for name in model}, y, folds, ratios=RATIOS, penalties=COARSE)
        assert np.allclose(alone.r2[-1], r2, atol=1e-12)


def test_a_nuisance_band_is_in_every_model() -> None:
    bands, y, folds = world(sizes=(4, 6))
    apart = {"band1": bands["band1"]}
    found = encode_bands({"band0": bands["band0"]}, y, folds, nuisance=apart, ratios=RATIOS, penalties=COARSE)
    both = encode_bands(bands, y, folds, ratios=RATIOS, penalties=COARSE)
    assert found.models == [(), ("band0",)]
    assert np.allclose(found.r2, both.r2[[2, 3]], atol=1e-12)
    assert np.allclose(found.split, both.split, atol=1e-12)


def test_one_band_with_one_weight_is_ridge_regression() -> None:
    bands, y, folds = world(sizes=(5,))
    x = scaled(bands["band0"])
    found, ridge = encode_bands(bands, y, folds, ratios=[1.0], penalties=COARSE), encode(x, y, folds, penalties=COARSE)
    chosen = ~np.isnan(found.penalty)
    assert chosen.mean() > 0.5
    assert np.array_equal(found.penalty[chosen], ridge.penalty[chosen])


def test_losses_of_regions_are_the_means_of_their_voxels() -> None:
    bands, y, folds = world(v=700)
    y[:, 5], y[3, 8] = 2.0, np.nan
    place = np.arange(700) % 3 - 1
    regions = np.stack([place == 0, place == 1, place >= 0, place > 1])
    found = encode_bands(bands, y, folds, regions=regions, ratios=[1.0], penalties=COARSE)
    assert not found.usable[[5, 8]].any() and found.usable.sum() == 698
    assert np.isnan(found.r2[:, [5, 8]]).all() and np.isnan(found.split[:, 5]).all()
    assert (found.losses[:, :, 3] == 0).all()
    for region in (0, 1, 2):
        mine = found.usable & regions[region]
        expected = found.r2[:, mine].mean(axis=1)
        assert np.allclose(1 - found.losses[:, :, region].mean(axis=1), expected, atol=1e-12)


@pytest.mark.parametrize("runs", [None, np.repeat(np.arange(15), 10)], ids=["stimuli", "runs"])
def test_the_covariance_of_what_bands_explain_alone(runs: NDArray[np.int64] | None) -> None:
    """That of the mean of the stimuli's values, or of the sums of runs, which regions of single voxels have."""
    bands, y, folds = world(v=20, sizes=(4, 6, 3))
    found = encode_bands(bands, y, folds, regions=np.eye(20, dtype=bool), groups=runs, ratios=[1.0], penalties=COARSE)
    names = list(bands)
    without = [found.models.index(tuple(name for name in names if name != band)) for band in names]
    values = found.losses[without] - found.losses[-1]
    for voxel in range(20):
        own = values[:, :, voxel] if runs is None else values[:, :, voxel].reshape(3, 15, 10).sum(axis=2)
        expected = np.cov(own) * own.shape[1] / N**2
        np.testing.assert_allclose(found.covariance[:, :, voxel], expected, atol=1e-12)


def test_the_result_does_not_depend_on_workers_or_the_order_of_voxels() -> None:
    bands, y, folds = world(v=1200)
    regions = np.stack([np.arange(1200) % 2 == 0, np.arange(1200) < 900])
    one, two = (
        encode_bands(bands, y, folds, regions=regions, ratios=RATIOS, penalties=COARSE, workers=n) for n in (1, 2)
    )
    for name in BandedEncoding._fields[1:]:
        assert np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True), name
    back = encode_bands(bands, y[:, ::-1], folds, ratios=RATIOS, penalties=COARSE)
    assert np.allclose(back.r2[:, ::-1], one.r2, atol=1e-9)


def test_equal_bands_and_a_band_of_zeros() -> None:
    bands, y, folds = world(sizes=(4,))
    twice = encode_bands(bands | {"same": bands["band0"]}, y, folds, ratios=RATIOS, penalties=COARSE)
    assert np.allclose(twice.r2[1], twice.r2[2], atol=1e-12)
    nothing = encode_bands(bands | {"zeros": np.zeros((N, 3))}, y, folds, ratios=RATIOS, penalties=COARSE)
    assert np.allclose(nothing.r2[[0, 1]], nothing.r2[[2, 3]], atol=1e-12)
    assert (nothing.split[1] == 0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bands": {}}, UsageError, "at least one band"),
        ({"nuisance": {"band0": np.ones((N, 1))}}, UsageError, "band0"),
        ({"ratios": [0.0, 1.0]}, UsageError, "found: 0.0"),
        ({"ratios": [2.0]}, UsageError, "found: 2.0"),
        ({"ratios": []}, UsageError, "found: none"),
        ({"penalties": np.array([0.0])}, UsageError, "penalties above 0"),
        ({"bands": {"a": np.ones((N - 1, 2))}}, SourceError, "same stimuli"),
        ({"bands": {"a": np.full((N, 2), np.nan)}}, SourceError, "not finite"),
        ({"bands": {"a": np.ones(N)}}, SourceError, "same stimuli"),
        ({"bands": {"a": np.ones((N, 2)), "b": np.ones((N - 1, 2))}}, SourceError, "same stimuli"),
    ],
)
def test_bad_input_is_one_message(change: dict[str, object], error: type[Exception], message: str) -> None:
    bands, y, folds = world()
    with pytest.raises(error, match=message):
        encode_bands(**({"bands": bands, "patterns": y, "folds": folds, "ratios": RATIOS} | change))


def test_a_killed_process_resumes_with_the_candidate_that_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(band_choices, "_EVERY_S", 0.0)
    bands, y, folds = world()
    place, asked = tmp_path / "S1.npz", []

    def killed(done: int, _n: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_bands(bands, y, folds, ratios=RATIOS, penalties=COARSE, checkpoint=place, on_candidate=killed)

    def run(**changed: object) -> BandedEncoding:
        asked.clear()
        given: dict[str, object] = {"bands": bands, "patterns": y, "folds": folds, "ratios": RATIOS} | changed
        return encode_bands(**given, penalties=COARSE, checkpoint=place, on_candidate=lambda *at: asked.append(at))  # type: ignore[arg-type]

    whole = encode_bands(bands, y, folds, ratios=RATIOS, penalties=COARSE)
    resumed = run()
    assert asked[0][0] == 5 and asked[-1] == (14, 14)
    for one, other in zip(whole[1:], resumed[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    run()
    assert asked[0][0] == 8  # all candidates were compared
    for changed in (
        {"patterns": y + 1},
        {"bands": {"one": bands["band0"]}},
        {"folds": nested_folds(N, 5, 4, np.random.default_rng(9))},
    ):
        run(**changed)
        assert asked[0][0] == 1  # choices of other inputs are of no use
    place.write_bytes(place.read_bytes()[:500])
    np.testing.assert_array_equal(run().r2, whole.r2)
