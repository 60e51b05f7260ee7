"""NIfTI images: masks, and the volumes of 4-D images within a mask. Maps are written in ``volumes``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.files import present
from affectlake.errors import SourceError


class Mask(NamedTuple):
    """A brain mask: bool (n_i, n_j, n_k) and its affine float64 (4, 4)."""

    inside: NDArray[np.bool_]
    affine: NDArray[np.float64]


class Timing(NamedTuple):
    """The repetition time in the header of a 4-D image: seconds, and whether the unit of time is given."""

    seconds: float
    has_unit: bool


def open_image(path: Path) -> Any:
    """Return an image of nibabel, of which no values have been read."""
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    present(path, "image")
    try:
        return nib.load(path)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as NIfTI", found=str(error).splitlines()[0]) from error


def read_mask(path: Path | Sequence[Path]) -> Mask:
    """Read a brain mask (3-D, or 4-D with one volume); voxels above 0 are inside.

    Parameters
    ----------
    path : Path or sequence of Path
        Several masks on one grid: voxels inside all of them are inside.
    """
    masks = [_one_mask(one) for one in ([path] if isinstance(path, Path) else path)]
    paths = [path] if isinstance(path, Path) else list(path)
    for one, other in zip(masks[1:], paths[1:], strict=True):
        refuse_another_grid(f"the mask {other}", one.inside.shape, one.affine, masks[0], str(paths[0]))
    inside = np.logical_and.reduce([one.inside for one in masks])
    if not inside.any():
        raise SourceError("no voxel is inside all masks", found=", ".join(map(str, paths[:3])))
    return Mask(inside, masks[0].affine)


def _one_mask(path: Path) -> Mask:
    image = open_image(path)
    values = _values(image, path)
    values = (
        values.reshape(values.shape[:3]) if values.ndim > 3 and values.size == np.prod(values.shape[:3]) else values
    )
    if values.ndim != 3 or not (values > 0).any():
        raise SourceError(f"{path} is not a mask", wanted="a 3-D image with voxels above 0", found=str(image.shape))
    return Mask(values > 0, np.asarray(image.affine, dtype=np.float64))


def read_whole_numbers(path: Path, brain: Mask) -> NDArray[np.int64]:
    """Return the values of an image within a mask, rounded to whole numbers: int64 (n_voxels,).

    Raises
    ------
    SourceError
        If the image is on another grid, or a value differs from a whole number by more than 0.01.
    """
    image = open_image(path)
    if image.shape[:3] != brain.inside.shape or not np.allclose(image.affine, brain.affine, atol=1e-3):
        raise SourceError(
            f"the atlas {path} has another shape or affine than the mask",
            wanted=f"{brain.inside.shape}, {np.round(brain.affine, 3).tolist()}",
            found=f"{image.shape}, {np.round(image.affine, 3).tolist()}",
            todo="resample the atlas to the mask, with nearest-neighbour interpolation",
        )
    values = _values(image, path)
    if values.size != brain.inside.size:
        raise SourceError(f"{path} is not an atlas", wanted="a 3-D image", found=str(image.shape))
    numbers = np.asarray(values.reshape(brain.inside.shape)[brain.inside], dtype=np.float64)
    near = np.rint(numbers)
    far = ~(np.abs(numbers - near) <= 0.01)
    if far.any():
        raise SourceError(
            f"{int(far.sum()):,} values of the atlas {path} within the mask are not whole numbers",
            wanted="labels, to within 0.01",
            found=", ".join(f"{value:g}" for value in numbers[far][:3]),
            todo="resample the atlas with nearest-neighbour interpolation; threshold a probabilistic one first",
        )
    return near.astype(np.int64)


def refuse_another_grid(what: str, shape: tuple[int, ...], affine: NDArray[np.float64], brain: Mask, than: str) -> None:
    """Raise :class:`SourceError` if a shape or affine is not that of a mask."""
    if tuple(shape) != brain.inside.shape:
        raise SourceError(
            f"{what} has another shape than {than}", wanted=str(brain.inside.shape), found=str(tuple(shape)),
            todo="resample one to the other",
        )  # fmt: skip
    if not np.allclose(affine, brain.affine, atol=1e-3):
        raise SourceError(
            f"{what} has another affine than {than}",
            wanted=str(np.round(brain.affine, 3).tolist()),
            found=str(np.round(affine, 3).tolist()),
            todo="resample one to the other (labels and masks with nearest-neighbour interpolation)",
        )


class Series:
    """A 4-D image within a mask. A fifth dimension is accepted if it or the fourth has length 1.

    Parameters
    ----------
    path : Path
    brain : Mask
    mask : str
        Name of the mask, for messages.

    Raises
    ------
    SourceError
        If the image is not 4-D, or on another grid than the mask.
    """

    def __init__(self, path: Path, brain: Mask, mask: str) -> None:
        self._path, self._brain = path, brain
        self._image = open_image(path)
        shape = self._image.shape
        long = [axis for axis in range(3, len(shape)) if shape[axis] != 1]
        if len(shape) < 4 or len(long) > 1:
            raise SourceError(
                f"{path} is not a 4-D image", wanted="three dimensions of space and one of volumes",
                found=f"{len(shape)} dimensions, {' × '.join(map(str, shape))}",
            )  # fmt: skip
        self._axis = long[0] if long else 3
        self.n_volumes = int(shape[self._axis])
        refuse_another_grid(f"the mask {mask}", brain.inside.shape, brain.affine, Mask(
            np.empty(shape[:3], dtype=bool), np.asarray(self._image.affine, dtype=np.float64)), str(path)
        )  # fmt: skip

    @property
    def timing(self) -> Timing:
        """The repetition time that the header states."""
        unit = self._image.header.get_xyzt_units()[1]
        seconds = float(self._image.header.get_zooms()[self._axis]) * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
        return Timing(round(seconds, 6), unit in ("sec", "msec", "usec"))

    def read(self) -> NDArray[np.float32]:
        """Return the volumes within the mask: float32 (n_volumes, n_voxels)."""
        inside = self._brain.inside
        at: list[Any] = [slice(None)] * 3 + [0] * (len(self._image.shape) - 3)
        found = np.empty((self.n_volumes, int(inside.sum())), dtype=np.float32)
        try:
            for volume in range(self.n_volumes):
                at[self._axis] = volume
                found[volume] = np.asarray(self._image.dataobj[tuple(at)])[inside]
        except (OSError, EOFError, ValueError) as error:
            raise _ends_early(self._path, error) from error
        return found


def _values(image: Any, path: Path) -> NDArray[Any]:
    try:
        return np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise _ends_early(path, error) from error


def _ends_early(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path} ends before its last volume", found=str(error).splitlines()[0], todo="fetch the file again"
    )
