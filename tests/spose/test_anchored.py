"""Anchored triplets: likelihood and gradient against NumPy, finite differences and autograd; planted embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

from affectlake import seeds
from affectlake.errors import CheckpointError, ContractError
from affectlake.spose import kernels
from affectlake.spose.chance import chance_level
from affectlake.spose.cpu import CpuTrainer
from affectlake.spose.curve import Score
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import fit
from affectlake.spose.gpu import TorchTrainer
from affectlake.spose.model import anchored_probabilities, score
from affectlake.spose.settings import Settings
from affectlake.spose.state import Moments, aligned_rows, block_size, padded
from affectlake.tasks import chance

DEVICES = ("cpu", "torch:cpu")
TRAINERS: dict[str, Callable[[TrainingData, Settings, Moments], CpuTrainer | TorchTrainer]] = {
    "kernels": CpuTrainer,
    "torch": lambda data, settings, start: TorchTrainer(data, settings, start, "cpu"),
}


def random_triplets(n_stimuli: int, m: int, rng: np.random.Generator) -> np.ndarray:
    triplets = rng.integers(0, n_stimuli, (m + m // 2, 3))
    h, i, j = triplets.T
    return triplets[(h != i) & (h != j) & (i != j)][:m].astype(np.int32)


def loss_of(x: np.ndarray, triplets: np.ndarray) -> float:
    """Return the summed cross-entropy, -log of exp(hi) / (exp(hi) + exp(hj)), in float64."""
    h, i, j = (x[column] for column in triplets.T)
    return float(np.logaddexp(0.0, (h * j).sum(1) - (h * i).sum(1)).sum())


def gradient_of(x: np.ndarray, triplets: np.ndarray) -> np.ndarray:
    h, i, j = triplets.T
    wrong = 1 / (1 + np.exp((x[h] * x[i]).sum(1) - (x[h] * x[j]).sum(1)))[:, None]
    g = np.zeros_like(x)
    np.add.at(g, h, wrong * (x[j] - x[i]))
    np.add.at(g, i, -wrong * x[h])
    np.add.at(g, j, wrong * x[h])
    return g


def drawn(truth: np.ndarray, triplets: np.ndarray, lapse: float, rng: np.random.Generator) -> np.ndarray:
    """Return (m, 3) judgments: head, winner, loser, drawn from the embedding or, in a share of triplets, guessed."""
    h, i, j = (truth[column] for column in triplets.T)
    of_i = 1 / (1 + np.exp((h * j).sum(1) - (h * i).sum(1)))
    of_i = (1 - lapse) * of_i + lapse / 2
    swapped = rng.random(len(triplets)) >= of_i
    judged = triplets.copy()
    judged[swapped, 1:] = triplets[swapped][:, [2, 1]]
    return judged


def planted(n_stimuli: int, d: int, rng: np.random.Generator) -> np.ndarray:
    used = rng.random((n_stimuli, d)) < 0.35
    used[np.arange(n_stimuli), rng.integers(0, d, n_stimuli)] = True
    return rng.gamma(3.0, 0.7, (n_stimuli, d)) * used


def test_a_probability_is_the_softmax_of_two_similarities_with_the_head() -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, 0.5, (20, 5)).astype(np.float32)
    triplets = random_triplets(20, 500, rng)
    h, i, j = (x[column].astype(np.float64) for column in triplets.T)
    powers = np.exp(np.stack([(h * i).sum(1), (h * j).sum(1)], axis=1))
    found = anchored_probabilities(x, triplets)
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=2e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-6)
    swapped = anchored_probabilities(x, np.ascontiguousarray(triplets[:, [0, 2, 1]]))
    np.testing.assert_allclose(swapped[:, ::-1], found, rtol=1e-6)


def test_the_similarity_of_the_two_stimuli_beside_the_head_does_not_count() -> None:
    x = np.zeros((3, 3), np.float32)
    x[0] = 1, 0, 0
    x[1], x[2] = (0.7, 0, 0), (0.2, 0, 0)
    apart = score(x, np.array([[0, 1, 2]], np.int32), "anchored")
    x[1, 1] = x[2, 1] = 30.0  # x_1·x_2 is 900: the odd one out would be the head
    alike = score(x, np.array([[0, 1, 2]], np.int32), "anchored")
    assert alike == apart
    assert alike.loss == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-6)
    assert score(x, np.array([[0, 1, 2]], np.int32)).accuracy == 0.0


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_similarities_of_any_size_are_safe(size: float) -> None:
    x = np.array([[1, 0], [0, 1], [1, 1]], np.float32) * np.float32(math.sqrt(size))
    right, wrong = (score(x, np.array([one], np.int32), "anchored") for one in ([0, 2, 1], [0, 1, 2]))
    assert right.loss == pytest.approx(math.log1p(math.exp(-size)), abs=1e-6)
    assert wrong.loss == pytest.approx(size + math.log1p(math.exp(-size)), rel=1e-5)
    assert (right.accuracy, wrong.accuracy) == (1.0, 0.0)


def test_an_embedding_of_zeros_is_chance() -> None:
    triplets = random_triplets(10, 99, np.random.default_rng(0))
    found = score(np.zeros((10, 3), np.float32), triplets, "anchored")
    assert found.accuracy == 0.5 == chance("anchored")
    assert found.loss == pytest.approx(math.log(2), rel=1e-6)
    assert score(np.zeros((10, 3), np.float32), triplets).accuracy == pytest.approx(chance("odd-one-out"), rel=1e-12)
    for right in (50, 60, 75):
        exact = float(binom.sf(right - 1, 100, 0.5))
        assert chance_level(Score(0.6, right / 100, 100), task="anchored") == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("d", [3, 16, 30, 40])
def test_the_gradient_equals_finite_differences_and_autograd(d: int) -> None:
    rng = np.random.default_rng(0)
    triplets = random_triplets(12, 150, rng)
    x = padded((0.5 * np.abs(rng.normal(size=(12, d)))).astype(np.float32))
    gradient = aligned_rows(*x.shape)
    loss = kernels.add_anchored_gradients(x, triplets, 0, len(triplets), 1.0, 0.0, gradient)
    found, x64 = gradient[:, :d], x[:, :d].astype(np.float64)
    assert loss == pytest.approx(loss_of(x64, triplets), rel=1e-5)
    assert not gradient[:, d:].any()
    np.testing.assert_allclose(found, gradient_of(x64, triplets), rtol=1e-4, atol=1e-4)
    for place in [(0, 0), (3, d - 1), (11, d // 2)]:
        step = np.zeros_like(x64)
        step[place] = 1e-5
        slope = (loss_of(x64 + step, triplets) - loss_of(x64 - step, triplets)) / 2e-5
        assert found[place] == pytest.approx(slope, rel=1e-3, abs=1e-3)
    weights = torch.tensor(x64, requires_grad=True)
    h, i, j = weights[torch.from_numpy(triplets).long()].unbind(1)
    (-torch.log_softmax(torch.stack([(h * i).sum(1), (h * j).sum(1)], 1), 1)[:, 0].sum()).backward()
    np.testing.assert_allclose(found, weights.grad, rtol=1e-4, atol=1e-4)


def test_with_lapses_a_guess_is_right_in_half_of_the_triplets() -> None:
    rng = np.random.default_rng(0)
    triplets = random_triplets(12, 150, rng)
    x = padded(np.abs(rng.normal(size=(12, 5))).astype(np.float32))
    gradient, scale, lapse = aligned_rows(*x.shape), 1 / 150, 0.2
    loss = kernels.add_anchored_gradients(x, triplets, 0, len(triplets), scale, lapse, gradient)
    weights = torch.tensor(x[:, :5].astype(np.float64), requires_grad=True)
    h, i, j = weights[torch.from_numpy(triplets).long()].unbind(1)
    said = (1 - lapse) * torch.sigmoid((h * i).sum(1) - (h * j).sum(1)) + lapse / 2
    (-scale * said.log().sum()).backward()
    np.testing.assert_allclose(gradient[:, :5], weights.grad, rtol=1e-4, atol=1e-6)
    said = said.detach()
    scored, right, by_chance = kernels.score_anchored(x, triplets, lapse)
    assert loss == pytest.approx(float(-said.log().sum()), rel=1e-5) == pytest.approx(scored, rel=1e-6)
    assert by_chance == pytest.approx(float((lapse / 2 / said).sum()), rel=1e-5)
    assert right == kernels.score_anchored(x, triplets, 0.0)[1]


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("batch_size", [64, 320])
@pytest.mark.parametrize("lmbda", [0.0, 0.5])
def test_every_step_follows_the_gradient(lmbda: float, batch_size: int, trainer: str) -> None:
    """Dense Adam in float64; the last batch is smaller. Without decay, the first moment is the last step's gradient."""
    n_stimuli, d, rate, beta2 = 40, 6, 0.01, 0.9
    triplets = random_triplets(n_stimuli, 300, np.random.default_rng(0))
    start = np.random.default_rng(1).uniform(0.3, 0.9, (n_stimuli, d)).astype(np.float32)
    zeros = np.zeros((n_stimuli, d), np.float32)
    settings = Settings(
        l1=lmbda, dimensions=d, batch_size=batch_size, learning_rate=rate, beta1=0.0, beta2=beta2, pruning="none"
    )
    data = TrainingData(triplets, triplets, n_stimuli, "anchored")
    own = TRAINERS[trainer](data, settings, Moments(start, zeros, zeros, 0))
    blocks = np.random.default_rng(2).permutation(-(-len(triplets) // block_size(batch_size))).astype(np.int32)
    loss = own.train_epoch(blocks, 0.0, rate)
    x, second, gradient, total = start.astype(np.float64), np.zeros((n_stimuli, d)), np.empty(0), 0.0
    for step, first in enumerate(range(0, len(blocks), batch_size // 64), start=1):
        rows = np.concatenate([triplets[64 * b : 64 * (b + 1)] for b in blocks[first : first + batch_size // 64]])
        total += loss_of(x, rows)
        gradient = gradient_of(x, rows) / len(rows) + lmbda / n_stimuli
        second = beta2 * second + (1 - beta2) * gradient**2
        x -= rate * gradient / (np.sqrt(second / (1 - beta2**step)) + settings.epsilon)
    found = own.moments()
    assert x.min() > 0
    np.testing.assert_allclose(found.first_moment, gradient, rtol=2e-4, atol=2e-7)
    np.testing.assert_allclose(found.weights, x, rtol=1e-4)
    assert loss == pytest.approx(total / len(triplets), rel=1e-5)
    assert own.score(0.0)[0].loss == pytest.approx(loss_of(x, triplets) / len(triplets), rel=1e-4)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return planted(60, 4, np.random.default_rng(5))


def learned(truth: np.ndarray, m: int, lapse: float = 0.0) -> TrainingData:
    rng = np.random.default_rng(6)
    judged = drawn(truth, random_triplets(len(truth), m, rng), lapse, rng)
    return training_data(judged[m // 10 :], judged[: m // 10], len(truth), rng, "anchored")


@pytest.mark.parametrize("device", DEVICES)
def test_a_planted_embedding_is_recovered(truth: np.ndarray, device: str) -> None:
    data = learned(truth, 60_000)
    settings = Settings(
        l1=0.01, dimensions=8, batch_size=1024, schedule="cosine", learning_rate=0.04, final_learning_rate=0.0003,
        convergence_epochs=20, warmup_epochs=8, max_epochs=80,
    )  # fmt: skip
    found = fit(data, settings, seeds.generator(0, "anchored"), device=device)
    assert found.weights.shape[1] == 4
    r = np.corrcoef(truth, found.weights, rowvar=False)[:4, 4:]
    assert r[linear_sum_assignment(-r)].min() > 0.98
    best = score(truth.astype(np.float32), data.validation, "anchored")
    assert found.score.accuracy > best.accuracy - 0.01
    assert best.accuracy > 0.8


def test_groups_without_common_dimensions_are_recovered_from_different_initial_weights() -> None:
    """From the published initial weights, which are nearly equal, dimensions are lost (docs/fits.md)."""
    rng = np.random.default_rng(1)
    truth = np.zeros((60, 6))
    truth[np.arange(60), np.arange(60) % 6] = rng.uniform(1, 3, 60)
    data = learned(truth, 40_000)
    settings = Settings(l1=0.005, dimensions=10, batch_size=256, learning_rate=0.01, max_epochs=60, init_std=0.1)
    found = fit(data, settings, seeds.generator(0, "groups"))
    r = np.corrcoef(truth, found.weights, rowvar=False)[:6, 6:]
    assert r[linear_sum_assignment(-r)].min() > 0.95
    assert found.score.accuracy > score(truth.astype(np.float32), data.validation, "anchored").accuracy - 0.015


def test_both_devices_learn_the_same(truth: np.ndarray) -> None:
    data = learned(truth, 6_037)
    settings = Settings(l1=0.004, dimensions=7, max_epochs=8, batch_size=192, learning_rate=0.002, learn_lapses=True)
    here, there = (fit(data, settings, seeds.generator(0, "fit"), device=device) for device in DEVICES)
    for a, b in zip(here.curve, there.curve, strict=True):
        assert b.validation_loss == pytest.approx(a.validation_loss, rel=2e-4)
        assert b.validation_accuracy == pytest.approx(a.validation_accuracy, abs=0.01)
        assert b.lapse == pytest.approx(a.lapse, rel=2e-3)
    np.testing.assert_allclose(there.weights, here.weights, atol=5e-3)


def test_the_lapse_rate_is_learned(truth: np.ndarray) -> None:
    settings = Settings(
        l1=0.001, dimensions=6, batch_size=512, learning_rate=0.01, max_epochs=60, patience=60, learn_lapses=True
    )
    few, many = (fit(learned(truth, 60_000, lapse), settings, seeds.generator(0, "x")).lapse for lapse in (0.0, 0.3))
    assert few < 0.05
    assert many == pytest.approx(0.3, abs=0.05)


def test_guesses_teach_nothing(truth: np.ndarray) -> None:
    settings = Settings(l1=0.05, dimensions=5, batch_size=512, learning_rate=0.01, max_epochs=20)
    found = fit(learned(truth, 10_000, 1.0), settings, seeds.generator(0, "x"))
    assert chance_level(found.score, task="anchored") > 0.01


def test_a_checkpoint_of_the_other_task_is_refused(truth: np.ndarray, tmp_path: Path) -> None:
    data = learned(truth, 2_000)
    other = TrainingData(data.train, data.validation, data.n_stimuli)
    assert data.sha256 != other.sha256
    settings = Settings(l1=0.004, dimensions=4, max_epochs=5)
    path = tmp_path / "seed-1.npz"
    whole = fit(data, settings, seeds.generator(0, "x"))
    fit(data, settings.replaced(max_epochs=5), seeds.generator(0, "x"), checkpoint=path)
    resumed = fit(data, settings, seeds.generator(9, "other"), checkpoint=path)
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    with pytest.raises(CheckpointError, match="choices differ"):
        fit(other, settings, seeds.generator(0, "x"), checkpoint=path)


def test_the_digest_of_odd_one_out_judgments_is_that_of_earlier_releases() -> None:
    choices = np.array([[0, 1, 2], [3, 1, 0]], np.int32)
    wanted = "742aa0d0b259519ae1d14fceb31b97d2c5ff9df97c9b39e0faaf4fb33543037d"
    assert TrainingData(choices, choices[:1], 4).sha256 == wanted


def test_what_a_row_of_anchored_judgments_is_stands_in_the_message() -> None:
    wrong = np.array([[0, 1, 1]], np.int32)
    with pytest.raises(ContractError, match="repeat a stimulus"):
        training_data(wrong, wrong, 2, np.random.default_rng(0), "anchored")
    with pytest.raises(ContractError) as caught:
        training_data(wrong[:, :2], wrong, 2, np.random.default_rng(0), "anchored")
    assert "the head, the winner and the loser" in caught.value.wanted
