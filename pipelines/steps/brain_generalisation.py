"""Step that says how sure the agents' correlations with regions are for other subjects and other stimuli."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain import statistics
from affectlake.brain.generalisation.bootstrap import dual_bootstrap
from affectlake.brain.generalisation.ceilings import ceiling_against_chance
from affectlake.brain.generalisation.estimates import LOWER, UPPER, Estimates, Over, contrasts
from affectlake.brain.generalisation.resamples import FEWEST_STIMULI, Resamples, draw
from affectlake.brain.recordings import regions
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import (
    FEWEST_COMPARED,
    agent_rsms,
    brain_of,
    region_rsms,
    shared_stimuli,
    subjects_of,
)
from affectlake.pipelines.steps.rows import Row, to_table
from affectlake.seeds import generator

Floats = NDArray[np.float64]


class _Scope(NamedTuple):
    """What intervals generalise to, with the reason if it is not both subjects and stimuli."""

    over: Over | None
    note: str | None


@step(
    reads=("stimuli", "voxels", "betas", "shared_stimuli", "embeddings/{agents}", "fits/{agents}"),
    writes=("brain_generalisation", "brain_generalisation_pairs", "brain_generalisation_ceilings"),
    params=("seed", "brain.generalisation"),
    section="brain.generalisation",
    version=1,
)
def generalise_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Bootstrap the agents' correlations with regions over subjects and stimuli; test agents, pairs and ceilings."""
    wanted = brain_of(params).generalisation
    assert wanted is not None
    subjects = list(subjects_of(tables, context))
    shared = shared_stimuli(tables, subjects)
    models = agent_rsms(tables, context, shared)
    agents, missing = [name for name, rsm in models.items() if isinstance(rsm, np.ndarray)], _missing(models)
    singles: list[Row] = []
    pairs: list[Row] = []
    ceilings: list[Row] = []
    for region in [*regions.regions(), "all"]:
        rsms = region_rsms(subjects, shared, region)
        rsms = rsms[np.isfinite(rsms).all(axis=(1, 2))]  # a pattern that is constant within a small region has no r
        scope = _scope(len(rsms), len(shared))
        keys: Row = {"region": region, "n_subjects": len(rsms), "n_stimuli": len(shared)}
        singles += [keys | {"agent": agent, "note": note} for agent, note in missing.items()]
        if len(rsms) == 0 or len(shared) < FEWEST_COMPARED or not agents:
            singles += [keys | {"agent": agent, "note": scope.note} for agent in agents]
            ceilings.append(keys | {"note": scope.note or "no agent has a fit"})
            continue
        rng = generator(params.seed, "brain", "generalisation", len(rsms))
        resamples = _resamples(len(rsms), len(shared), wanted.resamples, rng)
        rows = _compared(rsms, np.stack([models[agent] for agent in agents]), agents, resamples, scope, context)
        singles += [keys | row for row in rows[0]]
        pairs += [keys | row for row in rows[1]]
        ceiling = rows[2]
        if len(rsms) > 1 and wanted.relabellings:
            labels = generator(params.seed, "brain", "relabelled ceilings", len(rsms))
            ceiling["p_relabelled"] = ceiling_against_chance(
                rsms, wanted.relabellings, labels, workers=context.workers
            ).p
        ceilings.append(keys | ceiling)
        context.progress(f"{region}: {wanted.resamples:,} resamples of {len(rsms)} subjects, {len(shared):,} stimuli")
    _adjust(singles, "p_above_zero", "p_above_zero_fdr")
    _adjust(pairs, "p", "p_fdr")
    _adjust(ceilings, "p_above_zero", "p_above_zero_fdr")
    _adjust(ceilings, "p_relabelled", "p_relabelled_fdr")
    for line in sorted({str(row["note"]) for row in singles if row.get("note")}):
        context.log(line)
    return {
        "brain_generalisation": to_table("brain_generalisation", singles),
        "brain_generalisation_pairs": to_table("brain_generalisation_pairs", pairs),
        "brain_generalisation_ceilings": to_table("brain_generalisation_ceilings", ceilings),
    }


