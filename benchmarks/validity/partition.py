"""How often a band of features without a part of its own is said to have one, and how well intervals cover.

    python -m benchmarks.validity.partition [--worlds 200] [--stimuli 300] [--repeated 1.0]

Every world has two bands of ten features that share some of their variance, and four regions of 25 voxels whose noise
is correlated. Voxels follow neither band, the first, what both share, or the own part of each. The share of regions
whose interval lies above zero is an error rate where the planted part is zero, and power where it is not; Wilson's
interval over worlds (the regions of a world share their stimuli). Coverage: how often the interval of a region, whose
voxels keep their weights, contains the mean of the estimates of all draws of stimuli and noise. A part of the
stimuli is presented twice: from them, the explainable variance is estimated, and the parts as shares of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain import statistics
from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.folds import nested_folds
from affectlake.brain.encoding.shares import (
    ExplainedShares,
    Intervals,
    Winners,
    explained_shares,
    intervals,
    shares_of,
    winners,
)
from affectlake.brain.repeats import error_of_explainable, explainable_variance
from affectlake.geometry.intervals import wilson_interval

N_REGIONS, PER_REGION, D = 4, 25, 10
PENALTIES = np.logspace(-3, 3, 13)
KINDS = ("neither", "the first", "what both share", "both apart")
PARTS = ("first", "second", "first+second", "all")

Array = NDArray[np.float64]


class Drawn(NamedTuple):
    """Parts of the regions of a world, (4 parts, regions): of the variance, and of the explainable variance."""

    parts: Intervals
    shares: ExplainedShares
    explainable: Array
    winners: Winners


def drawn(kind: str, n: int, weights: np.random.Generator, rng: np.random.Generator, repeated: float) -> Drawn:
    """Draw stimuli and patterns of one world, and return the parts of its regions."""
    common = rng.normal(size=(n, 4))
    mix = [weights.normal(size=(4, D)) for _ in range(2)]
    own = [rng.normal(size=(n, D)) for _ in range(2)]
    bands = {name: common @ m + o for name, m, o in zip(("first", "second"), mix, own, strict=True)}
    sources = {"neither": [], "the first": [bands["first"]], "what both share": [common], "both apart": own}[kind]
    place = np.repeat(np.arange(N_REGIONS), PER_REGION)
    stimulus = np.concatenate([np.arange(n), np.arange(round(repeated * n))])
    counts = np.bincount(stimulus)
    shown = 1.4 * (rng.normal(size=(len(stimulus), len(place))) + rng.normal(size=(len(stimulus), N_REGIONS))[:, place])
    for source in sources:
        signal = source @ weights.normal(size=(source.shape[1], len(place)))
        shown += (0.7 * signal / signal.std(axis=0))[stimulus]
    patterns = np.zeros((n, len(place)))
    np.add.at(patterns, stimulus, shown)
    patterns /= counts[:, None]
    inside = place == np.arange(N_REGIONS)[:, None]
    found = encode_bands(
        bands,
        patterns,
        nested_folds(n, 5, 5, rng),
        regions=inside,
        ratios=[0.01, 0.1, 1.0],
        penalties=PENALTIES,
    )
    parts = intervals(found.losses, shares_of(found.models).coefficients, 5)
    explainable = statistics.region_means(explainable_variance(shown, stimulus)[None], inside)[0]
    shares = explained_shares(parts, explainable, error_of_explainable(explainable, counts))
    alone = np.stack([found.r2[3] - found.r2[2], found.r2[3] - found.r2[1]])
    return Drawn(parts, shares, explainable, winners(alone, found.covariance, 5, n))


def main() -> None:
    """Print the tables of docs/validity.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--stimuli", type=int, default=300)
    parser.add_argument("--repeated", type=float, default=1.0, help="share of the stimuli that is presented twice")
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    print(f"{given.worlds} worlds of {given.stimuli} stimuli; interval above zero (mean R²), % of regions\n")
    print("| voxels follow | " + " | ".join(PARTS) + " | voxels won by the first, the second (p < 0.05; FDR < 0.05) |")
    print("|---|" + "---|" * (len(PARTS) + 1))
    for kind in KINDS:
        above, means, won = [], [], []
        for world in range(given.worlds):
            found = drawn(
                kind, given.stimuli, np.random.default_rng([world, 1]), np.random.default_rng(world), given.repeated
            )
            above.append(found.parts.low > 0)  # False for NaN
            means.append(found.parts.value)
            levels = found.winners.p, statistics.benjamini_hochberg(found.winners.p)
            won.append([[np.mean((p < 0.05) & (found.winners.band == band)) for band in (0, 1)] for p in levels])
        shares, mean = np.mean(above, axis=(0, 2)), np.mean(means, axis=(0, 2))
        wins = "; ".join(f"{100 * first:.2f}, {100 * second:.2f}" for first, second in np.mean(won, axis=0))
        ends = [wilson_interval(round(share * given.worlds), given.worlds) for share in shares]
        print(
            f"| {kind} | "
            + " | ".join(
                f"{100 * share:.1f} ({100 * low:.1f} to {100 * high:.1f}); {value:.4f}"
                for share, (low, high), value in zip(shares, ends, mean, strict=True)
            )
            + f" | {wins} |"
        )
    print(f"\ncoverage over {given.draws} draws of each of ten worlds, %: of R², and of shares of the explainable\n")
    print("| voxels follow | " + " | ".join(PARTS) + " | explainable (error), known |")
    print("|---|" + "---|" * (len(PARTS) + 1))
    for kind in KINDS:
        covered, shares, known, explainable = [], [], 0, []
        for world in range(10):
            draws = [
                drawn(
                    kind,
                    given.stimuli,
                    np.random.default_rng([world, 1]),
                    np.random.default_rng([world, draw, 2]),
                    given.repeated,
                )
                for draw in range(given.draws)
            ]
            covered.append(coverage([found.parts for found in draws], np.mean([f.parts.value for f in draws], axis=0)))
            ceiling = np.mean([found.explainable for found in draws], axis=0)
            truth = np.mean([found.parts.value for found in draws], axis=0) / ceiling
            explainable.append([found.explainable for found in draws])
            shares.append(coverage([found.shares for found in draws], truth))
            known += sum(int(np.isfinite(found.shares.value).all(axis=0).sum()) for found in draws)
        pairs = zip(np.mean(covered, axis=0), np.nanmean(shares, axis=0), strict=True)
        each = " | ".join(f"{of_r2:.1f}, {of_share:.1f}" for of_r2, of_share in pairs)
        middle, error = np.mean(explainable), np.std(explainable, axis=1).mean()
        print(f"| {kind} | {each} | {middle:.3f} ({error:.3f}), in {known / (0.4 * given.draws):.0f} % |")


def coverage(found: Sequence[Intervals | ExplainedShares], truth: Array) -> Array:
    """Return how often intervals contain the truth, in % of draws and regions, for each part.

    A part that is the same for all stimuli has no interval; one that is not known does not count.
    """
    covers = np.array([
        np.where(np.isnan(f.low), f.value == truth, (f.low <= truth) & (truth <= f.high)) for f in found
    ])  # fmt: skip
    counts = np.array([~np.isnan(f.value) for f in found])
    sums, n = (covers & counts).sum(axis=(0, 2)), counts.sum(axis=(0, 2))
    return np.where(n > 0, 100 * sums / np.maximum(n, 1), np.nan)


if __name__ == "__main__":
    main()
