"""The rows of `comparisons` and `community_overlaps`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
import polars as pl
from statsmodels.stats.inter_rater import cohens_kappa

from tests.support.recomputed.arithmetic import (
    DRAWS,
    Pairs,
    correlation,
    matrix_correlation,
    measured,
    own_rng,
    weighted_r,
)
from tests.support.recomputed.cells import Cells, Level, Mean, Near, Rows, between, estimate, impossible
from tests.support.recomputed.world import TRIPLET, Array, Ints, World

N_SPLITS, N_SHUFFLES = 20, 200
"""The product's numbers of split halves, and of shuffles for the overlap of communities."""


def comparisons(world: World) -> Rows:
    """Yield the rows of `comparisons`."""
    humans = [agent for agent in world.agents if world.params.agents[agent].kind == "ratings"]
    trials = {agent: measured(world, agent) for agent in world.agents}
    silent = {agent for agent in world.agents if not len(world.answers(agent, "validation"))}
    for agent in world.agents:
        row = impossible("no validation choices") if agent in silent else _split_half(world, agent, trials[agent])
        yield (agent, agent, "human_consistency", "split_half_r"), row
        for human in humans:
            if human == agent:
                continue
            rows = dict.fromkeys(("pearson_r", "halves_r", "equation_4_r"), impossible("no validation choices"))
            if not {agent, human} & silent:
                rng, n = own_rng("consistency", agent, human), len(world.prototypes)
                one, other = (trials[name].matrix(n) for name in (agent, human))
                rows["pearson_r"] = matrix_correlation(one, other, world, rng)
                rows["halves_r"] = _halves(world, (agent, human), trials, rng)
                rows["equation_4_r"] = _equation_4(world, agent, human)
            for measure, row in rows.items():
                yield (agent, human, "human_consistency", measure), row
    for agent, against in product(world.agents, repeat=2):
        yield (agent, against, "agreement", "kappa"), _kappa(world, agent, against)


def _equation_4(world: World, agent: str, human: str) -> Cells:
    """Return the raw correlation, divided by both reliabilities: those of the table, which are recomputed as well."""

    def stored(one: str, other: str, measure: str) -> Cells:
        return world.of("comparisons", agent=one, against=other, measure=measure).row(0, named=True)

    raw = stored(agent, human, "pearson_r")
    scale = math.sqrt(math.prod(stored(one, one, "split_half_r")["value"] for one in (agent, human)))
    ends = raw["ci_low"] / scale, raw["ci_high"] / scale
    return estimate(raw["value"] / scale, raw["n"], ends, raw["chance"] / scale, raw["p_value"])


