"""Regions of images: an atlas, and the voxels of a mask that its labels contain."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.files import read_table
from affectlake.brain.recordings.images import Mask, read_whole_numbers
from affectlake.brain.recordings.regions import column_of
from affectlake.errors import SourceError


class Atlas(NamedTuple):
    """Regions: an image of integers, and a table (BIDS's ``dseg.tsv``) with the columns `index` and `name`."""

    image: Path
    labels: Path


def read_atlas(atlas: Atlas, brain: Mask) -> dict[str, NDArray[np.bool_]]:
    """Return which voxels of a mask are in the areas of the regions, by column name: bool (n_voxels,).

    The column of an area that no voxel of the mask belongs to is False everywhere.

    Raises
    ------
    SourceError
        If the image is on another grid than the mask or its values are not whole numbers (to within 0.01), or no label
        belongs to a region (:func:`affectlake.brain.recordings.regions.column_of`), or no voxel to a label that does.
    """
    numbers = read_whole_numbers(atlas.image, brain)
    rows = read_table(atlas.labels, ("index", "name"))
    found: dict[str, NDArray[np.bool_]] = {}
    for row in rows:
        column = column_of(row["name"])
        if column:
            inside = numbers == _index(row["index"], atlas.labels)
            found[column] = found.get(column, np.zeros(len(numbers), dtype=bool)) | inside
    if not found:
        raise SourceError(
            f"no label of {atlas.labels} belongs to a region",
            wanted="such as L_V1_ROI, thalamus or VC",
            found=", ".join(row["name"] for row in rows[:5]) or "no labels",
        )
    if not any(inside.any() for inside in found.values()):
        raise SourceError(
            f"no voxel of the mask belongs to a region of {atlas.labels}",
            wanted="numbers of the column `index`",
            found=f"{', '.join(map(str, np.unique(numbers)[:8].tolist()))} in {atlas.image}",
            todo="check that the image and the table are of the same atlas",
        )
    return found


def _index(text: str, labels: Path) -> int:
    try:
        index = float(text)
    except ValueError:
        index = float("nan")
    if not index.is_integer():
        raise SourceError(f"an index of {labels} is not an integer", found=text or "an empty cell")
    return int(index)
