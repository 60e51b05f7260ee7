"""The rows of the tables of variance partitioning: regions, voxels, winners, and means over subjects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import statistics
from affectlake.brain.encoding.bands import BandedEncoding
from affectlake.brain.encoding.shares import Intervals, Shares, explained_shares, known_explainable, winners
from affectlake.brain.repeats import error_of_explainable
from affectlake.pipelines.step import Tables
from affectlake.pipelines.steps.brain_arrays import Subject
from affectlake.pipelines.steps.brain_effects import with_effect_sizes
from affectlake.pipelines.steps.rows import Row

Floats = NDArray[np.float64]

LEVEL = 0.05
"""False discovery rate, over the voxels of a subject, at which a band wins."""


class Explainable(NamedTuple):
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


def explainable_of(tables: Tables, subject: str) -> Explainable:
    """Return the explainable variance of a subject's voxels."""
    own = tables["voxel_reliability"].filter(pl.col("subject") == subject).sort("voxel_index").collect()
    shown = tables["betas"].filter(pl.col("subject") == subject).select("n_presentations").collect()
    return Explainable(own["explainable_variance"].fill_null(np.nan).to_numpy(), shown["n_presentations"].to_numpy())


def region_rows(
    subject: Subject, names: list[str], inside: NDArray[np.bool_], parts: list[str], ends: Intervals,
    explainable: Explainable,
) -> list[Row]:  # fmt: skip
    """Return the rows of `variance_partition` of one subject."""
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


def map_rows(
    subject: Subject, bands: list[str], names: list[str], parts: Shares, found: BandedEncoding,
    explainable: Explainable,
) -> pl.DataFrame:  # fmt: skip
    """Return the rows of `partition_maps` of one subject."""
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


def winner_rows(subject: Subject, bands: list[str], parts: Shares, found: BandedEncoding, n_folds: int) -> pl.DataFrame:
    """Return for each voxel the band that explains more alone than every other one, if it does at the level."""
    alone = (parts.coefficients @ found.r2)[[parts.bands.index((band,)) for band in bands]]
    n_groups = len(subject.stimulus_index) if subject.runs is None else len(np.unique(subject.runs))
    tested = winners(alone, found.covariance, n_folds, n_groups)
    levels = statistics.benjamini_hochberg(tested.p)
    n = len(tested.p)
    names = [bands[at] if level < LEVEL else None for at, level in zip(tested.band, levels, strict=True)]
    return pl.DataFrame(
        {
            "subject": [subject.name] * n,
            "voxel_index": np.arange(n, dtype=np.int32),
            "best_band": pl.Series(names, dtype=pl.String),
            "p": tested.p,
            "p_fdr": levels,
        }
    )


def across_subjects(table: pl.DataFrame) -> list[Row]:
    """Return the mean of each part and region over subjects, with Student's interval and test."""
    rows: list[Row] = []
    for (part,), own in table.group_by("part", maintain_order=True):
        found: list[Row] = []
        for (region,), one in own.group_by("region", maintain_order=True):
            shares: Floats = one["explained_share"].fill_null(np.nan).to_numpy()
            zero = np.zeros(len(shares))
            share_low, share_high = statistics.paired_interval(shares, zero)
            found.append(
                {"region": region, "part": part, "explained_share": statistics.paired_t_test(shares, zero).difference,
                 "share_low": share_low, "share_high": share_high} | mean_over_subjects(one["r2"], "r2")
            )  # fmt: skip
        rows += with_levels(found)
    return rows


def mean_over_subjects(values: pl.Series, name: str) -> Row:
    """Return the mean of the subjects' values, under its name, with Student's interval and test against zero."""
    found: Floats = values.fill_null(np.nan).to_numpy()
    zero = np.zeros(len(found))
    tested = statistics.paired_t_test(found, zero)
    low, high = statistics.paired_interval(found, zero)
    return {name: tested.difference, "ci_low": low, "ci_high": high, "t": tested.t, "p": tested.p,
            "n_subjects": tested.n}  # fmt: skip


def with_levels(rows: list[Row]) -> list[Row]:
    """Return rows of a family of tests with effect sizes, Bayes factors, and false discovery rates over the rows."""
    levels = statistics.benjamini_hochberg(np.array([row["p"] for row in rows], dtype=np.float64))
    return [row | {"p_fdr": level} for row, level in zip(with_effect_sizes(rows), levels, strict=True)]
