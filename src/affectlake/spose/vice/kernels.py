"""Compiled kernels of variational SPoSE: a sample of the weights, and one Adam step of their means and log deviations.

The gradients of the choices by the sampled weights are those of `affectlake.spose.kernels`. Loops run over the columns
of one row without branches or calls, so that LLVM turns them into vector instructions.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.process.compiled import njit

_COMPILE: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
_SMALLEST = -40.0  # exp(-40) is lost in float32 beside 1


class Variables(NamedTuple):
    """The posterior during training; the kernels modify it in place.

    Attributes
    ----------
    mean, log_sd : (n_stimuli, d) float32
        Mean and logarithm of the standard deviation of each weight, before negative weights become 0.
    mean_m, mean_v, log_sd_m, log_sd_v : (n_stimuli, d) float32
        Adam's first and second moments of both.
    """

    mean: NDArray[np.float32]
    log_sd: NDArray[np.float32]
    mean_m: NDArray[np.float32]
    mean_v: NDArray[np.float32]
    log_sd_m: NDArray[np.float32]
    log_sd_v: NDArray[np.float32]


class Prior(NamedTuple):
    """The spike-and-slab prior, as its density's logarithm is differentiated: see :func:`prior_terms`."""

    spike_precision: float
    slab_precision: float
    log_odds: float


class AdamRule(NamedTuple):
    """Constants of Adam in one step; the learning rate is bias-corrected, as is epsilon."""

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float


def prior_terms(spike: float, slab: float, spike_share: float) -> Prior:
    """Return the terms of the prior ``spike_share N(0, spike²) + (1 - spike_share) N(0, slab²)``.

    The derivative of its negative logarithm at w is ``w (r / spike² + (1 - r) / slab²)``. r is the probability that w
    is of the spike, whose log odds are ``log_odds - w² (1 / spike² - 1 / slab²) / 2``.
    """
    odds = spike_share / spike / ((1.0 - spike_share) / slab)
    return Prior(1.0 / spike**2, 1.0 / slab**2, math.log(odds))


@njit(**_COMPILE)
def _exp(x: Any) -> Any:
    """Return exp(x) for x from -40 to about 8, with a relative error of 1e-6 where it matters (above 1e-7)."""
    z = max(x, np.float32(_SMALLEST)) * np.float32(1.0 / 32.0)
    p = np.float32(1.0 / 5040.0)
    p = p * z + np.float32(1.0 / 720.0)
    p = p * z + np.float32(1.0 / 120.0)
    p = p * z + np.float32(1.0 / 24.0)
    p = p * z + np.float32(1.0 / 6.0)
    p = p * z + np.float32(0.5)
    p = p * z + np.float32(1.0)
    p = p * z + np.float32(1.0)
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@njit(**_COMPILE)
def sample(mean: Any, log_sd: Any, pool: Any, starts: Any, weights: Any) -> None:
    """Write ``max(0, mean + sd * noise)`` to the first columns of the padded rows `weights`.

    The noise of row r are the d numbers of `pool` from ``starts[r]``.
    """
    zero = np.float32(0.0)
    for row in range(mean.shape[0]):
        noise = pool[starts[row] : starts[row] + mean.shape[1]]
        for c in range(mean.shape[1]):
            weights[row, c] = max(mean[row, c] + _exp(log_sd[row, c]) * noise[c], zero)


@njit(**_COMPILE)
def step(variables: Any, pool: Any, starts: Any, gradient: Any, share: float, prior: Any, rule: Any) -> None:
    """Take one Adam step with the sample of the same `pool` and `starts`; set `gradient` to zero.

    With a sampled weight w = mean + sd noise, the objective is the cross-entropy of a batch plus ``share`` times
    log q(w) - log p(w). The total derivative of log q is 0 by the mean and -1 by log sd (Kingma & Welling 2014).

    Parameters
    ----------
    variables : Variables
    pool : (n,) float32
        Standard normal numbers.
    starts : (n_stimuli,) int64
        Where the numbers of each row begin in `pool`.
    gradient : (n_stimuli, width >= d) float32
        Derivatives of the mean cross-entropy by the sampled weights, negative ones taken as 0.
    share : float
        1 / number of judgments.
    prior : Prior
    rule : AdamRule
    """
    mean, log_sd, mean_m, mean_v, log_sd_m, log_sd_v = variables
    f, zero, one = np.float32, np.float32(0.0), np.float32(1.0)
    spike, slab, odds = f(prior.spike_precision), f(prior.slab_precision), f(prior.log_odds)
    half, weight = f(0.5 * (prior.spike_precision - prior.slab_precision)), f(share)
    b1, b2, p1, p2 = f(rule.beta1), f(rule.beta2), f(1.0 - rule.beta1), f(1.0 - rule.beta2)
    rate, eps = f(rule.learning_rate), f(rule.epsilon)
    for row in range(mean.shape[0]):
        noise = pool[starts[row] : starts[row] + mean.shape[1]]
        for c in range(mean.shape[1]):
            spread = _exp(log_sd[row, c]) * noise[c]
            w = mean[row, c] + spread
            of_slab = one / (one + _exp(min(odds - half * w * w, f(40.0))))
            g = gradient[row, c] * (one if w > zero else zero) + weight * w * (spike + (slab - spike) * of_slab)
            h = g * spread - weight
            m = b1 * mean_m[row, c] + p1 * g
            v = b2 * mean_v[row, c] + p2 * g * g
            mean_m[row, c], mean_v[row, c] = m, v
            mean[row, c] -= rate * m / (math.sqrt(v) + eps)
            m = b1 * log_sd_m[row, c] + p1 * h
            v = b2 * log_sd_v[row, c] + p2 * h * h
            log_sd_m[row, c], log_sd_v[row, c] = m, v
            log_sd[row, c] -= rate * m / (math.sqrt(v) + eps)
        for c in range(gradient.shape[1]):
            gradient[row, c] = zero
