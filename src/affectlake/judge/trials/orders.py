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

from affectlake.process.compiled import njit

ORDERS = np.array([(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)], dtype=np.int8)
"""(6, 3): the member of (i, j, k), from 1, that each order shows at the first, second and third position.

The *order code*, 0 to 5, is the index of the row.
"""

_CODE_OF_POSITIONS = np.zeros(9, dtype=np.uint8)  # from the positions (from 0) of i and j: 3 * of_i + of_j
for _code, _members in enumerate(ORDERS):
    _of_i, _of_j = (int(np.flatnonzero(_members == _member)[0]) for _member in (1, 2))
    _CODE_OF_POSITIONS[3 * _of_i + _of_j] = _code

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
    flat = np.ascontiguousarray(triplets, dtype=np.int32).ravel()
    position = _colour(flat, n_stimuli, seed)  # (3 m,) 0, 1 or 2
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


@njit(nogil=True)
def _next(state):  # type: ignore[no-untyped-def]
    """Advance SplitMix64, whose state is a one-element array, and return 64 random bits."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True)
def _below(state, n):  # type: ignore[no-untyped-def]
    """Return a random number in [0, n), n < 2**32."""
    return np.int64(((_next(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(nogil=True)
def _ports(flat, n_stimuli, state):  # type: ignore[no-untyped-def]
    """Divide the stimuli into slots of three ports and assign a port to each edge; return the map in both directions.

    Edge e belongs to trial e // 3 and port p to slot p // 3. Dummy trials fill the unused ports.
    """
    counts = np.zeros(n_stimuli, np.int64)
    for s in flat:
        counts[s] += 1
    starts = np.zeros(n_stimuli + 1, np.int64)
    for s in range(n_stimuli):
        starts[s + 1] = starts[s] + 3 * ((counts[s] + 2) // 3)
    n_ports = starts[n_stimuli]
    edge_at = np.empty(n_ports, np.int32)
    filled = starts[:-1].copy()
    for e in range(len(flat)):
        edge_at[filled[flat[e]]] = e
        filled[flat[e]] += 1
    spare = len(flat)
    for s in range(n_stimuli):
        for at in range(counts[s] - 1, 0, -1):
            other = starts[s] + _below(state, at + 1)
            edge_at[starts[s] + at], edge_at[other] = edge_at[other], edge_at[starts[s] + at]
        for port in range(filled[s], starts[s + 1]):
            edge_at[port] = spare
            spare += 1
    port_of = np.empty(n_ports, np.int32)
    for port in range(n_ports):
        port_of[edge_at[port]] = port
    return edge_at, port_of


@njit(nogil=True)
def _match(port_of, state):  # type: ignore[no-untyped-def]
    """Return the edge (from 0 to 2) by which each trial is matched to a slot, all slots different.

    One row holds what a walk reads about a trial: its three slots, the edge chosen (3: not matched yet), and the edge
    by which the walk last left it, which erases loops of the walk.
    """
    n = len(port_of) // 3
    trials = np.empty((n, 5), np.int32)
    for trial in range(n):
        for edge in range(3):
            trials[trial, edge] = port_of[3 * trial + edge] // 3
        trials[trial, 3] = 3
    matched = np.full(n, -1, np.int32)  # trial of each slot
    for start in range(n):
        trial = start
        while True:
            chosen = trials[trial, 3]
            out = _below(state, 3) if chosen == 3 else (chosen + 1 + _below(state, 2)) % 3
            trials[trial, 4] = out
            slot = trials[trial, out]
            if matched[slot] < 0:
                break
            trial = matched[slot]
        trial = start
        while True:
            out = trials[trial, 4]
            slot = trials[trial, out]
            displaced = matched[slot]
            matched[slot] = trial
            trials[trial, 3] = out
            if displaced < 0:
                break
            trial = displaced
    return trials[:, 3].astype(np.uint8)


@njit(nogil=True)
def _colour(flat, n_stimuli, seed):  # type: ignore[no-untyped-def]
    """Return a position, 0 to 2, for each entry of the flattened triplets."""
    state = np.array([seed], np.uint64)
    edge_at, port_of = _ports(flat, n_stimuli, state)
    chosen = _match(port_of, state)
    n = len(chosen)
    colour = np.full(3 * n, 3, np.uint8)  # 3: not coloured yet
    labels = np.array([0, 1, 2], np.uint8)
    for at in (2, 1):
        other = _below(state, at + 1)
        labels[at], labels[other] = labels[other], labels[at]
    for trial in range(n):
        colour[3 * trial + chosen[trial]] = labels[0]
    for start in range(n):
        trial = start
        flip = _below(state, 2)
        while True:
            edge = 3 * trial
            while edge < 3 * trial + 3 and colour[edge] != 3:
                edge += 1
            if edge == 3 * trial + 3:
                break  # the cycle is closed
            colour[edge] = labels[1 + flip]
            slot = port_of[edge] // 3
            for port in range(3 * slot, 3 * slot + 3):
                if colour[edge_at[port]] == 3:
                    colour[edge_at[port]] = labels[2 - flip]
                    trial = edge_at[port] // 3
                    break
    return colour[: len(flat)]
