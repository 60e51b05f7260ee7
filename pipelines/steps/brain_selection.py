"""Steps that select the stimuli of the searchlight: those that every agent describes, and of them the reliable ones.

By default no agent takes part in the selection of the reliable ones: halves of repeated presentations decide, or the
agreement of subjects. If it depends on the ratings (``selection: ratings``, as in the paper), every permutation of the
null distribution repeats it.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import nulls, statistics
from affectlake.brain.agreement import agreement
from affectlake.brain.encoding.crossvalidation import PENALTIES, encode
from affectlake.brain.encoding.reliability import leave_one_out, most_reliable
from affectlake.brain.recordings import regions
from affectlake.errors import UsageError
from affectlake.judge.vectors.ratings import rating_matrix
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import (
    FEWEST_COMPARED,
    Subject,
    brain_of,
    common_stimuli,
    folds_of,
    null_orders,
    region_rsms,
    subjects_of,
    vectors_of,
)
from affectlake.pipelines.steps.rows import null_nan
from affectlake.rsm import correlation_rsm

Floats = NDArray[np.floating]


@step(
    reads=("stimuli", "families", "ratings", "embeddings/{agents}", "fits/{agents}"),
    writes=("shared_stimuli",),
    params=("agents.{agents}.kind", "agents.{agents}.ratings", "agents.{agents}.scaling"),
    section="brain",
    version=1,
)
def share_stimuli(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Find the stimuli that every agent describes, so that all agents are compared on the same stimuli."""
    stimuli = tables["stimuli"].select(pl.col("stimulus_index").sort()).collect()["stimulus_index"]
    shared = np.ones(len(stimuli), dtype=bool)
    for agent in context.agents:
        own = dict(tables) | {name: tables[name].filter(pl.col("agent") == agent) for name in ("embeddings", "fits")}
        _, bases = vectors_of(own, params, agent)
        for basis, vectors in bases.items():
            constant = vectors.max(axis=1) == vectors.min(axis=1)
            if constant.any():
                context.log(
                    f"{agent}, {basis}: {int(constant.sum()):,} stimuli without any weight are left out for all"
                )
            shared &= ~constant
    return {"shared_stimuli": pl.DataFrame({"stimulus_index": stimuli, "shared": shared})}


