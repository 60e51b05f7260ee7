"""The choice model against an explicit softmax, at its limits, and under permutations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affectlake.spose.model import choice_probabilities, score


def explicit(weights: np.ndarray, triplets: np.ndarray) -> np.ndarray:
    """Return log p (m, 3) of the odd one being in each column, in float64 and longhand."""
    x = weights.astype(np.float64)
    i, j, k = (x[column] for column in triplets.T)
    similarity = np.stack([(j * k).sum(1), (i * k).sum(1), (i * j).sum(1)], axis=1)
    shifted = similarity - similarity.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def some(n_stimuli: int = 50, d: int = 30, m: int = 1000, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    weights = (scale * np.abs(rng.normal(0, 0.6, (n_stimuli, d)))).astype(np.float32)
    triplets = np.stack([rng.choice(n_stimuli, 3, replace=False) for _ in range(m)]).astype(np.int32)
    return weights, triplets


@pytest.mark.parametrize("d", [1, 4, 15, 16, 17, 30, 32, 33, 90])
def test_loss_and_probabilities_equal_an_explicit_softmax(d: int) -> None:
    weights, triplets = some(d=d, m=500)
    logs = explicit(weights, triplets)
    np.testing.assert_allclose(choice_probabilities(weights, triplets), np.exp(logs), rtol=2e-5, atol=1e-7)
    found = score(weights, triplets)
    assert found.loss == pytest.approx(-logs[:, 2].mean(), rel=1e-5)
    assert found.accuracy == pytest.approx((logs.argmax(axis=1) == 2).mean())
    assert found.n == 500


@pytest.mark.parametrize("m", [1, 15, 16, 17, 63, 64, 65, 200])
def test_every_triplet_is_scored(m: int) -> None:
    weights, triplets = some(m=m)
    assert score(weights, triplets).loss == pytest.approx(-explicit(weights, triplets)[:, 2].mean(), rel=1e-5)


def test_probabilities_sum_to_one_and_follow_their_columns() -> None:
    weights, triplets = some()
    found = choice_probabilities(weights, triplets)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    turned = choice_probabilities(weights, triplets[:, [2, 0, 1]].copy())
    np.testing.assert_allclose(turned, found[:, [2, 0, 1]], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_extreme_similarities_stay_finite(scale: float) -> None:
    weights, triplets = some(d=8, m=400)
    weights = (weights * math.sqrt(scale)).astype(np.float32)  # inner products of up to about `scale`
    logs = explicit(weights, triplets)
    assert score(weights, triplets).loss == pytest.approx(-logs[:, 2].mean(), rel=1e-4)
    np.testing.assert_allclose(choice_probabilities(weights, triplets), np.exp(logs), atol=2e-3 if scale > 1 else 1e-6)


def test_certain_and_impossible_choices_at_ten_thousand() -> None:
    weights = np.array([[100.0], [100.0], [0.0]], np.float32)  # similarities 10,000, 0, 0
    right, wrong = np.array([[0, 1, 2]], np.int32), np.array([[0, 2, 1]], np.int32)
    assert score(weights, right) == (0.0, 1.0, 1)
    assert score(weights, wrong).loss == pytest.approx(10_000)
    assert score(weights, wrong).accuracy == 0.0
    np.testing.assert_allclose(choice_probabilities(weights, right), [[0, 0, 1]], atol=1e-30)


def test_an_embedding_of_zeros_is_at_chance() -> None:
    _, triplets = some()
    found = score(np.zeros((50, 30), np.float32), triplets)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.loss == pytest.approx(math.log(3), rel=1e-6)


def test_a_tie_of_two_counts_half() -> None:
    weights = np.array([[1.0], [1.0], [1.0], [2.0]], np.float32)
    assert score(weights, np.array([[0, 3, 1]], np.int32)).accuracy == 0.5  # 0·3 = 1·3 = 2, 0·1 = 1
    assert score(weights, np.array([[0, 1, 3]], np.int32)).accuracy == 0.0
    assert score(weights, np.array([[0, 1, 2]], np.int32)).accuracy == pytest.approx(1 / 3)


def test_permuting_stimuli_or_dimensions_changes_nothing() -> None:
    weights, triplets = some()
    rng = np.random.default_rng(1)
    stimuli, dimensions = rng.permutation(50), rng.permutation(30)
    where = np.argsort(stimuli).astype(np.int32)
    base = score(weights, triplets)
    for other in (score(weights[stimuli], where[triplets]), score(weights[:, dimensions], triplets)):
        assert other.loss == pytest.approx(base.loss, rel=1e-6)
        assert other.accuracy == base.accuracy


@pytest.mark.parametrize(
    ("weights", "triplets"),
    [
        (np.zeros((4, 2)), np.array([[0, 1, 2]], np.int32)),
        (np.zeros((4, 2), np.float32), np.array([[0, 1, 2]])),
        (np.zeros((4, 2), np.float32), np.array([[0, 1, 4]], np.int32)),
        (np.zeros((4, 2), np.float32), np.array([[0, 1, -1]], np.int32)),
        (np.zeros((4, 2), np.float32), np.zeros((0, 3), np.int32)),
    ],
)
def test_wrong_arrays_are_refused(weights: np.ndarray, triplets: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"wanted|indices"):
        score(weights, triplets)
    with pytest.raises(ValueError, match=r"wanted|indices"):
        choice_probabilities(weights, triplets)
