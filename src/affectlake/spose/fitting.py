"""Fitting of SPoSE embeddings: one loop over epochs, for one seed or several. The only files are checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from affectlake import seeds
from affectlake.spose import checkpoint as checkpoints
from affectlake.spose import convergence, pruning
from affectlake.spose.checkpoint import Identity, Progress
from affectlake.spose.curve import Epoch, Score, best_epoch, patience_left
from affectlake.spose.data import TrainingData
from affectlake.spose.schedules import learning_rate
from affectlake.spose.settings import Settings
from affectlake.spose.state import Moments, block_size

_FIRST_LAPSE = 0.1  # initial lapse rate, if it is learned
_CHECKPOINT_EVERY = 5  # epochs: at the paper's size, writing a checkpoint takes a tenth of an epoch


class Fit(NamedTuple):
    """A fitted embedding.

    Attributes
    ----------
    weights : (n_stimuli, n_dimensions) float32
        Weights of the kept epoch: the dimensions that the pruning rule keeps, by decreasing sum. None are kept if the
        fit diverged.
    curve : tuple of Epoch
        One row per epoch, from epoch 0, the initial state.
    kept_epoch : int
        Epoch of the weights: the last one, or with `patience` the one with the lowest validation loss.
    score : Score
        Score of the unpruned weights of that epoch on the validation choices.
    stopped : {"converged", "patience", "max_epochs", "diverged"}
        Why the fit ended.
    converged : bool
        Whether the fit had converged at its last check (`affectlake.spose.convergence`).
    lapse : float
        Lapse rate learned up to that epoch; 0 if the fit does not learn it.
    """

    weights: NDArray[np.float32]
    curve: tuple[Epoch, ...]
    kept_epoch: int
    score: Score
    stopped: str
    converged: bool
    lapse: float


class Trainer(Protocol):
    """Interface between the loop over epochs and a device."""

    def train_epoch(self, order: NDArray[np.int32], lapse: float, learning_rate: float) -> float:
        """Train on every triplet once, in the given order of blocks; return the mean cross-entropy during the epoch."""

    def score(self, lapse: float) -> tuple[Score, float]:
        """Return the score on the validation choices, and the expected share of them made by chance."""

    def moments(self) -> Moments:
        """Return a copy of the embedding and of Adam's moments."""


