"""The torch fit against the CPU fit: on torch's CPU always, on a CUDA device where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affectlake import seeds
from affectlake.errors import UsageError
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import fit
from affectlake.spose.settings import Schedule, Settings

needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none"),
]


@pytest.fixture(scope="module")
def data() -> TrainingData:
    rng = np.random.default_rng(0)
    truth = rng.gamma(2.0, 0.7, (80, 5)) * (rng.random((80, 5)) < 0.4)
    triplets = np.stack([rng.choice(80, 3, replace=False) for _ in range(6037)])
    similarity = truth @ truth.T
    i, j, k = triplets.T
    odd = np.stack([similarity[j, k], similarity[i, k], similarity[i, j]], axis=1).argmax(axis=1)
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
    choices = np.take_along_axis(triplets, order, axis=1).astype(np.int32)
    return training_data(choices[600:], choices[:600], 80, rng)


@pytest.mark.parametrize("device", ["torch:cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize(
    ("batch_size", "lapses", "schedule"),
    [(16, False, "constant"), (192, False, "cosine"), (4096, False, "constant"), (192, True, "constant")],
)
def test_both_devices_learn_the_same(
    device: str, batch_size: int, lapses: bool, schedule: Schedule, data: TrainingData
) -> None:
    """Same start, same batches: 5437 triplets are no multiple of any batch or block."""
    how = {"batch_size": batch_size, "learn_lapses": lapses, "schedule": schedule, "convergence_epochs": 4}
    settings = Settings(l1=0.004, dimensions=7, max_epochs=12, pruning="none", learning_rate=0.002, **how)
    here = fit(data, settings, seeds.generator(0, "fit"))
    there = fit(data, settings, seeds.generator(0, "fit"), device=device)
    for a, b in zip(here.curve, there.curve, strict=True):
        assert b.validation_loss == pytest.approx(a.validation_loss, rel=2e-4)
        assert b.validation_accuracy == pytest.approx(a.validation_accuracy, abs=0.01)
        assert b.lapse == (pytest.approx(a.lapse, rel=2e-3) if lapses else 0.0)
        assert b.objective == (a.objective and pytest.approx(a.objective, rel=2e-4))
        assert b.match == (a.match and pytest.approx(a.match, abs=2e-3))
        assert b.train_loss == (a.train_loss and pytest.approx(a.train_loss, rel=2e-4))
    np.testing.assert_allclose(there.weights, here.weights, atol=5e-3)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_cuda)])
def test_a_large_batch_fits_on_the_device(device: str, data: TrainingData) -> None:
    settings = Settings(l1=0.004, batch_size=16_384, max_epochs=200)
    assert fit(data, settings, seeds.generator(0, "fit"), device=device).score.accuracy > 0.6


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_there_is_one_message(data: TrainingData) -> None:
    with pytest.raises(UsageError, match=r"set spose\.device to cpu"):
        fit(data, Settings(l1=0.004, max_epochs=1), seeds.generator(0, "fit"), device="cuda")
