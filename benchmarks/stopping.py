"""Error rates of the rule by which a schedule stops (``stop_when``), in simulated nights and on real learning curves.

    python benchmarks/stopping.py [--repetitions 2000]
    python benchmarks/stopping.py --lake LAKE --agent NAME --per-night 5000 [--noise 0.2]

Without a lake, each repetition follows validation choices for 30 nights. Every night, as many new ones are answered,
and the next embedding predicts some choices that the one before did not, and no longer predicts others: 3 % change, and
the difference of both is a third of the gain per three versions. Prints a table in Markdown: the share of comparisons
whose 95 % limit is below the threshold, and of schedules that are stopped within 10 and 30 nights, by the limit of each
night alone and by the rule.

With a lake, the published choices of one agent are answered in random order (a share `noise` of them replaced by random
ones), and SPoSE is fitted after each night. Prints the gain of each night on the test choices, which the rule does not
use, and on the validation choices of both versions, and the share of schedules that the rule has stopped by then,
over random draws of as many held-out choices.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectlake.flows.schedules.accuracy_gain import LEVEL, Paired, can_tell, level_of, paired, upper_limit

NIGHTS, OVER, CHANGED, GAIN_BELOW, START = 30, 3, 0.03, 0.01, 0.6
ANSWERED = (50, 500, 2000)
GAINS = (2.0, 1.0, 0.5, 0.0)


def stopped_after(comparisons: Sequence[Paired], gain_below: float) -> int | None:
    """Return the number, from 0, of the comparison after which the rule stops a schedule; None if it does not."""
    place = 1
    for at, found in enumerate(comparisons):
        if not found.n or not can_tell(found, gain_below, level_of(place)):
            continue
        if upper_limit(found, level_of(place)) < gain_below:
            return at
        place += 1
    return None


def followed(rng: np.random.Generator, answered: int, gain: float, nights: int = NIGHTS) -> list[Paired]:
    """Return the comparisons of simulated nights.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws.
    answered : int
        New validation choices per night.
    gain : float
        True gain of accuracy per `OVER` versions.
    nights : int
        Number of nights.
    """
    n = answered * (nights - OVER)
    right = rng.random(n) < START
    known, accuracy, found = [right], START, list[Paired]()
    step = gain / OVER
    for night in range(1, nights):
        more, fewer = (CHANGED + step) / 2 / (1 - accuracy), (CHANGED - step) / 2 / accuracy
        right = np.where(right, rng.random(n) >= fewer, rng.random(n) < more)
        known.append(right)
        accuracy += step
        if night >= OVER:
            both = answered * (night - OVER + 1)
            found.append(paired(right[:both], known[night - OVER][:both]))
    return found


class Rates:
    """Shares of comparisons and of schedules, over repetitions."""

    def __init__(self) -> None:
        self.n_below = self.n_compared = self.n = 0
        self.by_night = {10: 0, NIGHTS: 0}
        self.by_rule = {10: 0, NIGHTS: 0}

    def add(self, comparisons: Sequence[Paired], gain_below: float) -> None:
        """Count one repetition."""
        below = [upper_limit(found, LEVEL) < gain_below for found in comparisons]
        stop = stopped_after(comparisons, gain_below)
        self.n += 1
        self.n_below += sum(below)
        self.n_compared += len(below)
        for nights in self.by_rule:
            self.by_night[nights] += any(below[: nights - OVER])
            self.by_rule[nights] += stop is not None and stop < nights - OVER

    def cells(self) -> list[str]:
        """Return the shares: of comparisons below, of schedules by each night alone, of schedules by the rule."""
        counts = (*self.by_night.values(), *self.by_rule.values())
        return [f"{self.n_below / self.n_compared:.1%}", *(f"{count / self.n:.1%}" for count in counts)]


def rates(rng: np.random.Generator, answered: int, gain: float, repetitions: int, nights: int = NIGHTS) -> Rates:
    """Return the shares of simulated schedules with a true gain."""
    found = Rates()
    for _ in range(repetitions):
        found.add(followed(rng, answered, gain, nights), GAIN_BELOW)
    return found


def print_simulated(repetitions: int) -> None:
    """Print the table of simulated nights."""
    rng = np.random.default_rng(20_260_301)
    print(f"| new choices a night | gain per {OVER} versions | limit below | each alone, 10 | 30 | rule, 10 | 30 |")
    print("|---|---|---|---|---|---|---|")
    for answered in ANSWERED:
        for times in GAINS:
            cells = rates(rng, answered, times * GAIN_BELOW, repetitions).cells()
            print(f"| {answered:,} | {times:g} × threshold | {' | '.join(cells)} |", flush=True)


def print_learned(lake: Path, agent: str, per_night: int, noise: float, nights: int, repetitions: int) -> None:
    """Print the table of a learning curve of real fits."""
    import affectlake
    from affectlake.pipelines.params.study import load
    from affectlake.pipelines.steps.arrays import judged
    from affectlake.spose.data import training_data
    from affectlake.spose.fitting import fit
    from affectlake.spose.proposing import choose_settings

    opened, rng, params = affectlake.open(lake), np.random.default_rng(1), load(lake)
    tables = {"choices": opened.table("choices").filter(agent=agent), "triplets": opened.table("triplets")}
    every = {split: judged(tables, split) for split in ("train", "validation", "test")}
    n_stimuli, total = opened.embedding(agent).shape[0], sum(map(len, every.values()))
    for rows in every.values():
        _replace(rows, noise, rng)
        rng.shuffle(rows)
    right: dict[str, list[NDArray[np.bool_]]] = {"validation": [], "test": []}
    for night in range(1, nights + 1):
        share = min(night * per_night / total, 1.0)
        train, validation = (every[split][: round(share * len(every[split]))] for split in ("train", "validation"))
        data = training_data(train, validation, n_stimuli, np.random.default_rng(2))
        settings = choose_settings(data, params.candidates(agent, len(train), n_stimuli), np.random.default_rng(3))
        weights = fit(data, settings, np.random.default_rng(night)).weights
        for split, found in right.items():
            found.append(_predicts(weights, every[split]))
        print(f"night {night}: {len(train):,} judgments, accuracy {right['test'][-1].mean():.4f}", flush=True)
    pool = [np.concatenate([a, b]) for a, b in zip(right["validation"], right["test"], strict=True)]
    n_night, size = round(per_night * len(every["validation"]) / total), len(pool[0])
    print("| night | test | validation | " + " | ".join(f"stopped, {t:g}" for t in THRESHOLDS) + " |")
    stops: dict[float, list[int]] = {t: [] for t in THRESHOLDS}
    for _ in range(repetitions):
        drawn = rng.integers(size, size=n_night * nights)
        seen = [
            paired(pool[at][drawn][: n_night * (at - OVER + 1)], pool[at - OVER][drawn][: n_night * (at - OVER + 1)])
            for at in range(OVER, nights)
        ]
        for threshold, found_at in stops.items():
            stop = stopped_after(seen, threshold)
            found_at.append(nights if stop is None else stop)
    for at in range(OVER, nights):
        both = n_night * (at - OVER + 1)
        gains = [right["test"][at].mean() - right["test"][at - OVER].mean()]
        gains.append(right["validation"][at][:both].mean() - right["validation"][at - OVER][:both].mean())
        cells = [f"{np.mean(np.array(found_at) <= at - OVER):.1%}" for found_at in stops.values()]
        print(f"| {at + 1} | {' | '.join([*(f'{gain:+.4f}' for gain in gains), *cells])} |")


THRESHOLDS = (0.005, 0.01, 0.02)


def _replace(rows: NDArray[np.int32], share: float, rng: np.random.Generator) -> None:
    """Replace the odd one of a share of the judgments by a random stimulus of the triplet, in place."""
    at = np.flatnonzero(rng.random(len(rows)) < share)
    rows[at] = rng.permuted(rows[at], axis=1)


def _predicts(weights: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    from affectlake.spose.model import choice_probabilities

    odds = choice_probabilities(weights, rows)
    return odds[:, 2] > odds[:, :2].max(axis=1)


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repetitions", type=int, default=2000)
    options.add_argument("--lake", type=Path)
    options.add_argument("--agent", default="caption-tfidf")
    options.add_argument("--per-night", type=int, default=5000)
    options.add_argument("--nights", type=int, default=26)
    options.add_argument("--noise", type=float, default=0.2)
    given = options.parse_args()
    if given.lake is None:
        print_simulated(given.repetitions)
    else:
        print_learned(given.lake, given.agent, given.per_night, given.noise, given.nights, given.repetitions)


if __name__ == "__main__":
    main()
