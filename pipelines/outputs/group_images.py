"""Maps of means over subjects as NIfTI images, on the grid that the subjects share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from affectlake.brain.recordings.volumes import fitted_affine, write_map
from affectlake.lake.files.names import file_name
from affectlake.pipelines.outputs.brain_masks import LEVEL, Threshold
from affectlake.pipelines.outputs.surfaces import draw_surfaces
from affectlake.report.columns import Columns

FOLDER = "group"
_PLACE, _MM = ("voxel_i", "voxel_j", "voxel_k"), ("x_mm", "y_mm", "z_mm")

GROUP_MAPS = Columns(
    ("method", "agent", "contrast", *_PLACE, *_MM), varying=("group_value", "p_fwe", "p_tfce", "p_cluster", "n_flips")
)
"""The columns of `group_maps` that are read."""


def write_group_maps(
    rows: pl.DataFrame, folder: Path, threshold: Threshold | None, surfaces: bool, log: Callable[[str], None]
) -> list[Path]:
    """Write ``group/AGENT_METHOD_group-CONTRAST.nii.gz`` of each map, and its significant voxels beside it.

    Parameters
    ----------
    rows : polars.DataFrame
        Rows of `group_maps`.
    folder : Path
        Folder of the images of all subjects.
    threshold : Threshold or None
        The mask; a false discovery rate is not defined for these maps, and gives no masked image.
    surfaces : bool
        Whether to draw the maps on fsaverage5 as well, for brains in MNI space.
    log : callable
        Takes one line for each map that is not masked or not drawn.

    Returns
    -------
    list of Path
        Paths of the files.
    """
    found: list[Path] = []
    for key, own in rows.group_by("method", "agent", "contrast", maintain_order=True):
        method, agent, contrast = map(str, key)
        voxels = own.select(_PLACE).to_numpy()
        affine = fitted_affine(voxels, own.select(_MM).to_numpy())
        values = own["group_value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        name = f"{agent}_{method}_group-{contrast}"
        path = folder / FOLDER / file_name(f"{name}.nii.gz")
        write_map(values, voxels, affine, path, description=f"{contrast} over subjects, all voxels")
        found.append(path)
        drawn, shown = path, "all voxels"
        if threshold and threshold.column in own.columns and own[threshold.column].count():
            significant = own[threshold.column].lt(LEVEL).fill_null(False).to_numpy()
            drawn = folder / FOLDER / file_name(f"{name}_{threshold.mask}.nii.gz")
            shape = (int(voxels[:, 0].max()) + 1, int(voxels[:, 1].max()) + 1, int(voxels[:, 2].max()) + 1)
            n_flips = own.select(pl.col("n_flips").max()).item()
            header = f"{contrast} where {threshold.column} < {LEVEL} ({n_flips} flips of signs)"
            write_map(np.where(significant, values, np.nan), voxels, affine, drawn, shape, header)
            found.append(drawn)
            shown = f"{threshold.words} ({n_flips:,} flips of signs)"
            if not significant.any():
                log(f"{drawn.name} has no significant voxel: {shown}")
                continue
        elif threshold:
            log(f"{path.name} is not masked: group_maps have no {threshold.column}")
        if surfaces:
            found += draw_surfaces(drawn, path, shown)
    return found
