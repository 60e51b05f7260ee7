"""Brain maps of an agent's dimensions, from the weights of its encoding models, each computed at the first access."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain.encoding.dimension_effects import dimension_effects
from affectlake.pipelines.outputs.per_agent import PerAgent
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.report import DimensionMaps, Volume, make_volume

N_SHOWN = 3
"""Number of dimensions; Du et al. 2025 show three (Extended Data Fig. 8)."""

MOST_CELLS = 48
"""Maximum number of cells along a side of the volumes: their pictures are small."""

_EMBEDDING = """
    SELECT dimension, stimulus_index, weight FROM embeddings JOIN ({chosen}) USING (agent, seed)
    WHERE agent = '{agent}' ORDER BY stimulus_index, dimension
"""
_WEIGHTS = """
    SELECT dimension, voxel_weights FROM encoding_weights
    WHERE agent = '{agent}' AND subject = '{subject}' ORDER BY dimension
"""
_LEVELS = """
    SELECT voxel_index, {column} AS level FROM encoding_maps
    WHERE agent = '{agent}' AND subject = '{subject}' AND basis = 'embedding' ORDER BY voxel_index
"""


class BrainDimensions(PerAgent[DimensionMaps]):
    """The maps of each agent that has weights of encoding models.

    Parameters
    ----------
    tables : VersionTables
        Tables of the version.
    chosen : str
        SQL of ``agent, seed``: the representative fits.
    column : str
        Column of the levels of significance of `encoding_maps`; empty: no mask.
    level : float
        Voxels with a smaller value of `column` are significant.
    block : int
        Number of voxels along each edge of a cell of the volumes.
    """

    def __init__(self, tables: VersionTables, chosen: str, column: str, level: float, block: int) -> None:
        super().__init__(tables, "SELECT DISTINCT agent FROM encoding_weights ORDER BY agent")
        self._chosen, self._column, self._level, self._block = chosen, column, level, block

    def _compute(self, agent: str) -> DimensionMaps | None:
        rows = self._tables.rows  # names of agents and subjects are letters, digits, -, _ and .
        fit = rows(_EMBEDDING.format(agent=agent, chosen=self._chosen))
        if not len(fit):
            return None
        numbers = fit["dimension"].unique().sort().to_numpy()
        features = fit["weight"].to_numpy().reshape(-1, len(numbers))
        strongest = np.argsort(-features.sum(axis=0, dtype=np.float64), kind="stable")[:N_SHOWN]
        subjects = rows(f"SELECT DISTINCT subject FROM encoding_weights WHERE agent = '{agent}' ORDER BY subject")
        volumes, maps = [], []
        for subject in subjects["subject"]:
            found = rows(_WEIGHTS.format(agent=agent, subject=subject))
            if found["dimension"].to_list() != numbers.tolist():  # weights of another fit
                return None
            effects = dimension_effects(features, np.stack(found["voxel_weights"].to_list()).astype(np.float64))
            own = pl.concat(
                _rows(effect, int(numbers[at]), values[at])
                for effect, values in effects._asdict().items()
                for at in strongest
            )
            own = self._marked(own, agent, subject)
            volumes.append(self._volume(subject, own))
            maps.append(own.select(pl.lit(subject).alias("subject"), pl.all()))
        dimensions = tuple(int(one) for one in numbers[strongest])
        return DimensionMaps(dimensions, len(numbers), tuple(volumes), pl.concat(maps)) if maps else None

    def _marked(self, maps: pl.DataFrame, agent: str, subject: str) -> pl.DataFrame:
        if not self._column:
            return maps.with_columns(significant=pl.lit(None, pl.Boolean))
        levels = self._tables.rows(_LEVELS.format(agent=agent, subject=subject, column=self._column))
        kept = levels.select("voxel_index", significant=pl.col("level").lt(self._level).fill_null(value=False))
        return maps.join(kept, on="voxel_index", how="left", maintain_order="left").with_columns(
            pl.col("significant").fill_null(value=False)
        )

    def _volume(self, subject: str, maps: pl.DataFrame) -> Volume:
        voxels = self._tables.rows(f"SELECT * FROM voxels WHERE subject = '{subject}'")
        spans = voxels.select(pl.col("^voxel_[ijk]$").max() - pl.col("^voxel_[ijk]$").min() + 1)
        block = max(self._block, -(-max(spans.row(0)) // MOST_CELLS))
        named = maps.rename({"effect": "method"}).with_columns(agent=pl.col("dimension").cast(pl.String))
        return make_volume(subject, voxels, named, block)


def _rows(effect: str, dimension: int, values: NDArray[Any]) -> pl.DataFrame:
    frame = pl.DataFrame({"voxel_index": np.arange(len(values), dtype=np.int32), "value": values.astype(np.float32)})
    return frame.select(
        pl.lit(effect).alias("effect"), pl.lit(dimension).alias("dimension"), "voxel_index",
        pl.col("value").fill_nan(None),
    )  # fmt: skip
