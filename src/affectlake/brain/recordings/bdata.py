"""Reading of BData files (HDF5) of the Kamitani laboratory, the format of the recordings of Horikawa et al. 2020.

The layout is that of bdpy: ``/dataset`` (samples × columns), ``/metadata/{key, value}`` (one row of numbers per key,
one number per column of the data set), ``/vmap/KEY`` (names of the numbers of a label). Files are read with h5py in
pieces, which takes half the memory of ``bdpy.BData``; the tests read files that bdpy itself wrote.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.files import present
from affectlake.brain.recordings.subjects import Recording
from affectlake.errors import SourceError, nearest

_ROWS = 64  # samples read at a time


def read_bdata(
    path: Path, wanted: Collection[str], label: str = "stimulus_name", run: str = "Run", voxels: str = "VoxelData"
) -> Recording:
    """Read the recording of one subject.

    Parameters
    ----------
    path : Path
        A ``.h5`` file.
    wanted : collection of str
        Names of the region columns to keep; columns that the file does not have are ignored.
    label : str, default="stimulus_name"
        Column of the stimulus labels, with the names of its ``vmap``, or its numbers if it has none.
    run : str, default="Run"
        Column of the runs; if the file does not have it, runs are not known.
    voxels : str, default="VoxelData"
        Metadata key that marks the columns of voxels.

    Raises
    ------
    SourceError
        If the file is missing, truncated or not a BData file, or has no labels, voxels or coordinates.
    """
    import h5py

    if not path.is_file() and not path.is_symlink():
        raise SourceError(f"there is no recording {path}", todo="fetch it: `affectlake fetch horikawa2020`")
    present(path, "recording")
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file, wanted, (label, run, voxels))
    except (OSError, KeyError, IndexError, RuntimeError) as error:
        raise SourceError(
            f"the recording {path} cannot be read as BData",
            wanted="an HDF5 file with /dataset, /metadata/key and /metadata/value",
            found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            todo="it may be truncated: fetch it again",
        ) from error


def _read(path: Path, file: Any, wanted: Collection[str], names: tuple[str, str, str]) -> Recording:
    label, run, voxels = names
    group = file["metadata" if "metadata" in file else "metaData"]
    data = file["dataset" if "dataset" in file else "dataSet"]
    keys = [key.decode() if isinstance(key, bytes) else str(key) for key in group["key"][:]]
    at = {key: row for row, key in enumerate(keys)}
    for needed in (label, voxels, *(f"voxel_{axis}" for axis in "ijkxyz")):
        if needed not in at:
            raise SourceError(
                f"the recording {path} lacks {needed!r}",
                found=f"keys {', '.join(keys[:8])} … ({len(keys):,})",
                todo="write voxel_i, voxel_j, voxel_k (on the grid) and voxel_x, voxel_y, voxel_z (mm) with bdpy"
                if needed.startswith("voxel_")
                else nearest(needed, keys) or "check that this is the preprocessed recording",
            )
    values = group["value"]
    brain = np.flatnonzero(np.nan_to_num(np.asarray(values[at[voxels]], dtype=np.float64)) == 1)
    if not len(brain):
        raise SourceError(f"the recording {path} has no column with {voxels} = 1", todo="choose another key")
    patterns = _columns(data, brain)
    places, mm = (
        np.stack([np.asarray(values[at[f"voxel_{axis}"]])[brain] for axis in axes], axis=1) for axes in ("ijk", "xyz")
    )
    lost = int((~np.isfinite(places) | ~np.isfinite(mm)).any(axis=1).sum())
    if lost:
        raise SourceError(
            f"{lost:,} voxels of the recording {path} have no coordinates",
            wanted="voxel_i, voxel_j, voxel_k, voxel_x, voxel_y, voxel_z of each",
        )
    return Recording(
        patterns=patterns,
        labels=_labels(path, file, data, values, at, label),
        runs=_runs(path, data, values, at, run),
        voxels=np.rint(places).astype(np.int32),
        mm=np.asarray(mm, dtype=np.float32),
        columns={
            key: np.nan_to_num(np.asarray(values[at[key]], dtype=np.float64))[brain] == 1 for key in at if key in wanted
        },
    )


def _columns(data: Any, columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Read some columns as float32, a few rows at a time."""
    first, last = int(columns[0]), int(columns[-1]) + 1
    inside = columns - first
    found = np.empty((data.shape[0], len(columns)), dtype=np.float32)
    for row in range(0, data.shape[0], _ROWS):
        found[row : row + _ROWS] = data[row : row + _ROWS, first:last][:, inside]
    return found


def _marked(values: Any, row: int) -> int:
    return int(np.flatnonzero(np.nan_to_num(np.asarray(values[row], dtype=np.float64)) == 1)[0])


def _labels(path: Path, file: Any, data: Any, values: Any, at: dict[str, int], label: str) -> list[str]:
    numbers = np.asarray(data[:, _marked(values, at[label])], dtype=np.float64)
    exact = 2 ** (np.finfo(data.dtype).nmant + 1) if np.issubdtype(data.dtype, np.floating) else np.inf
    if (np.abs(numbers) >= exact).any():
        raise SourceError(
            f"labels of the recording {path} are too large for the precision of its numbers",
            wanted=f"numbers below {exact:,.0f}, above which different labels are the same {data.dtype}",
            found=f"{np.abs(numbers).max():.0f} in {label!r}",
            todo="number the stimuli from 1, with their names in the vmap",
        )
    if "vmap" not in file or label not in file["vmap"]:
        return [_number_text(number) for number in numbers.tolist()]
    group = file["vmap"][label]
    names = {float(key): group[key][()] for key in group}
    return [
        name.decode() if isinstance(name := names.get(number, _number_text(number)), bytes) else str(name)
        for number in numbers.tolist()
    ]


def _number_text(number: float) -> str:
    """Return all digits of a number: ``1000001``, not ``1e+06``."""
    return str(int(number)) if number.is_integer() else repr(number)


def _runs(path: Path, data: Any, values: Any, at: dict[str, int], run: str) -> NDArray[np.int64] | None:
    if run not in at:
        return None
    numbers = np.asarray(data[:, _marked(values, at[run])], dtype=np.float64)
    lost = int((~np.isfinite(numbers)).sum())
    if lost:
        raise SourceError(
            f"{lost:,} samples of the recording {path} have no run", wanted=f"a number in {run!r} of each"
        )
    return numbers.astype(np.int64)
