"""Step that divides the variance of every voxel among bands of features: whose it is, and what they share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import statistics
from affectlake.brain.encoding.bands import BandedEncoding, encode_bands
from affectlake.brain.encoding.shares import (
    Intervals,
    Shares,
    explained_shares,
    intervals,
    known_explainable,
    shares_of,
)
from affectlake.brain.recordings import regions
from affectlake.brain.repeats import error_of_explainable
from affectlake.errors import SourceError
from affectlake.pipelines.params.brain import PartitionParams
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import representative
from affectlake.pipelines.steps.brain_arrays import Subject, brain_of, folds_of, subjects_of
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
    writes=("variance_partition", "partition_maps", "partition_stats"),
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
        nothing = {name: to_table(name, []) for name in ("partition_maps", "partition_stats")}
        return {"variance_partition": to_table("variance_partition", rows), **nothing}
    rows, maps = [], []
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
            ratios=wanted.ratios,
            workers=context.workers,
            checkpoint=context.scratch / f"{subject.name}.npz",
            on_candidate=_Progress(context, subject.name),
        )
        parts = shares_of(found.models)
        ends = intervals(found.losses, parts, int(folds.outer.max()) + 1, subject.runs)
        names = [*map("+".join, parts.bands[:-1]), WHOLE]
        explainable = _explainable(tables, subject.name)
        rows += _region_rows(subject, [*member.keys, "all"], inside & found.usable, names, ends, explainable)
        maps.append(_map_rows(subject, list(bands), names, parts, found, explainable))
        context.log(f"{subject.name}: {_of_brain(names, ends)}, {int(found.usable.sum()):,} voxels")
    table = to_table("variance_partition", rows)
    return {
        "variance_partition": table,
        "partition_maps": null_nan(pl.concat(maps)),
        "partition_stats": to_table("partition_stats", _across_subjects(table)),
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


class _Explainable(NamedTuple):
    """Explainable variance of a subject's voxels (n_voxels,), and the presentations of each stimulus."""

    share: Floats
    n_presentations: NDArray[np.int32]

    def of(self, inside: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return the mean over the voxels of each region (n_regions, n_voxels), and its error."""
        means = statistics.region_means(self.share[None], inside)[0]
        return means, error_of_explainable(means, self.n_presentations)

    def of_voxels(self) -> Floats:
        """Return the explainable variance of voxels where it is known to be above 0, else NaN."""
        return known_explainable(self.share, error_of_explainable(self.share, self.n_presentations))


def _explainable(tables: Tables, subject: str) -> _Explainable:
    own = tables["voxel_reliability"].filter(pl.col("subject") == subject).sort("voxel_index").collect()
    shown = tables["betas"].filter(pl.col("subject") == subject).select("n_presentations").collect()
    return _Explainable(own["explainable_variance"].fill_null(np.nan).to_numpy(), shown["n_presentations"].to_numpy())


def _bands(tables: Tables, wanted: PartitionParams) -> tuple[Bands, dict[str, str]]:
    """Return the embeddings of each band side by side; and of bands without, why."""
    bands: Bands = {}
    missing = dict[str, str]()
    for name, agents in wanted.bands.items():
        found = []
        for agent in agents:
            own = {table: tables[table].filter(pl.col("agent") == agent) for table in ("embeddings", "fits")}
            fitted = representative(own)
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


def _region_rows(
    subject: Subject, names: list[str], inside: NDArray[np.bool_], parts: list[str], ends: Intervals,
    explainable: _Explainable,
) -> list[Row]:  # fmt: skip
    sizes = np.count_nonzero(inside, axis=1).tolist()
    means, errors = explainable.of(inside)
    shares = explained_shares(ends, means, errors)
    return [
        {
            "subject": subject.name,
            "region": region,
            "part": part,
            "r2": ends.value[p, r] if size else None,
            "ci_low": ends.low[p, r] if size else None,
            "ci_high": ends.high[p, r] if size else None,
            "p": ends.p[p, r] if size else None,
            "explainable_variance": means[r],
            "explained_share": shares.value[p, r],
            "share_low": shares.low[p, r],
            "share_high": shares.high[p, r],
            "n_voxels": size,
            "n_stimuli": len(subject.stimulus_index),
            "note": None if size else "no voxel of the region can be used",
        }
        for r, (region, size) in enumerate(zip(names, sizes, strict=True))
        for p, part in enumerate(parts)
    ]


def _map_rows(
    subject: Subject, bands: list[str], names: list[str], parts: Shares, found: BandedEncoding,
    explainable: _Explainable,
) -> pl.DataFrame:  # fmt: skip
    values, known = parts.coefficients @ found.r2, explainable.of_voxels()
    split = dict(zip(bands, found.split, strict=False))  # those of nuisance features come last
    n = found.r2.shape[1]
    return pl.concat(
        pl.DataFrame(
            {
                "subject": [subject.name] * n,
                "part": [part] * n,
                "voxel_index": np.arange(n, dtype=np.int32),
                "r2": value,
                "r2_split": split.get(part, np.full(n, np.nan)),
                "explained_share": value / known,
            }
        )
        for part, value in sorted(zip(names, values, strict=True))
    )


def _across_subjects(table: pl.DataFrame) -> list[Row]:
    """Return the mean of each part and region over subjects, with Student's interval and test."""
    rows: list[Row] = []
    for (part,), own in table.group_by("part", maintain_order=True):
        found: list[Row] = []
        for (region,), one in own.group_by("region", maintain_order=True):
            values: Floats = one["r2"].fill_null(np.nan).to_numpy()
            zero = np.zeros(len(values))
            tested = statistics.paired_t_test(values, zero)
            low, high = statistics.paired_interval(values, zero)
            shares: Floats = one["explained_share"].fill_null(np.nan).to_numpy()
            share_low, share_high = statistics.paired_interval(shares, zero)
            found.append(
                {"region": region, "part": part, "r2": tested.difference, "ci_low": low, "ci_high": high,
                 "t": tested.t, "p": tested.p, "n_subjects": tested.n,
                 "explained_share": statistics.paired_t_test(shares, zero).difference, "share_low": share_low,
                 "share_high": share_high}
            )  # fmt: skip
        levels = statistics.benjamini_hochberg(np.array([row["p"] for row in found], dtype=np.float64))
        rows += [row | {"p_fdr": level} for row, level in zip(found, levels, strict=True)]
    return rows


def _of_brain(names: list[str], ends: Intervals) -> str:
    values: Mapping[str, float] = dict(zip(names, ends.value[:, -1].tolist(), strict=True))
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())
