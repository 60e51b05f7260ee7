"""Fits to the probabilities of choices: loss and gradient against float64, autograd and the fits to choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from affectlake import seeds
from affectlake.errors import CheckpointError, ContractError
from affectlake.spose import kernels
from affectlake.spose.cpu import CpuTrainer
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import fit
from affectlake.spose.gpu import TorchTrainer
from affectlake.spose.model import choice_probabilities
from affectlake.spose.settings import Settings
from affectlake.spose.state import Moments, aligned_rows, block_size, padded

DEVICES = ("cpu", "torch:cpu")
TRAINERS: dict[str, Callable[[TrainingData, Settings, Moments], CpuTrainer | TorchTrainer]] = {
    "kernels": CpuTrainer,
    "torch": lambda data, settings, start: TorchTrainer(data, settings, start, "cpu"),
}

needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none"),
]


def random_triplets(n_stimuli: int, m: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([rng.choice(n_stimuli, 3, replace=False) for _ in range(m)]).astype(np.int32)


def random_targets(m: int, rng: np.random.Generator) -> np.ndarray:
    """Probabilities of three stimuli, some of them 0 or 1."""
    found = rng.dirichlet([0.5, 1.0, 2.0], m)
    found[::7] = [0.0, 0.25, 0.75]
    found[1::7] = [1.0, 0.0, 0.0]
    return found.astype(np.float32)


def loss_of(x: torch.Tensor, triplets: np.ndarray, targets: np.ndarray, lapse: float) -> torch.Tensor:
    """The summed loss from its definition, in float64: of each stimulus, the similarity of the two others counts."""
    first, second, third = x[torch.from_numpy(triplets).long()].unbind(1)
    without = [(second * third).sum(1), (first * third).sum(1), (first * second).sum(1)]
    said = (1 - lapse) * torch.softmax(torch.stack(without, 1), 1) + lapse / 3
    return -(torch.from_numpy(targets.astype(np.float64)) * said.log()).sum()


def reference(x: np.ndarray, triplets: np.ndarray, targets: np.ndarray, lapse: float) -> tuple[float, np.ndarray]:
    weights = torch.tensor(x.astype(np.float64), requires_grad=True)
    loss = loss_of(weights, triplets, targets, lapse)
    loss.backward()
    assert weights.grad is not None
    return float(loss.detach()), weights.grad.numpy()


@pytest.mark.parametrize("lapse", [0.0, 0.2])
@pytest.mark.parametrize("d", [3, 30, 40])
def test_loss_and_gradient_equal_autograd_and_finite_differences(d: int, lapse: float) -> None:
    rng = np.random.default_rng(0)
    triplets, targets = random_triplets(12, 150, rng), random_targets(150, rng)
    x = padded((0.5 * np.abs(rng.normal(size=(12, d)))).astype(np.float32))
    gradient, scale = aligned_rows(*x.shape), 1 / 30
    loss = kernels.add_soft_gradients(x, triplets, targets, 0, len(triplets), scale, lapse, gradient)
    wanted, by_weight = reference(x[:, :d], triplets, targets, lapse)
    assert loss == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(gradient[:, :d], scale * by_weight, rtol=2e-4, atol=2e-6)
    assert not gradient[:, d:].any()
    for place in [(0, 0), (3, d - 1), (11, d // 2)]:
        step = np.zeros((12, d))
        step[place] = 1e-5
        high, low = (reference(x[:, :d] + sign * step, triplets, targets, lapse)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx(scale * (high - low) / 2e-5, rel=1e-3, abs=1e-4)


def test_a_part_of_the_rows_takes_its_own_targets() -> None:
    rng = np.random.default_rng(0)
    triplets, targets = random_triplets(12, 300, rng), random_targets(300, rng)
    x = padded(np.abs(rng.normal(size=(12, 5))).astype(np.float32))
    gradient = aligned_rows(*x.shape)
    loss = kernels.add_soft_gradients(x, triplets, targets, 128, 100, 1.0, 0.0, gradient)
    wanted, by_weight = reference(x[:, :5], triplets[128:228], targets[128:228], 0.0)
    assert loss == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(gradient[:, :5], by_weight, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("lapse", [0.0, 0.1])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_similarities_of_any_size_are_safe(size: float, lapse: float) -> None:
    """The probability of a stimulus that the targets exclude, or ask for, underflows."""
    x = padded(np.array([[1, 0], [0, 1], [1, 1]], np.float32) * np.float32(math.sqrt(size)))
    triplet = np.array([[0, 1, 2]], np.int32)  # similarities 0, size and size: 0 and 1 are as odd, 2 is not
    for target, weight in (((0.5, 0.5, 0.0), 0.0), ((0.25, 0.25, 0.5), 0.5)):
        gradient = aligned_rows(*x.shape)
        loss = kernels.add_soft_gradients(x, triplet, np.array([target], np.float32), 0, 1, 1.0, lapse, gradient)
        said = [(1 - lapse) / 2 + lapse / 3, lapse / 3]
        without = weight * (size + math.log(2) if lapse == 0 else -math.log(said[1]))
        assert loss == pytest.approx(without - (1 - weight) * math.log(said[0]), rel=1e-5, abs=1e-7 * size)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("lapse", [0.0, 0.2])
def test_certain_probabilities_are_choices(lapse: float) -> None:
    rng = np.random.default_rng(0)
    triplets = random_triplets(12, 150, rng)
    certain = np.tile(np.array([0, 0, 1], np.float32), (150, 1))
    x = padded(np.abs(rng.normal(size=(12, 5))).astype(np.float32))
    soft, hard = aligned_rows(*x.shape), aligned_rows(*x.shape)
    of_soft = kernels.add_soft_gradients(x, triplets, certain, 0, 150, 0.1, lapse, soft)
    of_hard = kernels.add_gradients(x, triplets, 0, 150, 0.1, lapse, hard)
    assert of_soft == pytest.approx(of_hard, rel=1e-6)
    np.testing.assert_allclose(soft, hard, rtol=1e-4, atol=1e-6)


def test_the_order_of_a_row_s_stimuli_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    triplets, targets = random_triplets(12, 150, rng), random_targets(150, rng)
    x = padded(np.abs(rng.normal(size=(12, 5))).astype(np.float32))
    one, other = aligned_rows(*x.shape), aligned_rows(*x.shape)
    places = np.argsort(rng.random((150, 3)), axis=1)
    mixed = [np.ascontiguousarray(np.take_along_axis(rows, places, axis=1)) for rows in (triplets, targets)]
    first = kernels.add_soft_gradients(x, triplets, targets, 0, 150, 1.0, 0.1, one)
    assert kernels.add_soft_gradients(x, *mixed, 0, 150, 1.0, 0.1, other) == pytest.approx(first, rel=1e-5)
    np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("batch_size", [64, 320])
@pytest.mark.parametrize("lapse", [0.0, 0.2])
def test_every_step_follows_the_gradient(lapse: float, batch_size: int, trainer: str) -> None:
    """Dense Adam in float64; the last batch is smaller. Without decay, the first moment is the last step's gradient."""
    n_stimuli, d, rate, beta2, l1 = 40, 6, 0.01, 0.9, 0.5
    rng = np.random.default_rng(0)
    triplets, targets = random_triplets(n_stimuli, 300, rng), random_targets(300, rng)
    start = np.random.default_rng(1).uniform(0.3, 0.9, (n_stimuli, d)).astype(np.float32)
    zeros = np.zeros((n_stimuli, d), np.float32)
    settings = Settings(
        l1=l1, dimensions=d, batch_size=batch_size, learning_rate=rate, beta1=0.0, beta2=beta2, pruning="none"
    )
    data = TrainingData(triplets, triplets, n_stimuli, targets=targets)
    own = TRAINERS[trainer](data, settings, Moments(start, zeros, zeros, 0))
    blocks = np.random.default_rng(2).permutation(-(-len(triplets) // block_size(batch_size))).astype(np.int32)
    loss = own.train_epoch(blocks, lapse, rate)
    x, second, gradient, total = start.astype(np.float64), np.zeros((n_stimuli, d)), np.empty(0), 0.0
    for step, first in enumerate(range(0, len(blocks), batch_size // 64), start=1):
        at = np.concatenate([np.arange(300)[64 * b : 64 * (b + 1)] for b in blocks[first : first + batch_size // 64]])
        added, by_weight = reference(x, triplets[at], targets[at], lapse)
        total += added
        gradient = by_weight / len(at) + l1 / n_stimuli
        second = beta2 * second + (1 - beta2) * gradient**2
        x -= rate * gradient / (np.sqrt(second / (1 - beta2**step)) + settings.epsilon)
    found = own.moments()
    assert x.min() > 0
    np.testing.assert_allclose(found.first_moment, gradient, rtol=2e-4, atol=3e-7)
    np.testing.assert_allclose(found.weights, x, rtol=1e-4)
    assert loss == pytest.approx(total / len(triplets), rel=1e-5)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    rng = np.random.default_rng(5)
    return (rng.gamma(2.0, 0.6, (60, 4)) * (rng.random((60, 4)) < 0.5)).astype(np.float32)


def learned(truth: np.ndarray, m: int, *, soft: bool = True) -> TrainingData:
    """Choices drawn from the planted embedding, and the probabilities from which they were drawn."""
    rng = np.random.default_rng(6)
    triplets = random_triplets(len(truth), m, rng)
    chances = choice_probabilities(truth, triplets)
    odd = (np.log(chances) + rng.gumbel(size=chances.shape)).argmax(axis=1)
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
    choices, targets = (np.take_along_axis(rows, order, axis=1) for rows in (triplets, chances))
    own = np.ascontiguousarray(targets[m // 10 :]) if soft else None
    return training_data(choices[m // 10 :], choices[: m // 10], len(truth), rng, targets=own)


@pytest.mark.parametrize("device", ["torch:cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("lapses", [False, True])
@pytest.mark.parametrize("batch_size", [16, 192])
def test_both_devices_learn_the_same(truth: np.ndarray, batch_size: int, lapses: bool, device: str) -> None:
    data = learned(truth, 4_037)
    settings = Settings(
        l1=0.004, dimensions=7, max_epochs=8, batch_size=batch_size, learning_rate=0.002, learn_lapses=lapses
    )
    here, there = (fit(data, settings, seeds.generator(0, "fit"), device=device) for device in ("cpu", device))
    for a, b in zip(here.curve, there.curve, strict=True):
        assert b.train_loss == (a.train_loss and pytest.approx(a.train_loss, rel=2e-4))
        assert b.validation_loss == pytest.approx(a.validation_loss, rel=2e-4)
        assert b.lapse == pytest.approx(a.lapse, rel=2e-3)
    np.testing.assert_allclose(there.weights, here.weights, atol=5e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_fits_to_certain_probabilities_are_fits_to_choices(truth: np.ndarray, device: str) -> None:
    hard = learned(truth, 4_000, soft=False)
    certain = np.tile(np.array([0, 0, 1], np.float32), (len(hard.train), 1))
    soft = TrainingData(hard.train, hard.validation, hard.n_stimuli, targets=certain)
    settings = Settings(l1=0.004, dimensions=5, max_epochs=10, batch_size=128, learning_rate=0.005)
    one, other = (fit(data, settings, seeds.generator(0, "fit"), device=device) for data in (hard, soft))
    np.testing.assert_allclose(other.weights, one.weights, atol=2e-3)
    assert other.score.loss == pytest.approx(one.score.loss, rel=1e-4)


def test_few_probabilities_recover_more_than_as_many_choices(truth: np.ndarray) -> None:
    settings = Settings(l1=0.002, dimensions=6, max_epochs=60, batch_size=128, learning_rate=0.01, pruning="none")
    planted = (truth @ truth.T)[np.triu_indices(len(truth), 1)]
    r = []
    for soft in (True, False):
        found = fit(learned(truth, 3_000, soft=soft), settings, seeds.generator(0, "fit")).weights
        r.append(np.corrcoef(planted, (found @ found.T)[np.triu_indices(len(truth), 1)])[0, 1])
    assert r[0] > 0.98 and r[0] > r[1] + 0.02


def test_targets_are_shuffled_with_their_rows() -> None:
    rng = np.random.default_rng(0)
    triplets, targets = random_triplets(60, 400, rng), random_targets(400, rng)
    kept = targets.copy(order="F")
    found = training_data(triplets, triplets[:5], 60, np.random.default_rng(1), targets=kept)
    assert found.targets is not None and found.targets.flags.c_contiguous and found.targets.dtype == np.float32
    np.testing.assert_array_equal(
        found.train, training_data(triplets, triplets[:5], 60, np.random.default_rng(1)).train
    )
    assert not np.array_equal(found.train, triplets)

    def pairs(rows: np.ndarray, of: np.ndarray) -> list[tuple[float, ...]]:
        return sorted((*row, *own) for row, own in zip(rows.tolist(), of.tolist(), strict=True))

    assert pairs(found.train, found.targets) == pairs(triplets, targets)
    np.testing.assert_array_equal(kept, targets)


def test_targets_are_part_of_the_digest_and_of_checkpoints(truth: np.ndarray, tmp_path: Path) -> None:
    soft, hard = learned(truth, 1_000), learned(truth, 1_000, soft=False)
    np.testing.assert_array_equal(soft.train, hard.train)
    assert soft.targets is not None
    other = TrainingData(soft.train, soft.validation, 60, targets=np.roll(soft.targets, 1, axis=1))
    assert len({soft.sha256, hard.sha256, other.sha256}) == 3
    settings, path = Settings(l1=0.004, dimensions=4, max_epochs=3), tmp_path / "seed-1.npz"
    fit(soft, settings, seeds.generator(0, "x"), checkpoint=path)
    with pytest.raises(CheckpointError, match="choices differ"):
        fit(hard, settings, seeds.generator(0, "x"), checkpoint=path)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.full((3, 3), 1 / 3, np.float32), "cannot be fitted"),
        (np.full((4, 2), 1 / 2, np.float32), "cannot be fitted"),
        (np.full((4, 3), 1 / 3), "cannot be fitted"),
        (np.full((4, 3), 0.3, np.float32), "not probabilities"),
        (np.tile(np.array([1.5, -0.5, 0], np.float32), (4, 1)), "not probabilities"),
        (np.tile(np.array([0.5, 0.5, np.nan], np.float32), (4, 1)), "not probabilities"),
    ],
)
def test_wrong_targets_are_refused(targets: np.ndarray, message: str) -> None:
    triplets = random_triplets(9, 4, np.random.default_rng(0))
    with pytest.raises(ContractError, match=message):
        training_data(triplets, triplets, 9, np.random.default_rng(0), targets=targets)


def test_anchored_triplets_have_no_targets() -> None:
    triplets = random_triplets(9, 4, np.random.default_rng(0))
    with pytest.raises(ContractError, match="anchored triplets have no"):
        training_data(triplets, triplets, 9, np.random.default_rng(0), "anchored", np.full((4, 3), 1 / 3, np.float32))
