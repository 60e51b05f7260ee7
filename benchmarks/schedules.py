"""Time to the converged embedding with several schedules of the learning rate, and whether it is as good.

    python benchmarks/schedules.py LAKE [--agents human-category human-dimension] [--noisy human-category]
        [--schedules paper cycles warm] [--seeds 10]

Fits every agent's choices in the latest version of a lake from `--seeds` random starts, with the rule of convergence of
`affectlake.spose.convergence`. The objective is computed from the final weights on all training triplets, so that
schedules can be compared: during an epoch at a high rate it contains the noise of single steps. Reproducibility is the
mean over pairs of fits of the mean best correlation of dimensions. `--noisy` draws an agent's answers again, from the
choice probabilities of its first fit with the first schedule, as those of an agent that is not sure. One row per agent
and schedule; medians and ranges over seeds; processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import affectlake
from affectlake import seeds
from affectlake.lake.open import Lake
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.steps.arrays import judged
from affectlake.spose.convergence import match
from affectlake.spose.data import TrainingData, training_data
from affectlake.spose.fitting import Fit, fit
from affectlake.spose.model import choice_probabilities, score
from affectlake.spose.settings import Settings

SCHEDULES: dict[str, dict[str, object]] = {
    "paper": {"schedule": "constant", "learning_rate": 0.001, "batch_size": 1024, "convergence_epochs": 50,
              "max_epochs": 1500},
    "cycles": {"schedule": "cosine", "learning_rate": 0.008, "final_learning_rate": 0.0002, "batch_size": 2048,
               "convergence_epochs": 40, "max_epochs": 480},
    "fast": {"schedule": "cosine", "learning_rate": 0.04, "final_learning_rate": 0.0003, "batch_size": 8192,
             "convergence_epochs": 20, "max_epochs": 480, "warmup_epochs": 8},
}  # fmt: skip


class Judgments(NamedTuple):
    """Judgments of an agent: the two similar stimuli, then the odd one."""

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    test: NDArray[np.int32]
    n_stimuli: int
    l1: float


class Run(NamedTuple):
    """One fit, its processor seconds, and its objective on all training triplets."""

    found: Fit
    seconds: float
    objective: float
    test_accuracy: float


def judgments(lake: Lake, agent: str) -> Judgments:
    """Read the judgments of an agent and its sparsity."""
    tables = {name: lake.table(name) for name in ("stimuli", "triplets")}
    tables["choices"] = lake.table("choices").filter(agent=agent)
    train, validation, test = (judged(tables, name) for name in ("train", "validation", "test"))
    l1 = parse((lake.root / "params.yaml").read_text()).agents[agent].l1
    assert isinstance(l1, float), f"{agent} has l1: {l1}; name agents with a number"
    return Judgments(train, validation, test, tables["stimuli"].collect().height, l1)


def redrawn(own: Judgments, weights: NDArray[np.float32]) -> Judgments:
    """Return judgments of the same triplets, drawn from the choice probabilities of an embedding."""
    rng = seeds.generator(0, "schedules", "noisy")

    def draw(triplets: NDArray[np.int32]) -> NDArray[np.int32]:
        chances = choice_probabilities(weights, triplets).cumsum(axis=1)
        odd = (rng.random((len(triplets), 1)) > chances[:, :2]).sum(axis=1)
        order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
        return np.take_along_axis(triplets, order, axis=1)

    return own._replace(train=draw(own.train), validation=draw(own.validation), test=draw(own.test))


def run(data: TrainingData, own: Judgments, settings: Settings, seed: int) -> Run:
    """Fit once; the time is that of the fit alone."""
    begun = time.thread_time()
    found = fit(data, settings, seeds.generator(seed, "schedules"))
    seconds = time.thread_time() - begun
    loss = score(found.weights, own.train).loss
    objective = loss + settings.l1 * float(found.weights.sum(dtype=np.float64)) / own.n_stimuli
    return Run(found, seconds, objective, score(found.weights, own.test).accuracy)


def line(agent: str, name: str, runs: list[Run]) -> str:
    """Return a row of the table."""
    weights = [one.found.weights for one in runs]
    alike = [match(a, b) for i, a in enumerate(weights) for j, b in enumerate(weights) if i != j]
    columns: dict[str, tuple[list[float], str]] = {
        "epochs": ([one.found.curve[-1].epoch for one in runs], "{:.0f}"),
        "seconds": ([one.seconds for one in runs], "{:.1f}"),
        "objective": ([one.objective for one in runs], "{:.4f}"),
        "validation": ([one.found.score.loss for one in runs], "{:.4f}"),
        "accuracy": ([100 * one.test_accuracy for one in runs], "{:.2f}"),
        "dimensions": ([one.found.weights.shape[1] for one in runs], "{:.0f}"),
    }
    cells = [
        f"{form.format(np.median(found))} ({form.format(min(found))} to {form.format(max(found))})"
        for found, form in columns.values()
    ]
    converged = f"{sum(one.found.converged for one in runs)} of {len(runs)}"
    return f"| {agent} | {name} | {' | '.join(cells)} | {converged} | {np.mean(alike) if alike else float('nan'):.3f} |"


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("lake")
    asked.add_argument("--agents", nargs="*", default=["human-category", "human-dimension", "caption-tfidf"])
    asked.add_argument("--noisy", nargs="*", default=[], help="agents whose answers are drawn again")
    asked.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=["cycles", "fast"])
    asked.add_argument("--seeds", type=int, default=10)
    wanted = asked.parse_args()
    lake = affectlake.open(wanted.lake)
    print("| agent | schedule | epochs | seconds | objective | validation loss | test accuracy (%) | dimensions "
          "| converged | reproducibility |\n" + "|---" * 10 + "|")  # fmt: skip
    for agent, noisy in [*((one, False) for one in wanted.agents), *((one, True) for one in wanted.noisy)]:
        own = judgments(lake, agent)
        for name in wanted.schedules:
            settings = Settings(l1=own.l1, **SCHEDULES[name])  # type: ignore[arg-type]
            if noisy and name == wanted.schedules[0]:
                data = training_data(own.train, own.validation, own.n_stimuli, seeds.generator(0, "order"))
                own = redrawn(own, fit(data, settings, seeds.generator(0, "schedules")).weights)
            data = training_data(own.train, own.validation, own.n_stimuli, seeds.generator(0, "order"))
            runs = [run(data, own, settings, seed) for seed in range(wanted.seeds)]
            print(line(f"{agent}, drawn" if noisy else agent, name, runs), flush=True)


if __name__ == "__main__":
    main()
