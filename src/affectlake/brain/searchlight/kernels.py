"""Compiled kernels of the searchlight: patterns of spheres, their RSMs, ranks, and the comparison with models.

What is compared, and how checkpoints are used, is in :mod:`affectlake.brain.searchlight.search`. The pairs of n stimuli
are in the order of the lower triangle, row by row: pair (i, j), j < i, is entry i (i - 1) / 2 + j.

**Counted ranks.** Spearman's correlation requires the ranks of n (n - 1) / 2 correlations. The correlations are divided
into 65,536 equal bins over [-1, 1]; all correlations in a bin get their mean rank, which follows from the counts of the
lower bins. The width of a bin is 3e-5; with 1,000 stimuli about ten correlations are in a bin, and the correlation with
a model changes by about 1e-7. `exact` ranks are computed by a radix sort of the 32-bit correlations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectlake.process.compiled import njit

BINS = 65536
PANEL = 64  # rows of the RSM at a time: 64 × 1,000 correlations stay in the second-level cache
CHUNK = 4096  # ranks at a time: 16 kB in the first-level cache, used for every model
MODEL_DECIMALS = 10  # of a model's similarities, whose rounding errors are about 1e-15

_COMPILE: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}


@njit(**_COMPILE)
def members_of(grid: Any, place: Any, offsets: Any, found: Any) -> int:
    """Write the rows of the sphere's voxels to `found`; return their number."""
    count = 0
    for o in range(len(offsets)):
        row = grid[place[0] + offsets[o, 0], place[1] + offsets[o, 1], place[2] + offsets[o, 2]]
        if row >= 0:
            found[count] = row
            count += 1
    return count


@njit(**_COMPILE)
def patterns_of(patterns: Any, members: Any, unit: Any) -> bool:
    """Write each stimulus's pattern, centred and of length 1, to `unit` (n, m); return whether all patterns vary.

    `patterns` is float32 (n_voxels, n), one row per voxel.
    """
    m, n = len(members), patterns.shape[1]
    total, low, high = np.zeros(n, np.float32), patterns[members[0]].copy(), patterns[members[0]].copy()
    for v in range(m):
        row = patterns[members[v]]
        for s in range(n):
            total[s] += row[s]
            low[s] = min(low[s], row[s])
            high[s] = max(high[s], row[s])
    squares = np.zeros(n, np.float32)
    for v in range(m):
        row = patterns[members[v]]
        for s in range(n):
            x = row[s] - total[s] / np.float32(m)
            squares[s] += x * x
    for s in range(n):
        if not (high[s] > low[s] and squares[s] > 0):
            return False
        squares[s] = np.float32(1.0) / np.sqrt(squares[s])
        total[s] /= np.float32(m)
    for first in range(0, n, 16):  # in strips, so that the strided writes stay in the cache
        last = min(first + 16, n)
        for v in range(m):
            row = patterns[members[v]]
            for s in range(first, last):
                unit[s, v] = (row[s] - total[s]) * squares[s]
    return True


@njit(**_COMPILE)
def code_pairs(unit: Any, panel: Any, codes: Any, counts: Any) -> None:
    """Write the bin of every pair's correlation to `codes` uint16 (pairs,) and count it in `counts` (BINS,)."""
    n = len(unit)
    for first in range(0, n, PANEL):
        last = min(first + PANEL, n)
        found = panel[: (last - first) * last].reshape(last - first, last)
        np.dot(unit[first:last], unit[:last].T, found)
        for i in range(first, last):
            row, at = found[i - first], i * (i - 1) // 2
            mine = codes[at : at + i]
            for j in range(i):
                scaled = (row[j] + np.float32(1.0)) * np.float32(32767.5)
                mine[j] = np.uint16(min(max(np.int32(scaled), np.int32(0)), np.int32(BINS - 1)))
            for j in range(i):
                counts[mine[j]] += 1


@njit(**_COMPILE)
def rank_table(counts: Any, table: Any, n_pairs: int) -> float:
    """Write the mean rank of each bin, centred, to `table` (BINS,); clear `counts`; return Σ rank²."""
    before, squares, middle = 0, 0.0, 0.5 * (n_pairs - 1)
    for b in range(BINS):
        c = counts[b]
        if c > 0:
            rank = before + 0.5 * (c - 1) - middle
            table[b] = np.float32(rank)
            squares += c * rank * rank
            before += c
            counts[b] = 0
    return squares


@njit(**_COMPILE)
def compare_codes(codes: Any, table: Any, models: Any, found: Any) -> None:
    """Add the products of the pairs' ranks with `models` float32 (n_models, pairs) to `found` (n_models,)."""
    n_pairs, n_models = len(codes), len(models)
    chunk = np.empty(CHUNK, np.float32)
    for first in range(0, n_pairs, CHUNK):
        size = min(CHUNK, n_pairs - first)
        here = codes[first : first + size]
        for p in range(size):
            chunk[p] = table[here[p]]
        for m in range(n_models):
            model, sum_ = models[m, first : first + size], np.float32(0.0)
            for p in range(size):
                sum_ += chunk[p] * model[p]
            found[m] += sum_


