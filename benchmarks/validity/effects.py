"""Coverage of effect sizes and prevalences, and what Bayes factors say without and with an effect.

    python -m benchmarks.validity.effects [--studies 20000] [--seed 0]

Effect sizes are simulated. What is said of prevalences and Bayes factors needs no simulation: both have few values or
one threshold, of which the probabilities are known.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from affectlake.brain.effect_sizes import bayes_factors, effect_sizes
from affectlake.brain.prevalence import prevalence
from affectlake.geometry.intervals import wilson_interval

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
ALPHA = 5 / 101  # of 100 relabellings
SIZES = (5, 20)

DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
    "heavy tails (t, 5 d.f.)": lambda rng, shape: rng.standard_t(5, size=shape) / np.sqrt(5 / 3),
}


def effect_table(studies: int, seed: int) -> None:
    """Print how often the interval of the effect size contains the population's, and the means of d and g."""
    print("| differences | subjects | effect | interval contains it | mean d | mean g |\n|---|---|---|---|---|---|")
    for name, draw in DISTRIBUTIONS.items():
        for n in (3, *SIZES):
            for effect in (0.0, 0.5, 1.0, 2.0):
                rng = np.random.default_rng([seed, n])
                values = draw(rng, (studies, n)) + effect
                found = effect_sizes(values.mean(axis=1) / values.std(axis=1, ddof=1) * np.sqrt(n), n)
                held = int(((found.low <= effect) & (effect <= found.high)).sum())
                low, high = (100 * float(end) for end in wilson_interval(held, studies))
                print(
                    f"| {name} | {n} | {effect:g} | {100 * held / studies:.1f}% ({low:.1f}% to {high:.1f}%) "
                    f"| {found.d.mean():.3f} | {found.g.mean():.3f} |"
                )


def significant(n: int, share: float, power: float, correlation: float) -> Array:
    """Return the probabilities of 0 to n significant subjects, float (n + 1,).

    Subjects with the effect (a share) are significant with probability `power`; the statistics of all others are
    normal, with a correlation between subjects.
    """
    u = np.linspace(-8, 8, 4001)
    weights = stats.norm.pdf(u) / stats.norm.pdf(u).sum()
    alpha = stats.norm.sf((stats.norm.isf(ALPHA) - np.sqrt(correlation) * u) / np.sqrt(1 - correlation))
    theta = (1 - share) * alpha + share * power
    return np.array([float(weights @ stats.binom.pmf(k, n, theta)) for k in range(n + 1)])


def prevalence_table() -> None:
    """Print how often the interval of the prevalence contains the truth, and how often it excludes zero."""
    print("| subjects | power | correlation | prevalence | mean mode | interval contains it | bound is below it "
          "| interval above 0 |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    cases = [(1.0, 0.0, share) for share in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)]
    cases += [(0.5, 0.0, share) for share in (0.5, 1.0)]
    cases += [(1.0, correlation, 0.0) for correlation in (0.3, 0.6, 0.9)]
    for n in SIZES:
        found = prevalence(np.arange(n + 1), n, ALPHA)
        for power, correlation, share in cases:
            chance = significant(n, share, power, correlation)
            held = chance @ ((found.low <= share) & (share <= found.high))
            print(
                f"| {n} | {power:g} | {correlation:g} | {share:g} | {chance @ found.mode:.3f} | {100 * held:.1f}% "
                f"| {100 * (chance @ (found.bound <= share)):.1f}% | {100 * (chance @ (found.low > 0)):.1f}% |"
            )
        means = [significant(n, share, 1.0, 0.0) @ ((found.low <= share) & (share <= found.high))
                 for share in (np.arange(1000) + 0.5) / 1000]  # fmt: skip
        print(f"| {n} | 1 | 0 | uniform | | {100 * np.mean(means):.1f}% | | |")


def bayes_table() -> None:
    """Print how often Bayes factors are above 3 and 10, and below 1/3."""
    print("| subjects | effect | BF10 above 3 | above 10 | below 1/3 | p < 0.05 | t at BF10 = 3 |"
          "\n|---|---|---|---|---|---|---|")  # fmt: skip
    for n in (3, *SIZES):

        def reached(level: float, n: int = n) -> float:
            """Return |t| at which the Bayes factor is a level; 0 if it is above it for every t."""
            if bayes_factors(0.0, n) > level:
                return 0.0

            def excess(size: float) -> float:
                return float(np.log(bayes_factors(size, n) / level))

            return float(optimize.brentq(excess, 0, 1e6))

        def beyond(t: float, effect: float, n: int = n) -> float:
            """Return the probability that |t| is higher."""
            delta = effect * np.sqrt(n)
            return float(stats.nct.sf(t, n - 1, delta) + stats.nct.sf(t, n - 1, -delta))

        ends, usual = [reached(level) for level in (3.0, 10.0, 1 / 3)], stats.t.isf(0.025, n - 1)
        for effect in (0.0, 0.5, 1.0, 2.0):
            above, far, not_below, rejected = (100 * beyond(t, effect) for t in (*ends, usual))
            print(
                f"| {n} | {effect:g} | {above:.1f}% | {far:.1f}% | {100 - not_below:.1f}% | {rejected:.1f}% "
                f"| {ends[0]:.2f} |"
            )


def main() -> None:
    """Print the tables of docs/validity.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    effect_table(given.studies, given.seed)
    print()
    prevalence_table()
    print()
    bayes_table()


if __name__ == "__main__":
    main()
