"""Schedules, the penalised objective and convergence: against formulas, the published loss and planted embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from affectlake import seeds
from affectlake.geometry.reproducibility import best_matches
from affectlake.spose import convergence
from affectlake.spose.chance import chance_level
from affectlake.spose.curve import Epoch, Score
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import fit
from affectlake.spose.schedules import learning_rate
from affectlake.spose.settings import Settings
from tests.spose.test_fitting import planted

SETTINGS = Settings(l1=0.05, dimensions=8, batch_size=256, max_epochs=600)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    _, choices = planted()
    choices = np.random.default_rng(0).permutation(choices)
    return training_data(choices[1500:], choices[:1500], 60, np.random.default_rng(1))


# ---- schedules


def test_a_cosine_is_that_of_torch() -> None:
    """The rates of torch's CosineAnnealingLR from the first to the last epoch of a cycle, and the same in the next."""
    settings = Settings(
        l1=0, schedule="cosine", learning_rate=0.008, final_learning_rate=0.0002, convergence_epochs=60, max_epochs=180
    )
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.008)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 59, eta_min=0.0002)
    for epoch in range(1, 61):
        assert learning_rate(settings, epoch) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        assert learning_rate(settings, epoch + 120) == learning_rate(settings, epoch)
        optimiser.step()
        schedule.step()
    constant = settings.replaced(schedule="constant")
    assert {learning_rate(constant, epoch) for epoch in (1, 30, 60)} == {0.008}
    assert learning_rate(settings.replaced(convergence_epochs=1), 1) == 0.008


def test_a_warm_up_rises_in_the_first_epochs_of_a_fit_and_never_again() -> None:
    """Shares of 1/5 to 4/5 in four epochs, of any schedule; later epochs are as without it."""
    cosine = Settings(l1=0, schedule="cosine", learning_rate=0.05, convergence_epochs=20, warmup_epochs=4)
    for settings in (cosine, cosine.replaced(schedule="constant")):
        rates = [learning_rate(settings, epoch) for epoch in range(1, 61)]
        assert rates[:4] == pytest.approx([0.01, 0.02, 0.03, 0.04])
        without = settings.replaced(warmup_epochs=0)
        assert rates[4:] == [learning_rate(without, epoch) for epoch in range(5, 61)]


# ---- the objective


def published_loss(weights: torch.Tensor, triplets: torch.Tensor, lmbda: float, n_items: int) -> torch.Tensor:
    """Return the loss of the published SPoSE code (ViCCo-Group/SPoSE, train.py); its weights are not projected."""
    anchor, positive, negative = weights[triplets].unbind(1)
    similarities = [(anchor * positive).sum(1), (anchor * negative).sum(1), (positive * negative).sum(1)]
    c_entropy = torch.mean(-torch.log(torch.softmax(torch.stack(similarities, 1), 1)[:, 0]))
    l1_pen = weights.abs().sum()
    pos_pen = torch.sum(torch.relu(-weights))
    complexity_loss = (lmbda / n_items) * l1_pen
    return c_entropy + 0.01 * pos_pen + complexity_loss


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_one_epoch_is_one_step_of_adam_on_the_published_loss(l1: float, device: str, data: TrainingData) -> None:
    """With all triplets in one batch: the objective, its gradient through Adam, and the scale of lambda."""
    whole = TrainingData(data.train[:4096], data.validation, 60)
    settings = Settings(l1=l1, dimensions=5, batch_size=4096, max_epochs=3, learning_rate=0.01, pruning="none")
    rng = seeds.generator(0, "fit")
    start = np.maximum(rng.normal(0.1, 0.01, (60, 5)), 0).astype(np.float32)
    weights = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    triplets = torch.from_numpy(whole.train).long()
    adam = torch.optim.Adam([weights], lr=0.01)
    found = fit(whole, settings, seeds.generator(0, "fit"), device=device)
    for row in found.curve[1:]:
        adam.zero_grad()
        loss = published_loss(weights, triplets, l1, 60)
        loss.backward()  # type: ignore[no-untyped-call]
        assert row.train_loss == pytest.approx(loss.item() - l1 / 60 * float(weights.detach().sum()), rel=1e-5)
        adam.step()
        with torch.no_grad():
            weights.clamp_(min=0)
        # the objective of an epoch: its cross-entropy before the step, and the sparsity term after it
        assert row.objective == pytest.approx(row.train_loss + l1 / 60 * float(weights.detach().sum()), rel=1e-5)
    sums = np.argsort(-weights.detach().numpy().sum(axis=0), kind="stable")
    np.testing.assert_allclose(found.weights, weights.detach().numpy()[:, sums], rtol=2e-4, atol=2e-5)


# ---- convergence


def test_a_match_is_the_mean_of_best_correlations() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((50, d)).astype(np.float32) for d in (4, 6))
    assert convergence.match(a, b) == pytest.approx(best_matches(a, b).mean(), abs=1e-6)
    assert convergence.match(a, a[:, ::-1].copy()) == pytest.approx(1.0)
    assert convergence.match(a, a[:, :0]) == convergence.match(a[:, :0], a) == 0.0
    constant = np.column_stack([a[:, 0], np.full(50, 2.0, np.float32)])
    assert convergence.match(constant, a) == pytest.approx(1.0, abs=1e-6)