def _missing(models: dict[str, Floats | str]) -> dict[str, str]:
    return {agent: why for agent, why in models.items() if isinstance(why, str)}


def _scope(n_subjects: int, n_stimuli: int) -> _Scope:
    if n_subjects == 0:
        return _Scope(None, "no subject has three usable voxels in the region")
    if n_stimuli < FEWEST_COMPARED:
        return _Scope(None, f"the subjects share {n_stimuli} stimuli that all agents describe; four or more are needed")
    few = f"{n_stimuli} stimuli are too few for an interval over stimuli, which needs {FEWEST_STIMULI} or more"
    if n_stimuli < FEWEST_STIMULI:
        return _Scope("subjects", few) if n_subjects > 1 else _Scope(None, f"one subject, and {few}")
    if n_subjects == 1:
        return _Scope("stimuli", "one subject: the interval is about this subject and other stimuli")
    return _Scope("both", None)


def _resamples(n_subjects: int, n_stimuli: int, count: int, rng: np.random.Generator) -> Resamples:
    """Return resamples; stimuli that are too few are in each of them once."""
    if n_stimuli >= FEWEST_STIMULI:
        return draw(n_subjects, n_stimuli, count, rng)
    subjects = draw(n_subjects, FEWEST_STIMULI, count, rng).subjects
    return Resamples(subjects, np.ones((count, n_stimuli), dtype=np.int64))


def _compared(
    rsms: Floats, models: Floats, agents: list[str], resamples: Resamples, scope: _Scope, context: StepContext
) -> tuple[list[Row], list[Row], Row]:
    """Return the rows of one region: of agents, of pairs of agents, and of the ceiling."""
    found = dual_bootstrap(rsms, models, resamples, workers=context.workers)
    each, (first, second) = np.arange(len(agents)), np.triu_indices(len(agents), 1)
    over: Over = scope.over or "both"
    own = contrasts(found, each, over=over, sides="greater")
    below = contrasts(found, each, np.full(len(agents), LOWER), over=over)
    between = contrasts(found, first, second, over=over)
    lower = contrasts(found, np.array([LOWER]), over=over, sides="greater")
    parts = {
        "sd_subjects": contrasts(found, each, over="subjects").sd,
        "sd_stimuli": contrasts(found, each, over="stimuli").sd
        if scope.over != "subjects"
        else np.full(len(agents), np.nan),
    }
    known = scope.over is not None
    singles: list[Row] = [
        {"agent": agent, "evaluation": own.value[a], "generalises_to": scope.over, "note": scope.note}
        | {"ceiling_low": found.values[LOWER], "p_not_ceiling": below.p[a] if known else None}
        | {name: sd[a] for name, sd in parts.items() if known}
        | (_ends(own, a, "p_above_zero") if known else {})
        | ({} if np.isfinite(own.value[a]) else {"note": "the agent's similarities are all equal"})
        for a, agent in enumerate(agents)
    ]
    pairs: list[Row] = [
        {"agent": agents[i], "other_agent": agents[j], "evaluation_difference": between.value[k],
         "generalises_to": scope.over, "note": scope.note}
        | (_ends(between, k, "p") if known else {})
        for k, (i, j) in enumerate(zip(first, second, strict=True))
    ]  # fmt: skip
    ceiling: Row = {
        "ceiling_low": found.values[LOWER], "ceiling_high": found.values[UPPER], "generalises_to": scope.over,
        "note": scope.note if len(rsms) > 1 else "a noise ceiling needs two or more subjects",
    }  # fmt: skip
    return singles, pairs, ceiling | (_ends(lower, 0, "p_above_zero") if known else {})


def _ends(found: Estimates, at: int, p: str) -> Row:
    return {"sd": found.sd[at], "ci_low": found.low[at], "ci_high": found.high[at], p: found.p[at]}


def _adjust(rows: list[Row], p: str, adjusted: str) -> None:
    """Add false discovery rates over all rows."""
    values = np.array([np.nan if row.get(p) is None else row[p] for row in rows], dtype=np.float64)
    for row, level in zip(rows, statistics.benjamini_hochberg(values), strict=True):
        row[adjusted] = level
