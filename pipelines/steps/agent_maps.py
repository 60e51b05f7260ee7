"""Steps that compare agents as maps of the same stimuli: alignment, matched dimensions, and who is closest to people.

:mod:`affectlake.geometry` does the computations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, permutations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain.statistics import benjamini_hochberg
from affectlake.geometry.alignment import alignment
from affectlake.geometry.closeness import Closeness, closeness
from affectlake.geometry.matching import DimensionMatches, dimension_matches
from affectlake.geometry.stimulus_effects import FEWEST_TRIPLETS
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import Embedding, representative_of
from affectlake.pipelines.steps.rows import Row, to_table
from affectlake.process.blas_threads import one_blas_thread
from affectlake.seeds import generator
from affectlake.triplets import TRIPLET

MEASURES = ("cka", "procrustes", "procrustes_fitted")
LEVEL = 0.05
"""False discovery rate below which a dimension has a match."""

NO_PEOPLE = "no agent is people, or made of people's ratings, to which this one could be close"


@step(
    reads=("embeddings/{agents}", "fits/{agents}"),
    writes=("alignments", "dimension_matches"),
    params=("seed", "geometry.permutations"),
    version=1,
)
def align_agents(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compare the embeddings of all pairs of agents, as wholes and dimension by dimension."""
    fits: dict[str, Embedding] = {}
    for agent in context.agents:
        if (chosen := representative_of(tables, agent)) is not None:
            fits[agent] = chosen[1]
    aligned, matched = list[Row](), list[Row]()
    with one_blas_thread(), ThreadPoolExecutor(max(context.workers, 1)) as pool:
        pairs = list(combinations(context.agents, 2))
        for (one, other), rows in zip(pairs, pool.map(lambda pair: _aligned(fits, params, *pair), pairs), strict=True):
            aligned += [{"agent": one, "against": other, **row} for row in rows]
            aligned += [{"agent": other, "against": one, **row} for row in rows]
        for rows in pool.map(lambda pair: _matched(fits, params, *pair), permutations(fits, 2)):
            matched += rows
    for kind in ("one_to_one", "one_to_several", "unique"):
        context.log(f"{sum(row['match_kind'] == kind for row in matched):,} of {len(matched):,} dimensions: {kind}")
    return {"alignments": to_table("alignments", aligned), "dimension_matches": to_table("dimension_matches", matched)}


def _aligned(fits: Mapping[str, Embedding], params: Params, one: str, other: str) -> list[Row]:
    missing = [f"{name} has no fit with a dimension" for name in (one, other) if name not in fits]
    if missing:
        return [{"measure": measure, "n": 0, "note": "; ".join(missing)} for measure in MEASURES]
    rng = generator(params.seed, "alignment", one, other)
    found = alignment(fits[one], fits[other], rng, params.geometry.permutations)
    return [
        {"measure": measure, "value": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high, "chance": one.chance,
         "p_value": one.p_value, "n": one.n, "note": one.note or None}
        for measure, one in found._asdict().items()
    ]  # fmt: skip


def _matched(fits: Mapping[str, Embedding], params: Params, agent: str, against: str) -> list[Row]:
    rng = generator(params.seed, "dimension-matches", agent, against)
    weights = fits[agent]
    found = dimension_matches(weights, fits[against], rng, params.geometry.permutations)
    kinds, p_fdr, several_fdr = match_kinds(found)
    return [
        {
            "agent": agent,
            "against": against,
            "dimension": at + 1,
            "match_kind": kind,
            "matched_dimension": int(found.matched[at]) + 1 if found.matched[at] >= 0 else None,
            "match_r": found.r[at],
            "ci_low": found.ci_low[at],
            "ci_high": found.ci_high[at],
            "p_match": found.p[at],
            "p_match_fdr": p_fdr[at],
            "several_r": found.several_r[at],
            "several_dimensions": " ".join(str(one + 1) for one in found.several[at]) or None,
            "p_several": found.several_p[at],
            "p_several_fdr": several_fdr[at],
            "n_stimuli": len(weights),
            "note": _why_not(weights[:, at], fits[against]) if kind is None else None,
        }
        for at, kind in enumerate(kinds)
    ]


def match_kinds(found: DimensionMatches) -> tuple[list[str | None], NDArray[np.float64], NDArray[np.float64]]:
    """Return whether each dimension has a match, and both p-values, each adjusted over the dimensions.

    Without either p-value, the kind is None.
    """
    one, several = benjamini_hochberg(found.p), benjamini_hochberg(found.several_p)
    kinds: list[str | None] = [
        None if np.isnan(b) else "one_to_one" if a <= LEVEL else "one_to_several" if b <= LEVEL else "unique"
        for a, b in zip(one, several, strict=True)
    ]
    return kinds, one, several


def _why_not(dimension: NDArray[np.floating], other: Embedding) -> str:
    if np.ptp(dimension) == 0:
        return "the dimension is the same for every stimulus"
    if not np.ptp(other, axis=0).any():
        return "every dimension of the other agent is the same for every stimulus"
    return f"{len(dimension)} stimuli are too few for a match"


