"""Preprocessing of time series to patterns, as in the paper. Arrays in, arrays out.

Du et al. 2025, 'fMRI data acquisition and preprocessing': baseline, linear trend and six motion parameters are
regressed out, the series is shifted by 4 s, despiked (beyond 3 s.d.), averaged within each video's block, and z-scored
per voxel. All steps except the last are done run by run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError

Array = NDArray[np.float64]


class Block(NamedTuple):
    """A presentation: label of the stimulus, onset and duration, in seconds from the first volume of the run."""

    label: str
    onset_s: float
    duration_s: float


def regress_out(series: NDArray[np.floating], nuisance: NDArray[np.floating] | None = None) -> Array:
    """Return the residuals of a run after regressing out baseline, linear trend and nuisance variables.

    Parameters
    ----------
    series : float (n_volumes, n_voxels)
    nuisance : float (n_volumes, n_variables), optional
        For example motion parameters; NaN (fMRIPrep's first volume of a derivative) is replaced by 0.

    Raises
    ------
    SourceError
        If there are not more volumes than variables, or the lengths differ.
    """
    n = len(series)
    extra = np.empty((n, 0)) if nuisance is None else np.nan_to_num(np.asarray(nuisance, dtype=np.float64))
    if len(extra) != n or n <= extra.shape[1] + 2:
        raise SourceError(
            "the nuisance variables cannot be regressed out",
            wanted=f"{n} rows, and more volumes than variables",
            found=f"{extra.shape[0]} rows of {extra.shape[1]} variables, {n} volumes",
        )
    design = np.column_stack([np.ones(n), np.linspace(-1.0, 1.0, n), extra])
    q, _ = np.linalg.qr(design)
    values = np.asarray(series, dtype=np.float64)
    return np.asarray(values - q @ (q.T @ values))


def despike(series: Array, limit_sd: float = 3.0) -> Array:
    """Clip the values of a run to `limit_sd` standard deviations around the mean of each voxel."""
    mean, spread = series.mean(axis=0), series.std(axis=0)
    return np.clip(series, mean - limit_sd * spread, mean + limit_sd * spread)


def block_means(series: Array, blocks: list[Block], tr_s: float, delay_s: float = 4.0) -> Array:
    """Return the mean of the volumes of each block, with a delay of `delay_s`.

    A volume belongs to a block if its start, minus the delay, is in [onset, onset + duration).

    Parameters
    ----------
    series : float64 (n_volumes, n_voxels)
    blocks : list of Block
    tr_s, delay_s : float
        Repetition time and haemodynamic delay, in seconds.

    Raises
    ------
    SourceError
        If a block has no volume within the run.
    """
    times = np.arange(len(series)) * tr_s - delay_s
    found = np.empty((len(blocks), series.shape[1]))
    for row, block in enumerate(blocks):
        inside = (times >= block.onset_s - 1e-6) & (times < block.onset_s + block.duration_s - 1e-6)
        if not inside.any():
            raise SourceError(
                f"no volume belongs to the block {block.label!r}",
                found=f"{block.onset_s:g} to {block.onset_s + block.duration_s:g} s in a run of "
                f"{len(series) * tr_s:g} s, with a delay of {delay_s:g} s",
                todo="check the onsets and the repetition time",
            )
        found[row] = series[inside].mean(axis=0)
    return found


def prepare_run(
    series: NDArray[np.floating],
    blocks: list[Block],
    tr_s: float,
    nuisance: NDArray[np.floating] | None = None,
    delay_s: float = 4.0,
    limit_sd: float = 3.0,
) -> Array:
    """Return one pattern per block of a run: float64 (n_blocks, n_voxels). See the functions above."""
    return block_means(despike(regress_out(series, nuisance), limit_sd), blocks, tr_s, delay_s)
