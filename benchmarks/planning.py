"""How many judgments a map needs: asked at random, and as `affectlake propose` proposes them.

    python benchmarks/planning.py RATINGS.csv [--agent human-category] [--rounds 13] [--noise 0.1]

The agent is simulated from the published ratings, so that any triplet can be asked. Every row is one set of judgments;
its held-out accuracy is that on the study's own test split, which nothing here learns from, stops by or chooses by:
fits stop by 5,000 judgments of the training split. Random judgments are fitted in both ways, as the study fits and as
`affectlake propose` does, because the second alone saves judgments; only the difference that is left is the choosing's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake import triplets as trials
from affectlake.judge.vectors.ratings import families_of, rating_vectors
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.pipelines.params import study as params
from affectlake.pipelines.params.sources import EmotionSources
from affectlake.seeds import generator
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.model import score
from affectlake.spose.proposing import choose_settings, draw_informative, expected_information, fit_members
from affectlake.stimuli import load_emotion
from affectlake.triplet_sampling import sample_dyads

N_HELD_OUT = 5_000
N_SCORED = 200_000
SETTINGS = {"as the study": "the study's settings", "as plan": "`spose.few`"}
"""What each set of settings is called in the output. The keys seed the fits of the published tables: keep them."""


class World(NamedTuple):
    """Trials of the study by split, and the vectors that answer them; a share `noise` of answers is by chance."""

    n_stimuli: int
    train: NDArray[np.int32]
    test: NDArray[np.int32]
    vectors: NDArray[np.float64]
    noise: float

    def answer(self, rows: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
        """Return judgments of the rows: the similar pair, then the odd one."""
        odd = choose_by_cosine(self.vectors, rows, rng).odd
        by_chance = rng.random(len(rows)) < self.noise
        some = rows[by_chance]
        odd[by_chance] = some[np.arange(len(some)), rng.integers(0, 3, len(some))]
        return trials.odd_last(rows, odd)


def world(ratings: Path, agent: str, study: params.Params, noise: float) -> World:
    """Return the study's trials and agent, made as its steps make them."""
    sources = study.sources
    assert isinstance(sources, EmotionSources) and study.triplets.per_dyad is not None
    found = load_emotion(ratings, None, sources.exclude)
    n_stimuli = found.stimuli.height
    main = sample_dyads(n_stimuli, generator(study.seed, "triplets", "main"), study.triplets.per_dyad)
    rng = generator(study.seed, "triplets", "split")
    held_out = trials.split(len(main), study.triplets.test_fraction, rng)
    rated = study.agents[agent].ratings  # type: ignore[union-attr]
    return World(
        n_stimuli,
        main[~held_out],
        main[held_out],
        rating_vectors(found.ratings, families_of(found.families, rated), n_stimuli),
        noise,
    )


class Found(NamedTuple):
    """One set of judgments: accuracy and likeness to the truth of each fit, and the seconds that one took."""

    judgments: int
    accuracies: list[float]
    likeness: list[float]
    seconds: float

    def __str__(self) -> str:
        low, high, middle = min(self.accuracies), max(self.accuracies), statistics.median(self.accuracies)
        spread = f" ({low:.2%} to {high:.2%})" if high > low else ""
        return (
            f"{self.judgments:,} | {middle:.2%}{spread} | {statistics.median(self.likeness):.4f} | {self.seconds:.0f} |"
        )


def likeness(here: World, weights: NDArray[np.float32]) -> float:
    """Return the Pearson correlation of an embedding's similarities of all pairs with the agent's own."""
    unit = here.vectors / np.linalg.norm(here.vectors, axis=1, keepdims=True)
    pairs = np.triu_indices(here.n_stimuli, k=1)
    return float(np.corrcoef((weights @ weights.T)[pairs], (unit @ unit.T)[pairs])[0, 1])


