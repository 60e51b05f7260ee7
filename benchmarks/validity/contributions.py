"""What stacked encoding and three kinds of RSA say of bands of features in planted worlds, beside banded ridge.

    python -m benchmarks.validity.contributions [--worlds 200] [--stimuli 300] [--kinds K ...] [--coverage]

Every world has two bands of ten features, and four regions of 25 voxels whose noise is correlated. Without another
word, the bands share some of their variance. The share of regions whose interval lies above zero is an error rate where
the planted part is zero, and power where it is not. Coverage: how often the interval of a region, whose voxels keep
their weights, contains the mean of the estimates of all draws of stimuli and noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.estimates import Estimates, estimates
from affectlake.brain.contributions.partial_rsa import PartialRSA, band_distances
from affectlake.brain.contributions.pattern_products import pattern_distances
from affectlake.brain.contributions.quantities import Quantity, Scores, quantities_of
from affectlake.brain.contributions.stacked_encoding import encode_stacked, losses
from affectlake.brain.contributions.voxel_encoded_rsa import voxel_encoded_rsa
from affectlake.brain.contributions.weighted_rsa import WeightedRSA
from affectlake.brain.encoding.band_problem import subsets
from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.folds import Folds, nested_folds
from affectlake.brain.encoding.shares import intervals
from affectlake.geometry.intervals import wilson_interval

N_REGIONS, PER_REGION, D = 4, 25, 10
PENALTIES = np.logspace(-3, 3, 13)
Array = NDArray[np.float64]
Found = dict[str, dict[Quantity, Estimates]]

KINDS = {
    "neither": "voxels follow neither band",
    "the first": "voxels follow the first band",
    "both apart": "voxels follow what only one band has, of each",
    "both the same": "the second band is the first one, in another order; voxels follow it",
    "what both share": "voxels follow four features of which each band has a noisy mixture",
    "two dimensions": "voxels follow two of the first band's ten dimensions",
    "mixed dimensions": "the second band is the first one rotated; voxels follow two of its dimensions",
    "a noisy copy": "voxels follow the first band; the second is the first with noise of a third of its variance",
}


def world(kind: str, n: int, weights: np.random.Generator, rng: np.random.Generator) -> tuple[dict[str, Array], Array]:
    """Return the bands and the patterns of one world."""
    common = rng.normal(size=(n, 4))
    mix = [weights.normal(size=(4, D)) for _ in range(2)]
    own = [rng.normal(size=(n, D)) for _ in range(2)]
    first, second = (common @ m + o for m, o in zip(mix, own, strict=True))
    if kind == "both the same":
        second = first[:, ::-1].copy()
    if kind == "mixed dimensions":
        second = first @ np.linalg.qr(weights.normal(size=(D, D)))[0]
    if kind == "a noisy copy":
        second = first + rng.normal(size=first.shape) * first.std(axis=0) / np.sqrt(2)
    sources = {
        "neither": [], "the first": [first], "both apart": own, "both the same": [first], "what both share": [common],
        "two dimensions": [first[:, :2]], "mixed dimensions": [first[:, :2]], "a noisy copy": [first],
    }[kind]  # fmt: skip
    place = np.repeat(np.arange(N_REGIONS), PER_REGION)
    patterns = rng.normal(size=(n, len(place))) + rng.normal(size=(n, N_REGIONS))[:, place]
    for source in sources:
        signal = source @ weights.normal(size=(source.shape[1], len(place)))
        patterns += 0.7 * signal / signal.std(axis=0)
    return {"first": first, "second": second}, (patterns - patterns.mean(axis=0)) / patterns.std(axis=0)


def estimated(bands: Mapping[str, Array], patterns: Array, folds: Folds) -> Found:
    """Return the estimates of each method, by quantity, each (n_regions,)."""
    place = np.repeat(np.arange(N_REGIONS), PER_REGION)
    inside = place == np.arange(N_REGIONS)[:, None]
    n_folds = len(folds.inner)
    banded = encode_bands(bands, patterns, folds, regions=inside, ratios=[0.01, 0.1, 1.0], penalties=PENALTIES)
    stacked = encode_stacked(bands, patterns, folds, penalties=PENALTIES)
    quantities, signs = quantities_of(stacked.models)
    found: Found = {}
    for name, each in (("banded", banded.losses), ("stacked_encoding", losses(stacked, patterns, folds, inside))):
        own = intervals(each, signs, n_folds)
        parts = [Estimates(*(ends[q] for ends in (own.value, own.low, own.high, own.p))) for q in range(len(signs))]
        found[name] = dict(zip(quantities, parts, strict=True))
    features = np.concatenate(list(bands.values()), axis=1)
    weighted = WeightedRSA(features, np.repeat([0, 1], D), subsets(2), folds.outer)
    partial = PartialRSA({name: band_distances(x) for name, x in bands.items()}, {})
    rows: dict[str, list[Estimates]] = {"voxel_encoded_rsa": [], "weighted_rsa": [], "partial_rsa": []}
    for region in inside:
        distances = pattern_distances(patterns, region)
        for name, scores in (
            ("voxel_encoded_rsa", voxel_encoded_rsa(stacked, patterns, folds, region)),
            ("weighted_rsa", weighted.scores(distances)),
        ):
            rows[name].append(estimates(Scores(signs @ scores.value, signs @ scores.influence), folds=folds.outer))
        rows["partial_rsa"].append(estimates(partial.scores(distances)))
    for name, parts_of in rows.items():
        names = partial.quantities if name == "partial_rsa" else quantities
        stack = [np.stack([getattr(one, part) for one in parts_of], axis=1) for part in Estimates._fields]
        found[name] = {q: Estimates(*(part[at] for part in stack)) for at, q in enumerate(names)}
    return found


def drawn(kind: str, n: int, weights: np.random.Generator, rng: np.random.Generator) -> Found:
    """Draw a world and return its estimates."""
    bands, patterns = world(kind, n, weights, rng)
    return estimated(bands, patterns, nested_folds(n, 5, 5, rng))


def main() -> None:
    """Print the tables of docs/validity.md and docs/contributions.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--stimuli", type=int, default=300)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--coverage", action="store_true", help="coverage instead of error rates")
    parser.add_argument("--draws", type=int, default=50)
    given = parser.parse_args()
    for kind in given.kinds:
        print(f"\n{KINDS[kind]}")
        if given.coverage:
            _print_coverage(kind, given.stimuli, given.draws)
        else:
            _print_rates(kind, given.stimuli, given.worlds)


