"""Training on the CPU: the padded state, and calls of the kernels. The loop over epochs is in `fitting`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from affectlake.spose import kernels
from affectlake.spose.curve import Score
from affectlake.spose.data import TrainingData
from affectlake.spose.settings import Settings
from affectlake.spose.state import Moments, Rule, State, aligned_rows, block_size, gap_table, padded

_WARM_UP = 2.0  # multiples of Adam's second-moment memory, 1 / (1 - beta2) steps, until bias correction has settled
_DENSE_SHARE = 0.75  # share of rows in a batch above which stepping every row is not slower
_SMALLEST_L1 = 1e-16  # gradient that keeps the moments of an unused dimension from becoming denormal, which is slow
_LAZY_BETA2 = 0.99  # below it, the second moment changes too fast for the closed form of missed steps
_FOREVER = 2**62


class CpuTrainer:
    """Trainer of one embedding on the CPU (see `affectlake.spose.fitting.Trainer`).

    Lazy Adam (`affectlake.spose.state`) is used after ``2 / (1 - beta2)`` steps, when the bias correction has settled,
    and only if a batch contains less than 3/4 of the rows on average. Before that, and for larger batches, every row
    takes every step. Between epochs, weights are up to date and no gradient is pending.
    """

    def __init__(self, data: TrainingData, settings: Settings, start: Moments) -> None:
        self._data, self._dimensions, self._step = data, settings.dimensions, start.step
        c = max(settings.l1 / data.n_stimuli, _SMALLEST_L1)
        touched = -math.expm1(-3.0 * settings.batch_size / data.n_stimuli)
        warm_up = math.ceil(_WARM_UP / (1.0 - settings.beta2))
        self._table = gap_table(settings.beta1, settings.beta2, c)
        self._rule = Rule(
            learning_rate=settings.learning_rate,
            beta1=settings.beta1,
            beta2=settings.beta2,
            epsilon=settings.epsilon,
            l1_gradient=c,
            batch_size=settings.batch_size,
            block_size=block_size(settings.batch_size),
            dense_until=_FOREVER if touched >= _DENSE_SHARE or settings.beta2 < _LAZY_BETA2 else warm_up,
            anchored=data.task == "anchored",
        )
        weights = padded(start.weights)
        settled = np.full(data.n_stimuli, start.step, np.int64)
        moments = padded(start.first_moment), padded(start.second_moment)
        self._state = State(weights, *moments, aligned_rows(*weights.shape), settled)

    def train_epoch(self, order: NDArray[np.int32], lapse: float, learning_rate: float) -> float:
        """Train on every triplet once, in the given order of blocks; return the mean cross-entropy during the epoch."""
        rule = self._rule._replace(lapse=lapse, learning_rate=learning_rate)
        loss, n, self._step = kernels.train_epoch(
            self._state, self._data.train, order, self._step, rule, self._table, self._data.targets
        )
        return float(loss / n)

    def score(self, lapse: float) -> tuple[Score, float]:
        """Return the score on the validation choices, and the expected share of them made by chance."""
        held_out = self._data.validation
        scored = kernels.score_anchored if self._rule.anchored else kernels.score
        loss, right, by_chance = scored(self._state.weights, held_out, lapse)
        n = len(held_out)
        return Score(loss / n, right / n, n), by_chance / n

    def moments(self) -> Moments:
        """Return a copy of the embedding and of Adam's moments."""
        d = self._dimensions
        weights, first, second = (rows[:, :d].copy() for rows in self._state[:3])
        return Moments(weights, first, second, self._step)
