"""CKA and Procrustes similarity, against SciPy and the definition with n x n matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import procrustes

from affectlake.errors import AffectlakeError
from affectlake.geometry.alignment import alignment

Array = NDArray[np.float64]


def embeddings(n: int = 40, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.gamma(0.3, size=(n, 5))
    return x, x @ rng.normal(size=(5, 7)) + rng.normal(size=(n, 7))


def hsic(k: Array, m: Array) -> float:
    """Equation 5 of Song et al. 2012."""
    k, m, n, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), len(k), np.ones(len(k))
    cross = (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return float(cross / (n * (n - 3)))


def cka(x: Array, y: Array) -> float:
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5


def test_cka_is_the_definition_with_its_jackknife() -> None:
    x, y = embeddings()
    found = alignment(x, y, np.random.default_rng(0), 0).cka
    assert found.value == pytest.approx(cka(x, y), abs=1e-12)
    z = np.arctanh([cka(np.delete(x, s, axis=0), np.delete(y, s, axis=0)) for s in range(40)])
    error = (39 / 40 * ((z - z.mean()) ** 2).sum()) ** 0.5
    assert np.arctanh(found.ci_high) - np.arctanh(found.ci_low) == pytest.approx(2 * 2.022691 * error, rel=1e-6)


def test_procrustes_is_scipys() -> None:
    x, y = embeddings()
    found = alignment(x, y, np.random.default_rng(0), 0).procrustes_fitted
    padded = np.hstack([x, np.zeros((40, 2))])
    assert found.value == pytest.approx((1 - procrustes(padded, y)[2]) ** 0.5, abs=1e-12)


def test_rotation_scale_and_shift_change_nothing() -> None:
    x, y = embeddings()
    turned = 3 * y @ np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0] + 5
    one, two = (alignment(x, other, np.random.default_rng(0), 20) for other in (y, turned))
    for a, b in zip(one, two, strict=True):
        assert np.allclose(a[:5], b[:5], atol=1e-9, equal_nan=True)
    same = alignment(y, turned, np.random.default_rng(0), 20)
    assert [one.value for one in same] == pytest.approx([1, 1, 1])
    assert same.cka.ci_low > 0.999 and same.procrustes.ci_low > 0.999


def test_relabelled_null_is_the_statistic_of_relabelled_stimuli() -> None:
    x, y = embeddings(20)
    found = alignment(x, y, np.random.default_rng(3), 1)
    rng = np.random.default_rng(3)
    rng.permutation(20)  # of the folds
    mixed = alignment(x, y[rng.permutation(20)], np.random.default_rng(0), 0)
    assert found.procrustes_fitted.chance == pytest.approx(mixed.procrustes_fitted.value)
    assert found.cka.p_value == (1 if mixed.cka.value >= found.cka.value else 0.5)


def test_independent_embeddings_are_not_similar() -> None:
    low, levels, held_out, fitted = [], [], [], []
    for seed in range(200):
        rng = np.random.default_rng([7, seed])
        found = alignment(rng.gamma(0.3, size=(60, 6)), rng.gamma(0.3, size=(60, 9)), rng, 39)
        levels.append((found.cka.p_value <= 0.05, found.procrustes.p_value <= 0.05))
        low.append((found.cka.ci_low > 0, found.procrustes.ci_low > 0))
        held_out.append(found.procrustes.value)
        fitted.append(found.procrustes_fitted.value - found.procrustes_fitted.chance)
    assert (np.mean(levels, axis=0) < 0.09).all() and (np.mean(low, axis=0) < 0.08).all()
    assert abs(np.mean(held_out)) < 0.02 and abs(np.mean(fitted)) < 0.01


def test_the_interval_holds_planted_similarities() -> None:
    held = []
    for seed in range(100):
        rng = np.random.default_rng([6, seed])
        causes = rng.normal(size=(200, 9))
        a, b = np.eye(9)[:, :6], np.eye(9)[:, 3:] * [1, 1, 1, 0.5, 0.5, 0.5]
        found = alignment(causes @ a, causes @ b, rng, 0)
        cross = a.T @ b
        true_cka = (cross**2).sum() / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b)
        true_r = np.linalg.svd(cross, compute_uv=False).sum() / np.linalg.norm(a) / np.linalg.norm(b)
        held.append((found.cka.ci_low < true_cka < found.cka.ci_high,
                     found.procrustes.ci_low < true_r < found.procrustes.ci_high))  # fmt: skip
    assert (np.mean(held, axis=0) > 0.9).all()


@pytest.mark.parametrize("n", [1, 4])
def test_few_stimuli_are_a_reason(n: int) -> None:
    found = alignment(*embeddings(n), np.random.default_rng(0), 5)
    assert {one.note for one in found} == {f"{n} stimuli are too few: 5 are needed"}
    assert not alignment(*embeddings(5), np.random.default_rng(0), 5).procrustes.note


def test_constant_embeddings_are_a_reason_and_constant_dimensions_count_for_nothing() -> None:
    x, y = embeddings()
    found = alignment(np.full((40, 3), 0.1), y, np.random.default_rng(0), 5)
    assert {one.note for one in found} == {"an embedding is the same for every stimulus"}
    more = np.hstack([x, np.full((40, 2), 0.1)])
    one, two = (alignment(some, y, np.random.default_rng(0), 5) for some in (x, more))
    assert all(np.allclose(a[:5], b[:5], equal_nan=True) for a, b in zip(one, two, strict=True))


def test_wrong_input_is_one_message() -> None:
    x, y = embeddings()
    with pytest.raises(AffectlakeError, match="not of the same stimuli"):
        alignment(x, y[1:], np.random.default_rng(0))
    with pytest.raises(AffectlakeError, match="not finite"):
        alignment(np.where(x > 1, np.nan, x), y, np.random.default_rng(0))
