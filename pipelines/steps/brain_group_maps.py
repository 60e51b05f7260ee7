"""Step that averages the maps of subjects on one grid, and tests the means by flips of the subjects' signs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain.clusters.levels import group_levels
from affectlake.brain.clusters.neighbours import neighbours_of
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import METHODS, Method, brain_of
from affectlake.pipelines.steps.rows import null_nan, to_table
from affectlake.seeds import generator

Floats = NDArray[np.float64]
_PLACE = ("voxel_i", "voxel_j", "voxel_k")
_MM = ("x_mm", "y_mm", "z_mm")
_NEAR_MM = 0.01


class _Grid(NamedTuple):
    """The voxels that all subjects have, their rows of `voxels` side by side, and the subjects' names."""

    voxels: pl.DataFrame
    subjects: list[str]


@step(
    reads=("voxels", "encoding_maps/{agents}", "rsa_maps/{agents}"),
    writes=("group_maps",),
    params=("seed", "brain.reference", "brain.cluster_forming_p"),
    optional=("brain.reference", "brain.cluster_forming_p"),
    section="brain",
    version=1,
)
def group_brain_maps(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Average the agents' maps, and their differences from those of the reference, over subjects on one grid."""
    grid = _grid(tables["voxels"].select("subject", "voxel_index", *_PLACE, *_MM).collect())
    if isinstance(grid, str):
        context.log(f"no group maps: {grid}")
        return {"group_maps": to_table("group_maps", [])}
    reference, found = brain_of(params).reference, []
    neighbours = neighbours_of(grid.voxels.select(_PLACE).to_numpy())
    for method in METHODS:
        maps = _maps(tables, method, grid)
        contrasts = {(agent, "mean"): values for agent, values in maps.items()}
        if reference in maps:
            contrasts |= {(agent, "difference"): values - maps[reference] for agent, values in maps.items()
                          if agent != reference}  # fmt: skip
        for (agent, contrast), values in contrasts.items():
            levels = group_levels(
                values, neighbours, brain_of(params).cluster_forming_p, generator(params.seed, "brain", "flips"),
                workers=context.workers,
            )  # fmt: skip
            n = len(levels.mean)
            found.append(grid.voxels.select(
                pl.lit(method.name).alias("method"), pl.lit(agent).alias("agent"), pl.lit(contrast).alias("contrast"),
                *_PLACE, *_MM,
                pl.Series("group_value", levels.mean), pl.Series("t", levels.t),
                pl.Series("p_fwe", levels.familywise), pl.Series("p_tfce", levels.tfce),
                pl.Series("p_cluster", levels.cluster),
                pl.Series("n_subjects", np.full(n, len(grid.subjects), dtype=np.int32)),
                pl.Series("n_flips", np.full(n, levels.n_flips, dtype=np.int32)),
            ))  # fmt: skip
            context.log(
                f"{method.name}, {agent}, {contrast}: {n:,} voxels, {len(grid.subjects)} subjects, "
                f"no level below 1/{levels.n_flips:,}"
            )
    if not found:
        return {"group_maps": to_table("group_maps", [])}
    key = ("method", "agent", "contrast", *_PLACE)
    return {"group_maps": null_nan(pl.concat(found)).sort(key)}


def _grid(voxels: pl.DataFrame) -> _Grid | str:
    """Return the voxels that all subjects have, or why there are no group maps."""
    subjects = sorted(voxels["subject"].unique())
    if len(subjects) < 2:
        return "they need two subjects"
    each = [voxels.filter(pl.col("subject") == name).drop("subject") for name in subjects]
    shared = each[0].rename({"voxel_index": subjects[0]}).sort(_PLACE)
    for name, own in zip(subjects[1:], each[1:], strict=True):
        both = shared.join(own.rename({"voxel_index": name}), on=_PLACE, how="inner", maintain_order="left")
        apart = [(pl.col(axis) - pl.col(f"{axis}_right")).abs() for axis in _MM]
        if both.is_empty() or both.select(pl.max_horizontal(apart).max()).item() > _NEAR_MM:
            return f"{subjects[0]} and {name} are not on one grid"
        shared = both.drop([f"{axis}_right" for axis in _MM])
    return _Grid(shared, subjects)


def _maps(tables: Tables, method: Method, grid: _Grid) -> dict[str, Floats]:
    """Return each agent's maps (n_subjects, n_voxels), NaN for missing values; without agents that lack a subject."""
    rows = tables[method.table].filter(pl.col("basis") == "embedding")
    bias = pl.col("bias").fill_null(0.0) if method.name == "searchlight" else pl.lit(0.0)
    rows = rows.with_columns(pl.col(method.value).cast(pl.Float64) - bias)
    every = rows.select("agent", "subject", "voxel_index", method.value).collect()
    found: dict[str, Floats] = {}
    for (agent,), own in sorted(every.group_by("agent")):
        if own["subject"].n_unique() == len(grid.subjects):
            found[str(agent)] = np.stack([_placed(own, name, grid, method.value) for name in grid.subjects])
    return found


def _placed(rows: pl.DataFrame, subject: str, grid: _Grid, value: str) -> Floats:
    own = rows.filter(pl.col("subject") == subject).select("voxel_index", value)
    placed = grid.voxels.select(pl.col(subject).alias("voxel_index")).join(
        own, on="voxel_index", how="left", maintain_order="left"
    )
    return placed[value].fill_null(np.nan).to_numpy()
