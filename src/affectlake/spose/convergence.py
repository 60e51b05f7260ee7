"""Convergence of a fit: of the penalised training objective, and of the dimensions themselves.

The validation loss does not show it: where the sparsity term still turns the dimensions, the predictions hardly change.
A fit is checked every `convergence_epochs` epochs, at the end of each cycle of a cosine schedule, and has converged at
a check if, since the check before,

- the objective, the mean cross-entropy of the training triplets plus ``l1 / n_stimuli * sum(weights)``, has changed by
  at most `CHANGE` of its value,
- the number of dimensions has not changed, and
- the dimensions match those of the check before with a mean correlation above `MATCH`.

The published SPoSE code trains for a fixed number of epochs; VICE (Muttenthaler et al. 2022) until the number of
dimensions is stable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affectlake.spose.curve import Epoch
from affectlake.spose.settings import Settings

MATCH = 0.99
"""Mean best correlation with the dimensions of the check before, above which the dimensions have converged."""

CHANGE = 0.001
"""Relative change of the objective since the check before, up to which the objective has converged."""


def is_check(epoch: int, settings: Settings) -> bool:
    """Return whether convergence is checked after `epoch`."""
    return epoch % settings.convergence_epochs == 0


def match(weights: NDArray[np.float32], earlier: NDArray[np.float32]) -> float:
    """Return the mean over dimensions of the highest Pearson correlation with any dimension of `earlier`.

    Parameters
    ----------
    weights : (n_stimuli, d) float32
        The dimensions that the pruning rule keeps.
    earlier : (n_stimuli, d_earlier) float32
        Those of the check before.

    Returns
    -------
    float
        0 if an embedding has no dimension. Constant dimensions are left out.
    """
    own, others = _units(weights), _units(earlier)
    if not own.shape[1] or not others.shape[1]:
        return 0.0
    return float((own.T @ others).max(axis=1).mean())


def _units(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the columns that are not constant, centred and of unit length."""
    centred = weights.astype(np.float64) - weights.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=0)
    return np.asarray(centred[:, lengths > 1e-6] / lengths[lengths > 1e-6])


def converged(before: Sequence[Epoch], last: Epoch, settings: Settings) -> bool:
    """Return whether a fit has converged at a check.

    Parameters
    ----------
    before : sequence of Epoch
        The learning curve before `last`.
    last : Epoch
        The row of the check, with its `match`.
    settings : Settings
    """
    start = before[last.epoch - settings.convergence_epochs]
    if start.objective is None or last.objective is None or last.match is None:
        return False
    still = abs(start.objective - last.objective) <= CHANGE * abs(last.objective)
    return still and start.n_dimensions == last.n_dimensions and last.match > MATCH
