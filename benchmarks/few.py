"""Fits to few judgments with a learning rate in cycles, and with the constant rate of earlier releases.

    python benchmarks/few.py LAKE [--agents human-category caption-tfidf] [--noise 0.1] [--judgments 20000 250000]

Draws judgments of an agent from the training split of the latest version of a lake, some of them by chance, and 5,000
for validation in the same way. In both ways, one fit for each prior of `spose.few` is made from the same start, and the
validation loss chooses one. Columns: processor seconds of all these fits, on one thread; validation loss of the chosen
fit; its accuracy on the test judgments, none of which is by chance; the lapse rate that it learned.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from schedules import judgments

import affectlake
from affectlake import seeds
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score
from affectlake.spose.settings import FewJudgments

N_VALIDATION = 5_000


def with_lapses(triplets: NDArray[np.int32], share: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return judgments of which a share is made by chance."""
    changed = triplets.copy()
    by_chance = rng.random(len(triplets)) < share
    changed[by_chance] = rng.permuted(triplets[by_chance], axis=1)
    return changed


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("lake")
    asked.add_argument("--agents", nargs="*", default=["human-category", "caption-tfidf"])
    asked.add_argument("--noise", type=float, default=0.1, help="Share of judgments made by chance.")
    asked.add_argument("--judgments", type=int, nargs="+", default=[20_000, 100_000, 250_000])
    wanted = asked.parse_args()
    lake = affectlake.open(wanted.lake)
    study = parse(starting_params("emotion"))
    ways = {"constant": FewJudgments(), "in cycles": study.spose.few}
    print(
        "| agent | judgments | learning rate | seconds | validation loss | accuracy (%) | lapse rate |\n"
        + "|---" * 7
        + "|"
    )
    for agent in wanted.agents:
        own = judgments(lake, agent)
        base = study.settings(agent).replaced(l1=own.l1, pruning="none")
        for n in wanted.judgments:
            rng = seeds.generator(0, "few", n)
            train = own.train[rng.choice(len(own.train), n, replace=False, shuffle=False)]
            held_out = with_lapses(rng.permutation(own.validation)[:N_VALIDATION], wanted.noise, rng)
            data = training_data(with_lapses(train, wanted.noise, rng), held_out, own.n_stimuli, rng)
            for name, few in ways.items():
                begun = time.thread_time()
                candidates = few.candidates(base, n, own.n_stimuli)
                fits = [fit(data, one, seeds.generator(0, "start")) for one in candidates]
                seconds = time.thread_time() - begun
                best = min(fits, key=lambda one: one.score.loss)
                accuracy = 100 * score(best.weights, own.test).accuracy
                cells = f"{seconds:.1f} | {best.score.loss:.4f} | {accuracy:.2f} | {best.lapse:.3f}"
                print(f"| {agent} | {n:,} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
