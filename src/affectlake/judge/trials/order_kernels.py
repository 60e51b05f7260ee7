"""Compiled kernels of :func:`affectlake.judge.trials.orders.balanced_orders`. Imported only where orders are drawn."""

from __future__ import annotations

import numpy as np

from affectlake.process.compiled import njit


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
def colour(flat, n_stimuli, seed):  # type: ignore[no-untyped-def]
    """Return a position, 0 to 2, for each entry of the flattened triplets."""
    state = np.array([seed], np.uint64)
    edge_at, port_of = _ports(flat, n_stimuli, state)
    chosen = _match(port_of, state)
    n = len(chosen)
    colours = np.full(3 * n, 3, np.uint8)  # 3: not coloured yet
    labels = np.array([0, 1, 2], np.uint8)
    for at in (2, 1):
        other = _below(state, at + 1)
        labels[at], labels[other] = labels[other], labels[at]
    for trial in range(n):
        colours[3 * trial + chosen[trial]] = labels[0]
    for start in range(n):
        trial = start
        flip = _below(state, 2)
        while True:
            edge = 3 * trial
            while edge < 3 * trial + 3 and colours[edge] != 3:
                edge += 1
            if edge == 3 * trial + 3:
                break  # the cycle is closed
            colours[edge] = labels[1 + flip]
            slot = port_of[edge] // 3
            for port in range(3 * slot, 3 * slot + 3):
                if colours[edge_at[port]] == 3:
                    colours[edge_at[port]] = labels[2 - flip]
                    trial = edge_at[port] // 3
                    break
    return colours[: len(flat)]
