"""The loss of one batch and its gradient, with the scale of λ, against the published code's formula in NumPy alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from affectlake.spose.cpu import CpuTrainer
from affectlake.spose.data import TrainingData
from affectlake.spose.gpu import TorchTrainer
from affectlake.spose.model import score
from affectlake.spose.settings import Settings
from affectlake.spose.state import Moments, block_size

N_STIMULI, D, RATE, BETA2 = 40, 6, 0.01, 0.9
TRAINERS: dict[str, Callable[[TrainingData, Settings, Moments], CpuTrainer | TorchTrainer]] = {
    "kernels": CpuTrainer,
    "torch": lambda data, settings, start: TorchTrainer(data, settings, start, "cpu"),
}


def published(x: np.ndarray, triplets: np.ndarray, lmbda: float) -> tuple[float, np.ndarray]:
    """Return the loss of a batch and its gradient as in ViCCo-Group/SPoSE, train.py and utils.py.

    Cross-entropy as a mean over the batch, λ / n_items times the sum of the weights' absolute values, and 0.01 times
    the sum of what is below zero. A row of `triplets` is the anchor, the positive and the negative: the odd one last.
    """
    i, j, k = triplets.T
    powers = np.exp(np.stack([(x[i] * x[j]).sum(1), (x[i] * x[k]).sum(1), (x[j] * x[k]).sum(1)], axis=1))
    p = powers / powers.sum(axis=1, keepdims=True)
    loss = -np.log(p[:, 0]).mean() + lmbda / len(x) * np.abs(x).sum() + 0.01 * np.maximum(-x, 0).sum()
    by_similarity = (p - [1, 0, 0]) / len(triplets)
    gradient = lmbda / len(x) * np.sign(x) - 0.01 * (x < 0)
    for column, (a, b) in enumerate(((i, j), (i, k), (j, k))):
        np.add.at(gradient, a, by_similarity[:, [column]] * x[b])
        np.add.at(gradient, b, by_similarity[:, [column]] * x[a])
    return float(loss), gradient


def printed(x: np.ndarray, triplets: np.ndarray, lmbda: float) -> float:
    """Return equation 3 of the paper as a loss: a sum over the batch, its logarithms negated, and λ times the norm."""
    products = x @ x.T
    total = 0.0
    for i, j, k in triplets:
        total -= products[i, j] - np.log(np.exp([products[i, j], products[i, k], products[j, k]]).sum())
    return float(total + lmbda * np.linalg.norm(x, ord=1, axis=1).sum())


@pytest.fixture(scope="module")
def triplets() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([rng.choice(N_STIMULI, 3, replace=False) for _ in range(300)], dtype=np.int32)


def start() -> np.ndarray:
    """Weights that stay above zero in all steps here, so that nothing is projected."""
    return np.random.default_rng(1).uniform(0.3, 0.9, (N_STIMULI, D)).astype(np.float32)


def moments() -> Moments:
    return Moments(start(), *(np.zeros((N_STIMULI, D), np.float32) for _ in range(2)), 0)


@pytest.mark.parametrize("lmbda", [0.0, 0.005, 2.0])
def test_the_reference_s_gradient_is_that_of_its_loss(triplets: np.ndarray, lmbda: float) -> None:
    x = start().astype(np.float64)
    x[3, 2] = -0.2  # in the published code, a weight can be negative
    _, gradient = published(x, triplets, lmbda)
    for place in ((0, 0), (3, 2), (17, 5)):
        step = np.zeros_like(x)
        step[place] = 1e-6
        slope = (published(x + step, triplets, lmbda)[0] - published(x - step, triplets, lmbda)[0]) / 2e-6
        assert gradient[place] == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("lmbda", [0.005, 2.0])
def test_the_loss_of_one_batch_is_the_published_one(triplets: np.ndarray, lmbda: float) -> None:
    x = start()
    ours = score(x, triplets).loss + lmbda / N_STIMULI * float(x.sum(dtype=np.float64))
    assert ours == pytest.approx(published(x.astype(np.float64), triplets, lmbda)[0], rel=1e-6)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("batch_size", [64, 128, 320])
@pytest.mark.parametrize("lmbda", [0.0, 0.005, 2.0])
def test_every_step_follows_the_gradient_of_the_published_loss(
    triplets: np.ndarray, lmbda: float, batch_size: int, trainer: str
) -> None:
    """λ / n in each step, whatever the size of the batch (the last one is smaller).

    Without decay of its first moment, Adam's first moment is the gradient of its last step.
    """
    settings = Settings(
        l1=lmbda, dimensions=D, batch_size=batch_size, learning_rate=RATE, beta1=0.0, beta2=BETA2, pruning="none"
    )
    own = TRAINERS[trainer](TrainingData(triplets, triplets, N_STIMULI), settings, moments())
    blocks = np.random.default_rng(2).permutation(-(-len(triplets) // block_size(batch_size))).astype(np.int32)
    loss = own.train_epoch(blocks, 0.0, RATE)
    rows = np.concatenate([triplets[64 * block : 64 * (block + 1)] for block in blocks])
    x, second, gradient = start().astype(np.float64), np.zeros((N_STIMULI, D)), np.empty(0)
    sizes, entropies, taken, step = [], [], 0, 0
    per_batch = batch_size // 64
    for first in range(0, len(blocks), per_batch):
        size = sum(len(triplets[64 * block : 64 * (block + 1)]) for block in blocks[first : first + per_batch])
        value, gradient = published(x, rows[taken : taken + size], lmbda)
        taken, step = taken + size, step + 1
        sizes.append(size)
        entropies.append(value - lmbda / N_STIMULI * x.sum())
        second = BETA2 * second + (1 - BETA2) * gradient**2
        x -= RATE * gradient / (np.sqrt(second / (1 - BETA2**step)) + settings.epsilon)
    assert taken == len(triplets) and x.min() > 0
    found = own.moments()
    np.testing.assert_allclose(found.first_moment, gradient, rtol=2e-4, atol=2e-7)
    np.testing.assert_allclose(found.weights, x, rtol=1e-4)
    assert loss == pytest.approx(np.average(entropies, weights=sizes), rel=1e-5)


@pytest.mark.parametrize("batch", [20, 300])
def test_the_printed_equation_is_the_published_loss_with_another_lambda(triplets: np.ndarray, batch: int) -> None:
    """A sum over a batch of B triplets and λ are the mean and λ n / B: the table of docs/fits.md."""
    x = start().astype(np.float64)
    lmbda = 0.005
    as_published, _ = published(x, triplets[:batch], lmbda * N_STIMULI / batch)
    assert printed(x, triplets[:batch], lmbda) == pytest.approx(batch * as_published, rel=1e-12)
    if batch != N_STIMULI:
        assert printed(x, triplets[:batch], lmbda) != pytest.approx(batch * published(x, triplets[:batch], lmbda)[0])
