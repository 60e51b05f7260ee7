"""Brain maps of a version as NIfTI images, on each subject's own grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from affectlake.brain.recordings.volumes import fitted_affine, write_map
from affectlake.errors import LakeError, VersionError
from affectlake.lake.files.names import file_name
from affectlake.lake.store.versions import Version, resolve
from affectlake.pipelines.outputs.brain_masks import LEVEL, THRESHOLDS, threshold_of
from affectlake.pipelines.outputs.flatmaps import draw_flatmap
from affectlake.pipelines.outputs.group_images import GROUP_MAPS, write_group_maps
from affectlake.pipelines.outputs.surfaces import draw_surfaces
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.pipelines.params.brain import PycortexSurfaces
from affectlake.pipelines.params.record import StudyRecord, record_at
from affectlake.pipelines.steps.brain_arrays import METHODS
from affectlake.report.columns import COLUMNS, Columns

_MAP = ("agent", "subject", "basis", "voxel_index")
_READ: dict[str, Columns] = {
    "voxels": COLUMNS["voxels"],
    **{  # a voxel without a value is NaN in the image
        table: Columns((*_MAP, value), varying=tuple(one.column for one in THRESHOLDS.values()))
        for _, table, value in METHODS
    },
    "encoding_weights": Columns(("agent", "subject", "dimension", "voxel_weights")),
    "group_maps": GROUP_MAPS,
}


def write_maps(
    lake: Path,
    folder: Path,
    at: str | Version = "",
    surfaces: bool = False,
    log: Callable[[str], None] = lambda _line: None,
    mask: str = "",
) -> list[Path]:
    """Write the maps and dimension weights of all agents as images.

    Images such as ``SUBJECT/AGENT_searchlight_embedding.nii.gz`` contain ρ or r, NaN for voxels without a value;
    ``SUBJECT/AGENT_searchlight_embedding_fdr.nii.gz`` contains the significant voxels alone, and is what is drawn;
    ``SUBJECT/AGENT_weights_07.nii.gz`` contains the encoding weights of dimension 7. Means over subjects on one
    grid are in ``group`` (:mod:`affectlake.pipelines.outputs.group_images`).

    Parameters
    ----------
    lake : Path
        Root of the lake.
    folder : Path
        Folder of the images; created if it does not exist.
    at : str or Version
        The version; if empty, the latest one.
    surfaces : bool
        Whether to draw each map of an embedding on the cortex as well: on the subject's own flattened cortex, if it is
        in ``brain.surfaces`` of the version's parameters (:mod:`affectlake.pipelines.outputs.flatmaps`), otherwise on
        fsaverage5, for brains in MNI space (:mod:`affectlake.pipelines.outputs.surfaces`).
    log : callable
        Takes one line for each table that the version does not have, or not completely, and for each map that is not
        masked or not drawn.
    mask : {"", "fdr", "fwe", "tfce", "cluster", "none"}
        Which voxels are significant (:data:`affectlake.pipelines.outputs.brain_masks.THRESHOLDS`); none: no masked
        image, and all voxels are drawn; empty: ``brain.mask`` of the version's parameters.

    Returns
    -------
    list of Path
        Paths of the files.

    Raises
    ------
    LakeError
        If the version has no brain maps.
    """
    version = resolve(lake, at)
    tables = VersionTables(lake, version, _READ)
    if "voxels" not in tables.present:
        raise LakeError(
            f"{version.name} has no brain maps", todo="add a section `brain:` to params.yaml and run the study"
        )
    absent = [f"{table}: not in this version" for table in _READ if table not in (*tables.present, "group_maps")]
    lacking = [*tables.shortcomings, *absent]
    every = _rows(tables, "voxels")
    if every.is_empty():
        raise VersionError(f"the brain maps of {version.name} cannot be read", found="; ".join(lacking) or "no voxels")
    for line in lacking:
        log(f"{version.name}: {line}")
    record = record_at(lake, version)
    own, threshold = _surfaces(record), threshold_of(record, mask)
    found: list[Path] = []
    for (subject,), rows in every.group_by("subject", maintain_order=True):
        grid = rows.sort("voxel_index")
        voxels = grid.select("voxel_i", "voxel_j", "voxel_k").to_numpy()
        affine = fitted_affine(voxels, grid.select("x_mm", "y_mm", "z_mm").to_numpy())
        shape = _shape(grid)
        own_folder = folder / file_name(str(subject))
        quoted = str(subject).replace("'", "''")
        only = f"WHERE subject = '{quoted}'"
        for method, table, value in METHODS:
            maps = _rows(tables, f"{table} {only}")
            for (agent, basis), one in maps.group_by("agent", "basis", maintain_order=True):
                path = own_folder / file_name(f"{agent}_{method}_{basis}.nii.gz")
                placed = grid.select("voxel_index").join(one, on="voxel_index", how="left", maintain_order="left")
                values = placed[value].cast(pl.Float64).fill_null(float("nan")).to_numpy()
                write_map(values, voxels, affine, path, shape, f"{value}, all voxels")
                found.append(path)
                drawn, shown = path, "all voxels"
                if threshold and placed[threshold.column].count():
                    significant = placed[threshold.column].lt(LEVEL).fill_null(False).to_numpy()
                    drawn = own_folder / file_name(f"{agent}_{method}_{basis}_{threshold.mask}.nii.gz")
                    shown = threshold.words
                    write_map(
                        np.where(significant, values, np.nan), voxels, affine, drawn, shape,
                        f"{value} where {threshold.column} < {LEVEL} (relabelled stimuli)",
                    )  # fmt: skip
                    found.append(drawn)
                    if surfaces and basis == "embedding" and not significant.any():
                        log(f"{drawn.name} is not drawn: no voxel is significant ({threshold.words})")
                        continue
                elif threshold and basis == "embedding":
                    log(f"{path.name} is not masked: the version has no {table}.{threshold.column}")
                if surfaces and basis == "embedding":
                    mine = own.get(str(subject))
                    found += draw_flatmap(drawn, mine, lake, path, shown) if mine else draw_surfaces(drawn, path, shown)
        for row in _rows(tables, f"encoding_weights {only}").iter_rows(named=True):
            path = own_folder / file_name(f"{row['agent']}_weights_{row['dimension']:02d}.nii.gz")
            weights = np.array(row["voxel_weights"], dtype=np.float32)
            write_map(weights, voxels, affine, path, shape, f"encoding weight of dimension {row['dimension']}")
            found.append(path)
    return found + write_group_maps(_rows(tables, "group_maps"), folder, threshold, surfaces, log)


def _shape(grid: pl.DataFrame) -> tuple[int, int, int] | None:
    """Return the size of a subject's grid; None if the version or the source of the recording does not have it."""
    columns = [f"grid_{axis}" for axis in "ijk"]
    if not set(columns) <= set(grid.columns) or grid.select(columns).null_count().sum_horizontal().item():
        return None
    n_i, n_j, n_k = grid.select(columns).row(0)
    return int(n_i), int(n_j), int(n_k)


def _rows(tables: VersionTables, source: str) -> pl.DataFrame:
    return tables.rows(f"SELECT * FROM {source} ORDER BY ALL")


def _surfaces(record: StudyRecord) -> dict[str, PycortexSurfaces]:
    """Return each subject's own cortex, from ``brain.surfaces`` of a version; other keys are ignored."""
    return {
        subject: PycortexSurfaces.model_construct(
            subject=str(entry.get("subject") or ""),
            transform=str(entry.get("transform") or ""),
            filestore=str(entry.get("filestore") or ""),
        )
        for subject, entry in record.mapping("brain.surfaces").items()
    }
