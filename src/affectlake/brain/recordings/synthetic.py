"""Synthetic subjects with planted encoding weights, so that tests know which agent predicts each voxel best.

Every voxel is in a region of a coarse grid in the shape of a brain. In some regions, voxels follow the part of the
category ratings that the dimension ratings do not explain; in others the reverse; in the remaining ones they are noise.
The data are not about real people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.recordings.regions import regions
from affectlake.brain.recordings.subjects import Recording

Array = NDArray[np.float64]

_CENTRE_MM, _RADII_MM = np.array([0.0, -18.0, 14.0]), np.array([68.0, 86.0, 60.0])
_RUNS, _SHORTEST_RUN = 25, 4  # stimuli
_NOISE = 1.5  # in standard deviations of the planted signal

# approximate position of each region in the right hemisphere, in mm; the left one is its mirror image
_PLACES = {
    "VC": (18, -84, 4), "TPJ": (54, -50, 18), "IPL": (46, -58, 42), "PC": (8, -58, 38), "STS": (56, -24, -4),
    "TE": (58, -16, -20), "TF": (34, -30, -22), "MTC": (24, -14, -26), "MST": (46, -68, 6), "Insula": (38, 4, 0),
    "DLPFC": (40, 36, 26), "DMPFC": (8, 48, 34), "VLPFC": (50, 24, 8), "VMPFC": (8, 44, -12), "ACC": (6, 28, 24),
    "OFC": (26, 30, -16), "thalamus": (12, -18, 8), "hippocampus": (28, -26, -12), "hypothalamus": (6, -4, -12),
    "pallidum": (20, -4, -2), "brainstem": (4, -28, -34), "caudate": (13, 12, 10), "putamen": (27, 4, 2),
    "accumbens": (10, 11, -8), "amygdala": (24, -4, -18), "cerebellum": (24, -62, -36),
}  # fmt: skip

CATEGORY = ("VC", "TPJ", "IPL", "PC", "STS", "TE", "MST", "TF", "MTC", "hippocampus", "amygdala")
"""Regions whose voxels follow the categories."""
DIMENSION = ("Insula", "DLPFC", "DMPFC", "VLPFC", "VMPFC", "ACC", "OFC", "thalamus", "caudate", "putamen")
"""Regions whose voxels follow the dimensions."""


class SyntheticBrains(NamedTuple):
    """Synthetic recordings and what was planted in them.

    Parameters
    ----------
    recordings : dict from subject to Recording
    planted : array of str (n_voxels,)
        Ratings that each voxel follows: "category", "dimension" or "nothing"; the same in all subjects.
    """

    recordings: dict[str, Recording]
    planted: NDArray[np.str_]


def make_brains(
    categories: Array,
    dimensions: Array,
    stimulus_ids: Sequence[str],
    n_subjects: int,
    voxel_mm: float,
    rng: np.random.Generator,
) -> SyntheticBrains:
    """Generate subjects that were shown every stimulus once, in about 25 runs.

    Parameters
    ----------
    categories, dimensions : float64 (n_stimuli, n_categories), (n_stimuli, n_dimensions)
        Ratings of the stimuli.
    stimulus_ids : sequence of str
    n_subjects : int
    voxel_mm : float
        Edge length of a voxel.
    rng : numpy.random.Generator
    """
    c, d = _unit(categories), _unit(dimensions)
    sources = {"category": _unit(c - _explained(c, d)), "dimension": _unit(d - _explained(d, c))}
    voxels, mm = _grid(voxel_mm)
    where = _nearest(mm)
    planted = np.array(["category" if w in CATEGORY else "dimension" if w in DIMENSION else "nothing" for w in where])
    columns = _columns(where, mm)
    recordings = {}
    for number in range(1, n_subjects + 1):
        patterns = rng.normal(size=(len(c), len(mm))) * _NOISE
        for name, source in sources.items():
            at = np.flatnonzero(planted == name)
            signal = source @ rng.normal(size=(source.shape[1], len(at)))
            patterns[:, at] += signal / signal.std(axis=0)
        order = rng.permutation(len(c))
        recordings[f"synthetic-{number}"] = Recording(
            patterns[order].astype(np.float32),
            [stimulus_ids[i] for i in order],
            np.arange(len(c), dtype=np.int64) // max(len(c) // _RUNS, _SHORTEST_RUN) + 1,
            voxels, mm, columns,
        )  # fmt: skip
    return SyntheticBrains(recordings, planted)


def _columns(where: list[str], mm: NDArray[np.float32]) -> dict[str, NDArray[np.bool_]]:
    """Return membership as in a source: left and right columns of cortical regions, one column of others."""
    found: dict[str, NDArray[np.bool_]] = {}
    for key, region in regions().items():
        inside = np.array([w == key for w in where])
        if region.group == "cortical":
            found |= {region.columns[0]: inside & (mm[:, 0] <= 0), region.columns[1]: inside & (mm[:, 0] > 0)}
        else:
            found[region.columns[0]] = inside
    return found


def _unit(x: Array) -> Array:
    centred = x - x.mean(axis=0)
    spread = centred.std(axis=0)
    return np.asarray(centred[:, spread > 1e-9] / spread[spread > 1e-9])


def _explained(a: Array, b: Array) -> Array:
    """Return the part of `a` that is a linear function of `b`."""
    return np.asarray(b @ np.linalg.lstsq(b, a, rcond=None)[0])


def _grid(voxel_mm: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return i, j, k and mm of the voxels of an ellipsoid of about the size of a brain."""
    counts = np.ceil(_RADII_MM / voxel_mm).astype(int)
    steps = np.stack(np.meshgrid(*[np.arange(2 * n + 1) for n in counts], indexing="ij"), axis=-1).reshape(-1, 3)
    mm = (steps - counts) * voxel_mm
    inside = ((mm / _RADII_MM) ** 2).sum(axis=1) <= 1
    return steps[inside].astype(np.int32), (mm[inside] + _CENTRE_MM).astype(np.float32)


def _nearest(mm: NDArray[np.float32]) -> list[str]:
    folded = np.abs(mm) * [1, 0, 0] + mm * [0, 1, 1]
    distances = np.linalg.norm(folded[:, None] - np.array(list(_PLACES.values()), dtype=float), axis=2)
    return [list(_PLACES)[at] for at in distances.argmin(axis=1)]
