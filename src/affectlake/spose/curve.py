"""Learning curves of fits, and the rule for early stopping. Training and convergence do not belong here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Score(NamedTuple):
    """How well an embedding predicts choices.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats; ln 3 for an embedding of zeros, ln 2 for anchored triplets.
    accuracy : float
        Share of triplets whose answer the embedding predicts. A tie of two or three counts as 1/2 or 1/3, so that an
        embedding of zeros has exactly the accuracy of guesses, 1/3, or 1/2 for anchored triplets.
    n : int
        Number of triplets scored.
    """

    loss: float
    accuracy: float
    n: int


class Epoch(NamedTuple):
    """One row of a learning curve.

    Attributes
    ----------
    epoch : int
        Number of passes over the training triplets so far; 0 is the initial state.
    train_loss : float or None
        Mean cross-entropy (nats) of the training triplets, each under the weights before its batch; None at epoch 0.
    validation_loss, validation_accuracy : float
        `Score` on the validation triplets after the epoch.
    n_dimensions : int
        Number of dimensions that the pruning rule keeps after the epoch.
    lapse : float
        Lapse rate: the expected share of validation judgments made by chance, used in the next epoch; 0 if the fit
        does not learn it. The losses of an epoch are computed with the lapse rate of the previous row.
    objective : float or None
        `train_loss` plus the sparsity term after the epoch (nats): what training minimises; None at epoch 0.
    match : float or None
        How well the dimensions match those of the previous check (`affectlake.spose.convergence.match`); None at
        epochs without a check.
    converged : bool or None
        Whether the fit had converged at this check; None at epochs without a check.
    """

    epoch: int
    train_loss: float | None
    validation_loss: float
    validation_accuracy: float
    n_dimensions: int
    lapse: float = 0.0
    objective: float | None = None
    match: float | None = None
    converged: bool | None = None


def best_epoch(curve: Sequence[Epoch]) -> int:
    """Return the epoch with the lowest validation loss, the first one if several are equal."""
    return min(curve, key=lambda row: row.validation_loss).epoch


def patience_left(curve: Sequence[Epoch], patience: int, min_delta: float) -> int:
    """Return how many more epochs without improvement are allowed; 0 means stop.

    An epoch is an improvement if its validation loss is more than `min_delta` below that of the last improvement, or of
    epoch 0 if there was none.
    """
    reference, failed = curve[0].validation_loss, 0
    for row in curve[1:]:
        if row.validation_loss < reference - min_delta:
            reference, failed = row.validation_loss, 0
        else:
            failed += 1
    return max(patience - failed, 0)
