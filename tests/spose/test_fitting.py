"""Fits of planted embeddings: recovery, determinism, seeds at once, stopping, resuming to the bit."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from affectlake import seeds
from affectlake.errors import CheckpointError, ContractError
from affectlake.geometry.reproducibility import best_matches
from affectlake.spose.curve import Epoch, best_epoch, patience_left
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import Fit, fit, fit_seeds
from affectlake.spose.model import score
from affectlake.spose.settings import Schedule, Settings

QUICK = Settings(l1=0.002, dimensions=4, batch_size=64, max_epochs=6)


def planted(n_stimuli: int = 60, d: int = 4, m: int = 22_000) -> tuple[np.ndarray, np.ndarray]:
    """Return a sparse embedding and unique choices drawn from it, odd one last."""
    rng = np.random.default_rng(11)
    truth = (rng.gamma(2.0, 0.7, (n_stimuli, d)) * (rng.random((n_stimuli, d)) < 0.45)).astype(np.float32)
    triplets = np.unique(np.sort(rng.integers(0, n_stimuli, (m, 3)), axis=1), axis=0)
    i, j, k = triplets.T
    triplets = triplets[(i != j) & (j != k)]
    x = truth.astype(float)
    similarity = x @ x.T
    i, j, k = triplets.T
    logits = np.stack([similarity[j, k], similarity[i, k], similarity[i, j]], axis=1)
    odd = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
    return truth, np.take_along_axis(triplets, order, axis=1).astype(np.int32)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return planted()[0]


@pytest.fixture(scope="module")
def data() -> TrainingData:
    _, choices = planted()
    choices = np.random.default_rng(0).permutation(choices)
    return training_data(choices[1500:], choices[:1500], 60, np.random.default_rng(1))


def same(a: Fit, b: Fit) -> bool:
    return a.weights.tobytes() == b.weights.tobytes() and a[1:] == b[1:]


@pytest.mark.parametrize("batch_size", [8, 256])
def test_a_planted_embedding_is_recovered(batch_size: int, truth: np.ndarray, data: TrainingData) -> None:
    """Lazily (a batch of 8 touches a third of the rows) and densely."""
    settings = Settings(l1=0.01, dimensions=4, batch_size=batch_size, max_epochs=60 if batch_size == 8 else 400)
    found = fit(data, settings, seeds.generator(0, "fit"))
    assert (best_matches(truth, found.weights) > 0.95).all()
    assert found.score.accuracy > score(truth, data.validation).accuracy - 0.02


def test_dimensions_that_the_choices_do_not_need_are_pruned(data: TrainingData) -> None:
    settings = Settings(l1=0.05, dimensions=8, batch_size=256, max_epochs=600)
    found = fit(data, settings, seeds.generator(0, "fit"))
    assert found.stopped == "converged"
    assert found.curve[0].n_dimensions == 8
    assert found.curve[found.kept_epoch].n_dimensions == found.weights.shape[1] < 8
    assert (found.weights.max(axis=0) > 0.1).all()
    everything = fit(data, settings.replaced(pruning="none"), seeds.generator(0, "fit")).weights
    np.testing.assert_array_equal(everything[:, : found.weights.shape[1]], found.weights)


def test_with_patience_the_result_is_that_of_the_best_epoch(data: TrainingData) -> None:
    settings = QUICK.replaced(max_epochs=30, pruning="none", learning_rate=0.05, patience=30)
    found = fit(data, settings, seeds.generator(0, "fit"))
    best = min(found.curve, key=lambda row: row.validation_loss)
    assert found.kept_epoch == best.epoch < found.curve[-1].epoch
    measured = score(found.weights, data.validation)
    assert measured.loss == pytest.approx(best.validation_loss, rel=1e-6)
    assert measured.accuracy == pytest.approx(best.validation_accuracy)
    assert (found.weights >= 0).all()
    sums = found.weights.sum(axis=0)
    assert (np.diff(sums) <= 0).all()


def test_without_patience_the_result_is_that_of_the_last_epoch(data: TrainingData) -> None:
    settings = QUICK.replaced(max_epochs=30, pruning="none", learning_rate=0.05)
    found = fit(data, settings, seeds.generator(0, "fit"))
    best = min(found.curve, key=lambda row: row.validation_loss)
    assert best.epoch < found.kept_epoch == found.curve[-1].epoch == 30
    assert score(found.weights, data.validation).loss == pytest.approx(found.curve[-1].validation_loss, rel=1e-6)


def test_a_fit_that_diverges_ends_without_dimensions(data: TrainingData) -> None:
    found = fit(data, QUICK.replaced(init_mean=1e30), seeds.generator(0, "fit"))
    assert found.stopped == "diverged"
    assert not found.converged
    assert found.weights.shape == (60, 0)


def test_the_curve_begins_at_the_start_and_counts_epochs(data: TrainingData) -> None:
    rows: list[Epoch] = []
    found = fit(data, QUICK, seeds.generator(0, "fit"), on_epoch=rows.append)
    assert tuple(rows) == found.curve
    assert [row.epoch for row in rows] == list(range(7))
    assert rows[0].train_loss is None
    assert rows[0].n_dimensions == 4
    losses = [row.validation_loss for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert found.stopped == "max_epochs"


@pytest.mark.parametrize("batch_size", [8, 64, 100])
def test_the_same_generator_gives_the_same_bytes(batch_size: int, data: TrainingData) -> None:
    settings = QUICK.replaced(batch_size=batch_size, max_epochs=2)
    first = fit(data, settings, seeds.generator(0, "fit"))
    assert same(first, fit(data, settings, seeds.generator(0, "fit")))
    assert not same(first, fit(data, settings, seeds.generator(1, "fit")))


def test_seeds_at_once_are_the_seeds_alone(data: TrainingData) -> None:
    seen: list[int] = []
    settings = QUICK.replaced(max_epochs=3)
    together = fit_seeds(data, settings, 7, [0, 1, 5], workers=3, on_epoch=lambda seed, _: seen.append(seed))
    assert list(together) == [0, 1, 5]
    assert sorted(seen) == [0] * 4 + [1] * 4 + [5] * 4
    for seed, found in together.items():
        assert same(found, fit(data, settings, seeds.generator(7, "spose", seed)))
    assert not same(together[0], together[1])


def test_permuting_the_stimuli_permutes_the_loss_not_at_all(data: TrainingData) -> None:
    """Same start up to the permutation: the held-out loss at epoch 0 and the choices learned agree."""
    shuffle = np.random.default_rng(3).permutation(60).astype(np.int32)
    other = TrainingData(shuffle[data.train], shuffle[data.validation], 60)
    settings = QUICK.replaced(max_epochs=25, init_std=0.0)
    symmetric = fit(data, settings, seeds.generator(0, "fit"))
    permuted = fit(other, settings, seeds.generator(0, "fit"))
    np.testing.assert_allclose(permuted.weights[shuffle], symmetric.weights, atol=2e-3)


def test_one_failing_seed_stops_the_others(data: TrainingData) -> None:
    begun = threading.Barrier(2, timeout=30)
    epochs: list[int] = []

    def watch(seed: int, row: Epoch) -> None:
        if row.epoch == 0:
            begun.wait()
        if seed == 1:
            raise RuntimeError("disk full")
        epochs.append(row.epoch)

    endless = QUICK.replaced(max_epochs=100_000, convergence_epochs=100_000)
    with pytest.raises(RuntimeError, match="disk full"):
        fit_seeds(data, endless, 7, [0, 1], workers=2, on_epoch=watch)
    assert max(epochs) < 100_000


class StopHereError(Exception):
    """Ends a fit from outside."""


@pytest.mark.parametrize(
    ("batch_size", "device", "lapses", "schedule"),
    [
        (8, "cpu", False, "constant"),
        (64, "cpu", False, "cosine"),
        (64, "torch:cpu", False, "cosine"),
        (64, "cpu", True, "constant"),
        (64, "torch:cpu", True, "constant"),
    ],
)
def test_resuming_is_a_straight_run_to_the_bit(
    batch_size: int,
    device: str,
    lapses: bool,
    schedule: Schedule,
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("affectlake.spose.fitting._CHECKPOINT_EVERY", 1)
    settings = QUICK.replaced(
        batch_size=batch_size, learn_lapses=lapses, schedule=schedule, convergence_epochs=2, patience=50
    )
    straight = fit(data, settings, seeds.generator(0, "fit"), device=device)
    assert (straight.lapse > 0) is lapses
    place = tmp_path / "folder" / "fit.npz"

    def stop(row: Epoch) -> None:
        if row.epoch == 3:
            raise StopHereError

    with pytest.raises(StopHereError):
        fit(data, settings, seeds.generator(0, "fit"), on_epoch=stop, checkpoint=place, device=device)
    rows: list[Epoch] = []
    other_rng = np.random.default_rng(99)
    resumed = fit(data, settings, other_rng, on_epoch=rows.append, checkpoint=place, device=device)
    assert same(resumed, straight)
    assert [row.epoch for row in rows] == [4, 5, 6]

    again = fit(data, settings, other_rng, on_epoch=rows.append, checkpoint=place, device=device)
    assert same(again, straight)
    assert len(rows) == 3
    assert [path.name for path in place.parent.iterdir()] == ["fit.npz"]


def test_more_epochs_may_be_asked_for_and_nothing_else(data: TrainingData, tmp_path: Path) -> None:
    place = tmp_path / "fit.npz"
    fit(data, QUICK.replaced(max_epochs=3), seeds.generator(0, "fit"), checkpoint=place)
    straight = fit(data, QUICK, seeds.generator(0, "fit"))
    assert same(fit(data, QUICK, np.random.default_rng(), checkpoint=place), straight)

    with pytest.raises(CheckpointError, match="l1, learning_rate differ") as caught:
        fit(data, QUICK.replaced(l1=0.01, learning_rate=0.01), seeds.generator(0, "fit"), checkpoint=place)
    assert "l1 = 0.01" in caught.value.wanted
    assert "l1 = 0.002" in caught.value.found
    less = TrainingData(data.train[:-1], data.validation, 60)
    with pytest.raises(CheckpointError, match="choices differ"):
        fit(less, QUICK, seeds.generator(0, "fit"), checkpoint=place)
    with pytest.raises(CheckpointError, match="device differ"):
        fit(data, QUICK, seeds.generator(0, "fit"), checkpoint=place, device="torch:cpu")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "other"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(damage: str, data: TrainingData, tmp_path: Path) -> None:
    place = tmp_path / "fit.npz"
    fit(data, QUICK.replaced(max_epochs=1), seeds.generator(0, "fit"), checkpoint=place)
    whole = place.read_bytes()
    middle = len(whole) // 2
    changed = {
        "truncated": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "empty": b"",
        "text": b"not a checkpoint",
        "other": b"",
    }
    place.write_bytes(changed[damage])
    if damage == "other":
        np.savez(place, weights=np.zeros(3))
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        fit(data, QUICK, seeds.generator(0, "fit"), checkpoint=place)
    assert f"delete {place}" in caught.value.todo


def test_checkpoints_of_seeds_have_a_file_each(data: TrainingData, tmp_path: Path) -> None:
    fit_seeds(data, QUICK.replaced(max_epochs=1), 7, [0, 3], checkpoints_in=tmp_path / "seeds")
    assert sorted(path.name for path in (tmp_path / "seeds").iterdir()) == ["seed-0.npz", "seed-3.npz"]


def test_patience_counts_epochs_without_improvement() -> None:
    def curve(*losses: float) -> list[Epoch]:
        return [Epoch(number, None, loss, 0.5, 4) for number, loss in enumerate(losses)]

    assert patience_left(curve(1.0), 2, 0.1) == 2
    assert patience_left(curve(1.0, 0.95), 2, 0.1) == 1
    assert patience_left(curve(1.0, 0.95, 0.89), 2, 0.1) == 2
    assert patience_left(curve(1.0, 1.1, 1.2), 2, 0.1) == 0
    assert patience_left(curve(1.0, 1.1, 1.2, 1.3), 2, 0.1) == 0
    assert best_epoch(curve(1.0, 0.5, 0.5, 0.7)) == 1


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (np.zeros((0, 3), np.int32), "cannot be fitted"),
        (np.zeros((5, 2), np.int32), "cannot be fitted"),
        (np.array([[0, 1, 2]]), "cannot be fitted"),
        (np.array([[0, 1, 60]], np.int32), "do not exist"),
        (np.array([[-1, 1, 2]], np.int32), "do not exist"),
        (np.array([[0, 1, 2], [3, 4, 3]], np.int32), "repeat a stimulus"),
    ],
)
def test_wrong_choices_are_refused(train: np.ndarray, message: str, data: TrainingData) -> None:
    with pytest.raises(ContractError, match=message):
        training_data(train, data.validation, 60, np.random.default_rng(0))
    with pytest.raises(ContractError, match=message):
        training_data(data.train, train, 60, np.random.default_rng(0))


def test_training_data_keeps_every_choice_and_leaves_its_input_alone() -> None:
    _, choices = planted(m=300)
    before = choices.copy()
    made = training_data(choices, choices[:5], 60, np.random.default_rng(0))
    np.testing.assert_array_equal(choices, before)
    assert sorted(map(tuple, made.train)) == sorted(map(tuple, choices))
    assert not np.array_equal(made.train, choices)
    assert made.sha256 == training_data(choices, choices[:5], 60, np.random.default_rng(0)).sha256
    assert made.sha256 != training_data(choices, choices[:5], 60, np.random.default_rng(1)).sha256
    assert made.sha256 != TrainingData(made.train, made.validation, 61).sha256


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, affectlake.spose; assert not {'torch', 'numba', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_torch_fit_needs_torch_and_numpy_alone() -> None:
    code = (
        "import sys, affectlake.spose.gpu\n"
        "assert not {'numba', 'polars', 'pyarrow', 'pandas', 'sklearn'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
