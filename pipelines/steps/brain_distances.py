"""Step that measures cross-validated distances of repeated stimuli in regions, and compares agents with them.

`betas` has means over presentations, so that the recordings are read again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import statistics
from affectlake.brain.contributions.estimates import estimates
from affectlake.brain.contributions.pair_scores import correlations, mean_of_pairs, ranked
from affectlake.brain.crossfitted import FEWEST_STIMULI, Whitened, crossfitted_distances
from affectlake.brain.recordings import regions
from affectlake.brain.recordings.subjects import Recording, stimuli_of_presentations
from affectlake.brain.repeat_folds import RepeatFolds, repeat_folds, without_run_means
from affectlake.errors import SourceError
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.params.brain import CrossnobisParams
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import agent_rsms, brain_of, described_stimuli
from affectlake.pipelines.steps.brain_sources import recording_files, recordings
from affectlake.pipelines.steps.rows import Row, to_table
from affectlake.seeds import generator

Floats = NDArray[np.float64]

FEWEST_VOXELS = 3
"""Usable voxels of a region below which it has no distances, as for correlations of patterns."""


class _Region(NamedTuple):
    """The distances of one region, or why there are none."""

    found: Whitened
    note: str | None


@step(
    reads=("stimuli", "ratings", "shared_stimuli", "embeddings/{agents}", "fits/{agents}"),
    writes=("crossnobis_distances", "crossnobis_reliability", "crossnobis_scores"),
    params=("seed", "brain.sources", "brain.crossnobis"),
    found_files=recording_files,
    section="brain.crossnobis",
    version=1,
)
def measure_distances(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Measure crossnobis distances of repeated stimuli in regions, and the agents' correlations with them."""
    wanted = brain_of(params).crossnobis
    assert wanted is not None
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    ties = generator(params.seed, "brain", "crossnobis").random(len(ids))  # the same stimuli of all subjects
    described = described_stimuli(tables)
    distances, reliability, scores = [_empty("crossnobis_distances")], [], []
    for subject, recording in recordings(tables, params, context.source_root, ids):
        stimulus = stimuli_of_presentations(recording, ids)
        folds = repeat_folds(stimulus, recording.runs, FEWEST_STIMULI, wanted.max_stimuli, ties)
        context.log(_in_words(subject, folds))
        compared = np.isin(folds.stimuli, described)
        models = agent_rsms(tables, context, folds.stimuli[compared])
        member = regions.membership(recording.columns, len(recording.voxels))
        inside = np.vstack([member.voxels, np.ones(len(recording.voxels), dtype=bool)])
        names = [*member.keys, "all"]
        for at, (region, voxels) in enumerate(zip(names, inside, strict=True)):
            own = _measured(recording, stimulus, folds, voxels, wanted, context.workers)
            keys: Row = {"subject": subject, "region": region, "n_voxels": own.found.n_voxels}
            reliability.append(keys | _reliability(own, folds))
            scores += [keys | row for row in _scores(own, compared, models)]
            if own.note is None:
                distances.append(_pairs(subject, region, folds.stimuli, own.found.distances))
            context.progress(f"{subject}: distances of {at + 1:,} of {len(names):,} regions")
    p = np.array([row.get("p_above_zero", np.nan) for row in reliability], dtype=np.float64)
    for row, level in zip(reliability, statistics.benjamini_hochberg(p), strict=True):
        row["p_above_zero_fdr"] = level
    return {
        "crossnobis_distances": pl.concat(distances).sort(contract("crossnobis_distances").key),
        "crossnobis_reliability": to_table("crossnobis_reliability", reliability),
        "crossnobis_scores": to_table("crossnobis_scores", scores),
    }


def _in_words(subject: str, folds: RepeatFolds) -> str:
    few = f"{subject}: {folds.n_repeated:,} stimuli were presented repeatedly"
    if len(folds.stimuli) < FEWEST_STIMULI:
        return few
    chosen = f"; the {len(folds.stimuli):,} with the most presentations are used"
    return f"{few}{chosen if len(folds.stimuli) < folds.n_repeated else ''}; folds: {folds.kind.replace('_', ' ')}"