def fit(
    data: TrainingData,
    settings: Settings,
    rng: np.random.Generator,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: Path | None = None,
    device: str = "cpu",
) -> Fit:
    """Fit one embedding, from random initial weights or from a checkpoint.

    Training ends after ``max_epochs``, when the fit has converged, or, with ``patience``, when the validation loss has
    not fallen by ``min_delta`` in this many epochs. The result is that of the last epoch; with ``patience``, that of
    the epoch with the lowest validation loss. A fit whose objective is not finite has diverged and ends.

    Parameters
    ----------
    data : TrainingData
    settings : Settings
    rng : numpy.random.Generator
        Draws the initial weights and the order of each epoch. The same generator, data, settings and machine give the
        same bytes.
    on_epoch : callable, optional
        Called with each new row of the learning curve, including epoch 0. An exception that it raises ends the fit.
    checkpoint : Path, optional
        File for the state of the fit. If it exists, the fit resumes from it with identical bits, and `on_epoch` is
        called for new epochs only; a finished fit is returned immediately.
    device : str, default="cpu"
        "cpu", or a torch device such as "cuda" or "torch:cpu" (torch on the CPU, for comparison).

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged or belongs to another fit (`affectlake.spose.checkpoint.read`).
    """
    identity = Identity(settings, data.sha256 if checkpoint else "", device)
    if checkpoint and checkpoint.exists():
        progress = checkpoints.read(checkpoint, identity)
        rng.bit_generator.state = progress.rng_state
        trainer = _trainer(device, data, settings, progress.moments)
    else:
        start = _start(data.n_stimuli, settings, rng)
        trainer = _trainer(device, data, settings, start)
        scored = trainer.score(_FIRST_LAPSE if settings.learn_lapses else 0.0)
        first = _row(0, None, scored, start.weights, settings)
        progress = Progress(start, start.weights, start.weights, (first,), dict(rng.bit_generator.state))
        if on_epoch:
            on_epoch(first)
    curve, moments, best, anchor = list(progress.curve), progress.moments, progress.best_weights, progress.anchor
    n_blocks = -(-len(data.train) // block_size(settings.batch_size))

    while not (stopped := _stopped(curve, settings)):
        lapse, epoch = curve[-1].lapse, len(curve)
        order = rng.permutation(n_blocks).astype(np.int32)
        train_loss = trainer.train_epoch(order, lapse, learning_rate(settings, epoch))
        moments = trainer.moments()
        row = _row(epoch, train_loss, trainer.score(lapse), moments.weights, settings)
        if not _is_finite(row):
            stopped = "diverged"
            break
        if convergence.is_check(epoch, settings):
            row = row._replace(match=convergence.match(_pruned(moments.weights, settings), _pruned(anchor, settings)))
            row = row._replace(converged=convergence.converged(curve, row, settings))
            anchor = moments.weights
        curve.append(row)
        if best_epoch(curve) == row.epoch:
            best = moments.weights
        if checkpoint and (row.epoch % _CHECKPOINT_EVERY == 0 or _stopped(curve, settings)):
            progress = Progress(moments, best, anchor, tuple(curve), dict(rng.bit_generator.state))
            checkpoints.write(checkpoint, identity, progress)
        if on_epoch:
            on_epoch(row)

    kept = curve[-1 if settings.patience is None else best_epoch(curve)]
    weights = _pruned(moments.weights if settings.patience is None else best, settings)
    if stopped == "diverged":
        weights = weights[:, :0]
    score = Score(kept.validation_loss, kept.validation_accuracy, len(data.validation))
    checks = [row.converged for row in curve if row.converged is not None]
    has_converged = stopped != "diverged" and bool(checks) and bool(checks[-1])
    return Fit(weights, tuple(curve), kept.epoch, score, stopped, has_converged, kept.lapse)


def fit_seeds(
    data: TrainingData,
    settings: Settings,
    root_seed: int,
    seed_numbers: Iterable[int],
    *,
    names: tuple[str, ...] = ("spose",),
    workers: int = 1,
    on_epoch: Callable[[int, Epoch], None] | None = None,
    checkpoints_in: Path | None = None,
    device: str = "cpu",
) -> dict[int, Fit]:
    """Fit several embeddings to the same choices, `workers` at a time; each result is the same as with :func:`fit`.

    Parameters
    ----------
    data, settings, device
        As in :func:`fit`. The triplets are in memory once.
    root_seed : int
        The study's root seed.
    seed_numbers : iterable of int
        Seeds of the fits: fit s draws from ``seeds.generator(root_seed, *names, s)``.
    names : tuple of str, default=("spose",)
        Name of the random generator, such as ("spose", agent).
    workers : int, default=1
        Number of fits at a time, each on one core (use 1 for a GPU).
    on_epoch : callable, optional
        Called with the seed and each new row, from the thread of the fit.
    checkpoints_in : Path, optional
        Folder for one checkpoint per seed, ``seed-<s>.npz``.

    Returns
    -------
    dict of int to Fit
        Fits by seed, in the given order. If one fit fails, or on Ctrl-C, the others stop after their current epoch.
    """
    stop = threading.Event()

    def one(seed: int) -> Fit:
        def watch(row: Epoch) -> None:
            if on_epoch:
                on_epoch(seed, row)
            if stop.is_set():
                raise _StoppedError

        place = checkpoints_in / f"seed-{seed}.npz" if checkpoints_in else None
        rng = seeds.generator(root_seed, *names, seed)
        return fit(data, settings, rng, on_epoch=watch, checkpoint=place, device=device)

    with ThreadPoolExecutor(workers, thread_name_prefix="spose") as pool:
        futures = {seed: pool.submit(one, seed) for seed in seed_numbers}
        try:
            for future in as_completed(futures.values()):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {seed: future.result() for seed, future in futures.items()}


class _StoppedError(Exception):
    """Raised in a fit when another fit failed or the user interrupted."""


def _start(n_stimuli: int, settings: Settings, rng: np.random.Generator) -> Moments:
    drawn = rng.normal(settings.init_mean, settings.init_std, (n_stimuli, settings.dimensions))
    weights = np.maximum(drawn, 0.0).astype(np.float32)
    return Moments(weights, np.zeros_like(weights), np.zeros_like(weights), 0)


def _trainer(device: str, data: TrainingData, settings: Settings, start: Moments) -> Trainer:
    if device == "cpu":
        from affectlake.spose.cpu import CpuTrainer

        return CpuTrainer(data, settings, start)
    from affectlake.spose.gpu import TorchTrainer

    return TorchTrainer(data, settings, start, device.removeprefix("torch:"))


def _row(
    epoch: int,
    train_loss: float | None,
    scored: tuple[Score, float],
    weights: NDArray[np.float32],
    settings: Settings,
) -> Epoch:
    n_dimensions = int(pruning.kept(weights, settings.pruning, settings.threshold).sum())
    score, lapse = scored
    objective = None
    if train_loss is not None:
        objective = train_loss + settings.l1 * float(weights.sum(dtype=np.float64)) / len(weights)
    return Epoch(epoch, train_loss, score.loss, score.accuracy, n_dimensions, lapse, objective)


def _is_finite(row: Epoch) -> bool:
    return row.objective is not None and bool(np.isfinite([row.objective, row.validation_loss]).all())


def _pruned(weights: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    return pruning.pruned(weights, settings.pruning, settings.threshold)


def _stopped(curve: list[Epoch], settings: Settings) -> str:
    if curve[-1].converged:
        return "converged"
    if settings.patience is not None and patience_left(curve, settings.patience, settings.min_delta) == 0:
        return "patience"
    return "max_epochs" if curve[-1].epoch >= settings.max_epochs else ""