@step(
    reads=("triplets", "choices/{agents}"),
    writes=("closeness", "closeness_pairs"),
    params=("agents.{agents}.kind",),
    version=1,
)
def rank_agents(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Rank agents by their agreement with people on the same triplets, with stimuli as random effects."""
    shares, pairs = list[Row](), list[Row]()
    people = [agent for agent in context.agents if params.agents[agent].is_human]
    for reference in people:
        with one_blas_thread():
            own, between = _ranked(tables, params, context, reference)
        shares += [{"reference": reference, **row} for row in own]
        pairs += [{"reference": reference, **row} for row in between]
        context.log(f"{reference}: {_order(own)}")
    if not people:
        context.log(NO_PEOPLE)
        shares = [{"reference": agent, "agent": agent, "n_triplets": 0, "note": NO_PEOPLE} for agent in context.agents]
    return {"closeness": to_table("closeness", shares), "closeness_pairs": to_table("closeness_pairs", pairs)}


def _ranked(tables: Tables, params: Params, context: StepContext, reference: str) -> tuple[list[Row], list[Row]]:
    """Return the rows of one reference in both tables.

    All agents are compared on the triplets that all of them answered, so an agent that answered less than half as many
    as another is left out.
    """
    answered = _answered(tables, params, context, reference)
    most = max((len(own) for own in answered.values()), default=0)
    few = {
        agent: f"{agent} answered {len(own):,} of the triplets, fewer than half of the {most:,} that another agent did"
        for agent, own in answered.items()
        if 2 * len(own) < most
    }
    compared = [agent for agent in answered if agent not in few]
    common = _common([answered[agent] for agent in compared])
    if len(common) < FEWEST_TRIPLETS:
        note = f"{reference} and all agents judged {len(common):,} triplets, {FEWEST_TRIPLETS} are needed"
        few |= dict.fromkeys(compared, note)
        compared, ranked = [], None
    else:
        triplets = common.select(TRIPLET).to_numpy()
        ranked = closeness(triplets, common.drop(TRIPLET).to_numpy())
    rows = [*_rank_rows(compared, ranked)] if ranked else []
    for agent, note in few.items():
        own = answered[agent]
        alone = closeness(own.select(TRIPLET).to_numpy(), own.select("same").to_numpy()) if _enough(own) else None
        rows.append({"agent": agent, "n_triplets": len(own), "chance": 1 / 3, "note": note, **_share(alone)})
    return rows, [*_pair_rows(compared, ranked)] if ranked else []


def _enough(own: pl.DataFrame) -> bool:
    return len(own) >= FEWEST_TRIPLETS


def _answered(tables: Tables, params: Params, context: StepContext, reference: str) -> dict[str, pl.DataFrame]:
    """Return the triplets that the reference and each other agent judged, with the probability of the same answer.

    These are the validation triplets; if the reference or the agent has triplets of its own, all that both judged
    outside the noise-ceiling set. Of several answers of people, each counts equally; of other agents, the first does.
    """
    own = {agent for agent in context.agents if params.agents[agent].own_triplets}
    validation = tables["triplets"].filter(pl.col("trial_set") == "validation")
    found = {}
    for agent in (name for name in context.agents if name != reference):
        sides = []
        for name in (reference, agent):
            answers = tables["choices"].filter(pl.col("agent") == name, pl.col("trial_set") != "noise_ceiling")
            if name not in own:
                answers = answers.filter(pl.col("repeat") == 0)
            if reference not in own:
                answers = answers.join(validation.select(TRIPLET), on=TRIPLET, how="semi")
            sides.append(_answer_shares(answers))
        same = pl.sum_horizontal(pl.col(f"p_{one}") * pl.col(f"p_{one}_right") for one in TRIPLET)
        joined = sides[0].join(sides[1], on=TRIPLET).select(*TRIPLET, same.alias("same"))
        found[agent] = joined.sort(TRIPLET).collect()
    return found


def _answer_shares(answers: pl.LazyFrame) -> pl.LazyFrame:
    """Return the share of the answers to each triplet with i, j or k as the odd one out."""
    shares = [(pl.col("odd") == pl.col(one)).mean().alias(f"p_{one}") for one in TRIPLET]
    return answers.group_by(TRIPLET).agg(shares)


def _common(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the triplets of all tables, with one column for each."""
    if not tables:
        return pl.DataFrame(schema=dict.fromkeys(TRIPLET, pl.Int32))
    found = tables[0].rename({"same": "0"})
    for at, table in enumerate(tables[1:], 1):
        found = found.join(table.rename({"same": str(at)}), on=TRIPLET, maintain_order="left")
    return found


def _share(found: Closeness | None, at: int = 0) -> Row:
    if found is None:
        return {}
    one = found.shares[at]
    return {"share_same": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high}


def _rank_rows(agents: list[str], found: Closeness) -> Iterator[Row]:
    for at, agent in enumerate(agents):
        yield {
            "agent": agent,
            **_share(found, at),
            "chance": 1 / 3,
            "agent_rank": int(found.ranks[at]),
            "rank_low": int(found.lowest[at]),
            "rank_high": int(found.highest[at]),
            "tied_with": " ".join(agents[one] for one in found.ties(at)) or None,
            "n_triplets": found.shares[at].n,
        }


def _pair_rows(agents: list[str], found: Closeness) -> Iterator[Row]:
    for pair in found.differences:
        for first, second, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
            one = pair.estimate
            ends = sorted([sign * one.ci_low, sign * one.ci_high])
            yield {
                "agent": agents[first],
                "against": agents[second],
                "share_difference": sign * one.value,
                "ci_low": ends[0],
                "ci_high": ends[1],
                "p": one.p_value,
                "p_holm": pair.p_holm,
                "apart": pair.apart,
                "n_triplets": one.n,
            }


def _order(rows: list[Row]) -> str:
    ranked = sorted((row for row in rows if "agent_rank" in row), key=lambda row: (row["agent_rank"], row["agent"]))
    words = [
        f"{row['agent']} {row['share_same']:.3f} (ranks {row['rank_low']} to {row['rank_high']})" for row in ranked
    ]
    return ", ".join(words) or "no agent can be ranked"