def rows(objectives: list[float], dimensions: list[int]) -> list[Epoch]:
    return [Epoch(e, o, 1.0, 0.5, d, 0.0, o) for e, (o, d) in enumerate(zip(objectives, dimensions, strict=True))]


@pytest.mark.parametrize(
    ("objectives", "dimensions", "match", "expected"),
    [
        ([1.0, 1.0, 1.0], [5, 5, 5], 0.995, True),
        ([1.0, 1.0, 1.0], [5, 5, 5], 0.985, False),
        ([1.002, 1.0, 1.0], [5, 5, 5], 0.995, False),
        ([0.998, 1.0, 1.0], [5, 5, 5], 0.995, False),  # a rise is no convergence either
        ([1.0009, 1.0, 1.0], [5, 5, 5], 0.995, True),
        ([1.0, 1.0, 1.0], [6, 5, 5], 0.995, False),
    ],
)
def test_all_three_must_be_still(objectives: list[float], dimensions: list[int], match: float, expected: bool) -> None:
    curve = rows(objectives, dimensions)
    settings = SETTINGS.replaced(convergence_epochs=2)
    assert convergence.converged(curve[:-1], curve[-1]._replace(match=match), settings) is expected


def test_checks_are_the_ends_of_cycles() -> None:
    settings = SETTINGS.replaced(convergence_epochs=10)
    assert [e for e in range(1, 26) if convergence.is_check(e, settings)] == [10, 20]


def test_a_fit_converges_after_its_validation_loss_is_flat(data: TrainingData) -> None:
    """Early stopping keeps dimensions that the sparsity term still removes; a longer fit changes nothing more."""
    early = fit(data, SETTINGS.replaced(patience=20, min_delta=1e-4), seeds.generator(0, "fit"))
    found = fit(data, SETTINGS, seeds.generator(0, "fit"))
    assert (early.stopped, early.converged) == ("patience", False)
    assert (found.stopped, found.converged) == ("converged", True)
    longer = fit(data, SETTINGS.replaced(max_epochs=2000, convergence_epochs=2000), seeds.generator(0, "fit"))
    objectives = [one.curve[one.kept_epoch].objective for one in (early, found, longer)]
    assert objectives[1] == pytest.approx(objectives[2], rel=2e-3)
    assert objectives[0] > 1.01 * objectives[1]
    assert early.weights.shape[1] > found.weights.shape[1] == longer.weights.shape[1]
    assert best_matches(found.weights, longer.weights).min() > 0.99


def test_a_cosine_finds_the_converged_embedding_in_fewer_epochs(data: TrainingData) -> None:
    slow = fit(data, SETTINGS, seeds.generator(0, "fit"))
    how = {"schedule": "cosine", "learning_rate": 0.02, "convergence_epochs": 20}
    fast = fit(data, SETTINGS.replaced(**how), seeds.generator(1, "fit"))
    assert (fast.stopped, fast.converged) == ("converged", True)
    assert fast.curve[-1].epoch < slow.curve[-1].epoch / 2
    assert fast.curve[-1].objective < 1.001 * slow.curve[-1].objective
    assert fast.weights.shape == slow.weights.shape
    assert best_matches(fast.weights, slow.weights).min() > 0.99


def test_coming_to_rest_within_a_cycle_is_no_convergence(data: TrainingData) -> None:
    """A single short cycle ends with a rate of nearly 0, so that nothing moves; the next cycle moves on."""
    how = {"schedule": "cosine", "learning_rate": 0.004, "final_learning_rate": 1e-7, "convergence_epochs": 20}
    found = fit(data, SETTINGS.replaced(**how, max_epochs=40), seeds.generator(0, "fit"))
    objectives = [row.objective for row in found.curve[1:]]
    assert abs(objectives[18] / objectives[19] - 1) < convergence.CHANGE
    assert objectives[39] < 0.99 * objectives[19]
    assert not found.converged


def test_a_fit_that_ends_early_has_not_converged(data: TrainingData) -> None:
    found = fit(data, SETTINGS.replaced(max_epochs=120), seeds.generator(0, "fit"))
    assert (found.stopped, found.converged) == ("max_epochs", False)
    assert [row.converged for row in found.curve if row.converged is not None] == [False, False]


# ---- chance


def test_the_level_is_scipy_s_exact_test() -> None:
    for right, n in ((40, 100), (33, 100), (200, 500)):
        exact = scipy.stats.binomtest(right, n, 1 / 3, alternative="greater").pvalue
        assert chance_level(Score(1.0, right / n, n)) == pytest.approx(exact, rel=1e-9)
        assert chance_level(Score(1.0, right / n, n), 7) == pytest.approx(min(1.0, 7 * exact), rel=1e-9)
    assert chance_level(Score(1.0, (40 + 1 / 3) / 100, 100)) == chance_level(Score(1.0, 0.4, 100))
