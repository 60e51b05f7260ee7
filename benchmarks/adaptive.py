"""How many answers of people random trials need, and trials that `affectlake propose` chooses, for the same accuracy.

    python benchmarks/adaptive.py [--stimuli 100] [--dimensions 10] [--seeds 10] [--first-seed 0] [--round 1000]
        [--proposed 16000] [--random 48000] [--init-stds 0.01 0.1] [--oracle]

People are simulated by a planted embedding (`benchmarks/foreign.py`). Answers are drawn from its choice probabilities;
its scale is such that the most probable answer is given in 67.22 % of random triplets, the noise ceiling of the public
human triplets (Hebart et al. 2020). Disagreement between people and within them is this noise.

The main set has `--per-dyad` thirds for each dyad, a tenth of it for the test and as much for validation. Rounds are
those of `affectlake propose` with the default section `proposals`: of each round, up to a tenth is for the test and as
much for validation. All of these answers are counted. Fits are those of `l1: auto` in a study that `affectlake init
--from` makes. Random trials have the same held-out share and the same fits. The accuracy is not that on held-out
answers, but exact: the mean planted probability of the answer that a fit predicts, in 100,000 random triplets, as a
share of the same mean for the planted embedding itself. It is that of the fit that the validation loss chooses.

The number of answers that reach a share is interpolated on the learning curve of each seed (after isotonic regression,
linear in the logarithm of the number). `ratio` is that of random trials, divided by that of proposals: median, and
range over seeds. If random trials do not reach the share, the ratio is a lower bound ("at least"); it is counted.

With `--oracle`, a third agent chooses trials by the planted embedding: from the 6 % of open trials on which the fits
diverge most from the truth (Kullback-Leibler). This is no rule that could be used. It shows what a rule would gain
that knew where the fits are wrong.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
from foreign import planted, random_triplets
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from affectlake import seeds, triplets
from affectlake.pipelines.params.study import Proposals
from affectlake.spose.data import training_data
from affectlake.spose.fitting import Fit, fit
from affectlake.spose.model import choice_probabilities
from affectlake.spose.proposing import draw_informative, expected_information, fit_members
from affectlake.spose.settings import FewJudgments, Settings
from affectlake.triplet_sampling import sample_dyads

CEILING = 0.6722
LEVELS = (80.0, 90.0, 95.0, 97.0, 98.0, 98.5, 99.0, 99.25, 99.5)
KNOBS = Proposals()
Triplets = NDArray[np.int32]


class World(NamedTuple):
    """A planted embedding, the main set by split, and random triplets with their true choice probabilities."""

    truth: NDArray[np.float32]
    train: Triplets
    validation: Triplets
    test: Triplets
    asked: Triplets
    chances: NDArray[np.float32]

    def answer(self, rows: Triplets, rng: np.random.Generator) -> Triplets:
        """Return answers of people to trials, the odd one last."""
        chances = choice_probabilities(self.truth, rows).cumsum(axis=1)
        odd = (rng.random((len(rows), 1)) > chances[:, :2]).sum(axis=1)
        return triplets.odd_last(rows, rows[np.arange(len(rows)), odd])

    def share(self, found: Fit) -> float:
        """Return the accuracy of a fit in percent of that of the planted embedding."""
        if not found.weights.shape[1]:
            return 100 / 3 / float(self.chances.max(axis=1).mean())
        predicted = choice_probabilities(found.weights, self.asked).argmax(axis=1)
        right = self.chances[np.arange(len(predicted)), predicted].mean()
        return 100 * float(right / self.chances.max(axis=1).mean())


class Curve(NamedTuple):
    """Numbers of answers, the share of the attainable accuracy (percent), and the seconds of choosing and fitting."""

    answers: list[int]
    shares: list[float]
    seconds: list[float]

    def needed(self, level: float) -> float:
        """Return the number of answers at which the curve reaches a level; infinite if it does not."""
        rising = isotonic_regression(self.shares).x
        if rising[-1] < level:
            return np.inf
        at = int(np.argmax(rising >= level))
        if at == 0:
            return float(self.answers[0])
        low, high = np.log(self.answers[at - 1 : at + 1])
        part = (level - rising[at - 1]) / (rising[at] - rising[at - 1])
        return float(np.exp(low + part * (high - low)))


def world(n_stimuli: int, d: int, per_dyad: int, rng: np.random.Generator) -> World:
    """Return a simulated world."""
    truth = planted(n_stimuli, d, CEILING, rng)
    main = sample_dyads(n_stimuli, rng, per_dyad)
    main = main[rng.permutation(len(main))]
    first, second = len(main) // 10, len(main) // 5
    asked = random_triplets(n_stimuli, 100_000, rng)
    chances = choice_probabilities(truth, asked)
    return World(truth, main[second:], main[first:second], main[:first], asked, chances)


def settings_of(n_stimuli: int, init_stds: tuple[float, ...], n: int) -> list[Settings]:
    """Return the candidates of a study that `affectlake init --from` makes."""
    few = FewJudgments(learning_rate=0.04, cycle_epochs=20, init_stds=init_stds)
    return few.candidates(Settings(l1=0.0, dimensions=max(2, min(30, n_stimuli // 3)), pruning="none"), n, n_stimuli)


def held_out(n_answers: int, batch: int) -> int:
    """Return how many of so many answers, in rounds of `batch`, are for validation; as many are for the test."""
    return min(KNOBS.held_out, -(-batch // 10) * -(-n_answers // batch))


def at_random(
    own: World, sizes: list[int], batch: int, init_stds: tuple[float, ...], rng: np.random.Generator
) -> Curve:
    """Return the learning curve of random trials."""
    n, out = len(own.truth), Curve([], [], [])
    train, validation = own.answer(own.train, rng), own.answer(own.validation, rng)
    for size in sizes:
        n_held = held_out(size, batch)
        data = training_data(train[: size - 2 * n_held], validation[:n_held], n, rng)
        begun, root = time.perf_counter(), int(rng.integers(2**31))
        fits = [fit(data, one, np.random.default_rng(root)) for one in settings_of(n, init_stds, len(data.train))]
        _append(out, size, own.share(min(fits, key=lambda one: one.score.loss)), time.perf_counter() - begun)
    return out


def as_proposed(
    own: World, last: int, batch: int, init_stds: tuple[float, ...], rng: np.random.Generator, *, oracle: bool
) -> Curve:
    """Return the learning curve of proposals, or of trials that the oracle chooses."""
    n, out, still, train = len(own.truth), Curve([], [], []), own.train, np.empty((0, 3), np.int32)
    validation = own.answer(own.validation, rng)
    fits: list[Fit] = []
    for size in range(batch, last + 1, batch):
        begun = time.perf_counter()
        n_held = held_out(size, batch)
        wanted = size - 2 * n_held - len(train)
        if len(train) < KNOBS.random_per_stimulus * n:
            at = rng.choice(len(still), wanted, replace=False)
        else:
            value = _divergence(own, fits, still) if oracle else _expected(fits, still)
            at = draw_informative(value, wanted, KNOBS.share, rng)
        train, still = np.concatenate([train, own.answer(still[at], rng)]), np.delete(still, at, axis=0)
        candidates = settings_of(n, init_stds, len(train))
        fits, _ = fit_members(train, validation[:n_held], n, candidates, rng, KNOBS.n_members)
        _append(out, size, own.share(fits[0]), time.perf_counter() - begun)
    return out


def _append(curve: Curve, size: int, share: float, seconds: float) -> None:
    curve.answers.append(size)
    curve.shares.append(share)
    curve.seconds.append(seconds)


def _expected(fits: list[Fit], still: Triplets) -> NDArray[np.float32]:
    return expected_information([one.weights for one in fits], still, float(np.mean([one.lapse for one in fits])))


def _divergence(own: World, fits: list[Fit], still: Triplets) -> NDArray[np.float32]:
    truth = choice_probabilities(own.truth, still) + 1e-9
    each = [(truth * np.log(truth / (choice_probabilities(one.weights, still) + 1e-9))).sum(axis=1) for one in fits]
    apart: NDArray[np.float32] = np.mean(each, axis=0, dtype=np.float32)
    return apart


def main() -> None:
    """Print the tables."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--stimuli", type=int, default=100)
    asked.add_argument("--dimensions", type=int, default=10)
    asked.add_argument("--per-dyad", type=int, default=20, help="thirds for each dyad in the main set")
    asked.add_argument("--seeds", type=int, default=10)
    asked.add_argument("--first-seed", type=int, default=0)
    asked.add_argument("--round", type=int, default=1_000, help="answers in a round")
    asked.add_argument("--proposed", type=int, default=16_000, help="answers to proposals")
    asked.add_argument("--random", type=int, default=48_000, help="answers to random trials")
    asked.add_argument("--init-stds", type=float, nargs="+", default=[0.01, 0.1])
    asked.add_argument("--oracle", action="store_true")
    wanted = asked.parse_args()
    init_stds, batch, last = tuple(wanted.init_stds), wanted.round, wanted.proposed
    sizes = [batch]
    while sizes[-1] < wanted.random:
        sizes.append(min(max(sizes[-1] + batch, round(1.2 * sizes[-1] / batch) * batch), wanted.random))
    curves: dict[str, list[Curve]] = {name: [] for name in ("random", "proposed", *["oracle"] * wanted.oracle)}
    for seed in range(wanted.first_seed, wanted.first_seed + wanted.seeds):
        own = world(wanted.stimuli, wanted.dimensions, wanted.per_dyad, seeds.generator(seed, "adaptive", "world"))
        for name, some in curves.items():
            rng = seeds.generator(seed, "adaptive", name)
            if name == "random":
                some.append(at_random(own, sizes, batch, init_stds, rng))
            else:
                some.append(as_proposed(own, last, batch, init_stds, rng, oracle=name == "oracle"))
        print(f"seed {seed}: attainable {own.chances.max(axis=1).mean():.4f}", flush=True)
    print(f"\n{wanted.stimuli} stimuli, {wanted.dimensions} dimensions, {len(own.train):,} trials to learn from\n")
    print_curves(curves)
    print_ratios(curves)


