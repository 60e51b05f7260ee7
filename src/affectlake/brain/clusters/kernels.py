"""Compiled kernels of clusters: the tree of a map's clusters, its enhancement, and the masses of clusters.

The tree has a node for each voxel above zero: the cluster that contains the voxel at the voxel's own height. Voxels are
added from the highest to the lowest; the parent of a cluster is the voxel that joins it with others or makes it larger
(Najman & Couprie 2006). Between the heights of a voxel and of its parent, the cluster of the voxel does not change.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.process.compiled import njit

_DIGIT = 11  # bits that one pass of the sort distinguishes: six passes, whose counts stay in the first-level cache
_COMPILE: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


class Space(NamedTuple):
    """Arrays that the kernels write to, each (n_voxels,) but `place` (n_voxels + 1,) and `counts` (6, 2048)."""

    keys: NDArray[np.uint64]
    spare_keys: NDArray[np.uint64]
    order: NDArray[np.int32]
    spare: NDArray[np.int32]
    parent: NDArray[np.int32]
    size: NDArray[np.int32]
    total: NDArray[np.int32]
    lowest: NDArray[np.int32]
    place: NDArray[np.int32]
    counts: NDArray[np.int32]


def space(n_voxels: int) -> Space:
    """Return arrays for maps of `n_voxels`; calls at the same time need arrays of their own."""

    def rows(n: int = n_voxels) -> NDArray[np.int32]:
        return np.empty(n, np.int32)

    keys, spare_keys = np.empty(n_voxels, np.uint64), np.empty(n_voxels, np.uint64)
    counts = np.empty((-(-64 // _DIGIT), 1 << _DIGIT), np.int32)
    return Space(keys, spare_keys, rows(), rows(), rows(), rows(), rows(), rows(), rows(n_voxels + 1), counts)


@njit(**_COMPILE)
def sort_above_zero(values: Any, space: Any) -> int:
    """Write the voxels with finite values above 0 to `space.order`, lowest first; return their number.

    Heights are sorted as the integers of their bits, which are in the same order, by a radix sort. Voxels of equal
    height are in the order of their rows.
    """
    keys, order, spare_keys, spare = space.keys, space.order, space.spare_keys, space.spare
    heights, counts, n, swapped = keys.view(np.float64), space.counts, 0, False
    for v in range(len(values)):
        if values[v] > 0.0 and values[v] < np.inf:
            heights[n], order[n] = values[v], v
            n += 1
    counts[:] = 0
    mask = np.uint64(counts.shape[1] - 1)
    for p in range(n):
        key = keys[p]
        for d in range(len(counts)):
            counts[d, (key >> np.uint64(d * _DIGIT)) & mask] += 1
    for d in range(len(counts)):
        shift, start = np.uint64(d * _DIGIT), counts[d]
        if n == 0 or start[(keys[0] >> shift) & mask] == n:
            continue  # all are equal in these bits, as the low ones of float32 values are
        before = 0
        for digit in range(len(start)):
            here = start[digit]
            start[digit] = before
            before += here
        for p in range(n):
            digit = (keys[p] >> shift) & mask
            spare_keys[start[digit]], spare[start[digit]] = keys[p], order[p]
            start[digit] += 1
        keys, order, spare_keys, spare = spare_keys, spare, keys, order
        swapped = not swapped
    if swapped:
        space.keys[:n] = space.spare_keys[:n]
        space.order[:n] = space.spare[:n]
    return n


@njit(**_COMPILE)
def grow_tree(neighbours: Any, n: int, space: Any) -> None:
    """Write the parent of each of the n sorted voxels, itself at the bottom, and the size of its cluster.

    Voxels are named by their places in `space.order`, so that a neighbour is in a cluster if its place is higher.
    """
    order, place, parent, size = space.order, space.place, space.parent, space.size
    root, total, lowest = space.spare, space.total, space.lowest
    place[:] = -1  # also of the neighbour -1, which is the last entry
    for p in range(n):
        place[order[p]] = p
    for p in range(n - 1, -1, -1):
        v, own = order[p], p
        parent[p], root[p], total[p], lowest[p] = p, p, 1, p
        for k in range(neighbours.shape[1]):
            other = place[neighbours[v, k]]
            if other <= p:
                continue
            while root[other] != other:
                root[other] = root[root[other]]
                other = root[other]
            if other == own:
                continue
            parent[lowest[other]] = p
            if total[other] > total[own]:
                own, other = other, own
            root[other], lowest[own] = own, p
            total[own] += total[other]
        size[p] = total[own]


@njit(**_COMPILE)
def enhance(values: Any, neighbours: Any, extent: float, height: float, steps: Any, space: Any, found: Any) -> float:
    """Write the enhancement of every voxel to `found` (n_voxels,); return the largest.

    Parameters
    ----------
    values : float64 (n_voxels,)
    neighbours : int32 (n_voxels, n_neighbours)
    extent, height : float
        The exponents E and H.
    steps : float64 (n_steps,)
        Heights of the sum, ascending; without any, the integral.
    space : Space
    found : float64 (n_voxels,)
        0 for voxels without a finite value above 0.
    """
    found[:] = 0.0
    n = sort_above_zero(values, space)
    grow_tree(neighbours, n, space)
    order, parent, size = space.order, space.parent, space.size
    gain, own = space.keys.view(np.float64), space.spare_keys.view(np.float64)  # ∫ or Σ of h^H up to the height, TFCE
    if len(steps):
        total, k = 0.0, 0
        for p in range(n):
            while k < len(steps) and steps[k] <= gain[p]:
                total += steps[k] ** height
                k += 1
            gain[p] = total
    else:
        for p in range(n):
            h = gain[p]
            gain[p] = (h * h * h if height == 2.0 else h ** (height + 1.0)) / (height + 1.0)
    highest = 0.0
    for p in range(n):
        weight = np.sqrt(size[p]) if extent == 0.5 else np.float64(size[p]) ** extent
        below = parent[p]
        own[p] = weight * gain[p] if below == p else own[below] + weight * (gain[p] - gain[below])
        found[order[p]] = own[p]
        highest = max(highest, own[p])
    return highest


@njit(**_COMPILE)
def weigh(values: Any, neighbours: Any, threshold: float, space: Any, found: Any) -> float:
    """Write the mass of every voxel's cluster above the threshold to `found` (n_voxels,), else 0; return the largest.

    The mass is the sum of the finite values above the threshold, minus the threshold each.
    """
    found[:] = 0.0
    seen, queue = space.place, space.order
    seen[:] = 0
    highest = 0.0
    for v in range(len(values)):
        if seen[v] or not (values[v] > threshold and values[v] < np.inf):
            continue
        queue[0], seen[v] = v, 1
        at, n, mass = 0, 1, 0.0
        while at < n:
            member = queue[at]
            mass += values[member] - threshold
            at += 1
            for k in range(neighbours.shape[1]):
                other = neighbours[member, k]
                if other >= 0 and not seen[other] and values[other] > threshold and values[other] < np.inf:
                    queue[n], seen[other] = other, 1
                    n += 1
        for at in range(n):
            found[queue[at]] = mass
        highest = max(highest, mass)
    return highest
