"""Choices for training and validation, in memory once for any number of fits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import ContractError
from affectlake.tasks import Task


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
    """

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    n_stimuli: int
    task: Task = "odd-one-out"

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of both sets of choices, in order, of the number of stimuli, and of the task."""
        task = "" if self.task == "odd-one-out" else f" {self.task}"  # checkpoints of earlier releases have no task
        digest = hashlib.sha256(f"{self.n_stimuli} {len(self.train)} {len(self.validation)}{task}".encode())
        digest.update(self.train.data)
        digest.update(self.validation.data)
        return digest.hexdigest()


def training_data(
    train: NDArray[np.int32],
    validation: NDArray[np.int32],
    n_stimuli: int,
    rng: np.random.Generator,
    task: Task = "odd-one-out",
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

    Raises
    ------
    ContractError
        If a set is empty or is not (m, 3) int32, an index is not in 0 … n_stimuli - 1, or a triplet repeats a stimulus.
    """
    for name, pairs in (("training", train), ("validation", validation)):
        _check(name, pairs, n_stimuli, task)
    return TrainingData(train[rng.permutation(len(train))], np.ascontiguousarray(validation), n_stimuli, task)


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
