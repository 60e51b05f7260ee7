"""Priors and initial weights of fits with `l1: auto`, on planted embeddings and on judgments of a lake.

    python benchmarks/priors.py [--sets 0 1 2 3] [--init-std 0.01 0.1] [--starts 3] [--lake LAKE [--agents AGENT ...]]

Each row is a set of judgments and a standard deviation of the initial weights; each fit has one prior of `spose.few`
(nats per unit of weight), with the other settings of the emotion study. Cells: accuracy on the test judgments in
percent, median over starts, with a star where the validation loss is lowest in most starts. The last columns are the
accuracies of the fits that the validation loss chooses, with the priors of `spose.few` and with all of them, and the
accuracy of the planted embedding. In the row "either", the validation loss chooses from all initial weights, too.
Planted sets are those of `benchmarks/foreign.py`; a twentieth of the training judgments is for validation. Of a lake,
judgments of its agents are drawn, a tenth of them made by chance (`benchmarks/few.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from few import N_VALIDATION, with_lapses
from foreign import simulated
from numpy.typing import NDArray
from schedules import judgments

import affectlake
from affectlake import seeds
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score
from affectlake.spose.settings import Settings

OWN = (0.14, 1.4, 4.0)
PRIORS = (*OWN, 14.0, 40.0)
SETS = ((60, 6, 5_000), (60, 6, 40_000), (300, 20, 20_000), (300, 20, 100_000), (1854, 49, 500_000))
CEILING = 0.6722


class _Set(NamedTuple):
    """A set of judgments, its name, the test judgments, and the accuracy that can be reached, in percent."""

    name: str
    data: TrainingData
    test: NDArray[np.int32]
    best: str
    dimensions: int


def planted_sets(chosen: list[int]) -> Iterator[_Set]:
    """Yield the planted sets of `SETS`."""
    for n_stimuli, d, m in (SETS[at] for at in chosen):
        own = simulated(n_stimuli, d, m, CEILING)
        n = len(own.train) // 20
        data = training_data(own.train[n:], own.train[:n], n_stimuli, seeds.generator(0, "priors", "order"))
        best = f"{100 * score(own.truth, own.test).accuracy:.2f}"
        yield _Set(f"planted: {n_stimuli:,} stimuli, {d} dimensions", data, own.test, best, 30 if d < 30 else 90)


def sets_of(path: str, agents: list[str], sizes: list[int]) -> Iterator[_Set]:
    """Yield judgments of the agents of a lake."""
    lake = affectlake.open(path)
    for agent in agents:
        own = judgments(lake, agent)
        for n in sizes:
            rng = seeds.generator(0, "few", n)
            train = own.train[rng.choice(len(own.train), n, replace=False, shuffle=False)]
            held_out = with_lapses(rng.permutation(own.validation)[:N_VALIDATION], 0.1, rng)
            data = training_data(with_lapses(train, 0.1, rng), held_out, own.n_stimuli, rng)
            yield _Set(f"{agent}: {own.n_stimuli:,} stimuli", data, own.test, "–", 30)


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--sets", type=int, nargs="*", default=list(range(len(SETS))))
    asked.add_argument("--init-std", type=float, nargs="+", default=[0.01, 0.1])
    asked.add_argument("--starts", type=int, default=3)
    asked.add_argument("--lake", default="")
    asked.add_argument("--agents", nargs="*", default=["human-category", "caption-tfidf"])
    asked.add_argument("--judgments", type=int, nargs="+", default=[5_000, 20_000, 100_000])
    wanted = asked.parse_args()
    few = parse(starting_params("emotion")).spose.few
    priors = [f"{prior:g}" for prior in PRIORS]
    heads = ("judgments", "to learn from", "init_std", *priors, "chosen", "of all priors", "possible")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    sets = planted_sets(wanted.sets)
    if wanted.lake:
        sets = sets_of(wanted.lake, wanted.agents, wanted.judgments)
    for own in sets:
        every = []
        for init_std in wanted.init_std:
            base = Settings(l1=0.0, dimensions=own.dimensions, init_std=init_std)
            table = few.model_copy(update={"priors": PRIORS}).candidates(base, len(own.data.train), own.data.n_stimuli)
            every.append(np.array([[_fitted(own, one, start) for one in table] for start in range(wanted.starts)]))
            cells = " | ".join([*_cells(every[-1]), *_chosen(every[-1:])])
            print(f"| {own.name} | {len(own.data.train):,} | {init_std:g} | {cells} | {own.best} |", flush=True)
        cells = " | ".join(["–"] * len(PRIORS) + _chosen(every))
        print(f"| {own.name} | {len(own.data.train):,} | either | {cells} | {own.best} |", flush=True)


def _fitted(own: _Set, settings: Settings, start: int) -> tuple[float, float]:
    """Return the validation loss of a fit, and its accuracy on the test judgments in percent."""
    found = fit(own.data, settings, seeds.generator(0, "priors", "start", start))
    accuracy = score(found.weights, own.test).accuracy if found.weights.shape[1] else 1 / 3
    return found.score.loss, 100 * accuracy


def _cells(found: NDArray[np.float64]) -> list[str]:
    """Return the median accuracy of each prior from losses and accuracies (n_starts, n_priors, 2)."""
    loss, accuracy = found[:, :, 0], found[:, :, 1]
    best = np.bincount(loss.argmin(axis=1), minlength=loss.shape[1]).argmax()
    cells = [f"{np.median(one):.2f}" for one in accuracy.T] + ["–"] * (len(PRIORS) - loss.shape[1])
    cells[best] += "*"
    return cells


def _chosen(every: list[NDArray[np.float64]]) -> list[str]:
    """Return the median accuracy of the fits that the validation loss chooses, from the own priors and from all."""
    cells = []
    for n in (len(OWN), len(PRIORS)):
        found = np.concatenate([one[:, :n] for one in every], axis=1)
        loss, accuracy = found[:, :, 0], found[:, :, 1]
        cells.append(f"{np.median(accuracy[np.arange(len(loss)), loss.argmin(axis=1)]):.2f}")
    return cells


if __name__ == "__main__":
    main()
