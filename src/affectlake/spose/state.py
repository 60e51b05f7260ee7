"""State of an embedding during training, in the memory layout of the kernels. No arithmetic on choices here.

**Lazy Adam.** A small batch contains few rows. The gradient of a row outside the batch is the constant
``c = l1 / n_stimuli``, so the row's missed steps have a closed form and need not be computed until the row is used. One
invariant holds: *row r has taken every step up to* ``settled[r]``; ``gradient[r]`` *is its data gradient of the step
after that; in the steps since then it has none*. The kernel `_settle_row` takes the step with the gradient and ``k``
steps without one at once. With m, v the moments after the first of them, the moments of the missed steps are

    m_j = c + b1**j (m - c),    v_j = c**2 + b2**j (v - c**2),    j = 0 … k

and because v_j is close to b2**j v over a short gap, the k + 1 updates sum to
(c A_k + (m - c) B_k) / (sqrt(v) + eps) with

    A_k = sum_j b2**(-j/2),    B_k = sum_j (b1 / sqrt(b2))**j.

m_j approaches c >= 0 monotonically, so a weight first increases, if at all, and then decreases: clipping once at zero
after the last step is the same as clipping after each step. Gaps longer than `LONGEST_GAP`, 64, are taken in pieces.
With k = 0 this is Adam.

The relative error of an update due to the approximation of v_j is at most b2**(-k/2) - 1 (0.3 % over a gap of 6 steps,
the mean at the paper's size and batch 128; 3 % over 64), and reaches it only if v is hardly above c**2. Compared with
dense Adam in float64, the mean error of a weight is below 0.1 % of its mean change (tests); held-out losses agree to
1e-4 nats (benchmarks).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES = 16  # floats in an AVX-512 register; rows are padded to a multiple of this
LONGEST_GAP = 64  # steps settled in one piece
BLOCK_SIZE = 64  # a power of two, so that most batch sizes are a multiple


class State(NamedTuple):
    """An embedding during training, in padded rows; the kernels modify it in place.

    Attributes
    ----------
    weights, first_moment, second_moment, gradient : (n_stimuli, width) float32
        The embedding, Adam's two moments, and the data gradient that is not applied yet.
    settled : (n_stimuli,) int64
        Last step that each row has taken.
    """

    weights: NDArray[np.float32]
    first_moment: NDArray[np.float32]
    second_moment: NDArray[np.float32]
    gradient: NDArray[np.float32]
    settled: NDArray[np.int64]


class Rule(NamedTuple):
    """Constants of Adam and of batches, the last step that every row takes, the lapse rate, and the task."""

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    l1_gradient: float
    batch_size: int
    block_size: int
    dense_until: int
    lapse: float = 0.0
    anchored: bool = False


def aligned_rows(n_rows: int, width: int) -> NDArray[np.float32]:
    """Return float32 zeros (n_rows, width) aligned to 64 bytes, so that rows begin at cache lines."""
    n_bytes = n_rows * width * 4
    raw = np.zeros(n_bytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_bytes].view(np.float32).reshape(n_rows, width)


def padded(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a copy of `weights` (n, d) in aligned rows, padded to a multiple of `LANES` columns."""
    rows = aligned_rows(weights.shape[0], -(-weights.shape[1] // LANES) * LANES)
    rows[:, : weights.shape[1]] = weights
    return rows


def block_size(batch_size: int) -> int:
    """Return the number of triplets in a run that shuffling keeps together: a divisor of the batch size, at most 64."""
    return math.gcd(batch_size, BLOCK_SIZE)


def gap_table(beta1: float, beta2: float, l1_gradient: float) -> NDArray[np.float32]:
    """Return (LONGEST_GAP, 5) float32: for k missed steps c A_k, B_k, b1**k, b2**k and (1 - b2**k) c**2.

    The symbols are defined in the docstring of the module.
    """
    k = np.arange(LONGEST_GAP, dtype=float)
    a, b = np.cumsum(beta2 ** (-k / 2)), np.cumsum((beta1 / math.sqrt(beta2)) ** k)
    terms = (l1_gradient * a, b, beta1**k, beta2**k, (1 - beta2**k) * l1_gradient**2)
    return np.stack(terms, axis=1).astype(np.float32)


class Moments(NamedTuple):
    """An embedding and Adam's moments between two epochs, without padding.

    Attributes
    ----------
    weights, first_moment, second_moment : (n_stimuli, d) float32
        The embedding and Adam's moments.
    step : int
        Number of Adam steps taken.
    """

    weights: NDArray[np.float32]
    first_moment: NDArray[np.float32]
    second_moment: NDArray[np.float32]
    step: int
