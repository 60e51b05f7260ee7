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

DELAY_S = 4.0
"""Haemodynamic delay of the paper, in seconds."""

_SAME = 1e-6  # relative size below which a difference between nuisance variables is rounding


class Block(NamedTuple):
    """A presentation: label of the stimulus, onset and duration, in seconds from the first volume of the run."""

    label: str
    onset_s: float
    duration_s: float


class Nuisance(NamedTuple):
    """An orthonormal basis of what is regressed out of a run.

    Parameters
    ----------
    basis : float64 (n_volumes, rank)
    constant : tuple of int
        Variables that do not vary, which are left out.
    n_dependent : int
        Number of the other variables that are combinations of baseline, trend and the rest.
    """

    basis: Array
    constant: tuple[int, ...]
    n_dependent: int


def nuisance_basis(n_volumes: int, variables: NDArray[np.floating] | None = None) -> Nuisance:
    """Return a basis of baseline, linear trend and nuisance variables.

    The basis is made of the left singular vectors of the standardised variables whose singular values exceed 10⁻⁶ of
    the largest, so that variables that are combinations of others, to the precision with which they are written, add
    no arbitrary direction.

    Parameters
    ----------
    n_volumes : int
    variables : float (n_volumes, n_variables), optional
        For example motion parameters. NaN in the first volume (a temporal derivative) is replaced by the value of the
        second.

    Raises
    ------
    SourceError
        If the lengths differ, there are not more volumes than variables, or a value after the first volume is not a
        finite number.
    """
    n, given = n_volumes, np.empty((n_volumes, 0)) if variables is None else np.array(variables, dtype=np.float64)
    if len(given) != n or n <= given.shape[1] + 2:
        raise SourceError(
            "the nuisance variables cannot be regressed out",
            wanted=f"{n} rows, and more volumes than variables",
            found=f"{given.shape[0]} rows of {given.shape[1]} variables, {n} volumes",
        )
    given[0] = np.where(np.isnan(given[0]), given[1], given[0])
    gaps = np.argwhere(~np.isfinite(given))
    if len(gaps):
        volume, variable = gaps[0].tolist()
        raise SourceError(
            "a nuisance variable has gaps",
            wanted="a finite number for every volume (after the first)",
            found=f"{len(gaps)} missing, the first in volume {volume + 1} of variable {variable + 1}",
        )
    drift = np.column_stack([np.ones(n), np.linspace(-1.0, 1.0, n)])
    drift /= np.linalg.norm(drift, axis=0)
    centred = given - given.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    varies = size > _SAME * np.maximum(np.linalg.norm(given, axis=0), np.finfo(np.float64).tiny)
    design = np.column_stack([drift, centred[:, varies] / size[varies]])
    u, s, _ = np.linalg.svd(design, full_matrices=False)
    rank = int((s > _SAME * s[0]).sum())
    return Nuisance(u[:, :rank], tuple(np.flatnonzero(~varies).tolist()), design.shape[1] - rank)


def regress_out(series: NDArray[np.floating], nuisance: NDArray[np.floating] | None = None) -> Array:
    """Return the residuals of a run after regressing out baseline, linear trend and nuisance variables.

    Parameters
    ----------
    series : float (n_volumes, n_voxels)
    nuisance : float (n_volumes, n_variables), optional
        As in :func:`nuisance_basis`.

    Raises
    ------
    SourceError
        As in :func:`nuisance_basis`.
    """
    basis = nuisance_basis(len(series), nuisance).basis
    values = np.asarray(series, dtype=np.float64)
    return np.asarray(values - basis @ (basis.T @ values))


def despike(series: Array, limit_sd: float = 3.0) -> Array:
    """Clip the values of a run to `limit_sd` standard deviations around the mean of each voxel."""
    mean, spread = series.mean(axis=0), series.std(axis=0)
    return np.clip(series, mean - limit_sd * spread, mean + limit_sd * spread)


class Volumes(NamedTuple):
    """The volumes of a block: from `first` to before `last`, which may lie outside the run."""

    first: int
    last: int

    def are_within(self, n_volumes: int) -> bool:
        """Return whether all of them are volumes of a run of `n_volumes`."""
        return self.first >= 0 and self.last <= n_volumes


def block_volumes(block: Block, tr_s: float, delay_s: float = DELAY_S) -> Volumes:
    """Return the volumes whose start, minus the delay, is in [onset, onset + duration), in a run without an end."""
    times = np.array([block.onset_s, block.onset_s + block.duration_s]) + delay_s
    first, last = np.ceil((times - 1e-6) / tr_s).astype(int).tolist()
    return Volumes(first, last)


def block_means(series: Array, blocks: list[Block], tr_s: float, delay_s: float = DELAY_S) -> Array:
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
    found = np.empty((len(blocks), series.shape[1]))
    for row, block in enumerate(blocks):
        wanted = block_volumes(block, tr_s, delay_s)
        inside = series[max(wanted.first, 0) : max(wanted.last, 0)]
        if not len(inside):
            raise SourceError(
                f"no volume belongs to the block {block.label!r}",
                found=f"{block.onset_s:g} to {block.onset_s + block.duration_s:g} s in a run of "
                f"{len(series) * tr_s:g} s, with a delay of {delay_s:g} s",
                todo="check the onsets and the repetition time",
            )
        found[row] = inside.mean(axis=0)
    return found


def prepare_run(
    series: NDArray[np.floating],
    blocks: list[Block],
    tr_s: float,
    nuisance: NDArray[np.floating] | None = None,
    delay_s: float = DELAY_S,
    limit_sd: float = 3.0,
) -> Array:
    """Return one pattern per block of a run: float64 (n_blocks, n_voxels). See the functions above."""
    return block_means(despike(regress_out(series, nuisance), limit_sd), blocks, tr_s, delay_s)
