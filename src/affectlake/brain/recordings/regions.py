"""Regions of interest and their voxels, from the columns of a data file. The mapping is ``regions.yaml``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from affectlake.errors import SourceError


class Region(NamedTuple):
    """A region: its short name, group ("cortical" or "subcortical"), name, source and columns."""

    key: str
    group: str
    name: str
    source: str
    columns: tuple[str, ...]


@cache
def regions() -> dict[str, Region]:
    """Return the paper's 26 regions by their short names, cortical ones first."""
    text = files("affectlake.brain.recordings").joinpath("regions.yaml").read_text(encoding="utf-8")
    groups: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(text)
    return {
        key: Region(key, group, entry["name"], entry["source"], _columns(entry))
        for group, entries in groups.items()
        for key, entry in entries.items()
    }


def hcp_columns(area: str) -> tuple[str, str]:
    """Return the left and right columns of an area of the Human Connectome Project's parcellation."""
    return f"hcp180_r_lh.L_{area}_ROI", f"hcp180_r_rh.R_{area}_ROI"


def _columns(entry: dict[str, Any]) -> tuple[str, ...]:
    if "columns" in entry:
        return tuple(entry["columns"])
    return tuple(column for area in entry["areas"] for column in hcp_columns(str(area)))


class Membership(NamedTuple):
    """The voxels of each region: keys, bool (n_regions, n_voxels), regions without a column, and without a voxel."""

    keys: tuple[str, ...]
    voxels: NDArray[np.bool_]
    absent: tuple[str, ...]
    empty: tuple[str, ...] = ()


def membership(columns: Mapping[str, NDArray[np.bool_]], n_voxels: int) -> Membership:
    """Return the voxels of each region from the columns of a file.

    Parameters
    ----------
    columns : mapping from str to bool (n_voxels,)
        Whether each voxel belongs to the area that the column is named after; unused columns are ignored. A region
        whose columns contain no voxel is empty, not present.
    n_voxels : int

    Raises
    ------
    SourceError
        If a column has another length.
    """
    present: dict[str, NDArray[np.bool_]] = {}
    empty = []
    for region in regions().values():
        known = [columns[name] for name in region.columns if name in columns]
        wrong = [len(column) for column in known if len(column) != n_voxels]
        if wrong:
            raise SourceError(
                f"a column of region {region.key} has another length", wanted=f"{n_voxels:,}", found=f"{wrong[0]:,}"
            )
        inside = np.any(known, axis=0) if known else np.zeros(n_voxels, dtype=bool)
        if inside.any():
            present[region.key] = inside
        elif known:
            empty.append(region.key)
    absent = tuple(key for key in regions() if key not in present and key not in empty)
    voxels = np.stack(list(present.values())) if present else np.zeros((0, n_voxels), dtype=bool)
    return Membership(tuple(present), voxels, absent, tuple(empty))


def needed_columns() -> frozenset[str]:
    """Return the names of all columns that belong to a region."""
    return frozenset(column for region in regions().values() for column in region.columns)


def column_of(label: str) -> str | None:
    """Return the column of a label of an atlas; None if no region contains it.

    A label may be the name of a column (``hcp180_r_lh.L_V1_ROI``, ``thalamus``), an HCP area as written in its surface
    atlas (``L_V1_ROI``), a region's short name (``VC``), or a subcortical structure of FreeSurfer (``Left-Thalamus``).
    """
    side = {"L": "lh", "R": "rh"}.get(label[:1])
    plain = re.sub(r"^(left|right)-|-(proper|area|cortex)$", "", label.lower()).replace("brain-stem", "brainstem")
    for name in (label, f"hcp180_r_{side}.{label}"):
        if name in needed_columns():
            return name
    return next((regions()[key].columns[0] for key in (label, plain) if key in regions()), None)


def words(member: Membership) -> list[str]:
    """Return the regions of each voxel as a text, separated by spaces: the column `regions` of the table `voxels`."""
    return [" ".join(np.asarray(member.keys)[row]) if row.any() else "" for row in member.voxels.T]


def from_words(texts: Iterable[str]) -> Membership:
    """Return the membership that :func:`words` wrote."""
    split = [text.split() for text in texts]
    keys = tuple(key for key in regions() if any(key in row for row in split))
    voxels = np.array([[key in row for row in split] for key in keys], dtype=bool).reshape(len(keys), len(split))
    return Membership(keys, voxels, tuple(key for key in regions() if key not in keys))
