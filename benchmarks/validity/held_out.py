"""Reported accuracy against true accuracy of fits to few judgments, and the test against chance.

    python benchmarks/validity/held_out.py [--studies 300] [--judgments 180 900 4500] [--agents follows guesses]

Simulated studies of 300 stimuli and one agent that follows an embedding, or guesses. A study has n judgments to learn
from, and a ninth of that for validation and for testing each. It is fitted with `spose.few`: three priors, early
stopping and the lapse rate are chosen by the validation judgments. The true accuracy is that on 100,000 further
judgments. Columns: mean of reported minus true accuracy (points, with its 95 % interval), share of studies whose 95 %
Wilson interval holds the true accuracy (with its own Wilson interval), each on the validation judgments, as studies
were scored before, and on the test judgments; and the share of studies whose fit is said to have learned something, at
level 0.01.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.intervals import wilson_interval
from affectlake.pipelines.params.study import parse
from affectlake.pipelines.params.templates import starting_params
from affectlake.spose.chance import LEVEL, chance_level
from affectlake.spose.curve import Score
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score
from affectlake.spose.proposing import choose_settings
from affectlake.spose.settings import Settings

N_STIMULI, N_DIMENSIONS, N_FRESH = 300, 10, 100_000


def judgments(n: int, truth: NDArray[np.float64] | None, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return n judgments of different triplets, the odd one last, by the embedding `truth` or by guessing."""
    drawn = np.sort(rng.integers(0, N_STIMULI, (2 * n + 100, 3)), axis=1)
    i, j, k = drawn.T
    drawn = rng.permutation(np.unique(drawn[(i != j) & (j != k)], axis=0))[:n]
    if truth is None:
        return rng.permuted(drawn, axis=1).astype(np.int32)
    i, j, k = drawn.T
    similarity = truth @ truth.T
    logits = np.stack([similarity[j, k], similarity[i, k], similarity[i, j]], axis=1)
    odd = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
    return np.take_along_axis(drawn, order, axis=1).astype(np.int32)


def study(n: int, follows: bool, seed: int) -> tuple[Score, Score, float, float]:
    """Return the scores on validation and test judgments, the true accuracy, and the level against chance."""
    rng = np.random.default_rng([n, follows, seed])
    truth = None
    if follows:
        truth = rng.gamma(2.0, 0.7, (N_STIMULI, N_DIMENSIONS)) * (rng.random((N_STIMULI, N_DIMENSIONS)) < 0.3)
    n_held = n // 9
    made = judgments(n + 2 * n_held + N_FRESH, truth, rng)
    train, validation, test, fresh = np.split(made, np.cumsum([n, n_held, n_held]))
    candidates = parse(starting_params("emotion")).spose.few.candidates(Settings(l1=0.0), n, N_STIMULI)
    data = training_data(train, validation, N_STIMULI, rng)
    settings = choose_settings(data, candidates, rng)
    found = fit(data, settings.replaced(pruning="none"), rng)
    level = chance_level(found.score, len(candidates) * (settings.max_epochs + 1))
    return found.score, score(found.weights, test), score(found.weights, fresh).accuracy, level


def holds(one: Score, true: float) -> bool:
    """Return whether the 95 % Wilson interval of a score holds the true accuracy."""
    low, high = wilson_interval(one.accuracy * one.n, one.n)
    return bool(low <= true <= high)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--judgments", type=int, nargs="+", default=[180, 900, 4500])
    parser.add_argument("--agents", nargs="+", choices=["follows", "guesses"], default=["follows", "guesses"])
    asked = parser.parse_args()
    print("| agent | judgments | held out, each | true accuracy | validation - true | interval holds | test - true "
          "| interval holds | said to have learned |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for follows in [agent == "follows" for agent in asked.agents]:
        for n in asked.judgments:
            studies = [study(n, follows, seed) for seed in range(asked.studies)]
            cells = [f"{100 * np.mean([true for *_, true, _ in studies]):.1f} %"]
            for which in (0, 1):
                errors = 100 * np.array([one[which].accuracy - one[2] for one in studies])
                half = 1.96 * errors.std(ddof=1) / np.sqrt(len(errors))
                covered = sum(holds(one[which], one[2]) for one in studies)
                low, high = wilson_interval(covered, len(studies))
                share = f"{covered / len(studies):.1%} ({low:.1%} to {high:.1%})"
                cells += [f"{errors.mean():+.2f} ± {half:.2f}", share]
            learned = sum(one[3] <= LEVEL for one in studies)
            low, high = wilson_interval(learned, len(studies))
            cells.append(f"{learned / len(studies):.1%} ({low:.1%} to {high:.1%})")
            name = "follows an embedding" if follows else "guesses"
            print(f"| {name} | {n:,} | {n // 9:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
