"""Voxel-wise encoding: himalaya and scikit-learn on the same folds, planted weights, invariances, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affectlake.brain.encoding.crossvalidation import PENALTIES, encode, relabelled
from affectlake.brain.encoding.folds import Folds, folds_by_run, nested_folds
from affectlake.brain.encoding.gram import GramSolver
from affectlake.brain.encoding.rows import RowSolver
from affectlake.errors import SourceError, UsageError

N = 150


def world(d: int = 8, v: int = 40, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float32], Folds]:
    """Features that are correlated and not centred, and voxels of which a third hold nothing but noise."""
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(size=(N, d)) @ rng.normal(size=(d, d))) + 2.0
    signal = (x - x.mean(0)) @ rng.normal(size=(d, v)) * (np.arange(v) % 3 > 0) / np.sqrt(d)
    y = (signal + rng.normal(size=(N, v)) * 2 + 30).astype(np.float32)
    return x, y, nested_folds(N, 5, 6, rng)


COARSE = np.logspace(-3, 3, 13)


def explicit(x: NDArray[np.float64], y: NDArray[np.float32], folds: Folds, standardise: bool) -> list[tuple]:
    """Return (r, λ, β) of every outer fold by scikit-learn's grid search and predictions, one voxel at a time."""
    found = []
    for fold, inner in enumerate(folds.inner):
        train, test = inner >= 0, folds.outer == fold
        rows = []
        for voxel in y.T.astype(np.float64):
            model = make_pipeline(StandardScaler(with_std=standardise), Ridge())
            grid = {"ridge__alpha": COARSE}
            search = GridSearchCV(model, grid, scoring="neg_mean_squared_error", cv=PredefinedSplit(inner[train]))
            search.fit(x[train], voxel[train])
            r = np.corrcoef(search.predict(x[test]), voxel[test])[0, 1]
            scaler, ridge = search.best_estimator_
            beta = ridge.coef_ / (scaler.scale_ if standardise else 1.0)
            rows.append((r, search.best_params_["ridge__alpha"], beta))
        found.append(tuple(np.stack(column) for column in zip(*rows, strict=True)))
    return found


