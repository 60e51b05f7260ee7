"""How often a band of features without a part of its own is said to have one, and how well intervals cover.

    python -m benchmarks.validity.partition [--worlds 200] [--stimuli 300]

Every world has two bands of ten features that share some of their variance, and four regions of 25 voxels whose noise
is correlated. Voxels follow neither band, the first, what both share, or the own part of each. The share of regions
whose interval lies above zero is an error rate where the planted part is zero, and power where it is not; Wilson's
interval over worlds (the regions of a world share their stimuli). Coverage: how often the interval of a region, whose
voxels keep their weights, contains the mean of the estimates of all draws of stimuli and noise.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.folds import nested_folds
from affectlake.brain.encoding.shares import Intervals, intervals, shares_of
from affectlake.geometry.intervals import wilson_interval

N_REGIONS, PER_REGION, D = 4, 25, 10
PENALTIES = np.logspace(-3, 3, 13)
KINDS = ("neither", "the first", "what both share", "both apart")
PARTS = ("first", "second", "first+second", "all")

Array = NDArray[np.float64]


def drawn(kind: str, n: int, weights: np.random.Generator, rng: np.random.Generator, strength: float) -> Intervals:
    """Draw stimuli and patterns of one world, and return the parts of its regions: (4 parts, regions)."""
    common = rng.normal(size=(n, 4))
    mix = [weights.normal(size=(4, D)) for _ in range(2)]
    own = [rng.normal(size=(n, D)) for _ in range(2)]
    bands = {name: common @ m + o for name, m, o in zip(("first", "second"), mix, own, strict=True)}
    sources = {"neither": [], "the first": [bands["first"]], "what both share": [common], "both apart": own}[kind]
    place = np.repeat(np.arange(N_REGIONS), PER_REGION)
    patterns = 1.4 * (rng.normal(size=(n, len(place))) + rng.normal(size=(n, N_REGIONS))[:, place])
    for source in sources:
        signal = source @ weights.normal(size=(source.shape[1], len(place)))
        patterns += strength * signal / signal.std(axis=0)
    found = encode_bands(
        bands,
        patterns,
        nested_folds(n, 5, 5, rng),
        regions=place == np.arange(N_REGIONS)[:, None],
        ratios=[0.01, 0.1, 1.0],
        penalties=PENALTIES,
    )
    return intervals(found.losses, shares_of(found.models))


def main() -> None:
    """Print the tables of docs/validity.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--stimuli", type=int, default=300)
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    print(f"{given.worlds} worlds of {given.stimuli} stimuli; interval above zero (mean R²), % of regions\n")
    print("| voxels follow | " + " | ".join(PARTS) + " |")
    print("|---|" + "---|" * len(PARTS))
    for kind in KINDS:
        above, means = [], []
        for world in range(given.worlds):
            found = drawn(kind, given.stimuli, np.random.default_rng([world, 1]), np.random.default_rng(world), 0.7)
            above.append(found.low > 0)  # False for NaN
            means.append(found.value)
        shares, mean = np.mean(above, axis=(0, 2)), np.mean(means, axis=(0, 2))
        ends = [wilson_interval(round(share * given.worlds), given.worlds) for share in shares]
        print(
            f"| {kind} | "
            + " | ".join(
                f"{100 * share:.1f} ({100 * low:.1f} to {100 * high:.1f}); {value:.4f}"
                for share, (low, high), value in zip(shares, ends, mean, strict=True)
            )
            + " |"
        )
    print(f"\ncoverage over {given.draws} draws of each of ten worlds, %\n")
    print("| voxels follow | " + " | ".join(PARTS) + " |")
    print("|---|" + "---|" * len(PARTS))
    for kind in KINDS:
        covered = []
        for world in range(10):
            draws = [
                drawn(
                    kind, given.stimuli, np.random.default_rng([world, 1]), np.random.default_rng([world, draw, 2]), 0.7
                )
                for draw in range(given.draws)
            ]
            truth = np.mean([found.value for found in draws], axis=0)
            covered.append(
                [np.where(np.isnan(f.low), f.value == truth, (f.low <= truth) & (truth <= f.high)) for f in draws]
            )
        print(f"| {kind} | " + " | ".join(f"{100 * share:.1f}" for share in np.mean(covered, axis=(0, 1, 3))) + " |")


if __name__ == "__main__":
    main()
