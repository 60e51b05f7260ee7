"""The choice model of SPoSE: choice probabilities, cross-entropy and accuracy.

The odd one out of a triplet (i, j, k) is the stimulus outside the pair with the highest similarity x_i·x_j, and

    p(pair ij is most similar) = exp(x_i·x_j) / (exp(x_i·x_j) + exp(x_i·x_k) + exp(x_j·x_k))

(equation 2 of the paper; Zheng et al. 2019). The largest term is factored out before the logarithm of the sum is
taken, so that inner products of any size are safe. Embeddings are fitted in `affectlake.spose.fitting`.

Of an *anchored* triplet, whether stimulus a or b is more like the head h
(the target-matching task of Muttenthaler et al. 2022), two similarities decide:

    p(a | h; a, b) = exp(x_h·x_a) / (exp(x_h·x_a) + exp(x_h·x_b)).

An anchored triplet does not say how similar a and b are, so it is never converted to an odd-one-out judgment. The
likelihood of a fit is that of the task of its judgments (`affectlake.tasks`).

An agent that makes a share ``lapse`` of its judgments by chance (the lapse rate; Wichmann & Hill 2001) makes a choice
with probability ``(1 - lapse) p + lapse / 3``, or ``(1 - lapse) p + lapse / 2`` for an anchored triplet. A fit with a
lapse rate is not distorted by single wrong answers. The gradient of a judgment's cross-entropy is then that of p times
the probability that it was not made by chance, for odd-one-out judgments

    w = (1 - lapse) p / ((1 - lapse) p + lapse / 3),

and the mean of 1 - w over validation judgments is the next estimate of ``lapse`` (expectation maximisation).

A fit can learn from the probabilities q_m that an agent gives to each member of a triplet being the odd one, in place
of its choice. The loss of a triplet is then the cross-entropy

    -sum_m q_m log((1 - lapse) p_m + lapse / 3),

which is that of the choice if one q_m is 1. Fits are scored on choices in any case.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.spose.curve import Score
from affectlake.spose.state import padded
from affectlake.tasks import Task


def score(weights: NDArray[np.float32], pairs_first: NDArray[np.int32], task: Task = "odd-one-out") -> Score:
    """Return the mean cross-entropy and the accuracy of an embedding on choices.

    Parameters
    ----------
    weights : (n_stimuli, d) float32
        The embedding.
    pairs_first : (m, 3) int32, m >= 1
        Stimulus indices: the two similar stimuli, then the odd one; of anchored triplets, head, winner and loser.
    task : {"odd-one-out", "anchored"}
        Task of all judgments.

    Raises
    ------
    ValueError
        If a shape, a dtype or an index is not as above.
    """
    from affectlake.spose import kernels

    check(weights, pairs_first)
    scored = kernels.score_anchored if task == "anchored" else kernels.score
    loss, right, _ = scored(padded(weights), np.ascontiguousarray(pairs_first), 0.0)
    n = pairs_first.shape[0]
    return Score(loss / n, right / n, n)


def choice_probabilities(weights: NDArray[np.float32], triplets: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the probability that each of a triplet's stimuli is the odd one: (m, 3) float32, rows that sum to 1.

    Parameters
    ----------
    weights : (n_stimuli, d) float32
        The embedding.
    triplets : (m, 3) int32, m >= 1
        Stimulus indices in any order; column c of the result refers to column c.

    Raises
    ------
    ValueError
        If a shape, a dtype or an index is not as above.
    """
    from affectlake.spose import kernels

    check(weights, triplets)
    out = np.empty(triplets.shape, np.float32)
    kernels.probabilities(padded(weights), np.ascontiguousarray(triplets), out)
    return out


def anchored_probabilities(weights: NDArray[np.float32], triplets: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the probability that each of two stimuli is chosen as more like the head: (m, 2) float32, rows sum to 1.

    Parameters
    ----------
    weights : (n_stimuli, d) float32
        The embedding.
    triplets : (m, 3) int32, m >= 1
        Stimulus indices: the head, then the two others; column c of the result refers to column c + 1.

    Raises
    ------
    ValueError
        If a shape, a dtype or an index is not as above.
    """
    from affectlake.spose import kernels

    check(weights, triplets)
    out = np.empty((len(triplets), 2), np.float32)
    kernels.head_probabilities(padded(weights), np.ascontiguousarray(triplets), out)
    return out


def check(weights: NDArray[np.float32], triplets: NDArray[np.int32]) -> None:
    """Raise ValueError unless `weights` are float32 (n, d), `triplets` int32 (m >= 1, 3) and every index below n."""
    if weights.ndim != 2 or weights.dtype != np.float32:
        raise ValueError(f"wanted float32 weights (n_stimuli, d), found {weights.dtype} {weights.shape}")
    if triplets.ndim != 2 or triplets.shape[1] != 3 or triplets.dtype != np.int32 or not triplets.size:
        raise ValueError(f"wanted int32 triplets (m, 3) with m >= 1, found {triplets.dtype} {triplets.shape}")
    low, high = int(triplets.min()), int(triplets.max())
    if low < 0 or high >= weights.shape[0]:
        raise ValueError(f"stimulus indices run from {low} to {high}; the embedding has {weights.shape[0]} stimuli")