def print_curves(curves: dict[str, list[Curve]]) -> None:
    """Print the mean share of the attainable accuracy and the median seconds of a round, by number of answers."""
    names = list(curves)
    print(f"| answers | {' | '.join(f'{name} (%) | seconds' for name in names)} |")
    print("|---" * (1 + 2 * len(names)) + "|")
    for size in sorted({size for some in curves.values() for size in some[0].answers}):
        cells = []
        for some in curves.values():
            if size in some[0].answers:
                at = some[0].answers.index(size)
                cells.append(f"{np.mean([one.shares[at] for one in some]):.2f}")
                cells.append(f"{np.median([one.seconds[at] for one in some]):.1f}")
            else:
                cells += ["", ""]
        print(f"| {size:,} | {' | '.join(cells)} |")


def print_ratios(curves: dict[str, list[Curve]]) -> None:
    """Print how many answers each way needs for a share of the attainable accuracy, and the ratios to random trials."""
    others = [name for name in curves if name != "random"]
    heads = ["share of the attainable accuracy (%)", "random", *(f"{name} | ratio | seeds" for name in others)]
    print(f"\n| {' | '.join(heads)} |")
    print("|---" * (2 + 3 * len(others)) + "|")
    for level in LEVELS:
        random = np.array([one.needed(level) for one in curves["random"]])
        cells = [_number(float(np.median(random)))]
        for name in others:
            own = np.array([one.needed(level) for one in curves[name]])
            reached = np.isfinite(own)
            most = np.array([one.answers[-1] for one in curves["random"]], float)
            ratio = (np.where(np.isfinite(random), random, most) / own)[reached]
            censored = int((~np.isfinite(random) & reached).sum())
            said = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})" if len(ratio) else "–"
            note = f"; {censored} at least" if censored else ""
            cells += [_number(float(np.median(own))), said, f"{reached.sum()} of {len(own)}{note}"]
        print(f"| {level:g} | {' | '.join(cells)} |")


def _number(value: float) -> str:
    return f"{round(value, -2):,.0f}" if np.isfinite(value) else "not reached"


if __name__ == "__main__":
    main()
