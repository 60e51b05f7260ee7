"""Error rates of the rule ``inattentive``, and its effect on held-out accuracy.

Run with ``python benchmarks/validity/attention.py``; prints two Markdown tables. Each study plants an embedding, and
participants who follow it except for lapses, or answer by chance. All triplets are drawn at random.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.attention import followed, recognised
from affectlake.geometry.intervals import wilson_interval
from affectlake.pipelines.steps.attention import scored_by_others, trained
from affectlake.spose.model import choice_probabilities, score
from affectlake.triplets import odd_last

N_STIMULI, LEVEL, POWER = 60, 0.05, 0.95
EACH = (20, 50, 100, 200)
CLICKERS = (0.0, 0.2, 0.4)


class World(NamedTuple):
    """Probabilities come from `weights`; `follow` is the share of a participant's answers that are by them."""

    weights: NDArray[np.float32]
    follow: NDArray[np.float64]


def world(n_participants: int, clickers: float, rng: np.random.Generator) -> World:
    """Return an embedding, and participants: clickers follow it in no answer, others in 90 % on average."""
    weights = rng.gamma(0.5, 1.5, (N_STIMULI, 5)) * (rng.random((N_STIMULI, 5)) < 0.4)
    follow = rng.beta(18, 2, n_participants)
    follow[: round(clickers * n_participants)] = 0.0
    return World(weights.astype(np.float32), follow)


def answered(of: World, n_each: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return `n_each` answers of each participant."""
    n = len(of.follow) * n_each
    triplets = np.sort(rng.random((n, N_STIMULI)).argsort(axis=1)[:, :3], axis=1).astype(np.int32)
    who = np.repeat(np.arange(len(of.follow)), n_each)
    share = of.follow[who, None]
    chances = share * choice_probabilities(of.weights, triplets) + (1 - share) / 3
    at = (rng.random(n)[:, None] > chances.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return pl.DataFrame(
        {
            **dict(zip("ijk", triplets.T, strict=True)),
            "chosen": triplets[np.arange(n), at],
            "participant": [f"{one:04d}" for one in who],
            "request_key": np.arange(n),
        }
    )


def judged(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return each participant's p-value and power."""
    usual = rows.select("participant").unique().sort("participant").with_columns(excluded_by=pl.lit(None, pl.String))
    scored, why = scored_by_others(rows, usual, "odd-one-out", N_STIMULI, seed)
    assert not why, why
    results = {who: followed(one.probabilities, one.answers) for who, one in scored.items()}
    typical = float(np.median([one.share for one in results.values()]))
    powers = [recognised(scored[who].probabilities, typical, LEVEL) for who in results]
    p_values = [one.p_value for one in results.values()]
    return pl.DataFrame({"participant": list(results), "p": p_values, "power": powers}).sort("participant")


def error_rates(studies: int, n_participants: int) -> None:
    """Print how often participants are excluded by mistake, and found."""
    print("| answers each | by chance | distinguished | judged | attentive, left out | by chance, left out |")
    print("|---|---|---|---|---|---|")
    for n_each in EACH:
        for clickers in CLICKERS:
            rng, found = np.random.default_rng(3), []
            for study in range(studies):
                of = world(n_participants, clickers, rng)
                one = judged(answered(of, n_each, rng), study)
                found.append(one.with_columns(attentive=pl.Series(of.follow > 0)))
            every = pl.concat(found)
            enough = pl.col("power") >= POWER
            out = (pl.col("p") > LEVEL) & enough
            attentive, others = every.filter("attentive"), every.filter(~pl.col("attentive"))
            told = float(attentive.select((pl.col("p") <= LEVEL).mean()).item())
            n_judged = float(every.select(enough.mean()).item())
            cells = [_share(one.select(out.sum()).item(), one.height) for one in (attentive, others)]
            print(f"| {n_each} | {clickers:.0%} | {told:.1%} | {n_judged:.1%} | {cells[0]} | {cells[1]} |", flush=True)


def circularity(studies: int, n_participants: int, n_each: int = 30) -> None:
    """Print the held-out accuracy after exclusion, less that on new answers of the same participants.

    A fifth of the answers are held out. Participants are left out who are not distinguished from chance, whatever the
    power.
    """
    print("\n| participants | exclusion by | left | held out - new answers (points) |")
    print("|---|---|---|---|")
    for clickers, kind in ((0.5, "half by chance"), (0.0, "none by chance")):
        for by in ("training answers", "all answers"):
            rng, gaps, left = np.random.default_rng(4), [], []
            for study in range(studies):
                of = world(n_participants, clickers, rng)
                rows = answered(of, n_each, rng).with_columns(test=pl.Series(rng.random(n_participants * n_each) < 0.2))
                one = judged(rows if by == "all answers" else rows.filter(~pl.col("test")), study)
                kept = one.filter(pl.col("p") <= LEVEL)["participant"]
                left.append(len(kept) / n_participants)
                mine = rows.filter(pl.col("participant").is_in(kept.implode()))
                train, test = mine.filter(~pl.col("test")), mine.filter("test")
                if train.height < 20 or not test.height:
                    continue
                weights, _ = trained(_coded(train), N_STIMULI, "odd-one-out", None, np.random.default_rng(study))
                new = answered(of, 400, rng).filter(pl.col("participant").is_in(kept.implode()))
                gaps.append(100 * (score(weights, _coded(test)).accuracy - score(weights, _coded(new)).accuracy))
            half = 1.96 * float(np.std(gaps, ddof=1)) / len(gaps) ** 0.5
            print(f"| {kind} | {by} | {np.mean(left):.0%} | {np.mean(gaps):+.2f} ± {half:.2f} |", flush=True)


def _coded(rows: pl.DataFrame) -> NDArray[np.int32]:
    return odd_last(rows.select("i", "j", "k").to_numpy().astype(np.int32), rows["chosen"].to_numpy().astype(np.int32))


def _share(hits: int, n: int) -> str:
    if not n:
        return "–"
    low, high = map(float, wilson_interval(hits, n))
    return f"{hits / n:.1%} ({low:.1%} to {high:.1%})"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=10, help="number of simulated studies")
    parser.add_argument("--participants", type=int, default=40, help="number of participants of each")
    chosen = parser.parse_args()
    error_rates(chosen.studies, chosen.participants)
    circularity(6 * chosen.studies, 2 * chosen.participants)


if __name__ == "__main__":
    main()
