"""Bias and coverage of the two corrections of human consistency, for two agents with the same preferences.

Run with ``python benchmarks/validity/consistency.py``; prints a Markdown table. Each study draws an embedding of the
prototypes and of their third stimuli, and two agents that choose by it, each with its own random answers. The true
consistency is 1 for every number of trials.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.halves import halves_correlation, split_halves
from affectlake.geometry.intervals import wilson_interval
from affectlake.geometry.pairs import (
    equation_4,
    matrix_correlation,
    odd_shares,
    pair_matrix,
    split_half_reliability,
)

N_PROTOTYPES, N_STIMULI, N_DIMENSIONS, THIRDS = 66, 600, 30, 100
Trials = tuple[NDArray[np.int32], NDArray[np.int32]]


def answers(rng: np.random.Generator, weights: NDArray[np.float64], triplets: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return odd ones drawn from the choice probabilities of an embedding (softmax of dot products)."""
    a, b, c = (weights[triplets[:, column]] for column in range(3))
    logits = np.stack([(b * c).sum(1), (a * c).sum(1), (a * b).sum(1)], axis=1)  # similarity of the other two
    odd = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return np.asarray(triplets[np.arange(len(triplets)), odd], np.int32)


def trials(rng: np.random.Generator) -> NDArray[np.int32]:
    """Return every pair of prototypes with random thirds, in random order."""
    a, b = np.triu_indices(N_PROTOTYPES, 1)
    pairs = np.repeat(np.stack([a, b], axis=1), THIRDS, axis=0)
    thirds = rng.integers(0, N_STIMULI - 2, len(pairs))
    for column in range(2):  # a third stimulus is neither of the two
        thirds += thirds >= pairs[:, column]
    found = np.column_stack([pairs, thirds]).astype(np.int32)
    return np.asarray(rng.permutation(np.unique(np.sort(found, axis=1), axis=0)))


def study(
    rng: np.random.Generator, sizes: tuple[int, int], resamples: int, same: float
) -> dict[str, tuple[float, ...]]:
    """Return value and interval of both corrections for two agents that judge the first `sizes` trials."""
    items = np.arange(N_PROTOTYPES, dtype=np.int32)
    weights = rng.gamma(0.3, 1.5, (N_STIMULI, N_DIMENSIONS))
    other = weights if same == 1 else np.where(rng.random(weights.shape) < same, weights, rng.permutation(weights))
    every = trials(rng)
    matrices, reliabilities, halves = [], [], []
    for size, own in zip(sizes, (weights, other), strict=True):
        some = every[:size]
        shares = odd_shares(some, answers(rng, own, some))
        matrices.append(pair_matrix(some, shares, items))
        reliabilities.append(split_half_reliability(some, shares, items, rng, 10))
        halves.append(split_halves(some, shares, items, 1, 10))
    raw = matrix_correlation(matrices[0], matrices[1], rng, resamples, 0)
    printed, new = equation_4(raw, *reliabilities), halves_correlation(halves[0], halves[1], rng, resamples)
    return {
        name: (one.value, one.ci_low, one.ci_high)
        for name, one in {"uncorrected": raw, "equation 4": printed, "halves": new}.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--same", type=float, default=1.0, help="share of weights that the two agents have in common")
    chosen = parser.parse_args()
    print("| trials | correction | mean ± s.e. | s.d. | interval contains the truth (95 % CI) |")
    print("|---|---|---|---|---|")
    full = N_PROTOTYPES * (N_PROTOTYPES - 1) // 2 * THIRDS
    truth = 1.0 if chosen.same == 1 else float("nan")
    for sizes in ((full, full), (53_625, 53_625), (21_450, 21_450), (10_725, 10_725), (full, 21_450)):
        rngs = [np.random.default_rng([seed, *sizes]) for seed in range(chosen.studies)]
        found = [study(rng, sizes, chosen.resamples, chosen.same) for rng in rngs]
        if np.isnan(truth):  # of agents that differ: the mean without noise, from the most trials
            truth = float(np.mean([one["halves"][0] for one in found]))
            print(f"the truth is taken to be {truth:.3f}\n")
        shown = f"{sizes[0]:,}" if sizes[0] == sizes[1] else f"{sizes[0]:,} and {sizes[1]:,}"
        for name in found[0]:
            rows = np.array([one[name] for one in found])
            value, holds = rows[:, 0], int(((rows[:, 1] <= truth) & (rows[:, 2] >= truth)).sum())
            low, high = map(float, wilson_interval(holds, len(rows)))
            spread = value.std(ddof=1)
            mean = f"{value.mean():.3f} ± {spread / len(value) ** 0.5:.3f} | {spread:.3f}"
            print(f"| {shown} | {name} | {mean} | {holds / len(rows):.0%} ({low:.0%} to {high:.0%}) |", flush=True)


if __name__ == "__main__":
    main()