def at_random(here: World, study: params.Params, agent: str, sizes: list[int]) -> Iterator[tuple[str, Found]]:
    """Yield what random judgments give, fitted in both ways."""
    root = study.seed
    rng = generator(root, "benchmark", "random")
    order = rng.permutation(len(here.train))
    held = here.answer(here.train[order[:N_HELD_OUT]], rng)
    test = here._replace(noise=0.0).answer(here.test[:: len(here.test) // N_SCORED], rng)
    for size in sizes:
        train = here.answer(here.train[order[N_HELD_OUT : N_HELD_OUT + size]], rng)
        data = training_data(train, held, here.n_stimuli, rng)
        base = study.settings(agent)
        ways = {"as the study": [base], "as plan": study.spose.few.candidates(base, size, here.n_stimuli)}
        for name, candidates in ways.items():
            started = time.perf_counter()
            prior = generator(root, "benchmark", "prior", size)
            settings = choose_settings(data, candidates, prior, os.cpu_count() or 1)
            weights = fit(data, settings, generator(root, "benchmark", name, size)).weights
            seconds = time.perf_counter() - started
            accuracy = score(weights, test).accuracy
            yield f"random, {SETTINGS[name]}", Found(size, [accuracy], [likeness(here, weights)], seconds)


def as_proposed(here: World, study: params.Params, agent: str, batch: int, rounds: int) -> Iterator[tuple[str, Found]]:
    """Yield what judgments asked as proposed give, round by round."""
    knobs, rng = study.proposals, generator(study.seed, "benchmark", "proposed")
    test = here._replace(noise=0.0).answer(here.test[:: len(here.test) // N_SCORED], rng)
    still = rng.permutation(len(here.train))
    held, still = here.answer(here.train[still[:N_HELD_OUT]], rng), still[N_HELD_OUT:]
    chosen = np.arange(max(batch, knobs.random_per_stimulus * here.n_stimuli))
    train = np.empty((0, 3), np.int32)
    for done in range(rounds + 1):
        train = np.concatenate([train, here.answer(here.train[still[chosen]], rng)])
        still = np.delete(still, chosen)
        started = time.perf_counter()
        candidates = study.spose.few.candidates(study.settings(agent), len(train), here.n_stimuli)
        fits, _ = fit_members(train, held, here.n_stimuli, candidates, rng, knobs.n_members, os.cpu_count() or 1)
        seconds = (time.perf_counter() - started) / len(fits)
        members = [one.weights for one in fits]
        accuracies = [score(one, test).accuracy for one in members]
        yield "proposed, `spose.few`", Found(len(train), accuracies, [likeness(here, one) for one in members], seconds)
        if done < rounds:
            lapse = float(np.mean([one.lapse for one in fits]))
            information = expected_information(members, here.train[still], lapse)
            chosen = draw_informative(information, batch, knobs.share, rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path, help="CowenKeltnerEmotionalVideos.csv")
    parser.add_argument("--agent", default="human-category")
    parser.add_argument("--noise", type=float, default=0.0, help="Share of judgments made by chance.")
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 200_000, 500_000, 1_000_000])
    wanted = parser.parse_args()
    study = params.parse(
        (Path(__file__).parents[1] / "pipelines/params/studies/emotion.yaml").read_text(encoding="utf-8")
    )
    here = world(wanted.ratings, wanted.agent, study, wanted.noise)
    print(f"{wanted.agent}, {here.n_stimuli:,} stimuli, {wanted.noise:.0%} of judgments by chance\n")
    print("| triplets, settings | judgments | held-out accuracy | r with the agent | seconds per fit |")
    print("|---|---|---|---|---|")
    for name, found in at_random(here, study, wanted.agent, wanted.sizes):
        print(f"| {name} | {found}", flush=True)
    for name, found in as_proposed(here, study, wanted.agent, wanted.batch, wanted.rounds):
        print(f"| {name} | {found}", flush=True)


if __name__ == "__main__":
    main()
