"""Bias and coverage of the noise ceilings and of the share that a perfect model is said to explain.

Run with ``python benchmarks/validity/ceiling.py``, or with ``--answers 2`` for anchored triplets; prints a Markdown
table. Each study draws probabilities of 2,000
triplets, 20 answers to each, and the accuracy of a perfect model on 20,000 other answers. The true attainable accuracy
is the mean of the largest probability, over many triplets; the true share is 100 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.ceiling import explained_shares, noise_ceiling
from affectlake.geometry.estimates import Estimate
from affectlake.geometry.intervals import wilson_interval

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def softmax(scale: float, n_answers: int) -> Draw:
    """Return a sampler of probabilities: the softmax of normal numbers with this standard deviation."""

    def draw(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        logits = np.exp(scale * rng.normal(size=(n, n_answers)))
        return np.asarray(logits / logits.sum(axis=1, keepdims=True))

    return draw


def lapsing(share: float, n_answers: int) -> Draw:
    """Return a sampler of an agent that guesses some triplets, and answers the others almost always alike."""

    def draw(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        certain = np.array([[0.96, 0.03, 0.01] if n_answers == 3 else [0.97, 0.03]])
        found = np.where(rng.random((n, 1)) < share, 1 / n_answers, certain)
        return np.asarray(rng.permuted(found, axis=1))

    return draw


def agents(n_answers: int) -> dict[str, Draw]:
    """Return the samplers by the name of the agent."""
    of_scale = {f"softmax, s.d. {scale:g}": softmax(scale, n_answers) for scale in (0.2, 0.5, 1, 2, 4)}
    return {
        "guesses": softmax(0.0, n_answers), **of_scale, "half guesses, half certain": lapsing(0.5, n_answers),
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--triplets", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--answers", type=int, default=3, choices=[2, 3], help="number of possible answers")
    chosen = parser.parse_args()
    heads = (
        "agent", "true", "consistency", "attainable", "interval contains the truth", "share by consistency",
        "share by attainable", "interval contains 100 %", "refused",
        "consistency: interval contains it", "agreement: interval contains it",
    )  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, draw in agents(chosen.answers).items():
        many = draw(np.random.default_rng(0), 500_000)
        answers = np.random.default_rng(1).multinomial(chosen.repeats, many)
        others = answers.max(axis=1).mean() / chosen.repeats, float((many**2).sum(axis=1).mean())
        truth = float(draw(np.random.default_rng(0), 1_000_000).max(axis=1).mean())
        rngs = [np.random.default_rng([1, seed]) for seed in range(chosen.studies)]
        table = np.array(
            [study(rng, draw, (truth, *others), chosen.triplets, chosen.repeats) for rng in rngs], np.float64
        )
        answered = table[table[:, -1] == 0]
        shares = ["–"] * 3
        if len(answered):
            shares = [f"{answered[:, 3].mean():.1%}", f"{answered[:, 4].mean():.1%}", _binomial(answered[:, 5])]
        cells = [
            name, f"{truth:.3f}", f"{table[:, 0].mean():.3f}", f"{table[:, 1].mean():.3f}", _binomial(table[:, 2]),
            *shares, _binomial(table[:, -1]), _binomial(table[:, 6]), _binomial(table[:, 7]),
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


def study(
    rng: np.random.Generator, draw: Draw, truths: tuple[float, float, float], n_triplets: int, n_repeats: int
) -> tuple[float | bool, ...]:
    """Return both ceilings, whether the interval contains the truth, both shares, the same of 1, and if refused.

    The last two values before it are whether the intervals of `consistency` and `agreement` contain their expectations.
    `truths` are the true `attainable` and these two.
    """
    found = noise_ceiling(rng.multinomial(n_repeats, draw(rng, n_triplets)))
    n = 20_000
    right = rng.random(n) < draw(rng, n).max(axis=1)
    low, high = map(float, wilson_interval(int(right.sum()), n))
    shares = explained_shares(Estimate(float(right.mean()), low, high, n=n), found)
    best = found.attainable
    full = shares.attainable.ci_low <= 1 <= shares.attainable.ci_high
    held, *same = (
        one.ci_low <= truth <= one.ci_high
        for one, truth in zip((best, found.consistency, found.agreement), truths, strict=True)
    )
    values = (found.consistency.value, best.value, held, shares.consistency.value, shares.attainable.value, full)
    return *values, *same, bool(shares.attainable.note)


def _binomial(hits: NDArray[np.float64]) -> str:
    low, high = map(float, wilson_interval(int(hits.sum()), len(hits)))
    return f"{hits.mean():.0%} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main()
