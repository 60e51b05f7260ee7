"""Reading of 4-D NIfTI images: one volume per presentation, or time series with events, including fMRIPrep's.

The stimuli of the volumes are given by an attributes file (label and run of each volume, one per line) or an events
file (BIDS: onset, duration, trial_type). Time series are preprocessed in
:mod:`~affectlake.brain.recordings.preprocessing`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.preprocessing import Block, prepare_run
from affectlake.brain.recordings.regions import column_of
from affectlake.brain.recordings.subjects import Recording
from affectlake.errors import SourceError

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""The six motion parameters, as fMRIPrep's confounds files name them."""


class Mask(NamedTuple):
    """A brain mask: bool (n_i, n_j, n_k) and its affine float64 (4, 4)."""

    inside: NDArray[np.bool_]
    affine: NDArray[np.float64]


class Run(NamedTuple):
    """A time series: image, events file, and confounds file (None: only baseline and trend are removed)."""

    bold: Path
    events: Path
    confounds: Path | None


def read_mask(path: Path) -> Mask:
    """Read a brain mask (3-D, or 4-D with one volume); voxels above 0 are inside."""
    image = _image(path)
    values = np.asarray(image.dataobj)
    values = values.reshape(values.shape[:3]) if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3 or not (values > 0).any():
        raise SourceError(f"{path} is not a mask", wanted="a 3-D image with voxels above 0", found=str(image.shape))
    return Mask(values > 0, np.asarray(image.affine, dtype=np.float64))


class Atlas(NamedTuple):
    """Regions: an image of integers, and a table (BIDS's ``dseg.tsv``) with the columns `index` and `name`."""

    image: Path
    labels: Path


def read_atlas(atlas: Atlas, brain: Mask) -> dict[str, NDArray[np.bool_]]:
    """Return which voxels of a mask are in the areas of the regions, by column name: bool (n_voxels,).

    Raises
    ------
    SourceError
        If the shape or affine of the image is not that of the mask, or no label belongs to a region
        (:func:`affectlake.brain.recordings.regions.column_of`).
    """
    image = _image(atlas.image)
    if image.shape[:3] != brain.inside.shape or not np.allclose(image.affine, brain.affine, atol=1e-3):
        raise SourceError(
            f"the atlas {atlas.image} has another shape or affine than the mask",
            wanted=f"{brain.inside.shape}, {np.round(brain.affine, 3).tolist()}",
            found=f"{image.shape}, {np.round(image.affine, 3).tolist()}",
            todo="resample the atlas to the mask, with nearest-neighbour interpolation",
        )
    numbers = np.asarray(image.dataobj).reshape(brain.inside.shape)[brain.inside]
    rows = _table(atlas.labels, ("index", "name"))
    found: dict[str, NDArray[np.bool_]] = {}
    for row in rows:
        column = column_of(row["name"].strip())
        if column:
            try:
                inside = numbers == int(row["index"])
            except ValueError as error:
                raise SourceError(f"an index of {atlas.labels} is not an integer", found=row["index"]) from error
            found[column] = found.get(column, np.zeros(len(numbers), dtype=bool)) | inside
    if not found:
        raise SourceError(
            f"no label of {atlas.labels} belongs to a region",
            wanted="such as L_V1_ROI, thalamus or VC",
            found=", ".join(row["name"] for row in rows[:5]) or "no labels",
        )
    return found


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
    patterns = _series(bold, brain, mask)
    labels, runs = _attributes(attributes, len(patterns), bold)
    return _recording(patterns, labels, runs, brain, atlas)


def read_runs(runs: Sequence[Run], mask: Path, atlas: Atlas | None = None) -> Recording:
    """Read time series and preprocess them as in the paper, one pattern per event.

    Parameters
    ----------
    runs : sequence of Run
        In the order of the runs, which are numbered from 1.
    mask : Path
    atlas : Atlas, optional

    Raises
    ------
    SourceError
        As in :func:`read_patterns`; if an events or confounds file is not valid; if there is no repetition time.
    """
    brain, parts, labels, numbers = read_mask(mask), [], list[str](), list[int]()
    for number, run in enumerate(runs, start=1):
        series, blocks = _series(run.bold, brain, mask), _events(run.events)
        nuisance = None if run.confounds is None else _confounds(run.confounds, len(series))
        patterns = prepare_run(series, blocks, _repetition_time(run.bold), nuisance)
        parts.append(patterns.astype(np.float32))
        labels += [block.label for block in blocks]
        numbers += [number] * len(blocks)
    if not parts:
        raise SourceError("there are no runs to read", todo="check the folder of the derivatives")
    return _recording(np.concatenate(parts), labels, np.array(numbers, dtype=np.int64), brain, atlas)


