"""Learning rates of the epochs of a fit."""

from __future__ import annotations

import math
from collections.abc import Callable

from affectlake.spose.settings import Schedule, Settings


def _constant(settings: Settings, epoch: int) -> float:  # noqa: ARG001
    return settings.learning_rate


def _cosine(settings: Settings, epoch: int) -> float:
    first, last, n = settings.learning_rate, settings.final_learning_rate, settings.convergence_epochs
    share = (epoch - 1) % n / max(n - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: dict[Schedule, Callable[[Settings, int], float]] = {"constant": _constant, "cosine": _cosine}


def learning_rate(settings: Settings, epoch: int) -> float:
    """Return the learning rate of an epoch.

    With ``constant`` it is ``learning_rate``. With ``cosine`` it falls along half a cosine from ``learning_rate`` to
    ``final_learning_rate`` in each ``convergence_epochs`` epochs, and then starts again (Loshchilov & Hutter 2017). The
    states that are compared for convergence are the ends of these cycles. Within one cycle everything comes to rest,
    because the rate falls; two ends are equal only if a whole cycle from the first rate has changed nothing. In the
    first ``warmup_epochs`` epochs of a fit, w, epoch e has at most the share e / (w + 1) of ``learning_rate`` (a linear
    warm-up, Goyal et al. 2017).

    Parameters
    ----------
    settings : Settings
    epoch : int
        From 1.
    """
    warm = settings.learning_rate * epoch / (settings.warmup_epochs + 1)
    return min(SCHEDULES[settings.schedule](settings, epoch), warm)
