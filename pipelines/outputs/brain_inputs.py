"""The brain section of a report: maps, region scores and group statistics, from the tables of a version."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain.recordings.regions import regions
from affectlake.pipelines.outputs.brain_masks import LEVEL, threshold_of
from affectlake.pipelines.outputs.dimension_maps import BrainDimensions
from affectlake.pipelines.outputs.group_inputs import group_inputs
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.pipelines.params.record import StudyRecord
from affectlake.pipelines.steps.brain_arrays import METHODS
from affectlake.report import BrainInputs, Volume, block_of, make_volume, on_one_grid

WHOLE_BRAIN = "all"

_N_MAPS = " + ".join(f"(SELECT count(DISTINCT agent) FROM {one.table} WHERE basis = 'embedding')" for one in METHODS)


def brain_inputs(tables: VersionTables, record: StudyRecord, chosen: str) -> BrainInputs | None:
    """Return the brain maps, region scores and statistics of a version; None if it has no voxels.

    `chosen` is SQL of ``agent, seed``: the representative fits.
    """
    threshold = threshold_of(record)
    rows = tables.rows
    subjects = rows("SELECT subject, count(*) AS n FROM voxels GROUP BY subject ORDER BY subject")
    if not len(subjects):
        return None
    block = block_of(int(subjects["n"].sum()) * int(rows(f"SELECT {_N_MAPS} AS n")["n"][0]))
    masked = [one.name for one in METHODS if threshold and _has_levels(tables, one.table, threshold.column)]
    maps, volumes = pl.DataFrame(), []
    values: dict[tuple[str, str, str], NDArray[np.float32]] = {}
    rating_values: dict[tuple[str, str, str], NDArray[np.float32]] = {}
    for at, name in enumerate(subjects["subject"]):
        own = rows(_maps_sql(name, threshold.column if threshold else ""))
        maps = own if at == 0 else maps
        values |= {(name, *key): found for key, found in _values(own).items()}
        rated = _values(rows(_maps_sql(name, "", "vectors")))
        rating_values |= {(name, *key): found for key, found in rated.items()}
        volumes.append(
            make_volume(name, rows(f"SELECT * FROM voxels WHERE subject = '{name}'"), _marked(own, masked), block)
        )
    scores, named = rows("SELECT * FROM roi_scores ORDER BY ALL"), regions()
    others = sorted(set(scores["region"]) - {*named, WHOLE_BRAIN})  # named differently by an earlier release
    return BrainInputs(
        scores=scores,
        stats=rows("SELECT * FROM group_stats ORDER BY ALL"),
        ceilings=rows("SELECT * FROM noise_ceilings ORDER BY ALL"),
        prevalence=rows("SELECT * FROM prevalence ORDER BY ALL"),
        regions=(
            *((one.key, one.group, one.name) for one in named.values()),
            *((name, "cortical", name) for name in others),
        ),
        subject=str(subjects["subject"][0]),
        maps=maps,
        volumes=on_one_grid(volumes),
        thresholds=dict.fromkeys(masked, threshold.words) if threshold else {},
        reference=record.text("brain.reference"),
        values=values,
        rating_values=rating_values,
        dimensions=BrainDimensions(
            tables, chosen, threshold.column if threshold and "encoding" in masked else "", LEVEL, block
        ),
        winners=_winners(tables, str(subjects["subject"][0]), block),
        group=group_inputs(tables, threshold, block),
    )


def _winners(tables: VersionTables, subject: str, block: int) -> Volume | None:
    """Return the voxels of a subject that each band of agents wins; None for a version without partition."""
    if "partition_winners" not in tables.present:
        return None
    won = tables.rows(f"SELECT voxel_index, best_band FROM partition_winners WHERE subject = '{subject}' ORDER BY ALL")
    bands = tables.rows("SELECT DISTINCT part FROM variance_partition WHERE part NOT LIKE '%+%' ORDER BY part")["part"]
    if not len(won) or not len(bands):
        return None
    maps = pl.concat(
        won.select(
            "voxel_index",
            agent=pl.lit(band),
            method=pl.lit("winner"),
            value=(pl.col("best_band") == band).fill_null(value=False).cast(pl.Float64),
        )
        for band in bands
    )
    return make_volume(subject, tables.rows(f"SELECT * FROM voxels WHERE subject = '{subject}'"), maps, block)


def _has_levels(tables: VersionTables, table: str, column: str) -> bool:
    return bool(tables.rows(f"SELECT count({column}) AS n FROM {table} WHERE basis = 'embedding'")["n"][0])


def _values(maps: pl.DataFrame) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return the values of one subject's maps by method and agent, in the order of the voxels; NaN for missing ones."""
    size = int(maps["voxel_index"].max()) + 1 if len(maps) else 0  # type: ignore[arg-type]
    found = {}
    for (method, agent), own in maps.group_by("method", "agent", maintain_order=True):
        values = np.full(size, np.nan, dtype=np.float32)
        values[own["voxel_index"].to_numpy()] = own["value"].cast(pl.Float32).fill_null(np.nan).to_numpy()
        found[str(method), str(agent)] = values
    return found


def _marked(maps: pl.DataFrame, masked: list[str]) -> pl.DataFrame:
    """Return maps with the column ``significant``, which is null for methods without a mask."""
    significant = pl.col("level").lt(LEVEL).fill_null(value=False)
    return maps.with_columns(significant=pl.when(pl.col("method").is_in(masked)).then(significant))


def _maps_sql(subject: str, column: str, basis: str = "embedding") -> str:
    """Return the query for the maps of one subject by one basis of the agents, of both methods, with their levels."""
    level = column or "NULL::DOUBLE"
    each = [
        f"SELECT agent, '{method}' AS method, voxel_index, {value} AS value, {level} AS level FROM {table}"
        f" WHERE basis = '{basis}' AND subject = '{subject}'"  # a subject's name is letters, digits, - and _
        for method, table, value in METHODS
    ]
    return f"SELECT * FROM ({' UNION ALL '.join(each)}) ORDER BY ALL"
