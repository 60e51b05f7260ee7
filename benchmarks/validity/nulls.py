"""Type I error and power of the levels of label shares and of the modularity of communities.

Run with ``python benchmarks/validity/nulls.py``; prints a Markdown table. Null studies have dimensions that are
independent of the ratings and of one another; the others have one planted effect.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.graph_estimates import graph_estimates
from affectlake.geometry.intervals import wilson_interval
from affectlake.geometry.labels import label_shares

FAMILIES = ["category"] * 34 + ["dimension"] * 14


def labels_level(rng: np.random.Generator, n_stimuli: int, planted: float) -> tuple[float, float, float]:
    """Return p, share and chance of interpretable dimensions; `planted` is the weight of one rating in each."""
    causes = rng.normal(size=(n_stimuli, 8))
    scores = causes @ rng.normal(size=(8, 48)) + 2 * rng.normal(size=(n_stimuli, 48))  # correlated, as ratings are
    weights = rng.gamma(0.5, size=(n_stimuli, 20)) + planted * scores[:, rng.integers(0, 48, 20)] / scores.std()
    found = label_shares(weights, scores, FAMILIES, rng, permutations=99).interpretable
    return found.p_value, found.value, found.chance


def modularity_level(rng: np.random.Generator, n_stimuli: int, planted: float) -> tuple[float, float, float]:
    """Return p, modularity and chance of a graph of 20 dimensions; `planted` is the weight of four common causes."""
    causes = np.repeat(rng.normal(size=(n_stimuli, 4)), 5, axis=1)
    weights: NDArray[np.float64] = rng.normal(size=(n_stimuli, 20)) + planted * causes
    found = graph_estimates(weights, 0, rng, absolute=False, n_resamples=0, n_shuffled=39).modularity
    return found.p_value, found.value, found.chance


CASES: dict[str, tuple[Callable[[np.random.Generator, int, float], tuple[float, float, float]], int, float]] = {
    "interpretable share, 300 stimuli, no effect": (labels_level, 300, 0.0),
    "interpretable share, 1,000 stimuli, no effect": (labels_level, 1000, 0.0),
    "interpretable share, 2,181 stimuli, no effect": (labels_level, 2181, 0.0),
    "interpretable share, 1,000 stimuli, r of about 0.14": (labels_level, 1000, 0.1),
    "modularity, 30 stimuli, independent dimensions": (modularity_level, 30, 0.0),
    "modularity, 60 stimuli, independent dimensions": (modularity_level, 60, 0.0),
    "modularity, 200 stimuli, four groups": (modularity_level, 200, 0.7),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    chosen = parser.parse_args()
    print("| case | mean value | mean chance | p at most 0.05 (95 % CI) |\n|---|---|---|---|")
    for name, (level, n_stimuli, planted) in CASES.items():
        rows = [level(np.random.default_rng([3, seed]), n_stimuli, planted) for seed in range(chosen.studies)]
        table = np.array([row for row in rows if not np.isnan(row[0])])
        hits, n = int((table[:, 0] <= 0.05).sum()), len(table)
        low, high = map(float, wilson_interval(hits, n))
        value, chance = table[:, 1].mean(), np.nanmean(table[:, 2])
        print(f"| {name} | {value:.3f} | {chance:.3f} | {hits / n:.1%} ({low:.1%} to {high:.1%}) |", flush=True)


if __name__ == "__main__":
    main()