def _split_half(world: World, agent: str, trials: Pairs) -> Cells:
    rng, m, n = own_rng("split-half", agent), len(world.answers(agent, "validation")), len(world.prototypes)
    drawn = np.empty(3 * DRAWS)
    for at in range(len(drawn)):
        first = np.isin(np.arange(m), rng.choice(m, m // 2, replace=False))
        drawn[at] = weighted_r(trials.matrix(n, first), trials.matrix(n, ~first), np.ones(n * (n - 1) // 2, int))
    return estimate(Mean(drawn, N_SPLITS), N_SPLITS, between(drawn, N_SPLITS))


class _Split(NamedTuple):
    """The matrices of both halves of two agents (4, n_pairs), NaN where one of them is not defined."""

    halves: Array

    def terms(self, counts: Ints) -> list[float]:
        """Return the correlations between the agents, within the first and within the second."""
        m1, m2, h1, h2 = self.halves
        across = weighted_r(m1, h2, counts) + weighted_r(m2, h1, counts)
        return [across / 2, weighted_r(m1, m2, counts), weighted_r(h1, h2, counts)]


def _halves(world: World, names: tuple[str, str], trials: Mapping[str, Pairs], rng: np.random.Generator) -> Cells:
    """Return halves against halves; a triplet is in the same half for both agents."""
    n, n_splits = len(world.prototypes), 150
    a, b = np.triu_indices(n, 1)
    asked = {name: [tuple(sorted(row)) for row in world.answers(name, "validation").tolist()] for name in names}
    triplets = sorted({one for rows in asked.values() for one in rows})
    splits = []
    for _ in range(n_splits):
        is_first = dict(zip(triplets, rng.random(len(triplets)) < 0.5, strict=True))
        first = {name: np.array([is_first[one] for one in asked[name]]) for name in names}
        halves = np.array([trials[name].matrix(n, half) for name in names for half in (first[name], ~first[name])])
        splits.append(_Split(np.where(np.isnan(halves).any(axis=0), np.nan, halves)))

    def ratio(terms: Array) -> float:
        across, within, within_other = terms.mean(axis=0)  # NaN if a split has no correlation
        return float(across / math.sqrt(within * within_other)) if min(within, within_other) > 0 else math.nan

    whole = np.array([split.terms(np.ones(len(a), int)) for split in splits])
    values = np.array([ratio(whole[rng.integers(0, n_splits, N_SPLITS)]) for _ in range(DRAWS)])
    drawn = np.empty(DRAWS // 2)
    for at in range(len(drawn)):
        counts = rng.multinomial(n, np.full(n, 1 / n))
        drawn[at] = ratio(
            np.array([splits[k].terms(counts[a] * counts[b]) for k in rng.integers(0, n_splits, N_SPLITS)])
        )
    sizes = np.array([(~np.isnan(split.halves[0])).sum() for split in splits])
    value = Near(ratio(whole), 6 * float(values.std(ddof=1)))
    size = Near(float(np.median(sizes)), 6 * float(sizes.std()) / math.sqrt(N_SPLITS) + 0.5)
    return estimate(value, size, between(drawn, world.params.geometry.resamples))


def _kappa(world: World, agent: str, against: str) -> Cells:
    """Return κ of two agents on first answers, or of an agent's first two answers to the repeated triplets."""
    is_ceiling = pl.col("trial_set") == "noise_ceiling"
    place = pl.when(pl.col("odd") == pl.col("i")).then(0).when(pl.col("odd") == pl.col("j")).then(1).otherwise(2)
    first, second = (
        world.of("choices", agent=name, repeat=repeat)
        .filter(is_ceiling if agent == against else ~is_ceiling)
        .select("trial_set", *TRIPLET, place=place)
        for name, repeat in ((agent, 0), (against, 1 if agent == against else 0))
    )
    both, table = first.join(second, on=["trial_set", *TRIPLET]), np.zeros((3, 3))
    np.add.at(table, (both["place"].to_numpy(), both["place_right"].to_numpy()), 1)
    found = cohens_kappa(table)
    return estimate(float(found.kappa), both.height, (max(-1.0, found.kappa_low), min(1.0, found.kappa_upp)), 0.0)


def community_overlaps(world: World) -> Rows:
    """Yield the rows of `community_overlaps`: correlations of the communities' profiles in the representative fits."""
    profiles: dict[str, dict[int, Array]] = {}
    for agent in world.agents:
        seed = world.representative(agent)
        weights = world.weights(agent, seed)
        nodes = world.of("graph_nodes", agent=agent, seed=seed).sort("dimension")["community"].to_list()
        profiles[agent] = {
            number: (weights / weights.sum(axis=0))[:, [one == number for one in nodes]].sum(axis=1)
            for number in sorted({one for one in nodes if one})
        }
    for agent, against in permutations(world.agents, 2):
        rng = own_rng("overlap", agent, against)
        for (one, a), (other, b) in product(profiles[agent].items(), profiles[against].items()):
            r, low, high = correlation(a, b)
            null = np.array([np.corrcoef(a, rng.permutation(b))[0, 1] for _ in range(DRAWS)])
            row = {"r": r, "ci_low": low, "ci_high": high, "p_value": Level(r, null, N_SHUFFLES), "n": len(a)}
            yield (agent, one, against, other), row
