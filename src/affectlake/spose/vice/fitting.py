"""Fitting of variational SPoSE: one loop over epochs, for one seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.spose import convergence, kernels
from affectlake.spose.curve import Epoch, Score
from affectlake.spose.data import TrainingData
from affectlake.spose.model import score
from affectlake.spose.state import BLOCK_SIZE, LANES, aligned_rows
from affectlake.spose.vice import kernels as variational
from affectlake.spose.vice import posterior as posteriors
from affectlake.spose.vice.posterior import Posterior
from affectlake.spose.vice.settings import ViceSettings

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_FALL = 0.01  # of the learning rate in a cycle
_WARM_UP = 0.8  # share of the first cycle in which the learning rate rises
_POOL = 8  # normal numbers in the pool for each weight
_POOL_STEPS = 64  # steps with one pool
_STABLE = 6  # checks before the last one at which the number of dimensions is the same
_CHANGE = 0.005  # of the objective between checks; one sample of the complexity term varies by about 0.002 of it


class ViceFit(NamedTuple):
    """A fitted posterior.

    Attributes
    ----------
    posterior : Posterior
        The dimensions that are kept, by decreasing sum of expected weights. None are kept if the fit diverged.
    curve : tuple of Epoch
        One row per epoch, from epoch 0, the initial state. Validation scores are those of the expected weights of all
        dimensions; the objective is known at checks of convergence.
    score : Score
        Score of the expected weights of the kept dimensions on the validation judgments.
    stopped : {"converged", "max_epochs", "diverged"}
        Why the fit ended.
    """

    posterior: Posterior
    curve: tuple[Epoch, ...]
    score: Score
    stopped: str


def learning_rate(settings: ViceSettings, epoch: int) -> float:
    """Return the learning rate of an epoch, from 1: half a cosine in each cycle, and a linear rise in the first one."""
    share = (epoch - 1) % settings.cycle_epochs / (settings.cycle_epochs - 1)
    fallen = _FALL + (1.0 - _FALL) * (1.0 + math.cos(math.pi * share)) / 2.0
    return settings.learning_rate * min(fallen, epoch / (_WARM_UP * settings.cycle_epochs + 1.0))


def fit_posterior(
    data: TrainingData,
    settings: ViceSettings,
    rng: np.random.Generator,
    *,
    start: Posterior | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> ViceFit:
    """Fit the posterior of an embedding by stochastic gradients of a sample of all weights in each step.

    Every batch has one sample, as in the published code (Muttenthaler et al. 2022). At the end of each cycle of the
    learning rate, convergence is checked by the rule of `affectlake.spose.convergence`, with the number of dimensions
    of `affectlake.spose.vice.posterior.kept`; dimensions that describe no stimulus then leave the fit.

    Parameters
    ----------
    data : TrainingData
    settings : ViceSettings
    rng : numpy.random.Generator
        Draws the initial means, the order of each epoch and the samples. The same generator, data, settings and machine
        give the same bytes.
    start : Posterior, optional
        Where training begins, in place of random means; its number of dimensions replaces that of `settings`.
    on_epoch : callable, optional
        Called with each new row of the learning curve, including epoch 0. An exception that it raises ends the fit.
    """
    trainer = _Trainer(data, settings, rng, start)
    curve = [_row(0, None, trainer.posterior(), data, settings)]
    if on_epoch:
        on_epoch(curve[0])
    anchor, stopped = _embedding(trainer.posterior(), settings), "max_epochs"
    for epoch in range(1, settings.max_epochs + 1):
        loss = trainer.train_epoch(learning_rate(settings, epoch))
        found = trainer.posterior()
        if not (math.isfinite(loss) and bool(np.isfinite(found.mean).all()) and bool(np.isfinite(found.sd).all())):
            stopped = "diverged"
            break
        row = _row(epoch, loss, found, data, settings)
        if epoch % settings.cycle_epochs == 0:
            now = _embedding(found, settings)
            row = row._replace(
                objective=loss + trainer.complexity(found) / len(data.train), match=convergence.match(now, anchor)
            )
            row = row._replace(converged=_converged(curve, row, settings))
            anchor = now
            trainer.leave_out(np.flatnonzero(posteriors.n_described(found, settings.level) > 0))
        curve.append(row)
        if on_epoch:
            on_epoch(row)
        if row.converged:
            stopped = "converged"
            break
    found = trainer.posterior()
    chosen = posteriors.kept(found, settings.min_stimuli, settings.level)
    kept = found.columns(chosen[: 0 if stopped == "diverged" else None])
    return ViceFit(kept, tuple(curve), score(posteriors.weights(kept), data.validation, data.task), stopped)


class _Trainer:
    """The variables during training; trained rows have the memory layout of `affectlake.spose.kernels`."""

    def __init__(
        self, data: TrainingData, settings: ViceSettings, rng: np.random.Generator, start: Posterior | None
    ) -> None:
        shape = (data.n_stimuli, settings.dimensions)
        if start is None:
            drawn = rng.normal(settings.init_mean, settings.init_std, shape)
            mean = np.maximum(drawn, 0.0).astype(np.float32)
            start = Posterior(mean, np.full(shape, settings.init_sd, np.float32))
        self._data, self._rng, self._step = data, rng, 0
        self._batch = settings.batch_size(len(data.train))
        self._prior = variational.prior_terms(settings.spike, settings.slab, settings.spike_share)
        moments = (np.zeros_like(start.mean) for _ in range(4))
        self._use(variational.Variables(start.mean.copy(), np.log(start.sd), *moments))

    def _use(self, variables: variational.Variables) -> None:
        n, d = variables.mean.shape
        self._variables, width = variables, max(-(-d // LANES), 1) * LANES
        self._weights, self._gradient = aligned_rows(n, width), aligned_rows(n, width)
        self._pool = np.empty(0, np.float32)

    def posterior(self) -> Posterior:
        """Return a copy of the posterior of all dimensions."""
        return Posterior(self._variables.mean.copy(), np.exp(self._variables.log_sd))

    def leave_out(self, others: NDArray[np.intp]) -> None:
        """Continue with some of the dimensions."""
        if len(others) < self._variables.mean.shape[1]:
            self._use(variational.Variables(*(np.ascontiguousarray(part[:, others]) for part in self._variables)))

    def complexity(self, found: Posterior) -> float:
        """Return log q - log p of one sample of all weights (nats)."""
        noise = self._rng.standard_normal(found.mean.shape)
        w = found.mean + found.sd * noise
        spike, slab, odds = self._prior
        log_slab = 0.5 * math.log(slab) - 0.5 * slab * w**2
        mixture = log_slab + np.logaddexp(0.0, odds - 0.5 * (spike - slab) * w**2) - math.log1p(math.exp(odds))
        of_q = -0.5 * noise**2 - np.log(found.sd)
        return float((of_q - mixture).sum())

    def train_epoch(self, rate: float) -> float:
        """Train on every judgment once; return the mean cross-entropy of the samples during the epoch."""
        train, targets, m = self._data.train, self._data.targets, len(self._data.train)
        order, n_blocks, loss = self._rng.permutation(-(-m // BLOCK_SIZE)), self._batch // BLOCK_SIZE, 0.0
        within = np.arange(BLOCK_SIZE)
        for first in range(0, len(order), n_blocks):
            rows = (order[first : first + n_blocks, None] * BLOCK_SIZE + within).ravel()
            rows = rows[rows < m]
            loss += self._train_batch(train[rows], None if targets is None else targets[rows], rate)
        return loss / m

    def _train_batch(self, batch: NDArray[np.int32], targets: NDArray[np.float32] | None, rate: float) -> float:
        n, d = self._variables.mean.shape
        if self._step % _POOL_STEPS == 0 or not len(self._pool):
            self._pool = self._rng.standard_normal(_POOL * n * max(d, 1), dtype=np.float32)
        starts = self._rng.integers(0, len(self._pool) - d, n)
        size, self._step = len(batch), self._step + 1
        x, gradient = self._weights, self._gradient
        variational.sample(self._variables.mean, self._variables.log_sd, self._pool, starts, x)
        if targets is not None:
            loss = kernels.add_soft_gradients(x, batch, targets, 0, size, 1.0 / size, 0.0, gradient)
        elif self._data.task == "anchored":
            loss = kernels.add_anchored_gradients(x, batch, 0, size, 1.0 / size, 0.0, gradient)
        else:
            loss = kernels.add_gradients(x, batch, 0, size, 1.0 / size, 0.0, gradient)
        bias = math.sqrt(1.0 - _BETA2**self._step)
        rule = variational.AdamRule(rate * bias / (1.0 - _BETA1**self._step), _BETA1, _BETA2, _EPSILON * bias)
        variational.step(self._variables, self._pool, starts, gradient, 1.0 / len(self._data.train), self._prior, rule)
        return float(loss)


def _embedding(found: Posterior, settings: ViceSettings) -> NDArray[np.float32]:
    """Return the expected weights of the kept dimensions."""
    return posteriors.weights(found.columns(posteriors.kept(found, settings.min_stimuli, settings.level)))


def _row(epoch: int, loss: float | None, found: Posterior, data: TrainingData, settings: ViceSettings) -> Epoch:
    scored = score(posteriors.weights(found), data.validation, data.task)
    n = int((posteriors.n_described(found, settings.level) > settings.min_stimuli).sum())
    return Epoch(epoch, loss, scored.loss, scored.accuracy, n)


def _converged(before: list[Epoch], last: Epoch, settings: ViceSettings) -> bool:
    """Return whether the last check found what `_STABLE` checks before it found."""
    earlier = before[last.epoch - settings.cycle_epochs :: -settings.cycle_epochs][:_STABLE]
    if len(earlier) < _STABLE or last.objective is None or last.match is None or earlier[0].objective is None:
        return False
    still = abs(earlier[0].objective - last.objective) <= _CHANGE * abs(last.objective)
    same = all(row.n_dimensions == last.n_dimensions for row in earlier)
    return still and same and last.match > convergence.MATCH
