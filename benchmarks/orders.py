"""How many of an unbiased rater's choices are recovered by several orders, and by calibration, from a biased one.

    python benchmarks/orders.py [--stimuli 300] [--seed 0]

A simulated rater has log-odds for each stimulus of a trial, from a planted embedding, and reads them with noise that is
different in every request. Two kinds of position bias:

odds      the log-odds of the first position are raised by a constant, chosen so that the rater names it in the given
          share of answers (a third without a bias). So do models that prefer a position but see the stimuli.
ignores   in the given share of its answers, and of its probability, the rater names the first position in any case.

Agreement is the share of choices (%) that equal those of the rater without bias and noise; ties are drawn at random, so
that choices by chance agree in 33.3 %. "log p" are one-token answers, combined by mean log-probability; "text" are the
positions named, combined by majority.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from affectlake.judge.responses.combining import by_log_probability, by_majority, calibrated, position_bias
from affectlake.judge.trials.orders import ORDER_SETS, ORDERS, balanced_orders
from affectlake.triplet_sampling import sample_dyads

NOISE = 0.5
"""Standard deviation of a request's noise, relative to that of the log-odds."""

ODDS, IGNORED = (1 / 3, 0.5, 0.75, 0.9, 0.95), (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
COLUMNS = ("log p, 1", "calibrated", "log p, 3", "log p, 6", "text, 1", "text, 3", "text, 6")


def planted(n_stimuli: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return trials (n, 3) and the log-odds (n, 3) that each member is the odd one, from a planted embedding."""
    weights = rng.gamma(0.5, 1.0, size=(n_stimuli, 8)).astype(np.float32)
    triplets = sample_dyads(n_stimuli, rng, 1)
    i, j, k = (weights[column] for column in triplets.T)
    similarity = np.stack([(j * k).sum(axis=1), (i * k).sum(axis=1), (i * j).sum(axis=1)], axis=1)
    return triplets, 2 * (similarity - similarity.mean(axis=1, keepdims=True)) / similarity.std()


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def with_odds(shown: np.ndarray, share: float, _rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (n, k, 3) and positions (n, k) of a rater that names the first position in a share."""
    low, high = 0.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        raised = shown + np.array([middle, 0.0, 0.0])
        low, high = (middle, high) if (raised.argmax(axis=-1) == 0).mean() < share else (low, middle)
    raised = shown + np.array([low if share > 1 / 3 else 0.0, 0.0, 0.0])
    return softmax(raised), raised.argmax(axis=-1) + 1


def that_ignores(shown: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and positions of a rater that ignores the stimuli in a share of its answers."""
    first = np.array([1.0, 0.0, 0.0])
    ignored = rng.uniform(size=shown.shape[:2]) < share
    return (1 - share) * softmax(shown) + share * first, np.where(ignored, 1, shown.argmax(axis=-1) + 1)


def agreements(logits: np.ndarray, base: np.ndarray, rater: Callable, share: float, rng: np.random.Generator) -> list:
    """Return the agreement of each way of asking, in the order of `COLUMNS`."""
    codes = ORDER_SETS[base]  # (n, 6)
    noisy = logits[:, None] + NOISE * logits.std() * rng.normal(size=(len(logits), 6, 3))
    shown = np.take_along_axis(noisy, ORDERS[codes].astype(np.intp) - 1, axis=2)
    probabilities, positions = rater(shown, share, rng)
    positions, uniform, truth = positions.astype(np.int8), rng.uniform(size=len(logits)), logits.argmax(axis=1) + 1
    single = position_bias(probabilities[:, 0])
    found = [
        by_log_probability(probabilities[:, :1], codes[:, :1], uniform),
        calibrated(probabilities[:, 0], codes[:, 0], single, uniform),
        *(by_log_probability(probabilities[:, :k], codes[:, :k], uniform) for k in (3, 6)),
        *(by_majority(positions[:, :k], codes[:, :k], uniform) for k in (1, 3, 6)),
    ]
    return [100 * float((chosen.member == truth).mean()) for chosen in found]


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--stimuli", type=int, default=300)
    asked.add_argument("--seed", type=int, default=0)
    wanted = asked.parse_args()
    rng = np.random.default_rng(wanted.seed)
    triplets, logits = planted(wanted.stimuli, rng)
    base = balanced_orders(triplets, wanted.stimuli, rng)
    print(f"{len(triplets):,} trials of {wanted.stimuli} stimuli; agreement with the unbiased rater (%)\n")
    print(f"| bias | {' | '.join(COLUMNS)} |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    for name, rater, shares in (("odds", with_odds, ODDS), ("ignores", that_ignores, IGNORED)):
        for share in shares:
            cells = agreements(logits, base, rater, share, rng)
            print(f"| {name}, {share:.0%} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
