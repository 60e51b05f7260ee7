"""4-D NIfTI images: reading of recordings (a pattern per volume, or time series with events), and writing of maps.

The stimuli of the volumes are given by an attributes file (label and run of each volume, one per line) or an events
file (BIDS: onset, duration, trial_type). Images themselves are read in ``images``, time series in ``runs``, and the
files of a BIDS data set are found in ``bids``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.atlases import Atlas as Atlas  # noqa: PLC0414 (beside the functions that take it)
from affectlake.brain.recordings.atlases import read_atlas
from affectlake.brain.recordings.bids import find_fmriprep as find_fmriprep  # noqa: PLC0414 (beside `read_runs`)
from affectlake.brain.recordings.files import read_text
from affectlake.brain.recordings.images import Mask, Series
from affectlake.brain.recordings.images import read_mask as read_mask  # noqa: PLC0414
from affectlake.brain.recordings.runs import Run as Run  # noqa: PLC0414
from affectlake.brain.recordings.runs import events_of, prepare_runs
from affectlake.brain.recordings.subjects import Recording
from affectlake.errors import SourceError, UsageError
from affectlake.grids import affine_of

_DESCRIPTION = 79  # characters of the field ``descrip`` before its final zero


def read_patterns(bold: Path, mask: Path, attributes: Path, atlas: Atlas | None = None) -> Recording:
    """Read an image with one pattern per volume.

    Parameters
    ----------
    bold : Path
        4-D image.
    mask : Path
        Brain mask of the same shape and affine.
    attributes : Path
        One line per volume: label, then run (an integer), separated by white space.
    atlas : Atlas, optional
        Without an atlas, no voxel is in a named region.

    Raises
    ------
    SourceError
        If a file is missing or cannot be read, the mask does not match, or the numbers of lines and volumes differ.
    """
    brain = read_mask(mask)
    patterns = Series(bold, brain, str(mask)).read()
    labels, runs = _attributes(attributes, len(patterns), bold)
    return _recording(patterns, labels, runs, brain, atlas)


def read_runs(
    runs: Sequence[Run],
    mask: Path | None,
    atlas: Atlas | None = None,
    stimulus_ids: Sequence[str] | None = None,
    label_column: str = "trial_type",
) -> Recording:
    """Read time series and preprocess them as in the paper, one pattern per presentation of a stimulus.

    Parameters
    ----------
    runs : sequence of Run
        In the order of the runs, which are numbered from 1.
    mask : Path or None
        None: the voxels that are in the masks of all runs with stimuli.
    atlas : Atlas, optional
    stimulus_ids : sequence of str, optional
        The stimuli of the study; other events are counted and not read. By default, every event is a stimulus.
    label_column : str, default="trial_type"
        Column of the events with the labels of the stimuli.

    Returns
    -------
    Recording
        Presentations of which a run does not contain all volumes are left out. `notes` has a line for each run:
        its repetition time and the source of it, what was regressed out, and the counts of events.

    Raises
    ------
    SourceError
        As in :func:`read_patterns`; if an events or confounds file is not valid; if there is no repetition time, or
        header and sidecar differ in it; if no event is a stimulus.
    """
    events = events_of(runs, stimulus_ids, label_column)
    used = [run for run, one in zip(runs, events, strict=True) if one.blocks]
    own = [run.mask for run in used if run.mask is not None]
    if mask is None and not (own and len(own) == len(used)):
        raise SourceError(
            "there is no brain mask" if not own else f"{len(used) - len(own):,} runs have no brain mask",
            todo="name a mask in params.yaml",
        )
    masks = list(dict.fromkeys(own)) if mask is None else [mask]
    brain = read_mask(masks)
    found = prepare_runs(runs, events, brain, str(masks[0]))
    made = _recording(found.patterns, found.labels, found.numbers, brain, atlas)
    others = tuple(label for one in events for label in one.others)
    return made._replace(others=others, notes=tuple(found.notes))


def write_map(
    values: NDArray[np.floating],
    voxels: NDArray[np.integer],
    affine: NDArray[np.floating],
    to: Path,
    shape: tuple[int, int, int] | None = None,
    description: str = "",
) -> None:
    """Write one value per voxel as a NIfTI image; the rest of the volume is NaN.

    Parameters
    ----------
    values : float (n_voxels,)
    voxels : int (n_voxels, 3)
        i, j, k of each voxel, at least 0.
    affine : float (4, 4)
    to : Path
    shape : tuple of int, optional
        The grid of the image; by default the smallest that contains the voxels.
    description : str, optional
        Text of the header's field ``descrip``: at most 79 ASCII characters.

    Raises
    ------
    SourceError
        If a voxel's i, j or k is negative or outside the grid.
    UsageError
        If the description does not fit into the header.
    """
    import nibabel as nib

    if not description.isascii() or len(description) > _DESCRIPTION:
        raise UsageError(
            "the description does not fit into the header of a NIfTI image", found=description,
            allowed=f"{_DESCRIPTION} ASCII characters",
        )  # fmt: skip
    if np.asarray(voxels).min() < 0:
        raise SourceError("a voxel of a map has a negative i, j or k", found=str(np.asarray(voxels).min(axis=0)))
    smallest = tuple(int(n) for n in np.asarray(voxels).max(axis=0) + 1)
    grid = smallest if shape is None else shape
    if any(n < least for n, least in zip(grid, smallest, strict=True)):
        raise SourceError("a voxel of a map is outside its grid", wanted=str(grid), found=str(smallest))
    volume = np.full(grid, np.nan, dtype=np.float32)
    volume[tuple(np.asarray(voxels).T)] = values
    to.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(volume, np.asarray(affine, dtype=np.float64))
    image.header["descrip"] = description
    nib.save(image, to)


def fitted_affine(voxels: NDArray[np.integer], mm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the affine (4, 4) from i, j, k to mm, by least squares (:func:`affectlake.grids.affine_of`).

    Raises
    ------
    SourceError
        If no affine fits to within 0.01 mm.
    """
    affine = affine_of(voxels, mm)
    if np.abs(np.asarray(voxels) @ affine[:3, :3].T + affine[:3, 3] - mm).max() > 0.01:
        raise SourceError("no affine maps the voxels' i, j, k to their coordinates in mm")
    return affine


def _recording(
    patterns: NDArray[np.float32],
    labels: list[str],
    runs: NDArray[np.int64] | None,
    brain: Mask,
    atlas: Atlas | None,
) -> Recording:
    voxels = np.argwhere(brain.inside).astype(np.int32)
    mm = voxels @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    columns = read_atlas(atlas, brain) if atlas else {}
    n_i, n_j, n_k = brain.inside.shape
    return Recording(patterns, labels, runs, voxels, mm.astype(np.float32), columns, (n_i, n_j, n_k))


def _attributes(path: Path, n: int, bold: Path) -> tuple[list[str], NDArray[np.int64]]:
    rows = [line.split() for line in read_text(path, "attributes file").splitlines() if line.strip()]
    if len(rows) != n:
        raise SourceError(
            f"{path} does not have a line for each volume of {bold}", wanted=f"{n:,} lines", found=f"{len(rows):,}"
        )
    bad = [row for row in rows if len(row) != 2 or not row[1].lstrip("-").isdigit()]
    if bad:
        raise SourceError(
            f"{len(bad):,} lines of {path} are not a label and a run", wanted="such as `face 3`", found=" ".join(bad[0])
        )
    return [row[0] for row in rows], np.array([int(row[1]) for row in rows], dtype=np.int64)
