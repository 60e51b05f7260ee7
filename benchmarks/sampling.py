"""Times the paper-sized sampling of triplets and a category agent's choices on them, next to plain formulations.

Run ``python benchmarks/sampling.py``; it prints a Markdown table. The plain formulations are timed on a part of the
work and scaled, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import combinations, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numba
import numpy as np

from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.triplet_sampling import sample_dyads


class Row(NamedTuple):
    """One line of the table: what, how, seconds for the whole work, and how they were had."""

    work: str
    formulation: str
    seconds: float
    note: str


def plain_sampling(n_stimuli: int, n_dyads: int) -> int:
    """Draw three thirds for the first `n_dyads` dyads with a Python loop and a set; return how many triplets."""
    rng = np.random.default_rng(0)
    seen: set[tuple[int, ...]] = set()
    for pair in islice(combinations(range(n_stimuli), 2), n_dyads):
        drawn = 0
        while drawn < 3:
            third = int(rng.integers(n_stimuli))
            triplet = tuple(sorted((*pair, third)))
            if third not in pair and triplet not in seen:
                seen.add(triplet)
                drawn += 1
    return len(seen)


def loop_choices(vectors: np.ndarray, triplets: np.ndarray) -> np.ndarray:
    """Return the odd ones with a Python loop, three cosines for each triplet."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    odd = np.empty(len(triplets), np.int32)
    for row, (i, j, k) in enumerate(triplets):
        a, b, c = vectors[i], vectors[j], vectors[k]
        odd[row] = (i, j, k)[int(np.argmax([cosine(b, c), cosine(a, c), cosine(a, b)]))]
    return odd


def numpy_choices(vectors: np.ndarray, triplets: np.ndarray) -> np.ndarray:
    """Return the odd ones with gathered rows and NumPy, without looking at ties."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b, c = (unit[column] for column in triplets.T)
    pairs = np.stack([(b * c).sum(axis=1), (a * c).sum(axis=1), (a * b).sum(axis=1)])
    return np.asarray(triplets[np.arange(len(triplets)), pairs.argmax(axis=0)])


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the median wall time of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return median(times)


def ratings_like(n_stimuli: int) -> np.ndarray:
    """Return made-up category ratings: 34 proportions of twelve raters, sparse as the published ones are."""
    rng = np.random.default_rng(1)
    mix = rng.dirichlet(np.full(34, 0.1), size=n_stimuli)
    return (rng.binomial(12, 0.02 + 0.9 * mix) + 1e-3 * mix) / 12


def measure(n_stimuli: int, repeats: int) -> list[Row]:
    """Time both kinds of work, fast and plain."""
    count = 3 * n_stimuli * (n_stimuli - 1) // 2
    warm = sample_dyads(50, np.random.default_rng(0))
    vectors = ratings_like(n_stimuli)
    choose_by_cosine(vectors, warm, np.random.default_rng(0))  # compiles
    part = min(20_000, count // 3)
    sampling = f"sample {count:,} triplets"
    rows = [
        Row(
            sampling,
            "affectlake",
            seconds(lambda: sample_dyads(n_stimuli, np.random.default_rng(0)), repeats),
            f"median of {repeats}",
        ),
        Row(
            sampling,
            "Python loop and set",
            seconds(lambda: plain_sampling(n_stimuli, part)) * count / (3 * part),
            f"scaled from {3 * part:,} triplets",
        ),
    ]
    triplets = sample_dyads(n_stimuli, np.random.default_rng(0))
    choosing = f"choose on {count:,} triplets"
    fast = seconds(lambda: choose_by_cosine(vectors, triplets, np.random.default_rng(0)), repeats)
    rows.append(Row(choosing, "affectlake", fast, f"median of {repeats}, compiled before"))
    plain: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray], int], ...] = (
        ("NumPy, gathered rows", numpy_choices, 500_000),
        ("Python loop", loop_choices, 20_000),
    )
    for name, formulation, size in plain:
        some = triplets[:: max(1, count // size)]
        took = seconds(lambda run=formulation, some=some: run(vectors, some)) * count / len(some)  # type: ignore[misc]
        rows.append(Row(choosing, name, took, f"scaled from {len(some):,} triplets"))
    return rows


def processor() -> str:
    """Return the processor's name where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stimuli", type=int, default=2180)
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    rows = measure(wanted.stimuli, wanted.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{processor()}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Numba {numba.__version__}; one thread; peak memory of the run {peak:.1f} GB.\n"
    )
    print("| work | formulation | seconds | times as long | how measured |\n|---|---|---|---|---|")
    fastest = {row.work: row.seconds for row in rows if row.formulation == "affectlake"}
    for row in rows:
        ratio = row.seconds / fastest[row.work]
        print(f"| {row.work} | {row.formulation} | {row.seconds:.2f} | {ratio:,.0f} | {row.note} |")


if __name__ == "__main__":
    main()
