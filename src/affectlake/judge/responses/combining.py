"""Combination of the answers to one trial in several orders, and correction of position biases.

The result is one choice, or the probability that each member is the odd one out. All functions take and return arrays.
Members are the stimuli of a triplet (i, j, k), positions the places at which they were shown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.judge.trials.orders import ORDERS

FLOOR = 1e-6
"""Smallest probability of a position; smaller ones, and 0 for a label that is not listed, are raised to it."""

_POSITION_OF = np.argsort(ORDERS, axis=1)  # (6, 3): position (from 0) of each member (from 0), by order code
_CLOSE = 1e-9


class Chosen(NamedTuple):
    """Choices among the members of triplets.

    Attributes
    ----------
    member : int8 (n,)
        The odd member, 1 to 3; 0 if there is no choice.
    tied : bool (n,)
        Whether two or three members were equally odd, so that the choice was drawn at random.
    """

    member: NDArray[np.int8]
    tied: NDArray[np.bool_]


def by_majority(positions: NDArray[np.int8], order_code: NDArray[np.uint8], uniform: NDArray[np.float64]) -> Chosen:
    """Return the member that most answers choose.

    Parameters
    ----------
    positions : int8 (n, k)
        Position that each of k answers to a trial gives, 1 to 3; 0 for an answer without a position, which does not
        count.
    order_code : uint8 (n, k)
        The order in which the trial was shown: a row of :data:`affectlake.judge.trials.orders.ORDERS`.
    uniform : float64 (n,)
        A uniform number in [0, 1) for each trial, which decides between equally frequent members.
    """
    voted = positions > 0
    members = np.take_along_axis(ORDERS[order_code], np.maximum(positions, 1)[..., None].astype(np.intp) - 1, axis=2)[
        ..., 0
    ]
    votes = np.stack([((members == member) & voted).sum(axis=1) for member in (1, 2, 3)], axis=1)  # (n, 3)
    return _largest(votes.astype(np.float64), np.asarray(votes.any(axis=1)), uniform)


def by_log_probability(
    probabilities: NDArray[np.float64], order_code: NDArray[np.uint8], uniform: NDArray[np.float64]
) -> Chosen:
    r"""Return the member with the largest mean log-probability over the orders.

    The member m is chosen that maximises :math:`\frac{1}{k} \sum_o \log \max(P_o(\pi_o(m)), \epsilon)`, where
    :math:`\pi_o(m)` is its position in order o and :math:`\epsilon` is `FLOOR`. If every member is shown equally often
    at each position, a bias that multiplies the odds of a position by the same factor in every answer cancels.

    Parameters
    ----------
    probabilities : float64 (n, k, 3)
        Probabilities of the first, second and third position in each of k answers to a trial.
    order_code : uint8 (n, k)
        The order in which the trial was shown.
    uniform : float64 (n,)
        A uniform number in [0, 1) for each trial, which decides between equal members.
    """
    scores = _mean_logs(probabilities, order_code)
    return _largest(scores, np.ones(len(scores), dtype=np.bool_), uniform)


def member_probabilities(probabilities: NDArray[np.float64], order_code: NDArray[np.uint8]) -> NDArray[np.float64]:
    r"""Return the probability that each member is the odd one out, float64 (n, 3); rows sum to 1.

    That of member m is proportional to :math:`\exp \frac{1}{k} \sum_o \log \max(P_o(\pi_o(m)), \epsilon)`, the
    geometric mean over the orders, so that the most probable member is that of :func:`by_log_probability`. With one
    order, they are the probabilities of the positions.

    Parameters
    ----------
    probabilities : float64 (n, k, 3)
        Probabilities of the first, second and third position in each of k answers to a trial.
    order_code : uint8 (n, k)
        The order in which the trial was shown.
    """
    return _softmax(_mean_logs(probabilities, order_code))


class PositionBias(NamedTuple):
    """Mean log-probability of each position, float64 (3,), over n answers."""

    mean_log: NDArray[np.float64]
    n: int


def position_bias(probabilities: NDArray[np.float64]) -> PositionBias:
    """Return the mean log-probability of each position over answers, float64 (m, 3); see :func:`by_log_probability`."""
    if not len(probabilities):
        return PositionBias(np.zeros(3), 0)
    return PositionBias(np.log(np.maximum(probabilities, FLOOR)).mean(axis=0), len(probabilities))


def calibrated(
    probabilities: NDArray[np.float64],
    order_code: NDArray[np.uint8],
    bias: PositionBias,
    uniform: NDArray[np.float64],
) -> Chosen:
    r"""Return the member with the largest log-probability after subtraction of the mean of its position.

    The position p is chosen that maximises :math:`\log \max(P(p), \epsilon) - b_p`, with :math:`b` the mean over all
    answers (:func:`position_bias`; Zhao et al. 2021, "Calibrate before use", with the mean over the questions
    themselves in place of content-free ones). The orders are balanced, so that without a bias the means are equal.

    Parameters
    ----------
    probabilities : float64 (n, 3)
        Probabilities of the positions in the answer to each trial.
    order_code : uint8 (n,)
        The order in which the trial was shown.
    bias : PositionBias
        The means.
    uniform : float64 (n,)
        A uniform number in [0, 1) for each trial, which decides between equal members.
    """
    scores = _corrected(probabilities, order_code, bias)
    return _largest(scores, np.ones(len(scores), dtype=np.bool_), uniform)


def calibrated_probabilities(
    probabilities: NDArray[np.float64], order_code: NDArray[np.uint8], bias: PositionBias
) -> NDArray[np.float64]:
    r"""Return the probability that each member is the odd one out after calibration, float64 (n, 3); rows sum to 1.

    That of the member at position p is proportional to :math:`\max(P(p), \epsilon) \exp(-b_p)`, so that the most
    probable member is that of :func:`calibrated`.

    Parameters
    ----------
    probabilities, order_code, bias
        As in :func:`calibrated`.
    """
    return _softmax(_corrected(probabilities, order_code, bias))


def _mean_logs(probabilities: NDArray[np.float64], order_code: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return each member's mean log-probability over the orders (n, 3)."""
    logs = np.log(np.maximum(probabilities, FLOOR))
    by_member: NDArray[np.float64] = np.take_along_axis(logs, _POSITION_OF[order_code], axis=2).mean(axis=1)
    return by_member


def _corrected(
    probabilities: NDArray[np.float64], order_code: NDArray[np.uint8], bias: PositionBias
) -> NDArray[np.float64]:
    """Return each member's log-probability minus the mean of its position (n, 3)."""
    scores = np.log(np.maximum(probabilities, FLOOR)) - bias.mean_log
    return np.take_along_axis(scores, _POSITION_OF[order_code], axis=1)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, initial=-np.inf, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _largest(scores: NDArray[np.float64], is_choice: NDArray[np.bool_], uniform: NDArray[np.float64]) -> Chosen:
    """Return the member with the largest score; equal ones are drawn with `uniform`."""
    best = scores >= scores.max(axis=1, initial=-np.inf, keepdims=True) - _CLOSE  # (n, 3)
    n_best = best.sum(axis=1)
    rank = np.floor(uniform * n_best).astype(np.int64)  # from 0, among the best
    member = (np.cumsum(best, axis=1) > rank[:, None]).argmax(axis=1) + 1
    return Chosen(np.where(is_choice, member, 0).astype(np.int8), (n_best > 1) & is_choice)
