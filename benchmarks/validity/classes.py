"""Nearest-centroid classification, Cohen's κ and shares of labels: coverage, type I error and power.

    python -m benchmarks.validity.classes [--studies 1000] [--cases centroids kappa labels]

Centroids: categories of 20 stimuli in an embedding of 20 dimensions, which are further apart by `effect` standard
deviations; the truth is the mean accuracy over the studies. κ: two agents that give the same answer with the
probability of the true κ and independent ones otherwise, which one position gets with probability one half; the test is
whether the interval is above 0. Labels: each dimension is drawn from a population of dimensions; the interpretable
ones correlate with one rating by 0.3, the others with none. The truth is their share in the population.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from affectlake.geometry.agreement import cohen_kappa
from affectlake.geometry.classification import nearest_centroid
from affectlake.geometry.labels import label_shares
from benchmarks.validity.cells import share

Outcome = tuple[float, float, float, float, float]  # value, ends, truth (NaN: the mean value), p-value
Study = Callable[[np.random.Generator], Outcome]


def centroids(n_categories: int, effect: float, top: int) -> Study:
    """Return a study of the accuracy of a classification."""

    means = effect * np.random.default_rng(0).normal(size=(n_categories, 20)) / 20**0.5
    categories = np.repeat(np.arange(n_categories), 20)

    def study(rng: np.random.Generator) -> Outcome:
        weights = rng.gamma(0.5, 0.5**-0.5, (len(categories), 20)) + means[categories]
        found = nearest_centroid(weights, [str(one) for one in categories], rng, permutations=99)
        one = next(one for one in found.accuracies if one.top == top)
        return one.accuracy, one.ci_low, one.ci_high, float("nan"), one.p_value

    return study


def kappa(n: int, true: float) -> Study:
    """Return a study of the agreement of two agents."""
    shares = np.array([0.5, 0.3, 0.2])

    def study(rng: np.random.Generator) -> Outcome:
        one, other = rng.choice(3, n, p=shares), rng.choice(3, n, p=shares)
        other = np.where(rng.random(n) < true, one, other)
        table = np.zeros((3, 3), np.int64)
        np.add.at(table, (one, other), 1)
        found = cohen_kappa(table)
        return found.value, found.ci_low, found.ci_high, true, 0.0 if found.ci_low > 0 else 1.0

    return study


def interpretable(n_stimuli: int, population: float) -> Study:
    """Return a study of the share of interpretable dimensions."""

    def study(rng: np.random.Generator) -> Outcome:
        scores = rng.normal(size=(n_stimuli, 48))
        named = rng.random(30) < population
        signal = 0.3 * scores[:, rng.integers(0, 48, 30)] + 0.91**0.5 * rng.normal(size=(n_stimuli, 30))
        weights = np.where(named, signal, rng.normal(size=(n_stimuli, 30)))
        one = label_shares(weights, scores, ["category"] * 34 + ["dimension"] * 14, rng, permutations=19).interpretable
        return one.value, one.ci_low, one.ci_high, population, one.p_value

    return study


CASES: dict[str, dict[str, Study]] = {
    "centroids": {
        f"top {top}, {n} categories, effect {effect:g}": centroids(n, effect, top)
        for n in (5, 20)
        for effect in (0.0, 0.3, 1.0, 3.0)
        for top in (1, 3)
    },
    "kappa": {f"κ, {n:,} triplets, {true:g}": kappa(n, true) for n in (50, 500, 5000) for true in (0.0, 0.1, 0.7)},
    "labels": {
        f"interpretable share, {n:,} stimuli, {population:.0%}": interpretable(n, population)
        for n in (300, 1000, 2181)
        for population in (0.0, 0.2, 0.7)
    },
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    asked = parser.parse_args()
    print("| case | truth | mean value | interval holds the truth | p ≤ 0.05 |\n|---|---|---|---|---|")
    for case in asked.cases:
        for name, study in CASES[case].items():
            rows = np.array([study(np.random.default_rng([11, seed])) for seed in range(asked.studies)])
            truth = rows[:, 0].mean() if np.isnan(rows[0, 3]) else rows[0, 3]
            holds = (rows[:, 1] <= truth) & (truth <= rows[:, 2])
            numbers = f"{truth:.3f} | {rows[:, 0].mean():.3f} | {share(holds)} | {share(rows[:, 4] <= 0.05)}"
            print(f"| {name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
