"""Brain tables as arrays: one subject at a time, so that memory holds one subject's patterns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.record import Tables


@dataclass(frozen=True)
class Subject:
    """One subject's patterns float32 (n, v), their stimuli and runs (n,), and its voxels: (v, 3), bool (v,), (v,)."""

    name: str
    stimulus_index: NDArray[np.int32]
    runs: NDArray[np.int64] | None
    patterns: NDArray[np.float32]
    voxels: NDArray[np.int32]
    usable: NDArray[np.bool_]
    regions: tuple[str, ...]

    def only(self, rows: NDArray[np.bool_]) -> Subject:
        """Return the subject with some of its stimuli."""
        runs = None if self.runs is None else self.runs[rows]
        return replace(self, stimulus_index=self.stimulus_index[rows], runs=runs, patterns=self.patterns[rows])

    def inside(self, region: str) -> NDArray[np.bool_]:
        """Return which voxels lie in a region; all of them for ``all``."""
        return np.array([region == "all" or region in text.split() for text in self.regions], dtype=bool)


def subjects_of(tables: Tables) -> Iterator[Subject]:
    """Return the subjects of `betas` and `voxels`, one after another, by name."""
    names = tables["voxels"].select(pl.col("subject").unique().sort()).collect()["subject"].to_list()
    for name in names:
        voxels = tables["voxels"].filter(pl.col("subject") == name).sort("voxel_index").collect()
        rows = tables["betas"].filter(pl.col("subject") == name).sort("stimulus_index").collect()
        patterns = rows["pattern"].list.to_array(voxels.height).to_numpy()
        yield Subject(
            name,
            rows["stimulus_index"].to_numpy(),
            None if rows["run"].null_count() else rows["run"].cast(pl.Int64).to_numpy(),
            np.asarray(patterns, dtype=np.float32),
            voxels.select("voxel_i", "voxel_j", "voxel_k").to_numpy().astype(np.int32),
            voxels["usable"].to_numpy(),
            tuple(voxels["regions"].to_list()),
        )


def wide_ratings(ratings: pl.LazyFrame, family: str) -> NDArray[np.float64]:
    """Return one family's ratings as float64 (n_stimuli, n_ratings), columns by name."""
    rows = ratings.filter(pl.col("family") == family).sort("stimulus_index", "rating").collect()
    return rows["score"].to_numpy().reshape(rows["stimulus_index"].n_unique(), -1)


def null_nan(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with null for NaN: in a table, what is not defined is null."""
    return frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))