@njit(**_COMPILE)
def sort_pairs(unit: Any, panel: Any, keys: Any, order: Any, spare_keys: Any, spare: Any) -> None:
    """Write the correlations as sortable keys, and sort the pairs by them in three passes of a radix sort."""
    n, n_pairs = len(unit), len(keys)
    for first in range(0, n, PANEL):
        last = min(first + PANEL, n)
        found = panel[: (last - first) * last].reshape(last - first, last)
        np.dot(unit[first:last], unit[:last].T, found)
        bits = panel.view(np.uint32)
        for i in range(first, last):
            at = i * (i - 1) // 2
            for j in range(i):
                word = bits[(i - first) * last + j]
                negative = (word >> np.uint32(31)) != 0
                keys[at + j] = ~word if negative else word | np.uint32(0x80000000)
                order[at + j] = at + j
    counts = np.empty(2048, np.int64)
    for shift in (0, 11, 22):
        counts[:] = 0
        for p in range(n_pairs):
            counts[(keys[p] >> np.uint32(shift)) & np.uint32(2047)] += 1
        before = 0
        for b in range(2048):
            c = counts[b]
            counts[b] = before
            before += c
        for p in range(n_pairs):
            b = (keys[p] >> np.uint32(shift)) & np.uint32(2047)
            spare_keys[counts[b]], spare[counts[b]] = keys[p], order[p]
            counts[b] += 1
        keys[:] = spare_keys
        order[:] = spare


@njit(**_COMPILE)
def compare_sorted(keys: Any, order: Any, models: Any, ranks: Any, found: Any) -> float:
    """Add the products of exact ranks (the mean rank for equal keys) with models to `found`; return Σ rank²."""
    n_pairs, first, squares = len(keys), 0, 0.0
    middle = 0.5 * (n_pairs - 1)
    while first < n_pairs:
        last = first
        while last + 1 < n_pairs and keys[last + 1] == keys[first]:
            last += 1
        rank = 0.5 * (first + last) - middle
        squares += (last + 1 - first) * rank * rank
        for p in range(first, last + 1):
            ranks[order[p]] = np.float32(rank)
        first = last + 1
    for start in range(0, n_pairs, CHUNK):
        end = min(start + CHUNK, n_pairs)
        for m in range(len(models)):
            sum_ = np.float32(0.0)
            for p in range(start, end):
                sum_ += ranks[p] * models[m, p]
            found[m] += sum_
    return squares


@njit(**_COMPILE)
def run_spheres(
    patterns: Any, grid: Any, places: Any, offsets: Any, centres: Any, least: int, models: Any, exact: bool, found: Any
) -> None:
    """Compare the spheres around `centres` with every model; `found` is NaN if a sphere has no RSM.

    Parameters
    ----------
    patterns : float32 (n_voxels, n)
        One row per voxel, one column per stimulus.
    grid, places, offsets
        See :class:`affectlake.brain.searchlight.spheres.Spheres`.
    centres : int (n_centres,)
        Rows of the voxels at the centres.
    least : int
        Minimum number of voxels of a sphere.
    models : float32 (n_models, pairs)
        Centred ranks of length 1.
    exact : bool
        Whether to use exact ranks instead of counted ones.
    found : float32 (n_models, n_centres)
        The result is written here.
    """
    n, n_models = patterns.shape[1], len(models)
    n_pairs = n * (n - 1) // 2
    space = np.empty(n * len(offsets), np.float32)
    panel = np.empty(PANEL * n, np.float32)
    members = np.empty(len(offsets), np.int32)
    size = n_pairs if exact else 0
    codes, counts = np.empty(0 if exact else n_pairs, np.uint16), np.zeros(BINS, np.int32)
    table, ranks = np.zeros(BINS, np.float32), np.empty(size, np.float32)
    keys, order = np.empty(size, np.uint32), np.empty(size, np.int32)
    spare_keys, spare = np.empty(size, np.uint32), np.empty(size, np.int32)
    sums = np.empty(n_models, np.float64)
    for c in range(len(centres)):
        m = members_of(grid, places[centres[c]], offsets, members)
        found[:, c] = np.float32(np.nan)
        if m < least:
            continue
        unit = space[: n * m].reshape(n, m)
        if not patterns_of(patterns, members[:m], unit):
            continue
        sums[:] = 0.0
        if exact:
            sort_pairs(unit, panel, keys, order, spare_keys, spare)
            squares = compare_sorted(keys, order, models, ranks, sums)
        else:
            code_pairs(unit, panel, codes, counts)
            squares = rank_table(counts, table, n_pairs)
            compare_codes(codes, table, models, sums)
        if squares > 0:
            for k in range(n_models):
                found[k, c] = np.float32(sums[k] / np.sqrt(squares))


def model_ranks(rsms: Sequence[NDArray[np.floating]] | NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the ranks of the models' pairs, centred and of length 1, in the order of the lower triangle.

    Similarities are rounded to `MODEL_DECIMALS` first: equal ones, such as those of proportional vectors, differ in
    their last bits, and would otherwise be ranked by rounding errors.

    Parameters
    ----------
    rsms : sequence of float (n, n)

    Returns
    -------
    float32 (n_models, n (n - 1) / 2)
    """
    from affectlake.rsm import ranks

    i, j = np.tril_indices(len(rsms[0]), k=-1)
    found = np.empty((len(rsms), len(i)), dtype=np.float32)
    for row, rsm in zip(found, rsms, strict=True):
        rank = ranks(np.round(rsm[i, j], MODEL_DECIMALS))
        rank -= rank.mean()
        row[:] = rank / np.sqrt(rank @ rank)
    return found
