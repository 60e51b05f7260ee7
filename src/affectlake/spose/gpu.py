"""Training on a torch device, for large batches on a GPU. Requires only torch and NumPy; the loop is in `fitting`.

Objective, initial weights, batches and Adam are those of the CPU, with every row taking every step. Data stay on the
device, and the host does not wait within an epoch: losses are summed on the device and read once. On CUDA, the order of
summation over a batch is not fixed, so two runs agree up to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from affectlake.errors import UsageError
from affectlake.spose.curve import Score
from affectlake.spose.data import TrainingData
from affectlake.spose.settings import Settings
from affectlake.spose.state import Moments, block_size
from affectlake.tasks import ANSWERS

_SCORE_BATCH = 1 << 18


class TorchTrainer:
    """Trainer of one embedding on a torch device (see `affectlake.spose.fitting.Trainer`).

    Parameters
    ----------
    data : TrainingData
    settings : Settings
    start : Moments
        Initial weights and moments.
    device : str
        A torch device, such as "cuda" or "cpu".

    Raises
    ------
    UsageError
        If a CUDA device is requested and torch finds none.
    """

    def __init__(self, data: TrainingData, settings: Settings, start: Moments, device: str) -> None:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise UsageError(
                "spose.device is a CUDA device, and torch finds none",
                found=f"torch {torch.__version__}",
                todo="set spose.device to cpu, or install a CUDA build of torch and its driver",
            )
        self._settings, self._step, self._device = settings, start.step, torch.device(device)
        self._train = torch.from_numpy(data.train).to(self._device)
        self._targets = None if data.targets is None else torch.from_numpy(data.targets).to(self._device)
        self._validation = torch.from_numpy(data.validation).to(self._device)
        self._x, self._m, self._v = (torch.tensor(rows, device=self._device) for rows in start[:3])
        self._n_answers = ANSWERS[data.task]
        self._l1_gradient = settings.l1 / data.n_stimuli
        self._learning_rate = settings.learning_rate

    def train_epoch(self, order: NDArray[np.int32], lapse: float, learning_rate: float) -> float:
        """Train on every triplet once, in the given order of blocks; return the mean cross-entropy during the epoch."""
        self._learning_rate = learning_rate
        rows, ends = self._batches(order)
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        with torch.no_grad():
            for first, end in zip([0, *ends[:-1]], ends, strict=True):
                batch = rows[first:end]
                targets = None if self._targets is None else self._targets[batch]
                self._batch(self._train[batch].long(), targets, lapse, loss)
        return float(loss) / len(self._train)

    def score(self, lapse: float) -> tuple[Score, float]:
        """Return the score on the validation choices, and the expected share of them made by chance."""
        loss, right, by_chance = torch.zeros((3,), dtype=torch.float64, device=self._device).unbind()
        with torch.no_grad():
            for first in range(0, len(self._validation), _SCORE_BATCH):
                batch = self._validation[first : first + _SCORE_BATCH]
                similarities = _similarities(self._x[batch.long()], self._n_answers)
                said, meant = _said(torch.log_softmax(similarities, 1)[:, 0], lapse, self._n_answers)
                loss -= said.sum(dtype=torch.float64)
                by_chance += (1.0 - meant).sum(dtype=torch.float64)
                top = similarities == similarities.amax(1, keepdim=True)
                right += (top[:, 0] / top.sum(1)).sum(dtype=torch.float64)
        n = len(self._validation)
        return Score(float(loss) / n, float(right) / n, n), float(by_chance) / n

    def moments(self) -> Moments:
        """Return a copy of the embedding and of Adam's moments."""
        weights, first, second = (rows.cpu().numpy().copy() for rows in (self._x, self._m, self._v))
        return Moments(weights, first, second, self._step)

    def _batches(self, order: NDArray[np.int32]) -> tuple[torch.Tensor, list[int]]:
        """Return the training rows in the order of their blocks, and the end of each batch."""
        size, n = block_size(self._settings.batch_size), len(self._train)
        rows = (order[:, None].astype(np.int64) * size + np.arange(size)).ravel()
        lengths = np.minimum(size, n - order.astype(np.int64) * size)
        per_batch = self._settings.batch_size // size
        ends = np.cumsum(np.add.reduceat(lengths, np.arange(0, len(order), per_batch)))
        return torch.from_numpy(rows[rows < n]).to(self._device), ends.tolist()

    def _batch(self, triplets: torch.Tensor, targets: torch.Tensor | None, lapse: float, loss: torch.Tensor) -> None:
        """Take one step: cross-entropy of the batch, its gradient, Adam, projection."""
        stimuli = self._x[triplets]  # (b, 3, d)
        xi, xj, xk = stimuli.unbind(1)
        logs = torch.log_softmax(_similarities(stimuli, self._n_answers), 1)  # (b, n_answers)
        if targets is None:
            said, meant = _said(logs[:, 0], lapse, self._n_answers)
            loss -= said.sum(dtype=torch.float64)
            by_similarity = logs.exp() * (meant / len(triplets)).unsqueeze(1)
        else:
            said, meant = _said(logs, lapse, self._n_answers)
            of_pairs = targets.flip(1)  # the last stimulus is the odd one of the first pair
            loss -= (of_pairs * said).sum(dtype=torch.float64)
            weights = of_pairs * meant
            by_similarity = (logs.exp() * weights.sum(1, keepdim=True) - weights) / len(triplets)
        _, ik, *others = by_similarity.unsqueeze(2).unbind(1)  # (b, 1) each
        if others:
            (jk,) = others
            ij = -(ik + jk)
            rows = torch.stack([ij * xj + ik * xk, ij * xi + jk * xk, ik * xi + jk * xj], 1)  # (b, 3, d)
        else:  # anchored: i is the head
            rows = torch.stack([ik * (xk - xj), -ik * xi, ik * xi], 1)  # (b, 3, d)
        gradient = torch.full_like(self._x, self._l1_gradient)
        gradient.index_add_(0, triplets.reshape(-1), rows.reshape(-1, rows.shape[2]))
        self._adam(gradient)

    def _adam(self, gradient: torch.Tensor) -> None:
        s = self._settings
        self._step += 1
        self._m.lerp_(gradient, 1.0 - s.beta1)
        self._v.mul_(s.beta2).addcmul_(gradient, gradient, value=1.0 - s.beta2)
        root = self._v.sqrt().div_((1.0 - s.beta2**self._step) ** 0.5).add_(s.epsilon)
        self._x.addcdiv_(self._m, root, value=-self._learning_rate / (1.0 - s.beta1**self._step)).clamp_(min=0.0)


def _said(logs: torch.Tensor, lapse: float, n_answers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each answer's log-probability and the probability that it was not given by chance, in the same shape."""
    if lapse == 0.0:
        return logs, torch.ones_like(logs)
    meant = (1.0 - lapse) * logs.exp()
    said = meant + lapse / n_answers
    return said.log(), meant / said


def _similarities(stimuli: torch.Tensor, n_answers: int) -> torch.Tensor:
    """Return (b, n_answers): inner products of the pairs ij, ik and, for three answers, jk of `stimuli` (b, 3, d)."""
    xi, xj, xk = stimuli.unbind(1)
    products = [(xi * xj).sum(1), (xi * xk).sum(1)]
    return torch.stack(products if n_answers == 2 else [*products, (xj * xk).sum(1)], 1)