@pytest.mark.reference
@pytest.mark.parametrize("standardise", [False, True])
def test_agrees_with_scikit_learn(standardise: bool) -> None:
    x, y, folds = world(v=2)
    x = x * [1, 10, 100, 0.1, 1, 1, 3, 0.01]
    expected = explicit(x, y, folds, standardise)
    for solver in (GramSolver, RowSolver):
        found = solver(x, folds, COARSE, standardise).solve(y - y.mean(0, dtype=np.float64))
        for fold, (r, penalty, _) in enumerate(expected):
            assert np.allclose(found.penalty[fold], penalty, rtol=1e-12)
            assert np.allclose(found.fold_r[fold], r, atol=1e-9)
        assert np.allclose(found.weights, np.mean([beta for _, _, beta in expected], axis=0).T, rtol=1e-6, atol=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize("standardise", [False, True])
def test_a_feature_that_is_constant_in_a_training_set_is_treated_as_by_scikit_learn(standardise: bool) -> None:
    x, y, folds = world(v=3)
    y = (y + 30 * np.eye(N)[:, :3]).astype(np.float32)
    x[:, 2] = np.where(folds.outer == 1, x[:, 2], 0.3)  # varies only where fold 1 is tested
    x[:, 4] = 0.7
    x[5, 4] = 3.1  # one stimulus has a weight: constant in every training set without it
    x[:, 6] = np.where((folds.outer == 2) & (folds.inner[0] == 3), x[:, 6], 1 / 3)  # constant in inner folds
    expected = explicit(x, y, folds, standardise)
    for solver in (GramSolver, RowSolver):
        found = solver(x, folds, COARSE, standardise).solve(y - y.mean(0, dtype=np.float64))
        for fold, (r, penalty, _) in enumerate(expected):
            assert np.allclose(found.penalty[fold], penalty, rtol=1e-12)
            assert np.allclose(found.fold_r[fold], r, atol=1e-9)
        assert np.allclose(found.weights, np.mean([beta for _, _, beta in expected], axis=0).T, rtol=1e-6, atol=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize("d", [8, 90, 200], ids=["few", "many", "more than stimuli"])
def test_agrees_with_himalaya(d: int) -> None:
    from himalaya.ridge import RidgeCV

    x, y, folds = world(d)
    found = encode(x, y, folds)
    for fold, inner in enumerate(folds.inner):
        train, test = inner >= 0, folds.outer == fold
        peer = RidgeCV(
            alphas=PENALTIES, fit_intercept=True, cv=PredefinedSplit(inner[train]), solver_params={"warn": False}
        )
        peer.fit(x[train], y[train].astype(np.float64))
        predicted = peer.predict(x[test])
        r = np.array([np.corrcoef(predicted[:, v], y[test, v])[0, 1] for v in range(y.shape[1])])
        assert np.allclose(found.penalty[fold], peer.best_alphas_, rtol=1e-8)
        assert np.allclose(found.fold_r[fold], r, atol=1e-7)


@pytest.mark.parametrize("d", [8, 90], ids=["few", "many"])
def test_a_relabelled_map_is_that_of_relabelled_patterns(d: int) -> None:
    x, y, folds = world(d, v=600)
    y[:, 7] = 1.0
    orders = np.stack([np.random.default_rng(seed).permutation(N) for seed in range(2)])
    found = relabelled(x, y, folds, orders, standardise=True, workers=2)
    for row, order in zip(found, orders, strict=True):
        expected = encode(x, y[order], folds, standardise=True).r
        assert np.allclose(row, expected, atol=1e-6, equal_nan=True)
    assert np.isnan(found[:, 7]).all()


def test_both_solvers_agree_on_any_folds() -> None:
    x, y, _ = world(d=12)
    rng = np.random.default_rng(5)
    outer = rng.permutation(N) % 4
    inner = np.where(outer == np.arange(4)[:, None], -1, rng.integers(0, 3, (4, N)))  # no common structure
    folds = Folds(outer, inner)
    y64 = y.astype(np.float64) - y.mean(0, dtype=np.float64)
    a, b = (solver(x, folds, PENALTIES, False).solve(y64) for solver in (GramSolver, RowSolver))
    assert np.array_equal(a.penalty, b.penalty)
    assert np.allclose(a.fold_r, b.fold_r, atol=1e-9)
    assert np.allclose(a.weights, b.weights, atol=1e-9)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("n_constant", "n_rare"), [(3, 0), (0, 1), (1, 1)])
def test_features_that_do_not_vary_in_a_fold_predict_nothing_there(
    n_constant: int, n_rare: int, standardise: bool
) -> None:
    """A feature of one stimulus is constant in the training set of one fold and in the test sets of the others."""
    rng = np.random.default_rng(3)
    folds, rare = nested_folds(60, 5, 6, rng), (np.arange(60) == 7).astype(np.float64)
    x = np.column_stack([np.full((60, n_constant), 0.1), *[rare] * n_rare])
    y = rng.normal(size=(60, 40))
    y -= y.mean(axis=0)
    for solver in (GramSolver, RowSolver):
        found = solver(x, folds, PENALTIES, standardise).solve(y)
        assert np.isnan(found.fold_r).all()
        assert np.isfinite(found.weights).all() and (found.weights[:n_constant] == 0).all()
        assert (found.weights[n_constant:] != 0).all()
    both = np.column_stack([x, rng.normal(size=60)])
    gram, row = (solver(both, folds, PENALTIES, standardise).solve(y) for solver in (GramSolver, RowSolver))
    assert np.isfinite(gram.fold_r).all()
    assert np.allclose(gram.fold_r, row.fold_r, atol=1e-9)


def test_planted_weights_are_recovered_and_noise_is_not_predicted() -> None:
    rng = np.random.default_rng(1)
    x, beta = rng.normal(size=(600, 30)), rng.normal(size=(30, 20))
    beta[:, 10:] = 0
    y = x @ beta + rng.normal(size=(600, 20))
    found = encode(x, y, nested_folds(600, 5, 6, rng))
    assert found.r[:10].min() > 0.9
    assert abs(found.r[10:].mean()) < 0.1
    assert np.allclose(found.weights[:, :10], beta[:, :10], atol=0.2)
    assert found.penalty[:, 10:].mean() > found.penalty[:, :10].mean()


def test_neither_shift_nor_scale_of_a_voxel_nor_threads_matter() -> None:
    x, y, folds = world()
    found = encode(x, y, folds)
    moved = encode(x + 3, y.astype(np.float64) * 5 + 1000, folds, workers=2)
    assert np.array_equal(found.penalty, moved.penalty)
    assert np.allclose(found.r, moved.r, atol=1e-9)
    assert np.allclose(found.weights * 5, moved.weights, atol=1e-8)


def test_many_blocks_are_the_same_as_one() -> None:
    x, y, folds = world(v=1100)
    done: list[int] = []
    found = encode(x, y, folds, workers=2, on_voxels=done.append)
    assert sum(done) == 1100
    one = encode(x, y[:, 600:700], folds)
    assert np.allclose(found.r[600:700], one.r, atol=1e-12)
    assert np.array_equal(found.penalty[:, 600:700], one.penalty)


def test_a_bad_voxel_is_nan_and_named_and_spoils_no_other() -> None:
    x, y, folds = world()
    clean = encode(x, y, folds)
    y = y.copy()
    y[3, 5], y[:, 7], y[0, 9] = np.nan, 0.1, np.inf
    found = encode(x, y, folds)
    assert np.flatnonzero(~found.usable).tolist() == [5, 7, 9]
    for array in (found.r, found.fold_r, found.penalty, found.weights):
        assert np.isnan(array[..., [5, 7, 9]]).all()
    rest = np.setdiff1d(np.arange(40), [5, 7, 9])
    assert np.allclose(found.r[rest], clean.r[rest])


def test_a_voxel_constant_in_one_test_fold_has_no_r() -> None:
    x, y, folds = world()
    y = y.copy()
    y[folds.outer == 2, 4] = 30.0
    found = encode(x, y, folds)
    assert np.isnan(found.fold_r[2, 4])
    assert np.isnan(found.r[4])
    assert np.isfinite(found.fold_r[[0, 1, 3, 4], 4]).all()


def test_a_constant_feature_does_no_harm() -> None:
    x, y, folds = world()
    with_constant = np.column_stack([x, np.full(N, 3.0)])
    for standardise in (False, True):
        found = encode(with_constant, y, folds, standardise=standardise)
        assert np.allclose(found.r, encode(x, y, folds, standardise=standardise).r, atol=1e-9)
        assert np.all(found.weights[-1] == 0)


def test_inputs_that_do_not_fit_are_refused() -> None:
    x, y, folds = world()
    with pytest.raises(SourceError, match="not of the same stimuli"):
        encode(x[:-1], y, folds)
    bad = x.copy()
    bad[4, 0] = np.nan
    with pytest.raises(SourceError, match="1 stimuli have a feature that is not finite"):
        encode(bad, y, folds)
    with pytest.raises(UsageError, match="penalties above 0"):
        encode(x, y, folds, penalties=np.array([0.0, 1.0]))


@given(st.integers(30, 90), st.integers(2, 5), st.integers(2, 6), st.integers(0, 9))
def test_folds_are_partitions(n: int, n_outer: int, n_inner: int, seed: int) -> None:
    folds = nested_folds(n, n_outer, n_inner, np.random.default_rng(seed))
    sizes = np.bincount(folds.outer)
    assert len(sizes) == n_outer
    assert sizes.max() - sizes.min() <= 1
    for fold, row in enumerate(folds.inner):
        assert np.array_equal(row == -1, folds.outer == fold)
        assert set(row[row >= 0]) == set(range(n_inner))


def test_folds_never_split_a_run() -> None:
    runs = np.repeat(np.arange(1, 14), 11)
    folds = folds_by_run(runs, 5, 6)
    for run in range(1, 14):
        assert len(set(folds.outer[runs == run])) == 1
        assert all(len(set(row[runs == run])) == 1 for row in folds.inner)
    assert (np.diff(folds.outer) >= 0).all()


def test_too_few_stimuli_or_runs_are_refused() -> None:
    with pytest.raises(UsageError, match="too few stimuli for the folds"):
        nested_folds(9, 5, 6, np.random.default_rng(0))
    with pytest.raises(UsageError, match="too few runs for the folds"):
        folds_by_run(np.repeat([1, 2, 3], 50), 5, 6)
    outer = np.arange(20) % 2
    with pytest.raises(UsageError, match="outer fold 0 cannot be used"):
        Folds(outer, np.zeros((2, 20), dtype=np.int64))
    inner = np.where(outer == np.arange(2)[:, None], -1, np.arange(20) // 2 % 2)
    assert len(Folds(outer, inner).inner) == 2
    with pytest.raises(UsageError, match="inner folds of \\[10\\] stimuli"):
        Folds(outer, np.minimum(inner, 0))  # one inner fold
    with pytest.raises(UsageError, match="inner folds of \\[5, 0, 5\\] stimuli"):
        Folds(outer, np.where(inner == 1, 2, inner))  # an empty one
    with pytest.raises(UsageError, match="2 test stimuli"):
        Folds(outer[:5], inner[:, :5])
