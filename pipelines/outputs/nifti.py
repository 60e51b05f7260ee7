"""Brain maps of a version as NIfTI images, on each subject's own grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from affectlake.brain.recordings.volumes import fitted_affine, write_map
from affectlake.errors import LakeError
from affectlake.lake.files.names import file_name
from affectlake.lake.query import query
from affectlake.lake.store.versions import Manifest, resolve
from affectlake.pipelines.outputs.flatmaps import draw_flatmap
from affectlake.pipelines.outputs.report import params_at
from affectlake.pipelines.outputs.surfaces import draw_surfaces
from affectlake.pipelines.steps.brain_arrays import METHODS


def write_maps(lake: Path, folder: Path, at: str = "", surfaces: bool = False) -> list[Path]:
    """Write every agent's maps and dimension weights and return the files' paths.

    ``SUBJECT/AGENT_searchlight_embedding.nii.gz`` and the like hold ρ or r, NaN where a voxel has none;
    ``SUBJECT/AGENT_weights_07.nii.gz`` the encoding weights of dimension 7.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    folder : Path
        Made if need be.
    at : str
        The version; the latest when empty.
    surfaces : bool
        Whether each map of an embedding is also drawn on the cortex: on the subject's own, flattened, where
        ``brain.surfaces`` of the version's parameters names it (:mod:`affectlake.pipelines.outputs.flatmaps`), else on
        fsaverage5, for brains in MNI space (:mod:`affectlake.pipelines.outputs.surfaces`).

    Raises
    ------
    LakeError
        If the version has no brain maps.
    """
    version = resolve(lake, at)
    if "voxels" not in Manifest(lake, version.commit).tables():
        raise LakeError(
            f"{version.name} has no brain maps", todo="add a section `brain:` to params.yaml and run the study"
        )
    brain = params_at(lake, version).brain
    own = brain.surfaces if brain else {}
    found: list[Path] = []
    for (subject,), rows in _rows(lake, "voxels", version.name).group_by("subject", maintain_order=True):
        grid = rows.sort("voxel_index")
        voxels = grid.select("voxel_i", "voxel_j", "voxel_k").to_numpy()
        affine = fitted_affine(voxels, grid.select("x_mm", "y_mm", "z_mm").to_numpy())
        own_folder = folder / file_name(str(subject))
        quoted = str(subject).replace("'", "''")
        only = f"WHERE subject = '{quoted}'"
        for method, table, value in METHODS:
            maps = _rows(lake, f"{table} {only}", version.name)
            for (agent, basis), one in maps.group_by("agent", "basis", maintain_order=True):
                path = own_folder / file_name(f"{agent}_{method}_{basis}.nii.gz")
                values = one.sort("voxel_index")[value].cast(pl.Float64).fill_null(float("nan")).to_numpy()
                write_map(values, voxels, affine, path)
                found.append(path)
                if surfaces and basis == "embedding":
                    mine = own.get(str(subject))
                    found += draw_flatmap(path, mine, lake) if mine else draw_surfaces(path)
        for row in _rows(lake, f"encoding_weights {only}", version.name).iter_rows(named=True):
            path = own_folder / file_name(f"{row['agent']}_weights_{row['dimension']:02d}.nii.gz")
            write_map(np.array(row["voxel_weights"], dtype=np.float32), voxels, affine, path)
            found.append(path)
    return found


def _rows(lake: Path, source: str, at: str) -> pl.DataFrame:
    rows: pl.DataFrame = query(lake, f"SELECT * FROM {source} ORDER BY ALL", at).pl()
    return rows