@step(
    reads=("stimuli", "ratings", "voxels", "betas", "shared_stimuli"),
    writes=("stimulus_reliability", "noise_ceilings"),
    params=(
        "seed",
        "brain.encoding.outer_folds",
        "brain.encoding.inner_folds",
        "brain.encoding.by_run",
        "brain.searchlight.n_stimuli",
        "brain.searchlight.selection",
        "brain.searchlight.permutations",
    ),
    section="brain",
    version=3,
)
def select_stimuli(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Select the stimuli of the searchlight, and compute the noise ceilings of regions."""
    wanted = brain_of(params).searchlight
    shared = tables["shared_stimuli"].filter("shared").select("stimulus_index").collect()["stimulus_index"].to_numpy()
    subjects = list(subjects_of(tables, context))
    rows = {one.name: np.isin(one.stimulus_index, shared) for one in subjects}
    selection: str = wanted.selection
    if selection == "auto":
        selection = _automatic(subjects, rows, wanted.n_stimuli)
        context.log(f"stimuli are selected by: {selection}")
    by_brains = {"halves": _by_halves, "others": _by_agreement}
    found = by_brains[selection](subjects, rows) if selection in by_brains else {}
    common = _common(subjects, rows, found, wanted.n_stimuli) if found else np.empty(0, dtype=np.int64)
    parts = []
    for subject in subjects:
        at, n = rows[subject.name], len(subject.stimulus_index)
        null: list[bytes] | None = None
        r, chosen = np.full(n, np.nan), at.copy()
        if selection == "ratings":
            r[at], chosen, null = _by_ratings(tables, subject, at, params, context)
        elif found:
            r[at] = found[subject.name]
            chosen = np.isin(subject.stimulus_index, common) & ~np.isnan(r)
            if chosen.sum() < FEWEST_COMPARED:  # hardly any of them was shown to this subject
                chosen = _best(r, wanted.n_stimuli)
        if selection != "all":
            context.log(
                f"{subject.name}: median reliability {np.nanmedian(r):.3f}, of the {int(chosen.sum()):,} kept "
                f"{np.median(r[chosen]):.3f}"
            )
        parts.append(
            pl.DataFrame(
                {
                    "subject": [subject.name] * n,
                    "stimulus_index": subject.stimulus_index,
                    "reliability": r,
                    "selected": chosen,
                    "selection": [selection] * n,
                    "null_selected": pl.Series(null or [None] * n, dtype=pl.Binary),
                }
            )
        )
    return {
        "stimulus_reliability": null_nan(pl.concat(parts)),
        "noise_ceilings": null_nan(pl.DataFrame(_ceilings(subjects, rows), infer_schema_length=None)),
    }


def _automatic(subjects: list[Subject], rows: dict[str, NDArray[np.bool_]], count: int) -> str:
    """Return ``halves`` if every subject saw at least as many stimuli repeatedly as are selected, or all of them.

    Otherwise ``others``, or ``all`` where subjects share too few stimuli. A few repeats, such as duplicates of videos,
    do not decide: stimuli that were shown once have no halves and would all be left out.
    """
    own = [one.split_half_r[rows[one.name]] for one in subjects]
    if all((~np.isnan(r)).sum() >= max(FEWEST_COMPARED, min(count, len(r))) for r in own):
        return "halves"
    return "others" if _overlap([one.stimulus_index[rows[one.name]] for one in subjects]) else "all"


def _by_halves(subjects: list[Subject], rows: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.float64]]:
    found = {one.name: one.split_half_r[rows[one.name]] for one in subjects}
    few = {name: int((~np.isnan(r)).sum()) for name, r in found.items() if (~np.isnan(r)).sum() < FEWEST_COMPARED}
    if few:
        raise UsageError(
            "brain.searchlight.selection: halves needs stimuli that were shown repeatedly",
            wanted=f"at least {FEWEST_COMPARED} such stimuli in each subject",
            found=", ".join(f"{n:,} in {name}" for name, n in list(few.items())[:5]),
            todo="set selection: others, all or auto",
        )
    return found


def _overlap(stimuli: list[NDArray[np.int32]]) -> bool:
    """Return whether every subject shares enough stimuli with the others to be compared with them."""
    return len(stimuli) > 1 and all(
        len(np.intersect1d(own, np.concatenate([*stimuli[:at], *stimuli[at + 1 :]]))) >= FEWEST_COMPARED
        for at, own in enumerate(stimuli)
    )


def _by_agreement(subjects: list[Subject], rows: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.float64]]:
    rsms = []
    for subject in subjects:
        patterns = subject.z_scored.of_stimuli(rows[subject.name])
        rsms.append(correlation_rsm(patterns if subject.usable.all() else patterns[:, subject.usable]))
    found = agreement(rsms, [one.stimulus_index[rows[one.name]] for one in subjects])
    return {one.name: r for one, r in zip(subjects, found, strict=True)}


def _common(
    subjects: list[Subject], rows: dict[str, NDArray[np.bool_]], found: dict[str, NDArray[np.float64]], count: int
) -> NDArray[np.int64]:
    """Return the stimuli on which subjects, or halves of repeats, agree most: the highest means over subjects."""
    index = np.concatenate([one.stimulus_index[rows[one.name]] for one in subjects])
    r = np.concatenate([found[one.name] for one in subjects])
    known = ~np.isnan(r)
    total, n = (np.bincount(index[known], weights=weights) for weights in (r[known], None))
    mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return np.flatnonzero(_best(mean, count))


def _best(r: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Return a mask of the `count` highest values, or of all that are defined if there are fewer."""
    return np.isin(np.arange(len(r)), most_reliable(r, min(count, int((~np.isnan(r)).sum()))))


def _by_ratings(
    tables: Tables, subject: Subject, at: NDArray[np.bool_], params: Params, context: StepContext
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[bytes]]:
    """Return reliabilities of the rows `at`, selected rows, and the rows selected after each relabelling, packed."""
    wanted = brain_of(params).searchlight
    ratings, n_stimuli = tables["ratings"].collect(), tables["stimuli"].select(pl.len()).collect().item()
    families = ratings["family"].unique().sort().to_list()
    rated = np.hstack(
        [np.empty((n_stimuli, 0)), *(rating_matrix(ratings, n_stimuli, family).scores for family in families)]
    )
    if not rated.size or np.isnan(rated).any():
        raise UsageError(
            "the ratings cannot select the stimuli of the searchlight",
            wanted="every rating of every stimulus",
            found=f"{int(np.isnan(rated).sum()):,} missing scores" if rated.size else "no ratings",
            todo="set another brain.searchlight.selection, such as auto",
        )
    features, z = _standard(rated[subject.stimulus_index]), subject.z_scored
    place = np.flatnonzero(at)

    def reliability(order: NDArray[np.int64]) -> NDArray[np.float64]:
        mine = features.copy()
        mine[place] = features[place[order]]
        fitted = encode(mine, z, folds_of(subject, params), workers=context.workers)
        penalties = _on_grid(np.exp(np.log(fitted.penalty).mean(axis=0)))
        return leave_one_out(mine, z, penalties, workers=context.workers).r[at]

    r = reliability(np.arange(len(place)))
    null = np.zeros((wanted.permutations, len(at)), dtype=bool)
    for k, order in enumerate(_orders(params, subject.stimulus_index[place])):
        null[k, place] = _best(reliability(order), wanted.n_stimuli)
        context.progress(f"{subject.name}: stimuli selected in {k + 1:,} of {wanted.permutations:,} permutations")
    chosen = np.zeros(len(at), dtype=bool)
    chosen[place] = _best(r, wanted.n_stimuli)
    return r, chosen, nulls.packed(null)


def _orders(params: Params, stimuli: NDArray[np.int32]) -> NDArray[np.int64]:
    return null_orders(params, "searchlight", stimuli, brain_of(params).searchlight.permutations)


def _standard(x: Floats) -> NDArray[np.float64]:
    spread = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0), dtype=np.float64)


def _on_grid(penalties: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round penalties to the nearest of 100 values, so that few different hat matrices are needed."""
    at = np.abs(np.log(penalties)[:, None] - np.log(PENALTIES)).argmin(axis=1)
    return np.where(np.isnan(penalties), np.nan, PENALTIES[at])


def _ceilings(subjects: list[Subject], rows: dict[str, NDArray[np.bool_]]) -> list[dict[str, object]]:
    """Return one row per region: the noise ceiling over all stimuli that were shown to all subjects.

    Selected stimuli would give too high a ceiling, because subjects agree on them by selection.
    """
    shared = common_stimuli([one.stimulus_index[rows[one.name]] for one in subjects])
    found: list[dict[str, object]] = []
    for region in [*regions.regions(), "all"]:
        rsms = region_rsms(subjects, shared, region)
        bound = statistics.noise_ceiling(rsms) if len(rsms) > 1 else None
        found.append(
            {
                "region": region,
                "ceiling_low": bound.lower if bound else None,
                "ceiling_high": bound.upper if bound else None,
                "n_subjects": len(rsms),
                "n_stimuli": len(shared),
            }
        )
    return found
