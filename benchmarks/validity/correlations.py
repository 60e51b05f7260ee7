"""Coverage of the intervals of correlations over stimuli, and the tests of overlaps and of similarity matrices.

    python -m benchmarks.validity.correlations [--studies 1000] [--cases ratings compared]

Dimensions and ratings are sums of independent causes, so that their true correlations are known: causes that are
normal, or have a gamma distribution of shape 0.3 (most values near 0, a few large ones), as the weights of sparse
embeddings and the ratings of categories have. A study has an embedding of 20 dimensions and 48 ratings. The first table
has the mean over all intervals of a study, and then over studies, because those of one study are not independent. The
second table has a tenth of the studies where there is an effect.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.communities import community_overlap
from affectlake.geometry.correlations import rating_correlations
from affectlake.geometry.labels import labels
from affectlake.geometry.pairs import matrix_correlation
from benchmarks.validity.cells import mean_share, share

N_CAUSES, N_DIMENSIONS, N_RATINGS, N_PROTOTYPES = 8, 20, 48, 66
Array = NDArray[np.float64]


class World(NamedTuple):
    """Loadings of dimensions and ratings on all causes (common ones first, then one of each column alone)."""

    dimensions: Array
    ratings: Array

    @property
    def r(self) -> Array:
        """The true correlations of dimensions with ratings."""
        x, y = (side / np.linalg.norm(side, axis=0) for side in self)
        return x.T @ y

    def draw(self, rng: np.random.Generator, n: int, normal: bool) -> tuple[Array, Array]:
        """Return embedding and ratings of `n` stimuli."""
        size = (n, len(self.dimensions))
        causes = rng.normal(size=size) if normal else rng.gamma(0.3, 0.3**-0.5, size)
        return causes @ self.dimensions, causes @ self.ratings


def world(rng: np.random.Generator, common: float, n_ratings: int = N_RATINGS) -> World:
    """Return loadings; each column has two common causes, with `common` times the loading of its own cause."""
    n = N_DIMENSIONS + n_ratings
    shared = np.zeros((N_CAUSES, n))
    for column in range(n):
        shared[rng.choice(N_CAUSES, 2, replace=False), column] = common * rng.uniform(0.3, 1, 2)
    both = np.vstack([shared, np.eye(n)])
    return World(both[:, :N_DIMENSIONS], both[:, N_DIMENSIONS:])


def of_ratings(rng: np.random.Generator, n: int, normal: bool, common: float) -> dict[str, float]:
    """Return the shares of intervals that hold the truth: of all correlations, of labels, and of edges."""
    made = world(rng, common)
    x, y = made.draw(rng, n, normal)
    found, own = rating_correlations(x, y), rating_correlations(x, x)
    holds = (found.ci_low <= made.r) & (made.r <= found.ci_high)
    named = labels(found.r)
    joined = np.argwhere(np.triu(own.r > 0.2, 1))
    between = World(made.dimensions, made.dimensions).r
    held = [own.ci_low[a, b] <= between[a, b] <= own.ci_high[a, b] for a, b in joined]
    return {
        "ratings": float(holds.mean()),
        "labels": float(np.mean([holds[one.dimension, one.rating] for one in named])),
        "edges": float(np.mean(held)) if held else float("nan"),
    }


Outcome = tuple[float, float, bool, bool]  # value, truth, whether the interval holds the truth, whether p <= 0.05


def overlap(rng: np.random.Generator, n: int, normal: bool, common: float) -> Outcome:
    """Compare the first community of five dimensions of two agents."""
    made, groups = world(rng, common, N_DIMENSIONS), np.arange(N_DIMENSIONS) // 5
    shift, mean = (3.0, 0.0) if normal else (0.0, 0.3**0.5)  # weights are not negative
    x, y = (side + shift for side in made.draw(rng, n, normal))
    one, other = (side / (shift + mean * side.sum(axis=0)) for side in made)  # each dimension has a mean of 1
    truth = float(World(one[:, groups == 0].sum(1)[:, None], other[:, groups == 0].sum(1)[:, None]).r[0, 0])
    found = community_overlap(x, groups, y, groups, rng)[0, 0]
    return found.value, truth, found.ci_low <= truth <= found.ci_high, found.p_value <= 0.05


def matrices(rng: np.random.Generator, n: int, normal: bool, common: float) -> Outcome:
    """Compare the similarity matrices (dot products with noise of s.d. 3) of two embeddings with 10 dimensions."""
    m, rest = 0.0 if normal else 0.3**0.5, (1 - common**2) ** 0.5
    first, second = (rng.normal(size=(n, 10)) if normal else rng.gamma(0.3, 0.3**-0.5, (n, 10)) for _ in range(2))
    noise = [np.triu(3 * rng.normal(size=(n, n)), 1) for _ in range(2)]
    sides = [w @ w.T + e + e.T for w, e in zip((first, common * first + rest * second), noise, strict=True)]
    other = (common + rest) * m  # mean of the second embedding; both have a variance of 1
    products = (common * (1 + m**2) + rest * m**2) ** 2 - (m * other) ** 2
    spread = [10 * ((1 + mean**2) ** 2 - mean**4) + 9 for mean in (m, other)]
    truth = 10 * products / (spread[0] * spread[1]) ** 0.5
    found = matrix_correlation(sides[0], sides[1], rng, 200, 199)
    return found.value, truth, found.ci_low <= truth <= found.ci_high, found.p_value <= 0.05


COMPARED: dict[str, tuple[Callable[[np.random.Generator, int, bool, float], Outcome], tuple[int, ...]]] = {
    "overlap of communities": (overlap, (300, 2181)),
    "similarity matrices": (matrices, (20, 66)),
}
STRENGTHS = {"overlap of communities": (0.0, 0.15, 0.5), "similarity matrices": (0.0, 0.2, 0.7)}


def ratings_table(n_studies: int) -> None:
    """Print the coverage of the intervals of correlations, labels and edges."""
    print("| values | common causes | stimuli | all correlations | labels | edges |\n" + "|---" * 6 + "|")
    for normal, kind in KINDS:
        for common in (0.0, 1.0, 3.0):
            for n in (100, 300, 2181):
                rows = [of_ratings(np.random.default_rng([5, seed]), n, normal, common) for seed in range(n_studies)]
                cells = [mean_share([row[name] for row in rows]) for name in ("ratings", "labels", "edges")]
                print(f"| {kind} | {common:g} | {n:,} | {' | '.join(cells)} |", flush=True)


def compared_table(n_studies: int) -> None:
    """Print coverage, type I error and power of overlaps and of similarity matrices."""
    print("| compared | values | common | stimuli | true r, mean | mean r | interval holds it | p ≤ 0.05 |")
    print("|---" * 8 + "|")
    for name, (compare, sizes) in COMPARED.items():
        for normal, kind in KINDS:
            for common in STRENGTHS[name]:
                n_here = max(2, int(n_studies * (1 if common == 0 else WITH_EFFECT)))
                for n in sizes:
                    found = [compare(np.random.default_rng([6, seed]), n, normal, common) for seed in range(n_here)]
                    value, truth, holds, hits = (np.array(column) for column in zip(*found, strict=True))
                    numbers = f"{truth.mean():.3f} | {value.mean():.3f} | {share(holds)} | {share(hits)}"
                    print(f"| {name} | {kind} | {common:g} | {n:,} | {numbers} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--cases", nargs="+", choices=TABLES, default=list(TABLES))
    asked = parser.parse_args()
    for case in asked.cases:
        TABLES[case](asked.studies)
        print()


WITH_EFFECT = 0.1  # studies with an effect, of those without
KINDS = ((True, "normal"), (False, "sparse"))
TABLES = {"ratings": ratings_table, "compared": compared_table}


if __name__ == "__main__":
    main()
