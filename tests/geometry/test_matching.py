"""Matches of dimensions: planted ones are found, none is found where there is none, and both halves by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, Ridge

from affectlake.errors import AffectlakeError
from affectlake.geometry import matching
from affectlake.geometry.matching import dimension_matches
from affectlake.pipelines.steps.agent_maps import match_kinds


def sparse(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.gamma(0.3, size=(n, d))


def test_planted_matches_are_found() -> None:
    rng = np.random.default_rng(0)
    other = sparse(rng, 300, 7)
    own = sparse(rng, 300, 5)
    weights = np.column_stack(
        [own[:, 0], other[:, 3] + 0.3 * own[:, 1], other[:, 0] + other[:, 5], np.full(300, 0.1), other[:, 1]]
    )
    found = dimension_matches(weights, other, rng, 199)
    assert match_kinds(found)[0] == ["unique", "one_to_one", "one_to_one", None, "one_to_one"]
    assert found.matched[[1, 4]].tolist() == [3, 1] and found.matched[3] == -1 and found.matched[2] in (0, 5)
    assert found.several[1] == [3] and set(found.several[2]) == {0, 5} and found.several[3] == []
    assert found.several_r[2] > 0.99 and found.r[2] < 0.95 and found.r[4] == pytest.approx(1)
    assert found.ci_low[1] < found.r[1] < found.ci_high[1] and np.isnan(found.several_r[3])


def test_a_sum_of_taken_dimensions_is_one_to_several() -> None:
    rng = np.random.default_rng(1)
    other = rng.normal(size=(400, 3))
    weights = np.column_stack([other, other @ [1.0, -1.0, 1.0]])
    found = dimension_matches(weights, other, rng, 199)
    kinds, one, several = match_kinds(found)
    assert kinds == ["one_to_one"] * 3 + ["one_to_several"]
    assert np.isnan(one[3]) and several[3] == pytest.approx(1 / 200) and found.several_r[3] > 0.99
    assert found.matched.tolist() == [0, 1, 2, -1] and sorted(found.several[3]) == [0, 1, 2]


def test_the_matching_has_the_highest_sum_of_all() -> None:
    rng = np.random.default_rng(2)
    one, other = sparse(rng, 50, 5), sparse(rng, 50, 5)
    r = np.array([[stats.pearsonr(a, b).statistic for b in other.T] for a in one.T])
    found = dimension_matches(one, other, rng, 0)
    best = max(permutations(range(5)), key=lambda order: sum(r[np.arange(5), order]))
    assert found.matched.tolist() == list(best) and np.allclose(found.r, r[np.arange(5), best])
    assert np.isnan(found.p).all() and np.isnan(found.several_p).all()


def test_levels_are_shares_of_relabellings() -> None:
    rng = np.random.default_rng(3)
    one, other = sparse(rng, 40, 3), sparse(rng, 40, 4) + 0.5 * sparse(rng, 40, 1)
    found = dimension_matches(one, other, np.random.default_rng(9), 60)
    again, best, explained = np.random.default_rng(9), [], []
    for _ in range(60):
        mixed = one[again.permutation(40)]
        best.append(np.corrcoef(mixed.T, other.T)[:3, 3:].max(axis=1))
        explained.append([LinearRegression().fit(other, column).score(other, column) for column in mixed.T])
    own = [LinearRegression().fit(other, column).score(other, column) for column in one.T]
    assert found.p.tolist() == ((1 + (np.array(best) >= found.r).sum(axis=0)) / 61).tolist()
    assert found.several_p.tolist() == ((1 + (np.array(explained) >= own).sum(axis=0)) / 61).tolist()


def test_ridge_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    y = sparse(rng, 60, 4)
    x = y @ rng.normal(size=(4, 2)) + rng.normal(size=(60, 2))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    monkeypatch.setattr(matching, "PENALTIES", np.array([0.3]))
    penalty = 0.3 * (np.linalg.svd(y, compute_uv=False) ** 2).mean()
    assert np.allclose(matching._ridge(x, y), Ridge(penalty, fit_intercept=False).fit(y, x).coef_.T)


def test_the_penalty_is_that_of_generalised_cross_validation() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=(30, 10))
    x = y[:, :1] + 2 * rng.normal(size=(30, 1))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    errors, fitted = [], []
    for penalty in matching.PENALTIES * (np.linalg.svd(y, compute_uv=False) ** 2).mean():
        hat = y @ np.linalg.solve(y.T @ y + penalty * np.eye(10), y.T)
        errors.append(float(((x - hat @ x) ** 2).sum()) / (1 - (1 + np.trace(hat)) / 30) ** 2)
        fitted.append(np.linalg.solve(y.T @ y + penalty * np.eye(10), y.T @ x))
    assert np.allclose(matching._ridge(x, y), fitted[int(np.argmin(errors))])


def test_independent_dimensions_are_rarely_matched() -> None:
    kinds = []
    for seed in range(60):
        rng = np.random.default_rng([8, seed])
        kinds.append(match_kinds(dimension_matches(sparse(rng, 60, 8), sparse(rng, 60, 6), rng, 199))[0])
    assert np.mean([any(one != "unique" for one in own) for own in kinds]) < 0.2


@pytest.mark.parametrize("n", [1, 5, 9])
def test_few_stimuli_are_not_matched(n: int) -> None:
    rng = np.random.default_rng(0)
    found = dimension_matches(sparse(rng, n, 3), sparse(rng, n, 2), rng, 5)
    assert match_kinds(found)[0] == [None] * 3 and (found.matched == -1).all() and np.isnan(found.r).all()


def test_more_dimensions_than_stimuli_explain_everything_and_prove_nothing() -> None:
    rng = np.random.default_rng(0)
    found = dimension_matches(sparse(rng, 12, 2), sparse(rng, 12, 30), rng, 19)
    assert (found.several_p == 1).all() and np.isfinite(found.several_r).all()


def test_wrong_input_is_one_message() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(AffectlakeError, match="not of the same stimuli"):
        dimension_matches(sparse(rng, 20, 2), sparse(rng, 21, 2), rng)
