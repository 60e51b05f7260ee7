"""Coverage of the intervals of the agreement within and between participants.

Run with ``python benchmarks/validity/participants.py``, or with ``--answers 2`` for anchored triplets; prints a
Markdown table. Each study draws participants, who
answer a random part of the triplets by the triplets' probabilities, and by chance in a share of the trials that differs
between participants (a beta distribution); a tenth of the triplets is answered twice.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.intervals import wilson_interval
from affectlake.geometry.participants import Agreements, participant_agreements


class Design(NamedTuple):
    """Numbers of participants, triplets, and triplets of each participant; lapses have a Beta(b, a) distribution."""

    n_participants: int
    n_triplets: int
    n_each: int
    a: float
    b: float


DESIGNS = (
    Design(8, 60, 60, 1, 0),
    Design(20, 100, 50, 4, 2),
    Design(30, 30, 30, 2, 2),
    Design(50, 500, 60, 4, 2),
    Design(100, 3000, 60, 4, 2),
    Design(200, 1000, 50, 2, 2),
)


def probabilities(design: Design, n_answers: int) -> NDArray[np.float64]:
    """Return the probabilities of the answers to each triplet, which are the same in every study."""
    return np.random.default_rng(5).dirichlet([0.6] * n_answers, design.n_triplets)


def rates(design: Design, n_answers: int) -> tuple[float, float]:
    """Return the rates of equal answers within and between participants in the population."""
    a, b = design.a, design.b
    kept = a / (a + b)  # mean share of trials without a lapse
    spread = a * b / ((a + b) ** 2 * (a + b + 1))
    same = float((probabilities(design, n_answers) ** 2).sum(axis=1).mean())
    within, between = ((square * same + (1 - square) / n_answers) for square in (kept**2 + spread, kept**2))
    return within, between


def simulate(design: Design, n_answers: int, rng: np.random.Generator) -> Agreements:
    """Return the agreements of one study."""
    triplet, odd, participant = drawn(design, n_answers, rng)
    return participant_agreements(triplet, odd, participant, design.n_participants, n_answers)


def drawn(
    design: Design, n_answers: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the triplet, answer and participant of each judgment of one study."""
    n = design.n_participants
    lapse = rng.beta(design.b, design.a, n) if design.b else np.zeros(n)
    asked = [rng.permutation(design.n_triplets)[: design.n_each] for _ in range(n)]
    asked = [np.concatenate([one, one[: max(3, len(one) // 10)]]) for one in asked]
    participant = np.repeat(np.arange(n), [len(one) for one in asked])
    triplet = np.concatenate(asked)
    lapses = lapse[participant, None]
    chances = (1 - lapses) * probabilities(design, n_answers)[triplet] + lapses / n_answers
    odd = (rng.random(len(triplet))[:, None] > chances.cumsum(axis=1)).sum(axis=1).clip(0, n_answers - 1)
    return triplet, odd, participant


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400, help="number of simulated studies")
    parser.add_argument("--answers", type=int, default=3, choices=[2, 3], help="number of possible answers")
    chosen = parser.parse_args()
    studies, n_answers = chosen.studies, chosen.answers
    print("| participants | triplets | each | lapses | within, coverage | between, coverage | between, mean width |")
    print("|---|---|---|---|---|---|---|")
    for design in DESIGNS:
        rng, truth = np.random.default_rng(1), rates(design, n_answers)
        found = [simulate(design, n_answers, rng) for _ in range(studies)]
        cells = []
        for at, true in enumerate(truth):
            estimates = [(one.within, one.between)[at] for one in found]
            hits = sum(one.ci_low <= true <= one.ci_high for one in estimates)
            low, high = map(float, wilson_interval(hits, studies))
            cells.append(f"{hits / studies:.1%} [{100 * low:.1f}, {100 * high:.1f}]")
        width = float(np.mean([one.between.ci_high - one.between.ci_low for one in found]))
        lapses = f"{design.b / (design.a + design.b):.0%}"
        sizes = f"{design.n_participants} | {design.n_triplets:,} | {design.n_each}"
        print(f"| {sizes} | {lapses} | {cells[0]} | {cells[1]} | {width:.3f} |")


if __name__ == "__main__":
    main()
