"""The rows of ``comparisons`` and ``community_overlaps``: comparisons of all pairs of agents."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.geometry.agreement import cohen_kappa
from affectlake.geometry.communities import community_overlap
from affectlake.geometry.estimates import Estimate, left_out
from affectlake.geometry.halves import Halves, halves_correlation, split_halves
from affectlake.geometry.pairs import (
    Matrix,
    Reliability,
    equation_4,
    matrix_correlation,
    odd_shares,
    pair_matrix,
    split_half_reliability,
)
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.steps.arrays import Answers, Embedding
from affectlake.pipelines.steps.rows import Row, row
from affectlake.seeds import generator, integer
from affectlake.triplets import TRIPLET

NO_RELIABILITY = Reliability(float("nan"), (float("nan"), float("nan")), 0)
NO_HALVES = Halves(np.empty((0, 2, 0, 0)))


@dataclass(frozen=True)
class Side:
    """An agent's similarity matrix of the prototypes, its reliability and its halves, or why they are missing."""

    matrix: Matrix
    reliability: Reliability
    halves: Halves
    missing: str = ""


def side(validation: Answers, prototypes: NDArray[np.int32], params: Params, agent: str) -> Side:
    """Return the inputs of one agent to the human consistency."""
    triplets, odd = validation
    empty = np.empty((0, 0))
    if len(prototypes) < 3:
        return Side(
            empty, NO_RELIABILITY, NO_HALVES, "there are no prototypes: no ratings of the stimuli are categories"
        )
    if not len(triplets):
        return Side(empty, NO_RELIABILITY, NO_HALVES, "the agent has no validation choices")
    shares = odd_shares(triplets, odd)
    reliability = split_half_reliability(triplets, shares, prototypes, generator(params.seed, "split-half", agent))
    halves = split_halves(triplets, shares, prototypes, integer(params.seed, "halves"))  # the same for every agent
    return Side(pair_matrix(triplets, shares, prototypes), reliability, halves)


def consistency(sides: Mapping[str, Side], params: Params) -> Iterator[Row]:
    """Yield the correlations of the matrices of each agent and each human agent: raw, of halves, and equation 4."""
    wanted = params.geometry
    for agent, own in sides.items():
        yield {"agent": agent, "against": agent, **row("human_consistency", "split_half_r", _reliability(own))}
        for human in (name for name in sides if params.agents[name].is_human and name != agent):
            other = sides[human]
            missing = own.missing or (other.missing and f"{human}: {other.missing}")
            if missing:
                found = of_halves = left_out(missing)
            else:
                rng = generator(params.seed, "consistency", agent, human)
                found = matrix_correlation(own.matrix, other.matrix, rng, wanted.resamples, wanted.permutations)
                rng = generator(params.seed, "halves", agent, human)
                of_halves = halves_correlation(own.halves, other.halves, rng, wanted.resamples)
            both = {"agent": agent, "against": human}
            yield {**both, **row("human_consistency", "pearson_r", found)}
            yield {**both, **row("human_consistency", "halves_r", of_halves)}
            value = found if found.note else equation_4(found, own.reliability, other.reliability)
            yield {**both, **row("human_consistency", "equation_4_r", value)}


def _reliability(own: Side) -> Estimate:
    if own.missing:
        return left_out(own.missing)
    found = own.reliability
    if np.isnan(found.value):
        return left_out("the halves of the choices are too few or too alike for a correlation")
    return Estimate(found.value, *found.ends, n=found.n_splits)


def agreement(choices: Mapping[str, pl.LazyFrame], own_triplets: Container[str] = ()) -> Iterator[Row]:
    """Yield Cohen's κ of each pair of agents on their first answers, and of each agent with its own repetition.

    Agents in `own_triplets` have no noise-ceiling set: their repetitions are those of their main set.
    """
    for agent, answers in choices.items():
        repeated = "main" if agent in own_triplets else "noise_ceiling"
        ceiling = answers.filter(pl.col("trial_set") == repeated)
        first, second = (ceiling.filter(pl.col("repeat") == repeat) for repeat in (0, 1))
        found = cohen_kappa(_table(first, second))
        yield {"agent": agent, "against": agent, **row("agreement", "kappa", found)}
    for one, other in combinations(choices, 2):
        first, second = (
            choices[name].filter((pl.col("repeat") == 0) & (pl.col("trial_set") != "noise_ceiling"))
            for name in (one, other)
        )
        found = cohen_kappa(_table(first, second))
        for both in ((one, other), (other, one)):
            yield {"agent": both[0], "against": both[1], **row("agreement", "kappa", found)}


def _table(first: pl.LazyFrame, second: pl.LazyFrame) -> NDArray[np.int64]:
    """Return how often the first agent chose i, j or k (rows) and the second one (columns): int64 (3, 3).

    Each triplet is in one of the sets that are compared, so that the sets of two agents need not have one name.
    """
    place = pl.when(pl.col("odd") == pl.col("i")).then(0).when(pl.col("odd") == pl.col("j")).then(1).otherwise(2)
    a, b = (side.select(*TRIPLET, place.cast(pl.Int8).alias(name)) for side, name in ((first, "a"), (second, "b")))
    counted = a.join(b, on=TRIPLET).group_by("a", "b").len().collect()
    table = np.zeros((3, 3), np.int64)
    table[counted["a"].to_numpy(), counted["b"].to_numpy()] = counted["len"].to_numpy()
    return table


def overlaps(
    fits: Mapping[str, Embedding], communities: Mapping[str, NDArray[np.int64]], params: Params
) -> Iterator[Row]:
    """Yield the overlap of each community of each agent with each community of each other agent."""
    for one, other in permutations(fits, 2):
        rng = generator(params.seed, "overlap", one, other)
        found = community_overlap(fits[one], communities[one], fits[other], communities[other], rng)
        for (a, b), estimate in found.items():
            yield {
                "agent": one,
                "community": a + 1,
                "against": other,
                "other_community": b + 1,
                "r": estimate.value,
                "ci_low": estimate.ci_low,
                "ci_high": estimate.ci_high,
                "p_value": estimate.p_value,
                "n": estimate.n,
            }
