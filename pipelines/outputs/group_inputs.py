"""Means of maps over subjects for the report, from the table `group_maps`."""

from __future__ import annotations

import polars as pl

from affectlake.pipelines.outputs.brain_masks import LEVEL, THRESHOLDS, Threshold
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.report import GroupMaps, make_volume

_PLACE = ("voxel_i", "voxel_j", "voxel_k")
_MM = ("x_mm", "y_mm", "z_mm")


def group_inputs(tables: VersionTables, threshold: Threshold | None, block: int) -> GroupMaps | None:
    """Return the means of the agents' maps over subjects; None for a version without them.

    Parameters
    ----------
    tables : VersionTables
    threshold : Threshold or None
        The mask of maps of one subject. In place of a false discovery rate, which flips of few subjects' signs cannot
        give, means have the chance of any false voxel.
    block : int
        Number of voxels along each edge of a cell.
    """
    if "group_maps" not in tables.present:
        return None
    wanted = THRESHOLDS["fwe"] if threshold and threshold.mask == "fdr" else threshold
    level = wanted.column if wanted else "NULL::DOUBLE"
    rows = tables.rows(
        f"SELECT method, agent, {', '.join((*_PLACE, *_MM))}, group_value AS value, {level} AS level, "
        "n_subjects, n_flips FROM group_maps WHERE contrast = 'mean' ORDER BY ALL"
    )
    if not len(rows):
        return None
    voxels = rows.select(*_PLACE, *_MM).unique(_PLACE).sort(_PLACE).with_row_index("voxel_index")
    maps = rows.join(voxels.select("voxel_index", *_PLACE), on=_PLACE, maintain_order="left")
    significant = pl.col("level").lt(LEVEL).fill_null(value=False) if wanted else pl.lit(None, pl.Boolean)
    return GroupMaps(
        make_volume(
            "group", voxels.with_columns(regions=pl.lit("")), maps.with_columns(significant=significant), block
        ),
        wanted.words if wanted else "",
        int(rows["n_subjects"].max()),  # type: ignore[arg-type]
        int(rows["n_flips"].max()),  # type: ignore[arg-type]
    )
