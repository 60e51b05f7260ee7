"""Coverage of the interval over participants of the consistency, beside a bootstrap and the interval over triplets.

Run with ``python benchmarks/validity/participant_ceiling.py``; prints a Markdown table. Studies are those of
``participants.py``. The true value is the mean over all studies of a design.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.intervals import wilson_interval
from affectlake.geometry.participants import participant_consistency
from benchmarks.validity.participants import DESIGNS, Design, drawn

RESAMPLES = 200


def counts_of(triplet: NDArray[np.int64], odd: NDArray[np.int64], weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the weighted number of each answer to each triplet."""
    flat = np.bincount(triplet * 3 + odd, weights, minlength=3 * (int(triplet.max()) + 1))
    return flat.reshape(-1, 3).astype(np.int64)


def shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of the most frequent answer to each triplet with two answers or more."""
    counts = counts[counts.sum(axis=1) >= 2]
    return np.asarray(counts.max(axis=1) / counts.sum(axis=1))


def bootstrapped(
    triplet: NDArray[np.int64], odd: NDArray[np.int64], who: NDArray[np.int64], n: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the percentile interval over participants drawn with replacement."""
    draws = rng.multinomial(n, [1 / n] * n, RESAMPLES)
    found = [float(shares(counts_of(triplet, odd, times[who])).mean()) for times in draws]
    return float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))


def row(design: Design, studies: int) -> str:
    """Return one row of the table."""
    rng, values = np.random.default_rng(1), []
    intervals: dict[str, list[tuple[float, float]]] = {"participants": [], "bootstrap": [], "triplets": []}
    for _ in range(studies):
        triplet, odd, who = drawn(design, 3, rng)
        one = participant_consistency(triplet, odd, who, design.n_participants)
        each = shares(counts_of(triplet, odd, np.ones(len(triplet), np.int64)))
        half = 1.96 * float(each.std(ddof=1)) / len(each) ** 0.5
        values.append(one.value)
        intervals["participants"].append((one.ci_low, one.ci_high))
        intervals["triplets"].append((one.value - half, one.value + half))
        intervals["bootstrap"].append(bootstrapped(triplet, odd, who, design.n_participants, rng))
    truth = float(np.mean(values))
    cells = []
    for found in intervals.values():
        hits = sum(low <= truth <= high for low, high in found)
        low, high = map(float, wilson_interval(hits, studies))
        cells.append(f"{hits / studies:.1%} [{100 * low:.1f}, {100 * high:.1f}]")
    width = float(np.mean([high - low for low, high in intervals["participants"]]))
    lapses = f"{design.b / (design.a + design.b):.0%}"
    return (
        f"| {design.n_participants} | {design.n_triplets:,} | {design.n_each} | {lapses} | {truth:.3f} | "
        f"{' | '.join(cells)} | {width:.3f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200, help="number of simulated studies")
    studies = parser.parse_args().studies
    print("| participants | triplets | each | lapses | true | jackknife | bootstrap | over triplets | mean width |")
    print("|---|---|---|---|---|---|---|---|---|")
    for design in DESIGNS:
        print(row(design, studies), flush=True)


if __name__ == "__main__":
    main()
