"""Error rates of the rule by which a run of a schedule is reported for fewer parsed answers, in simulated nights.

    python benchmarks/nights.py [--repetitions 20000]

Each repetition draws six nights: the share parsed of each night from a beta distribution with the given mean and
standard deviation (0: the same share every night), then the number of parsed answers from a binomial distribution. The
sixth is compared with the five before it, without and with a drop of its mean. In `uneven`, the numbers of answers of
the nights are drawn between a tenth of n and n. Prints a table in Markdown: shares of nights that are reported.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.flows.schedules.parsed_shares import RUNS, Parsed, fewer_parsed

MEANS = (0.6, 0.9, 0.97, 1.0)
SPREADS = (0.0, 0.01, 0.03, 0.06)
ANSWERS = (100, 1000, 20_000)


def reported(
    rng: np.random.Generator, mean: float, spread: float, n: int, drop: float, repetitions: int, uneven: bool = False
) -> float:
    """Return the share of nights that are reported.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws.
    mean, spread : float
        Mean and standard deviation over nights of the share parsed.
    n : int
        Answers of a night; the largest number if `uneven`.
    drop : float
        How much lower the mean of the last night is.
    repetitions : int
        Number of simulated sequences of nights.
    uneven : bool
        Whether nights have different numbers of answers.
    """
    shape = (repetitions, RUNS + 1)
    counts = rng.integers(max(n // 10, 20), n + 1, shape) if uneven else np.full(shape, n)
    means = np.full(shape, mean)
    means[:, -1] -= drop
    parsed = rng.binomial(counts, _shares(rng, means, spread))
    found = 0
    for x, of in zip(parsed.tolist(), counts.tolist(), strict=True):
        *before, now = (Parsed(*one) for one in zip(x, of, strict=True))
        found += fewer_parsed(now, before) is not None
    return found / repetitions


def _shares(rng: np.random.Generator, means: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """Draw the share of each night from a beta distribution; where the spread is not possible, it is the mean."""
    concentration = means * (1 - means) / spread**2 - 1 if spread else np.zeros_like(means)
    usable = concentration > 0
    a, b = np.where(usable, means * concentration, 1.0), np.where(usable, (1 - means) * concentration, 1.0)
    return np.where(usable, rng.beta(np.maximum(a, 1e-9), np.maximum(b, 1e-9)), means)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repetitions", type=int, default=20_000)
    repetitions = options.parse_args().repetitions
    rng = np.random.default_rng(20_260_301)
    print("| mean | SD between nights | answers | no drop | no drop, uneven | drop of 10 points |")
    print("|---|---|---|---|---|---|")
    for mean in MEANS:
        for spread in SPREADS if mean < 1 else (0.0,):
            for n in ANSWERS:
                rates = [
                    reported(rng, mean, spread, n, drop, repetitions, uneven)
                    for drop, uneven in ((0.0, False), (0.0, True), (0.1, False))
                ]
                cells = " | ".join(f"{rate:.1%}" for rate in rates)
                print(f"| {mean:.0%} | {100 * spread:.0f} points | {n:,} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