def _measured(
    recording: Recording, stimulus: NDArray[np.int64], folds: RepeatFolds, voxels: NDArray[np.bool_],
    wanted: CrossnobisParams, workers: int,
) -> _Region:  # fmt: skip
    n = len(folds.stimuli)
    nothing = Whitened(np.full((n, n), np.nan), 0, "covariance")
    if n < FEWEST_STIMULI:
        few = f"{n} stimuli were" if n != 1 else "1 stimulus was"
        return _Region(nothing, f"{few} presented repeatedly; {FEWEST_STIMULI} are needed")
    patterns: NDArray[np.floating] = recording.patterns[:, voxels]
    if recording.runs is not None and folds.kind != "runs":
        patterns = without_run_means(patterns, stimulus, recording.runs)
    try:
        found = crossfitted_distances(patterns, folds.place, folds.fold, wanted.regularisation, workers=workers)
    except SourceError as error:
        return _Region(nothing, f"{error.summary}: {error.found}; {error.todo}")
    if found.n_voxels < FEWEST_VOXELS:
        return _Region(found, f"fewer than {FEWEST_VOXELS} voxels of the region can be used")
    return _Region(found, None)


def _reliability(own: _Region, folds: RepeatFolds) -> Row:
    keys: Row = {"n_stimuli": len(folds.stimuli), "note": own.note}
    if own.note is not None:
        return keys
    mean = estimates(mean_of_pairs(own.found.distances))
    above = mean.p[0] / 2 if mean.value[0] > 0 else 1 - mean.p[0] / 2
    return keys | {
        "mean_distance": mean.value[0], "ci_low": mean.low[0], "ci_high": mean.high[0], "p_above_zero": above,
        "folds": folds.kind, "whitening": own.found.whitening,
    }  # fmt: skip


def _scores(own: _Region, compared: NDArray[np.bool_], models: dict[str, Floats | str]) -> list[Row]:
    """Return the rows of the agents, over the stimuli that all agents describe."""
    n = int(compared.sum())
    few = f"all agents describe {n} of the repeated stimuli; {FEWEST_STIMULI} are needed"
    whole = own.note or (few if n < FEWEST_STIMULI else None)
    notes: dict[str, str] = {}
    ranks: dict[str, Floats] = {}
    for agent, rsm in models.items():
        if isinstance(rsm, str):
            notes[agent] = rsm
        elif whole is not None:
            notes[agent] = whole
        else:
            ranks[agent] = ranked(1 - rsm)
            if not ranks[agent].any():
                notes[agent] = "the agent's similarities are all equal"
                del ranks[agent]
    rows: list[Row] = [{"agent": agent, "n_stimuli": n, "note": why} for agent, why in notes.items()]
    if ranks:
        data = ranked(own.found.distances[np.ix_(compared, compared)])
        found = estimates(correlations(data, list(ranks.values())))
        rows += [
            {"agent": agent, "n_stimuli": n, "distance_r": found.value[at], "ci_low": found.low[at],
             "ci_high": found.high[at], "p": found.p[at]}
            for at, agent in enumerate(ranks)
        ]  # fmt: skip
    return rows


def _empty(table: str) -> pl.DataFrame:
    return pl.DataFrame(contract(table).schema.empty_table())


def _pairs(subject: str, region: str, stimuli: NDArray[np.int64], distances: Floats) -> pl.DataFrame:
    first, second = np.triu_indices(len(stimuli), k=1)
    found = pl.DataFrame(
        {"stimulus_index": stimuli[first], "other_stimulus_index": stimuli[second],
         "crossnobis_distance": distances[first, second]}
    )  # fmt: skip
    empty = _empty("crossnobis_distances")
    return found.with_columns(subject=pl.lit(subject), region=pl.lit(region)).select(empty.columns).cast(empty.schema)
