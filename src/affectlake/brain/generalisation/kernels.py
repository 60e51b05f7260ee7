"""Compiled kernels of the bootstrap: correlations of RSMs and noise ceilings of one resample, without copied matrices.

A resample of stimuli is a count per stimulus. The pair of stimuli i and j, which were drawn c_i and c_j times, occurs
c_i c_j times; pairs of a stimulus with its own copy are left out. A resample of subjects is a count per subject.

**Ranks.** The values of each RSM are replaced by whole numbers in the same order once, before all resamples. Ranks in a
resample then follow from the numbers of pairs with each value, without sorting. Ranks are doubled and centred: the rank
of a pair is the number of pairs below it minus the number above it, which is a whole number with mean zero. Sums of
ranks over subjects, which the noise ceilings rank again, are whole numbers too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from affectlake.process.compiled import njit

SPEARMAN, PEARSON, COSINE = 0, 1, 2
BINS = 65_536
"""Different values of an RSM, and of sums of ranks in large resamples, that are told apart."""

EXACT = 1 << 20
"""Number of possible sums of ranks up to which they are ranked exactly."""

_COMPILE: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


@njit(**_COMPILE)
def pairs_of(counts: Any, at: Any, weight: Any) -> None:
    """Write the position among all pairs, and the number of copies, of each pair of a resample."""
    n, found = len(counts), 0
    for i in range(n):
        if counts[i] > 0:
            first = i * n - i * (i + 1) // 2 - i - 1
            for j in range(i + 1, n):
                if counts[j] > 0:
                    at[found] = first + j
                    weight[found] = counts[i] * counts[j]
                    found += 1


@njit(**_COMPILE)
def rank_codes(codes: Any, weight: Any, size: int, table: Any, found: Any) -> None:
    """Write the doubled, centred rank of each pair, by its code below `size`, to `found` float64 (p,)."""
    table[:size] = 0
    total = 0
    for p in range(len(weight)):
        table[codes[p]] += weight[p]
        total += weight[p]
    below = 0
    for code in range(size):
        copies = table[code]
        table[code] = 2 * below + copies - total
        below += copies
    for p in range(len(weight)):
        found[p] = table[codes[p]]


@njit(**_COMPILE)
def dot(a: Any, b: Any, weight: Any) -> float:
    """Return Σ weight a b."""
    found = 0.0
    for p in range(len(weight)):
        found += weight[p] * a[p] * b[p]
    return found


@njit(**_COMPILE)
def pooled_r(total: Any, row: Any, without: int, own: float, weight: Any, bound: int, table: Any) -> float:
    """Return the correlation of a subject's ranks with the ranks of `total` - `without` · `row`.

    `own` is the sum of the squares of the subject's ranks. The sums are between -`bound` and `bound`.
    """
    shift, n_pairs = 0, 0
    if 2 * bound >= len(table):
        while (2 * bound) >> shift >= BINS:
            shift += 1
    size = ((2 * bound) >> shift) + 1
    table[:size] = 0
    for p in range(len(weight)):
        table[(np.int64(total[p] - without * row[p]) + bound) >> shift] += weight[p]
        n_pairs += weight[p]
    below, squares, product = 0, 0.0, 0.0
    for code in range(size):
        copies = table[code]
        rank = 2 * below + copies - n_pairs
        table[code] = rank
        squares += np.float64(copies) * rank * rank
        below += copies
    for p in range(len(weight)):
        product += weight[p] * row[p] * table[(np.int64(total[p] - without * row[p]) + bound) >> shift]
    scale = np.sqrt(own * squares)
    return product / scale if scale > 0 else np.nan


@njit(**_COMPILE)
def ceilings_of_ranks(rows: Any, squares: Any, weight: Any, subjects: Any, total: Any, table: Any, found: Any) -> None:
    """Write the lower and the upper noise ceiling of ranked RSMs for one resample of subjects to `found` (2,)."""
    n_pairs, drawn, kinds, low, high = 0, 0, 0, 0.0, 0.0
    for p in range(len(weight)):
        n_pairs += weight[p]
        total[p] = 0.0
    for s in range(len(subjects)):
        if subjects[s] > 0:
            drawn += subjects[s]
            kinds += 1
            for p in range(len(weight)):
                total[p] += subjects[s] * rows[s, p]
    if kinds < 2:
        found[:] = np.nan
        return
    bound = drawn * n_pairs
    for s in range(len(subjects)):
        if subjects[s] > 0:
            high += pooled_r(total, rows[s], 0, squares[s], weight, bound, table)
            low += pooled_r(total, rows[s], subjects[s], squares[s], weight, bound, table)
    found[0], found[1] = low / kinds, high / kinds


@njit(**_COMPILE)
def ceilings_of_products(gram: Any, subjects: Any, found: Any) -> None:
    """Write both noise ceilings, from the correlations of subjects with one another, to `found` (2,)."""
    n, kinds, whole, low, high = len(subjects), 0, 0.0, 0.0, 0.0
    for s in range(n):
        kinds += subjects[s] > 0
        for t in range(n):
            whole += subjects[s] * subjects[t] * gram[s, t]
    if kinds < 2:
        found[:] = np.nan
        return
    for s in range(n):
        if subjects[s] > 0:
            with_all = 0.0
            for t in range(n):
                with_all += subjects[t] * gram[s, t]
            high += with_all / np.sqrt(whole)
            without = whole - 2 * subjects[s] * with_all + subjects[s] ** 2 * gram[s, s]
            low += (with_all - subjects[s] * gram[s, s]) / np.sqrt(without)
    found[0], found[1] = low / kinds, high / kinds


@njit(**_COMPILE)
def values_of(values: Any, at: Any, weight: Any, centred: bool, found: Any) -> None:
    """Write the values of some pairs to `found` (p,), minus their weighted mean if asked; NaN if they are all equal."""
    low, high, mean, copies = values[at[0]], values[at[0]], 0.0, 0
    for p in range(len(at)):
        x = values[at[p]]
        found[p] = x
        low, high = min(low, x), max(high, x)
        mean += weight[p] * x
        copies += weight[p]
    if centred:
        mean = mean / copies if high > low else np.nan
        for p in range(len(at)):
            found[p] -= mean


@njit(**_COMPILE)
def one_resample(
    rsms: Any, sizes: Any, n_models: int, measure: int, counts: Any, subjects: Any, r: Any, ceilings: Any
) -> None:
    """Compare models and subjects on one resample of stimuli, and compute ceilings for several resamples of subjects.

    `rsms` (n_models + n_subjects, pairs) has codes below `sizes` for Spearman's correlation, and values otherwise;
    `subjects` is (k, n_subjects). Results go to `r` (n_models, n_subjects) and `ceilings` (k, 2).
    """
    different = np.sum(counts > 0)
    n, n_rsms = different * (different - 1) // 2, len(rsms)
    at, weight = np.empty(n, np.int64), np.empty(n, np.int64)
    pairs_of(counts, at, weight)
    rows, squares = np.empty((n_rsms, n)), np.empty(n_rsms)
    codes, table, total = np.empty(n, np.int64), np.empty(EXACT if measure == SPEARMAN else 1, np.int64), np.empty(n)
    for k in range(n_rsms):
        if measure == SPEARMAN:
            for p in range(n):
                codes[p] = np.int64(rsms[k, at[p]])
            rank_codes(codes, weight, sizes[k], table, rows[k])
        else:
            values_of(rsms[k], at, weight, measure == PEARSON, rows[k])
        squares[k] = dot(rows[k], rows[k], weight)
    for m in range(n_models):
        for s in range(n_rsms - n_models):
            scale = np.sqrt(squares[m] * squares[n_models + s])
            r[m, s] = dot(rows[m], rows[n_models + s], weight) / scale if scale > 0 else np.nan
    if measure == SPEARMAN:
        for k in range(len(subjects)):
            ceilings_of_ranks(rows[n_models:], squares[n_models:], weight, subjects[k], total, table, ceilings[k])
        return
    gram = np.empty((n_rsms - n_models, n_rsms - n_models))
    for s in range(len(gram)):
        for t in range(len(gram)):
            scale = np.sqrt(squares[n_models + s] * squares[n_models + t])
            gram[s, t] = dot(rows[n_models + s], rows[n_models + t], weight) / scale if scale > 0 else np.nan
    for k in range(len(subjects)):
        ceilings_of_products(gram, subjects[k], ceilings[k])


@njit(**_COMPILE)
def relabelled_ceiling(ranked: Any, orders: Any, found: Any) -> None:
    """Write both noise ceilings of relabelled subjects to `found` (2,).

    `ranked` (n_subjects, n, n) has the doubled, centred ranks of the pairs, and `orders` is (n_subjects, n).
    """
    n_subjects, n = orders.shape
    n_pairs = n * (n - 1) // 2
    rows, squares, weight = np.empty((n_subjects, n_pairs)), np.empty(n_subjects), np.ones(n_pairs, np.int64)
    for s in range(n_subjects):
        p = 0
        for i in range(n):
            for j in range(i + 1, n):
                rows[s, p] = ranked[s, orders[s, i], orders[s, j]]
                p += 1
        squares[s] = dot(rows[s], rows[s], weight)
    every, table = np.ones(n_subjects, np.int64), np.empty(EXACT, np.int64)
    ceilings_of_ranks(rows, squares, weight, every, np.empty(n_pairs), table, found)
