"""What fits to probabilities recover, and fits to choices, of a rater with a position bias, for the same requests.

    python benchmarks/soft_choices.py [--requests 6000] [--replicates 3] [--noise 0] [--sharpness 1]

The rater's probability of a stimulus being the odd one is that of a planted embedding. In a request, that of the first
position is raised such that it is the most probable one in the given share of requests (33 %: no bias). With `--noise`,
the log-odds of each request have normal noise with this share of their own standard deviation; with `--sharpness`, the
log-odds of the planted embedding are multiplied, as those of a model that is more certain than its choices are
reliable. Six orders have a sixth
of the trials of one order, so that every row has the same number of requests. A tenth of the trials is for validation,
by choices, and the settings are those of `l1: auto`.

"text" are the most probable positions of one order. "log p" are log-probabilities of one, three or six orders, in one
order also calibrated. Cells: correlation of the similarities of all pairs of stimuli (inner products) with the planted
ones, and accuracy (%) on the most probable answers of the planted embedding to other triplets; medians of the
replicates.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
from foreign import planted
from numpy.typing import NDArray
from orders import with_odds

from affectlake import seeds
from affectlake.judge.responses.combining import (
    by_log_probability,
    by_majority,
    calibrated,
    calibrated_probabilities,
    member_probabilities,
    position_bias,
)
from affectlake.judge.trials.orders import ORDER_SETS, ORDERS, balanced_orders
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.rsm import pairs, pearson
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import choice_probabilities, score
from affectlake.spose.settings import Settings
from affectlake.triplet_sampling import sample_uniform
from affectlake.triplets import odd_last

DIMENSIONS, START_DIMENSIONS, CEILING, N_TEST = 7, 20, 0.7, 20_000
BIASES = (1 / 3, 0.5, 0.8, 0.95)
WAYS = (("text", 1), ("log p", 1), ("log p, calibrated", 1), ("log p", 3), ("log p", 6))


class _Answers(NamedTuple):
    """Trials (n, 3), the odd member of each (n,) from 1, and the probabilities of the members (n, 3), if there are."""

    triplets: NDArray[np.int32]
    member: NDArray[np.int8]
    odds: NDArray[np.float64] | None


def answers(
    truth: NDArray[np.float32], way: str, k: int, share: float, wanted: argparse.Namespace, at: int
) -> _Answers:
    """Return the rater's answers in `k` orders, combined."""
    rng = seeds.generator(0, "soft", "answers", at)
    triplets = rng.permutation(sample_uniform(len(truth), wanted.requests, rng))[: wanted.requests // k]
    logits = wanted.sharpness * np.log(choice_probabilities(truth, triplets).astype(np.float64))
    logits -= logits.mean(axis=1, keepdims=True)
    codes = ORDER_SETS[balanced_orders(triplets, len(truth), rng)][:, :k]
    heard = logits[:, None] + wanted.noise * logits.std() * rng.normal(size=(len(logits), k, 3))
    shown = np.take_along_axis(heard, ORDERS[codes].astype(np.intp) - 1, axis=2)
    chances, positions = with_odds(shown, share, rng)
    uniform = rng.uniform(size=len(logits))
    if way == "text":
        return _Answers(triplets, by_majority(positions.astype(np.int8), codes, uniform).member, None)
    if way == "log p":
        chosen = by_log_probability(chances, codes, uniform)
        return _Answers(triplets, chosen.member, member_probabilities(chances, codes))
    bias = position_bias(chances[:, 0])
    chosen = calibrated(chances[:, 0], codes[:, 0], bias, uniform)
    return _Answers(triplets, chosen.member, calibrated_probabilities(chances[:, 0], codes[:, 0], bias))


def recovered(truth: NDArray[np.float32], own: _Answers, soft: bool, at: int) -> tuple[float, float]:
    """Return the correlation of the fit's similarities with the planted ones, and its accuracy in percent."""
    places = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[own.member - 1]
    choices = np.take_along_axis(own.triplets, places, axis=1)
    n = len(choices) // 10
    targets = None
    if soft:
        assert own.odds is not None
        targets = np.take_along_axis(own.odds, places, axis=1).astype(np.float32)[n:]
    rng = seeds.generator(0, "soft", "order", at)
    data = training_data(choices[n:], choices[:n], len(truth), rng, targets=targets)
    base = Settings(l1=0.0, dimensions=START_DIMENSIONS)
    few = parse(starting_params("emotion")).spose.few
    candidates = few.candidates(base, len(data.train), len(truth))
    fits = [fit(data, one, seeds.generator(0, "soft", "start", at)) for one in candidates]
    found = min(fits, key=lambda one: one.score.loss).weights
    r = pearson(pairs(truth @ truth.T), pairs(found @ found.T)) if found.shape[1] else 0.0
    test = sample_uniform(len(truth), N_TEST, seeds.generator(0, "soft", "test", at))
    odd = np.take_along_axis(test, choice_probabilities(truth, test).argmax(axis=1)[:, None], axis=1)[:, 0]
    accuracy = score(found, odd_last(test, odd)).accuracy if found.shape[1] else 1 / 3
    return r, 100 * accuracy


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--stimuli", type=int, default=120)
    asked.add_argument("--requests", type=int, default=6_000)
    asked.add_argument("--replicates", type=int, default=3)
    asked.add_argument("--noise", type=float, default=0.0)
    asked.add_argument("--sharpness", type=float, default=1.0)
    wanted = asked.parse_args()
    truths = [
        planted(wanted.stimuli, DIMENSIONS, CEILING, seeds.generator(0, "soft", "truth", at))
        for at in range(wanted.replicates)
    ]
    what = f"{wanted.requests:,} requests, {wanted.stimuli} stimuli"
    rater = f"noise {wanted.noise:g}, sharpness {wanted.sharpness:g}"
    print(f"{what}, {rater}; r of similarities, accuracy (%), median of {wanted.replicates}\n")
    heads = [f"{share:.0%}" for share in BIASES]
    print(f"| answers | orders | trials | learned | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 4)}")
    for way, k in WAYS:
        for soft in (False, True)[: 1 if way == "text" else 2]:
            if (way, k, soft) == ("log p", 1, False):
                continue  # the most probable position is the text
            cells = []
            for share in BIASES:
                every = [
                    recovered(truth, answers(truth, way, k, share, wanted, at), soft, at)
                    for at, truth in enumerate(truths)
                ]
                r, accuracy = np.median(np.array(every), axis=0)
                cells.append(f"{r:.3f}, {accuracy:.1f}")
            learned = "probabilities" if soft else "choices"
            print(f"| {way} | {k} | {wanted.requests // k:,} | {learned} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