def _print_rates(kind: str, n: int, worlds: int) -> None:
    found = [drawn(kind, n, np.random.default_rng([k, 1]), np.random.default_rng(k)) for k in range(worlds)]
    print(f"{worlds} worlds of {n} stimuli; mean value; interval above zero, % of regions (95 % interval)\n")
    _print_header(found[0])
    for method in found[0]:
        cells = []
        for q in found[0]["banded"]:
            if q not in found[0][method]:
                cells.append("")
                continue
            above = float(np.mean([one[method][q].low > 0 for one in found]))
            value = float(np.nanmean([one[method][q].value for one in found]))
            low, high = wilson_interval(round(above * worlds), worlds)
            cells.append(f"{value:.3f}; {100 * above:.1f} ({100 * low:.0f} to {100 * high:.0f})")
        print(f"| {method} | " + " | ".join(cells) + " |", flush=True)


def _print_coverage(kind: str, n: int, draws: int) -> None:
    covered: dict[tuple[str, Quantity], list[float]] = {}
    for k in range(10):
        found = [
            drawn(kind, n, np.random.default_rng([k, 1]), np.random.default_rng([k, draw, 2])) for draw in range(draws)
        ]
        for method, own in found[0].items():
            for q in own:
                each = [one[method][q] for one in found]
                truth = np.nanmean([one.value for one in each], axis=0)
                inside = [np.where(np.isnan(one.low), np.nan, (one.low <= truth) & (truth <= one.high)) for one in each]
                covered.setdefault((method, q), []).append(float(np.nanmean(inside)))
    print(f"coverage over {draws} draws of each of ten worlds of {n} stimuli, %\n")
    _print_header(found[0])
    for method in found[0]:
        means = [
            f"{100 * np.mean(covered[method, q]):.1f}" if (method, q) in covered else "" for q in found[0]["banded"]
        ]
        print(f"| {method} | " + " | ".join(means) + " |", flush=True)


def _print_header(found: Found) -> None:
    names = [f"{q.name} {q.band}" if q.name != "all" else "all" for q in found["banded"]]
    print("| method | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))


if __name__ == "__main__":
    main()