def find_fmriprep(derivatives: Path, raw: Path, subject: str, space: str = "MNI152NLin2009cAsym") -> list[Run]:
    """Return a subject's runs from fMRIPrep's derivatives, with confounds, and the events of the raw data set.

    Parameters
    ----------
    derivatives, raw : Path
        Root folders of fMRIPrep's output and of the BIDS data set.
    subject : str
        Name of the subject, without ``sub-``.
    space : str, default="MNI152NLin2009cAsym"
        Output space.

    Raises
    ------
    SourceError
        If there is no run in this space, or a run has no events.
    """
    pattern = f"sub-{escape(subject)}/**/func/*space-{escape(space)}*_desc-preproc_bold.nii.gz"
    images = sorted(derivatives.glob(pattern), key=_by_number)
    if not images:
        raise SourceError(f"there are no runs of sub-{subject} in {derivatives}", wanted=pattern)
    found = []
    for bold in images:
        stem = bold.name.split("_space-")[0]
        events = sorted(raw.glob(f"sub-{escape(subject)}/**/func/{escape(stem)}_events.tsv"))
        if not events:
            raise SourceError(f"{bold.name} has no events", wanted=f"{stem}_events.tsv in {raw}")
        confounds = bold.with_name(f"{stem}_desc-confounds_timeseries.tsv")
        found.append(Run(bold, events[0], confounds if confounds.exists() else None))
    return found


def _by_number(path: Path) -> list[str | int]:
    """Return a key that sorts ``run-2`` before ``run-10``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def write_map(
    values: NDArray[np.floating], voxels: NDArray[np.integer], affine: NDArray[np.floating], to: Path
) -> None:
    """Write one value per voxel as a NIfTI image; the rest of the volume is NaN.

    Parameters
    ----------
    values : float (n_voxels,)
    voxels : int (n_voxels, 3)
        i, j, k of each voxel, at least 0.
    affine : float (4, 4)
    to : Path

    Raises
    ------
    SourceError
        If a voxel's i, j or k is negative.
    """
    import nibabel as nib

    if np.asarray(voxels).min() < 0:
        raise SourceError("a voxel of a map has a negative i, j or k", found=str(np.asarray(voxels).min(axis=0)))
    volume = np.full(np.asarray(voxels).max(axis=0) + 1, np.nan, dtype=np.float32)
    volume[tuple(np.asarray(voxels).T)] = values
    to.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.asarray(affine, dtype=np.float64)), to)


def fitted_affine(voxels: NDArray[np.integer], mm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the affine (4, 4) from i, j, k to mm, by least squares.

    Raises
    ------
    SourceError
        If no affine fits to within 0.01 mm.
    """
    design = np.column_stack([np.asarray(voxels, dtype=np.float64), np.ones(len(voxels))])
    solution, *_ = np.linalg.lstsq(design, np.asarray(mm, dtype=np.float64), rcond=None)
    if np.abs(design @ solution - mm).max() > 0.01:
        raise SourceError("no affine maps the voxels' i, j, k to their coordinates in mm")
    return np.vstack([solution.T, [0.0, 0.0, 0.0, 1.0]])


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
    return Recording(patterns, labels, runs, voxels, mm.astype(np.float32), columns)


def _image(path: Path) -> Any:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    if not path.is_file():
        raise SourceError(f"there is no image {path}")
    try:
        return nib.load(path)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as NIfTI", found=str(error).splitlines()[0]) from error


def _series(path: Path, brain: Mask, mask: Path) -> NDArray[np.float32]:
    """Return the volumes of a 4-D image within the mask: float32 (n_volumes, n_voxels)."""
    image = _image(path)
    if len(image.shape) != 4 or image.shape[:3] != brain.inside.shape:
        raise SourceError(
            f"the mask {mask} has another shape than {path}", wanted=str(image.shape[:3]), found=str(brain.inside.shape)
        )
    if not np.allclose(image.affine, brain.affine, atol=1e-3):
        raise SourceError(
            f"the mask {mask} has another affine than {path}",
            wanted=str(np.round(image.affine, 3).tolist()),
            found=str(np.round(brain.affine, 3).tolist()),
            todo="resample the mask to the image",
        )
    try:
        found = np.empty((image.shape[3], int(brain.inside.sum())), dtype=np.float32)
        for volume in range(image.shape[3]):
            found[volume] = np.asarray(image.dataobj[..., volume])[brain.inside]
    except (OSError, EOFError, ValueError) as error:
        raise SourceError(
            f"{path} ends before its last volume", found=str(error).splitlines()[0], todo="fetch the file again"
        ) from error
    return found


def _repetition_time(path: Path) -> float:
    image = _image(path)
    seconds = float(image.header.get_zooms()[3])
    unit = image.header.get_xyzt_units()[1]
    seconds *= {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    if not seconds > 0:
        raise SourceError(f"{path} has no repetition time", found=f"{seconds} s")
    return seconds


def _attributes(path: Path, n: int, bold: Path) -> tuple[list[str], NDArray[np.int64]]:
    if not path.is_file():
        raise SourceError(f"there is no attributes file {path}")
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
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


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, delimiter="\t")
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise SourceError(
                f"{path} lacks columns", wanted=", ".join(missing), found=", ".join(reader.fieldnames or ["nothing"])
            )
        return list(reader)


def _events(path: Path) -> list[Block]:
    rows = _table(path, ("onset", "duration", "trial_type"))
    try:
        return [Block(row["trial_type"], float(row["onset"]), float(row["duration"])) for row in rows]
    except ValueError as error:
        raise SourceError(f"an onset or duration of {path} is not a number", found=str(error)) from error


def _confounds(path: Path, n: int) -> NDArray[np.float64]:
    rows = _table(path, MOTION)
    if len(rows) != n:
        raise SourceError(f"{path} does not have a row for each volume", wanted=f"{n:,}", found=f"{len(rows):,}")
    return np.array([[float("nan" if row[name] == "n/a" else row[name]) for name in MOTION] for row in rows])
