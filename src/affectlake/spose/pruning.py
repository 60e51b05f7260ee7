"""Pruning and order of the dimensions of an embedding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from affectlake.spose.settings import Pruning

Weights = NDArray[np.float32]


def _max_weight(weights: Weights, threshold: float) -> NDArray[np.bool_]:
    return np.asarray(weights.max(axis=0, initial=0.0) > threshold)


def _none(weights: Weights, threshold: float) -> NDArray[np.bool_]:  # noqa: ARG001
    return np.ones(weights.shape[1], dtype=bool)


RULES: dict[Pruning, Callable[[Weights, float], NDArray[np.bool_]]] = {"max-weight": _max_weight, "none": _none}


def kept(weights: Weights, rule: Pruning, threshold: float) -> NDArray[np.bool_]:
    """Return which dimensions the pruning rule keeps.

    Parameters
    ----------
    weights : (n_stimuli, d) float32
    rule : {"max-weight", "none"}
        ``max-weight`` keeps a dimension if its largest weight is above the threshold, as the published SPoSE code does
        with 0.1. ``none`` keeps all dimensions.
    threshold : float

    Returns
    -------
    (d,) bool
    """
    return RULES[rule](weights, threshold)


def order(weights: Weights) -> NDArray[np.intp]:
    """Return the indices (d,) of the dimensions by decreasing sum of weights; ties keep their order."""
    return np.argsort(-weights.sum(axis=0, dtype=np.float64), kind="stable")


def pruned(weights: Weights, rule: Pruning, threshold: float) -> Weights:
    """Return the kept dimensions by decreasing sum of weights: (n_stimuli, n_kept) float32, C-contiguous."""
    sequence = order(weights)
    keep = kept(weights, rule, threshold)
    return np.ascontiguousarray(weights[:, sequence[keep[sequence]]])
