"""Step that divides the variance of every voxel among bands of features: whose it is, and what they share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain.encoding.bands import encode_bands
from affectlake.brain.encoding.shares import (
    Intervals,
    intervals,
    shares_of,
)
from affectlake.brain.recordings import regions
from affectlake.errors import SourceError
from affectlake.pipelines.params.brain import PartitionParams
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import representative_of
from affectlake.pipelines.steps.brain_arrays import brain_of, folds_of, subjects_of
from affectlake.pipelines.steps.partition_rows import (
    across_subjects,
    explainable_of,
    map_rows,
    region_rows,
    winner_rows,
)
from affectlake.pipelines.steps.rows import Row, null_nan, to_table
from affectlake.stimuli.nuisance import NUISANCE

Floats = NDArray[np.float64]
Bands = dict[str, NDArray[np.floating]]

WHOLE = "all"
"""Name of the part that all bands explain together."""

NUISANCE_BAND = "+nuisance"
"""Name of the band of nuisance features, which no band of a study can have."""


@step(
    reads=(
        "stimuli",
        "captions",
        "frames",
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
    version=2,
)
def partition_variance(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Divide the variance that several agents explain in each voxel and region: alone, shared, and together."""
    wanted = brain_of(params).partition
    assert wanted is not None
    n_stimuli = tables["stimuli"].select(pl.len()).collect().item()
    nuisance = _nuisance(tables, wanted, n_stimuli, context)
    bands, missing = _bands(tables, wanted)
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
            on_candidate=_Progress(context, subject.name),
        )
        parts, n_folds = shares_of(found.models), len(folds.inner)
        ends = intervals(found.losses, parts, n_folds, subject.runs)
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


class _Progress:
    """Lines of progress with the time that is left, by the time that candidates took so far."""

    def __init__(self, context: StepContext, subject: str) -> None:
        self.context, self.subject = context, subject
        self.began, self.first = time.monotonic(), -1

    def __call__(self, done: int, n: int) -> None:
        if self.first < 0:
            self.first = done - 1  # what a checkpoint had
        per_candidate = (time.monotonic() - self.began) / (done - self.first)
        self.context.progress(
            f"{self.subject}: {done:,} of {n:,} candidates, about {per_candidate * (n - done):,.0f} s left"
        )


def _bands(tables: Tables, wanted: PartitionParams) -> tuple[Bands, dict[str, str]]:
    """Return the embeddings of each band side by side; and of bands without, why."""
    bands: Bands = {}
    missing = dict[str, str]()
    for name, agents in wanted.bands.items():
        found = []
        for agent in agents:
            fitted = representative_of(tables, agent)
            if fitted is None:
                missing[name] = f"the band {name} has no features: {agent} has no fit with a dimension"
            else:
                found.append(fitted[1])
        if name not in missing:
            bands[name] = np.concatenate(found, axis=1)
    return bands, missing


def _nuisance(tables: Tables, wanted: PartitionParams, n_stimuli: int, context: StepContext) -> Bands:
    """Return the nuisance features as one band, each z-scored; a stimulus without media has the mean of the others.

    Raises
    ------
    SourceError
        If no stimulus has what a feature is computed from.
    """
    features = []
    for name in wanted.nuisance:
        table, compute = NUISANCE[name]
        found = compute(tables[table].collect(), n_stimuli)
        without = np.isnan(found).any(axis=1)
        if without.all():
            raise SourceError(
                f"the nuisance feature {name} cannot be computed",
                wanted=f"{table} of the stimuli",
                found=f"no stimulus has {table}",
                todo=f"remove {name} from brain.partition.nuisance, or add {table} to the sources",
            )
        if without.any():
            context.log(f"{int(without.sum()):,} stimuli have no {table}: their {name} is the mean of the others")
            found[without] = found[~without].mean(axis=0)
        spread = found.std(axis=0)
        features.append((found - found.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
    return {NUISANCE_BAND: np.concatenate(features, axis=1)} if features else {}


def _of_brain(names: list[str], ends: Intervals) -> str:
    values: Mapping[str, float] = dict(zip(names, ends.value[:, -1].tolist(), strict=True))
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())
