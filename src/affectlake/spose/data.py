"""Choices for training and validation, in memory once for any number of fits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import ContractError
from affectlake.tasks import Task

_ROUNDING = 1e-5  # of three float32 probabilities that sum to 1


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Validated choices, created by :func:`training_data`.

    Attributes
    ----------
    train : (m, 3) int32, C-contiguous
        The two similar stimuli, then the odd one; of anchored triplets, the head, the winner and the loser. Rows are in
        random order, because a batch consists of runs of rows.
    validation : (m_validation, 3) int32, C-contiguous
        Choices that steer a fit and are never trained on. A fit does not see the test choices.
    n_stimuli : int
        Number of stimuli in the table `stimuli`.
    task : {"odd-one-out", "anchored"}
        That of all judgments; it decides the likelihood (`affectlake.spose.model`).
    targets : (m, 3) float32, C-contiguous, or None
        Probability that the stimulus in each column of `train` is the odd one out, from which a fit learns in place of
        the choices; None: it learns from the choices.
    """

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    n_stimuli: int
    task: Task = "odd-one-out"
    targets: NDArray[np.float32] | None = None

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of both sets of choices, in order, of the number of stimuli, the task and the targets."""
        task = "" if self.task == "odd-one-out" else f" {self.task}"  # checkpoints of earlier releases have no task
        digest = hashlib.sha256(f"{self.n_stimuli} {len(self.train)} {len(self.validation)}{task}".encode())
        digest.update(self.train.data)
        digest.update(self.validation.data)
        if self.targets is not None:
            digest.update(self.targets.data)
        return digest.hexdigest()


def training_data(
    train: NDArray[np.int32],
    validation: NDArray[np.int32],
    n_stimuli: int,
    rng: np.random.Generator,
    task: Task = "odd-one-out",
    targets: NDArray[np.float32] | None = None,
) -> TrainingData:
    """Validate choices and put the training rows in random order, for any number of fits.

    The rows are shuffled once, here; each epoch of a fit then shuffles runs of up to 64 rows, which costs a thousandth
    of shuffling single rows. Fits with different seeds share this order and differ in their initial weights and in the
    order of the runs.

    Parameters
    ----------
    train, validation : (m, 3) int32
        The two similar stimuli, then the odd one (`affectlake.triplets.odd_last`); of anchored triplets, the head, the
        winner and the loser. Not modified.
    n_stimuli : int
        Number of stimuli.
    rng : numpy.random.Generator
        Shuffles the training rows.
    task : {"odd-one-out", "anchored"}
        That of all judgments of both sets.
    targets : (m, 3) float32, optional
        Probability that the stimulus in each column of `train` is the odd one out; rows sum to 1. They are shuffled
        with the rows of `train`. Not modified.

    Raises
    ------
    ContractError
        If a set is empty or is not (m, 3) int32, an index is not in 0 … n_stimuli - 1, or a triplet repeats a stimulus;
        if `targets` are not probabilities of the rows of `train`, or the judgments are anchored.
    """
    for name, pairs in (("training", train), ("validation", validation)):
        _check(name, pairs, n_stimuli, task)
    if targets is not None:
        _check_targets(targets, len(train), task)
    order = rng.permutation(len(train))
    shuffled = None if targets is None else np.ascontiguousarray(targets[order])
    return TrainingData(train[order], np.ascontiguousarray(validation), n_stimuli, task, shuffled)


_COLUMNS: dict[Task, str] = {
    "odd-one-out": "the two similar stimuli, then the odd one",
    "anchored": "the head, the winner and the loser",
}


def _check(name: str, pairs: NDArray[np.int32], n_stimuli: int, task: Task) -> None:
    wanted = f"an int32 array (m, 3) of choices, m >= 1: {_COLUMNS[task]}"
    if pairs.ndim != 2 or pairs.shape[1] != 3 or pairs.dtype != np.int32 or not pairs.size:
        found = f"{pairs.dtype} {pairs.shape}"
        raise ContractError(f"the {name} choices cannot be fitted", wanted=wanted, found=found)
    low, high = int(pairs.min()), int(pairs.max())
    if low < 0 or high >= n_stimuli:
        raise ContractError(
            f"the {name} choices refer to stimuli that do not exist",
            wanted=f"indices from 0 to {n_stimuli - 1}",
            found=f"indices from {low} to {high}",
        )
    i, j, k = pairs.T
    repeated = int(np.count_nonzero((i == j) | (i == k) | (j == k)))
    if repeated:
        raise ContractError(
            f"{repeated} of the {name} choices repeat a stimulus",
            wanted="three different stimuli in each",
            found=f"the first is row {int(np.flatnonzero((i == j) | (i == k) | (j == k))[0])}",
        )


def _check_targets(targets: NDArray[np.float32], m: int, task: Task) -> None:
    wanted = f"a float32 array ({m}, 3) of probabilities: one of each stimulus of a training choice, which sum to 1"
    if task != "odd-one-out":
        raise ContractError("anchored triplets have no probabilities of three answers", todo="fit their choices")
    if targets.shape != (m, 3) or targets.dtype != np.float32:
        raise ContractError("the targets cannot be fitted", wanted=wanted, found=f"{targets.dtype} {targets.shape}")
    low, high = float(targets.min()), float(targets.max())
    sums = targets.sum(axis=1, dtype=np.float64)
    if not (low >= 0.0 and high <= 1.0 and bool(np.all(np.abs(sums - 1.0) < _ROUNDING))):
        found = f"values from {low:g} to {high:g}, sums of rows from {sums.min():g} to {sums.max():g}"
        raise ContractError("the targets are not probabilities", wanted=wanted, found=found)
