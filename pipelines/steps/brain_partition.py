"""Step that divides the variance of every voxel among bands of features: whose it is, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import polars as pl

from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.shares import Intervals, intervals, shares_of
from affectlake.brain.recordings import regions
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.band_features import WHOLE, bands_of, nuisance_of
from affectlake.pipelines.steps.brain_arrays import brain_of, folds_of, subjects_of
from affectlake.pipelines.steps.partition_rows import (
    across_subjects,
    explainable_of,
    map_rows,
    region_rows,
    winner_rows,
)
from affectlake.pipelines.steps.progress import Progress
from affectlake.pipelines.steps.rows import Row, null_nan, to_table


@step(
    reads=(
        "stimuli",
        "captions",
        "frames",
        "motion",
        "voxels",
        "voxel_reliability",
        "betas",
        "embeddings/{agents}",
        "fits/{agents}",
    ),
    writes=("variance_partition", "partition_maps", "partition_winners", "partition_stats"),
    params=(
        "seed",
        "brain.encoding.outer_folds",
        "brain.encoding.inner_folds",
        "brain.encoding.by_run",
        "brain.partition",
    ),
    section="brain.partition",
    version=3,
)
def partition_variance(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Divide the variance that several agents explain in each voxel and region: alone, shared, and together."""
    wanted = brain_of(params).partition
    assert wanted is not None
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    nuisance = nuisance_of(tables, wanted, n_stimuli, context)
    bands, missing = bands_of(tables, wanted)
    if missing:
        for line in missing.values():
            context.log(line)
        named = [(*some,) for n in range(1, len(wanted.bands) + 1) for some in combinations(wanted.bands, n)]
        rows: list[Row] = [
            {"subject": subject.name, "region": "all", "part": part, "note": "; ".join(missing.values()),
             "n_voxels": 0, "n_stimuli": len(subject.stimulus_index)}
            for subject in subjects_of(tables, context)
            for part in (*map("+".join, named), WHOLE)
        ]  # fmt: skip
        nothing = {name: to_table(name, []) for name in ("partition_maps", "partition_winners", "partition_stats")}
        return {"variance_partition": to_table("variance_partition", rows), **nothing}
    rows, maps, best = [], [], []
    for subject in subjects_of(tables, context):
        member = regions.from_words(subject.regions)
        inside = np.vstack([member.voxels, np.ones(len(subject.regions), dtype=bool)])
        folds = folds_of(subject, params)
        found = encode_bands(
            {name: x[subject.stimulus_index] for name, x in bands.items()},
            subject.z_scored,
            folds,
            nuisance={name: x[subject.stimulus_index] for name, x in nuisance.items()},
            regions=inside,
            groups=subject.runs,
            ratios=wanted.ratios,
            workers=context.workers,
            checkpoint=context.scratch / f"{subject.name}.npz",
            on_candidate=Progress(context, subject.name, "candidates"),
        )
        parts, n_folds = shares_of(found.models), len(folds.inner)
        ends = intervals(found.losses, parts.coefficients, n_folds, subject.runs)
        names = [*map("+".join, parts.bands[:-1]), WHOLE]
        explainable = explainable_of(tables, subject.name)
        rows += region_rows(subject, [*member.keys, "all"], inside & found.usable, names, ends, explainable)
        maps.append(map_rows(subject, list(bands), names, parts, found, explainable))
        best.append(winner_rows(subject, list(bands), parts, found, n_folds))
        context.log(f"{subject.name}: {_of_brain(names, ends)}, {int(found.usable.sum()):,} voxels")
    table = to_table("variance_partition", rows)
    return {
        "variance_partition": table,
        "partition_maps": null_nan(pl.concat(maps)),
        "partition_winners": null_nan(pl.concat(best)),
        "partition_stats": to_table("partition_stats", across_subjects(table)),
    }


def _of_brain(names: list[str], ends: Intervals) -> str:
    values: Mapping[str, float] = dict(zip(names, ends.value[:, -1].tolist(), strict=True))
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())
