"""Step of the brain that reads the recordings: voxels with their regions, and one pattern per subject and stimulus.

:mod:`affectlake.brain` does the computations. What is done with the patterns is in
:mod:`~affectlake.pipelines.steps.brain_selection` (stimuli), :mod:`~affectlake.pipelines.steps.brain_maps` (maps) and
:mod:`~affectlake.pipelines.steps.brain_groups` (regions and subjects).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from affectlake.brain.recordings import regions
from affectlake.brain.recordings.subjects import align, usable_voxels
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import beta_rows
from affectlake.pipelines.steps.brain_sources import recording_files, recordings
from affectlake.pipelines.steps.rows import null_nan


@step(
    reads=("stimuli", "ratings"),
    writes=("voxels", "voxel_reliability", "betas"),
    params=("seed", "brain.sources"),
    found_files=recording_files,
    section="brain",
    version=4,
)
def ingest_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Read the recordings: all voxels with their regions, and one pattern per subject and stimulus.

    How much of a voxel's variance is explainable is computed here: only the recordings have each presentation.
    """
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    voxels, reliability, betas = [], [], []
    for name, recording in recordings(
        tables, params, context.source_root, ids
    ):  # sorted by name, as the rows of the tables
        found = align(recording, ids)
        for line in recording.notes:
            context.log(f"{name}: {line}")
        context.log(found.account(name))
        member = regions.membership(recording.columns, len(recording.voxels))
        if member.absent:
            context.log(f"{name}: no columns for {len(member.absent)} regions: {', '.join(member.absent)}")
        if member.empty:
            context.log(f"{name}: no voxel is in {len(member.empty)} regions: {', '.join(member.empty)}")
        axes = {f"voxel_{axis}": recording.voxels[:, i] for i, axis in enumerate("ijk")}
        places = {f"{axis}_mm": recording.mm[:, i] for i, axis in enumerate("xyz")}
        grid = {f"grid_{axis}": recording.shape[i] if recording.shape else None for i, axis in enumerate("ijk")}
        n_voxels = len(recording.voxels)
        voxels.append(
            pl.DataFrame(
                {"subject": [name] * n_voxels, "voxel_index": np.arange(n_voxels, dtype=np.int32)}
                | axes | places | {"regions": regions.words(member), "usable": usable_voxels(found.patterns)}
            ).with_columns(pl.lit(size, dtype=pl.Int32).alias(column) for column, size in grid.items())
        )  # fmt: skip
        reliability.append(
            pl.DataFrame(
                {"subject": [name] * n_voxels, "voxel_index": np.arange(n_voxels, dtype=np.int32),
                 "explainable_variance": found.explainable}
            )
        )  # fmt: skip
        betas.append(beta_rows(name, found, context.scratch / f"{name}.arrow"))
    return {
        "voxels": pl.concat(voxels),
        "voxel_reliability": null_nan(pl.concat(reliability)),
        "betas": pl.concat(betas),
    }
