"""Whether agents that are equally close to people are told apart, and the coverage of shares, differences and ranks.

    python -m benchmarks.validity.closeness [--worlds 1000]

A world has stimuli with sparse weights on 12 dimensions, which people judge with. An agent's weights are those of
people mixed with weights of its own, drawn for each stimulus: 30 %, 40 % or 60 %. Both choose the odd one out with
Gumbel noise. Agents with the same share of own weights are equally close to people, and the rest differ. Triplets are
random, or pair prototypes with random thirds, as in the validation set. The true shares are the means over all worlds.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.closeness import closeness
from benchmarks.validity.cells import share

N_DIMENSIONS, THIRDS = 12, 20
Array = NDArray[np.float64]


class Case(NamedTuple):
    """A design: random triplets, or all pairs of prototypes with 20 thirds each; and the agents' own weights."""

    n_stimuli: int
    n_triplets: int
    n_prototypes: int
    mixed: tuple[float, ...]


FEW = (0.3, 0.3, 0.3, 0.4, 0.6, 0.6)
MANY = tuple(np.repeat([0.2, 0.3, 0.35, 0.4, 0.5, 0.6], [2, 6, 4, 4, 4, 2]).tolist())  # 22 agents
CASES = (
    Case(12, 150, 0, FEW),
    Case(60, 500, 0, FEW),
    Case(300, 3_000, 0, FEW),
    Case(100, 10_000, 0, FEW),
    Case(300, 0, 12, FEW),
    Case(300, 0, 30, FEW),
    Case(300, 3_000, 0, MANY),
    Case(300, 0, 30, MANY),
)


def weights(rng: np.random.Generator, n: int) -> Array:
    return rng.gamma(0.3, 1.0, (n, N_DIMENSIONS))


def chosen(rng: np.random.Generator, own: Array, triplets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of the odd one out: the stimulus that is not in the most similar pair."""
    i, j, k = (own[triplets[:, at]] for at in range(3))
    similarity = np.stack([(j * k).sum(axis=1), (i * k).sum(axis=1), (i * j).sum(axis=1)], axis=1)
    return np.asarray((similarity + 0.3 * rng.gumbel(size=similarity.shape)).argmax(axis=1))


def drawn(rng: np.random.Generator, case: Case) -> NDArray[np.int64]:
    n = case.n_stimuli
    if case.n_prototypes:
        rows = [
            (a, b, third)
            for a, b in combinations(range(case.n_prototypes), 2)
            for third in rng.choice(np.setdiff1d(np.arange(n), [a, b]), THIRDS, replace=False)
        ]
    else:
        rows = [tuple(rng.choice(n, 3, replace=False)) for _ in range(case.n_triplets)]
    return np.unique(np.sort(np.array(rows, np.int64), axis=1), axis=0)


def main() -> None:
    """Print the table of docs/validity.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=1000)
    worlds = parser.parse_args().worlds
    print("| triplets | stimuli | agents | share: interval holds it | difference: interval holds it | equal pairs with "
          "p ≤ 0.05 | worlds with an equal pair apart | unequal pairs apart | worlds in which all intervals of ranks "
          "hold | ranks in an interval |")  # fmt: skip
    print("|---" * 10 + "|")
    for at, case in enumerate(CASES):
        print(line(case, worlds, at), flush=True)


def line(case: Case, worlds: int, number: int) -> str:
    """Return one row of the table."""
    mixed = np.array(case.mixed)
    first, second = np.array(list(combinations(range(len(mixed)), 2))).T
    equal = mixed[first] == mixed[second]
    shares, differences, apart, ranks, n_triplets = [], [], [], [], []
    for world in range(worlds):
        rng = np.random.default_rng([world, number])
        people = weights(rng, case.n_stimuli)
        triplets = drawn(rng, case)
        theirs = chosen(rng, people, triplets)
        mine = [(1 - one) * people + one * weights(rng, case.n_stimuli) for one in mixed]
        agreement = np.stack([chosen(rng, own, triplets) == theirs for own in mine], axis=1).astype(np.float64)
        found = closeness(triplets, agreement)
        shares.append([(one.value, one.ci_low, one.ci_high) for one in found.shares])
        between = [one.estimate for one in found.differences]
        differences.append([(one.value, one.ci_low, one.ci_high, one.p_value) for one in between])
        apart.append([one.apart for one in found.differences])
        ranks.append((found.lowest, found.highest))
        n_triplets.append(len(triplets))
    levels = mixed[:, None] == mixed  # agents that are equally close have one true share
    of_shares, of_pairs, told = np.array(shares), np.array(differences), np.array(apart)
    truth = of_shares[:, :, 0].mean(axis=0) @ (levels / levels.sum(axis=0))
    held = (of_shares[:, :, 1] <= truth) & (truth <= of_shares[:, :, 2])
    gap = truth[first] - truth[second]
    held_pairs = (of_pairs[:, :, 1] <= gap) & (gap <= of_pairs[:, :, 2])
    best, worst = 1 + (mixed[:, None] > mixed).sum(axis=1), len(mixed) - (mixed[:, None] < mixed).sum(axis=1)
    low, high = np.array(ranks).transpose(1, 0, 2)
    whole = ((low <= best) & (worst <= high)).all(axis=1)
    kind = f"{np.mean(n_triplets):,.0f}" + (f" of {case.n_prototypes} prototypes" if case.n_prototypes else "")
    cells = [
        kind,
        str(case.n_stimuli),
        str(len(mixed)),
        f"{100 * held.mean():.1f}%",
        f"{100 * held_pairs.mean():.1f}%",
        f"{100 * (of_pairs[:, equal, 3] <= 0.05).mean():.1f}%",
        share(told[:, equal].any(axis=1)),
        f"{100 * told[:, ~equal].mean():.1f}%",
        share(whole),
        f"{(high - low + 1).mean():.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
