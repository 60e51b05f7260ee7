"""How a fit went, epoch by epoch, and when it has gone on long enough. No training here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Score(NamedTuple):
    """How well an embedding predicts choices.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats; ln 3 for an embedding that knows nothing.
    accuracy : float
        Share of triplets whose odd one the embedding puts first. A tie between two or three counts as 1/2 or 1/3, so
        that an embedding of zeros has exactly chance, 1/3.
    n : int
        How many triplets were scored.
    """

    loss: float
    accuracy: float
    n: int


class Epoch(NamedTuple):
    """One row of a learning curve.

    Attributes
    ----------
    epoch : int
        Passes over the training triplets so far; 0 is the start.
    train_loss : float or None
        Mean cross-entropy (nats) of the training triplets, each under the weights its batch found; None at epoch 0.
    test_loss, test_accuracy : float
        `Score` on the held-out triplets after the epoch.
    n_dimensions : int
        Dimensions that the pruning rule keeps after the epoch.
    lapse : float
        Share of the held-out judgments that is expected to be made by chance; the next epoch counts on it. 0 if the fit
        does not learn it. The losses of an epoch are those under the row before.
    """

    epoch: int
    train_loss: float | None
    test_loss: float
    test_accuracy: float
    n_dimensions: int
    lapse: float = 0.0


def best_epoch(curve: Sequence[Epoch]) -> int:
    """Return the epoch with the lowest held-out loss, the first of equals."""
    return min(curve, key=lambda row: row.test_loss).epoch


def patience_left(curve: Sequence[Epoch], patience: int, min_delta: float) -> int:
    """Return how many more epochs may fail to improve the held-out loss by more than `min_delta`; 0 means stop.

    An epoch improves if its loss is more than `min_delta` below that of the last one that did, counting from the start.
    """
    reference, failed = curve[0].test_loss, 0
    for row in curve[1:]:
        if row.test_loss < reference - min_delta:
            reference, failed = row.test_loss, 0
        else:
            failed += 1
    return max(patience - failed, 0)
