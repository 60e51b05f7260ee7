"""The order in which the three stimuli of a trial are shown: drawn with a seed, and balanced over the positions.

The balance is exact. Trials and stimuli are the two sides of a bipartite graph with one edge for each stimulus in a
trial; an order of every trial is a colouring of the edges with three positions, all different at a trial. A bipartite
graph has such a colouring in which the numbers of edges of each colour at a node differ by at most one (de Werra 1971).
Every stimulus therefore appears equally often at each position, for any set of trials. The colouring is drawn in three
steps:

1. The edges of each stimulus are divided at random into slots of three; dummy trials fill incomplete slots, so that
   every node has degree three.
2. A perfect matching, which gives one position, is drawn by random walks (Goel, Kapralov & Khanna 2013, "Perfect
   matchings in O(n log n) time in regular bipartite graphs").
3. The remaining edges form even cycles, along which the other two positions alternate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ORDERS = np.array([(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)], dtype=np.int8)
"""(6, 3): the member of (i, j, k), from 1, that each order shows at the first, second and third position.

The *order code*, 0 to 5, is the index of the row.
"""

_CODE_OF_POSITIONS = np.zeros(9, dtype=np.uint8)  # from the positions (from 0) of i and j: 3 * of_i + of_j
for _code, _members in enumerate(ORDERS):
    _of_i, _of_j = (int(np.flatnonzero(_members == _member)[0]) for _member in (1, 2))
    _CODE_OF_POSITIONS[3 * _of_i + _of_j] = _code

ORDER_SETS = np.array(
    [[0, 3, 4, 1, 2, 5], [1, 2, 5, 0, 3, 4], [2, 5, 1, 3, 4, 0], [3, 4, 0, 2, 5, 1], [4, 0, 3, 5, 1, 2],
     [5, 1, 2, 4, 0, 3]], dtype=np.uint8
)  # fmt: skip
"""(6, 6): for each order code, that code, those of its two cyclic shifts, and those of the other three orders.

Among the first three and among all six, every stimulus is shown equally often at each position.
"""

SLOT = np.argsort(ORDER_SETS, axis=1).astype(np.int8)
"""(6, 6): the index of each order code in the row of `ORDER_SETS` of each base code."""

MAX_TRIALS = 700_000_000
"""Edges are numbered in 32 bits."""


def balanced_orders(triplets: NDArray[np.int32], n_stimuli: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the order in which each trial is shown, every stimulus equally often at each position.

    Parameters
    ----------
    triplets : int32 (m, 3)
        Stimulus indices of the trials, the three of a row all different.
    n_stimuli : int
        Size of the catalogue.
    rng : numpy.random.Generator
        Source of one 64-bit draw, which determines the orders on every machine.

    Returns
    -------
    uint8 (m,)
        The order code of each trial. Over all trials, the numbers of times that a stimulus appears at the first, second
        and third position differ by at most one.

    Raises
    ------
    ValueError
        If there are more than `MAX_TRIALS` trials.
    """
    if len(triplets) > MAX_TRIALS:
        raise ValueError(f"{len(triplets):,} trials are more than {MAX_TRIALS:,}")
    seed = rng.integers(2**64, dtype=np.uint64)
    if not len(triplets):
        return np.empty(0, np.uint8)
    from affectlake.judge.trials.order_kernels import colour

    flat = np.ascontiguousarray(triplets, dtype=np.int32).ravel()
    position = colour(flat, n_stimuli, seed)  # (3 m,) 0, 1 or 2
    of_both = 3 * position[0::3]
    of_both += position[1::3]
    return np.asarray(_CODE_OF_POSITIONS[of_both])


def shown(triplets: NDArray[np.int32], order_code: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the stimuli in the order shown: int32 (m, 3), first position first."""
    return np.take_along_axis(triplets, ORDERS[order_code].astype(np.intp) - 1, axis=1)


def order_codes(triplets: NDArray[np.int32], in_order: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the order code of each trial: uint8 (m,). The inverse of :func:`shown`.

    Parameters
    ----------
    triplets : int32 (m, 3)
        Stimulus indices of the trials, the three of a row all different.
    in_order : int32 (m, 3)
        The same in the order shown.
    """
    of_i, of_j = ((in_order == triplets[:, [member]]).argmax(axis=1) for member in (0, 1))
    return np.asarray(_CODE_OF_POSITIONS[3 * of_i + of_j])
