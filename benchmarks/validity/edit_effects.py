"""Error rates and coverage of what is said of edits: sign test, interval, dose-response, specificity, share read.

    python -m benchmarks.validity.edit_effects [--studies 2000] [--seed 0]

A stimulus has a level between 0 and 10, from which the ratings of its clips follow: rounded to whole numbers, cut at 0
and 10, means of five repeats, of which some cannot be read. Without an effect, an edit is rated as its null edit. With
one, it is rated `EFFECT` higher before the cut; the mean change that the interval must contain is computed from a
million stimuli.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from affectlake.editing.effects import dose_trend, effect, mean_of_repeats, read_share, sign_test, specificity
from benchmarks.validity.cells import share

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]
REPEATS, NOISE, EFFECT = 5, 1.5, 2.0
LEVELS: dict[str, Draw] = {
    "uniform": lambda rng, n: rng.uniform(1, 9, n),
    "near 0": lambda rng, n: rng.gamma(0.5, 2.0, n),
}


def answers(rng: np.random.Generator, level: Array, unread: float = 0.1) -> Array:
    """Return the ratings of all repeats, (n, REPEATS); NaN where an answer cannot be read."""
    said = np.clip(np.round(level[:, None] + rng.normal(0, NOISE, (len(level), REPEATS))), 0, 10)
    return np.where(rng.random(said.shape) < unread, np.nan, said)


def averaged(ratings: Array) -> Array:
    """Return the mean of the repeats of each stimulus."""
    return mean_of_repeats(np.repeat(np.arange(len(ratings)), REPEATS), ratings.ravel(), len(ratings))


def paired(studies: int, seed: int, name: str, n: int) -> str:
    """Return a row of the table of edits against null edits."""
    drawn, million = LEVELS[name], np.random.default_rng(seed)
    level = drawn(million, 1_000_000)
    true = float(np.nanmean(averaged(answers(million, level + EFFECT)) - averaged(answers(million, level))))
    null, held, power, covered, shares = [], [], [], [], []
    for study in range(studies):
        rng = np.random.default_rng([seed, study, n])
        level = drawn(rng, n)
        first, second = answers(rng, level), answers(rng, level)
        same = effect(averaged(second), averaged(first), "down")
        null.append(same.signs.p_value <= 0.05)
        held.append(not (same.ci_low > 0 or same.ci_high < 0))
        found = effect(averaged(answers(rng, level + EFFECT)), averaged(first), "up")
        power.append(found.signs.p_value <= 0.05)
        covered.append(found.ci_low <= true <= found.ci_high)
        at = np.repeat(np.arange(n), REPEATS)
        differences = read_share(at, second.ravel(), n) - read_share(at, first.ravel(), n)
        shares.append(sign_test(differences).p_value <= 0.05)
    cells = [share(null), share(held), share(power), f"{true:.2f}", share(covered), share(shares)]
    return f"| {name} | {n} | " + " | ".join(cells) + " |"


def trended(studies: int, seed: int, n: int, doses: int) -> str:
    """Return a row of the table of dose-response."""
    null, power = [], []
    given = np.linspace(0, 1, doses)
    for study in range(studies):
        rng = np.random.default_rng([seed, study, n, doses])
        level = rng.uniform(1, 9, n)
        null.append(dose_trend(np.stack([averaged(answers(rng, level)) for _ in given], 1), given).p_value <= 0.05)
        told = np.stack([averaged(answers(rng, level + EFFECT * dose)) for dose in given], 1)
        power.append(dose_trend(told, given).p_value <= 0.05)
    return f"| {n} | {doses} | {share(null)} | {share(power)} |"


def specific(studies: int, seed: int, d: int) -> str:
    """Return a row of the table of specificity; questions and edits have effects of their own that are not specific."""
    null, power = [], []
    for study in range(studies):
        rng = np.random.default_rng([seed, study, d])
        general = rng.normal(1, 1, (d, 1)) + rng.normal(0, 1, (1, d)) + rng.normal(0, 0.5, (d, d))
        null.append(specificity(general, rng, 499).p_value <= 0.05)
        power.append(specificity(general + EFFECT * np.eye(d), rng, 499).p_value <= 0.05)
    return f"| {d} | {share(null)} | {share(power)} |"


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| levels | stimuli | sign test, no effect | interval holds 0, no effect | sign test, effect | true change |"
          " interval holds it | share read, no effect |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in LEVELS:
        for n in (6, 10, 20):
            print(paired(given.studies, given.seed, name, n), flush=True)
    print("\n| stimuli | doses | no effect | effect |\n|---|---|---|---|")
    for n, doses in ((6, 3), (20, 3), (10, 5)):
        print(trended(given.studies, given.seed, n, doses), flush=True)
    print("\n| dimensions | no effect | effect |\n|---|---|---|")
    for d in (3, 4, 6, 10):
        print(specific(given.studies, given.seed, d), flush=True)


if __name__ == "__main__":
    main()
