"""Levels of significance of maps by TFCE, cluster mass and the maximum statistic.

The level of a voxel is the share of the null distribution's maps whose maximum over voxels reaches the voxel's value
(Nichols & Holmes 2002), the map itself included. The null distribution is that of relabelled stimuli for a subject's
map (:mod:`affectlake.brain.nulls`), and of flipped signs of subjects for the mean over subjects. All levels are
one-tailed: of high values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from affectlake.brain import nulls
from affectlake.brain.clusters.enhancement import Enhanced, masses_of_maps, tfce_of_maps
from affectlake.errors import SourceError

Array = NDArray[np.float64]
MOST_FLIPS = 1024
"""Number of flips of signs up to which all are used, and that are drawn of more: all of ten subjects."""

_SAME = 1e-9  # relative difference below which two enhanced values are equal
_CONSTANT = 1e-12  # variance over subjects below this share of the mean square is rounding error


class ClusterLevels(NamedTuple):
    """Levels of a map by TFCE and by cluster mass, float64 (n_voxels,); NaN where the map is, or without a null."""

    tfce: Array
    cluster: Array


class GroupLevels(NamedTuple):
    """The mean of several subjects' maps, and its levels; NaN where a subject's map is NaN, or all are equal.

    Parameters
    ----------
    mean : float64 (n_voxels,)
        Mean over subjects.
    t : float64 (n_voxels,)
        Student's t against zero.
    familywise, tfce, cluster : float64 (n_voxels,)
        Levels by the maximum of t, of its TFCE and of its cluster mass.
    n_flips : int
        Number of flips of signs; no level is below 1 / n_flips.
    """

    mean: Array
    t: Array
    familywise: Array
    tfce: Array
    cluster: Array
    n_flips: int


def relabelled_levels(
    values: NDArray[np.floating],
    null: NDArray[np.floating],
    neighbours: NDArray[np.int32],
    forming_p: float,
    *,
    workers: int = 1,
) -> ClusterLevels:
    """Return the levels of a subject's map by TFCE and cluster mass under relabelled stimuli.

    Both are computed of values that are standardised per voxel over the map and its null distribution together, as in
    :func:`affectlake.brain.nulls.levels`, so that the map is treated as each of its relabellings is.

    Parameters
    ----------
    values : float (n_voxels,)
    null : float (n_permutations, n_voxels)
        The same map under relabelled stimuli.
    neighbours : int32 (n_voxels, n_neighbours)
        From :func:`affectlake.brain.clusters.neighbours.neighbours_of`.
    forming_p : float
        One-tailed p of the standard normal distribution that the cluster-forming threshold has.
    workers : int, default=1
        Number of threads over maps. The result does not depend on it.

    Returns
    -------
    ClusterLevels
    """
    from scipy import stats

    nothing = np.full(len(values), np.nan)
    if len(null) == 0:
        return ClusterLevels(nothing, nothing.copy())
    scores = nulls.standardised(values, null)
    return ClusterLevels(
        _levels(tfce_of_maps(scores, neighbours, workers=workers)),
        _levels(masses_of_maps(scores, neighbours, float(stats.norm.isf(forming_p)), workers=workers)),
    )


def group_levels(
    maps: NDArray[np.floating],
    neighbours: NDArray[np.int32],
    forming_p: float,
    rng: np.random.Generator,
    *,
    workers: int = 1,
) -> GroupLevels:
    """Return the levels of the mean of several subjects' maps, by flips of their signs.

    The null hypothesis is that each subject's map has a distribution that is symmetric about zero. The stimuli are
    taken as fixed: what all subjects share by chance counts as an effect.

    Parameters
    ----------
    maps : float (n_subjects, n_voxels)
        Maps whose expected value is zero without an effect.
    neighbours : int32 (n_voxels, n_neighbours)
        From :func:`affectlake.brain.clusters.neighbours.neighbours_of`.
    forming_p : float
        One-tailed p of Student's t-distribution that the cluster-forming threshold has.
    rng : numpy.random.Generator
        Draws the flips if there are more than `MOST_FLIPS`.
    workers : int, default=1
        Number of threads over flips. The result does not depend on it.

    Returns
    -------
    GroupLevels

    Raises
    ------
    SourceError
        If there are fewer than two subjects.
    """
    from scipy import stats

    if len(maps) < 2:
        raise SourceError("levels of a mean over subjects need at least two subjects", found=f"{len(maps)}")
    values = np.array(maps, dtype=np.float64)
    values[:, ~np.isfinite(values).all(axis=0) | (np.ptp(values, axis=0) == 0)] = np.nan
    flips = sign_flips(len(values), rng)
    flipped = _Flipped(values, flips)
    t = flipped[0]
    threshold = float(stats.t.isf(forming_p, len(values) - 1))
    highest = np.array([np.fmax.reduce(flipped[k], initial=-np.inf) for k in range(len(flips))])
    return GroupLevels(
        np.asarray(values.mean(axis=0)),
        t,
        _levels(Enhanced(t, highest)),
        _levels(tfce_of_maps(flipped, neighbours, workers=workers)),
        _levels(masses_of_maps(flipped, neighbours, threshold, workers=workers)),
        len(flips),
    )


def sign_flips(n_subjects: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Return signs of subjects, int8 (n_flips, n_subjects), first those of no flip: all 2ⁿ, at most `MOST_FLIPS`."""
    if 2**n_subjects <= MOST_FLIPS:
        return np.array(list(product((1, -1), repeat=n_subjects)), dtype=np.int8)
    drawn = rng.choice(np.array([1, -1], dtype=np.int8), size=(MOST_FLIPS, n_subjects))
    drawn[0] = 1
    return np.asarray(drawn, dtype=np.int8)


class _Flipped(Sequence[Array]):
    """Student's t of the maps (n_subjects, n_voxels) after each flip of signs, computed when it is read."""

    def __init__(self, maps: Array, flips: NDArray[np.int8]) -> None:
        self._maps, self._flips = maps, flips
        self._squares = (maps**2).mean(axis=0)

    def __len__(self) -> int:
        return len(self._flips)

    @overload
    def __getitem__(self, at: int) -> Array: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Array]: ...
    def __getitem__(self, at: int | slice) -> Array | Sequence[Array]:
        if isinstance(at, slice):
            return _Flipped(self._maps, self._flips[at])
        mean = np.zeros(self._maps.shape[1])
        for sign, own in zip(self._flips[at].tolist(), self._maps, strict=True):  # in order: the same bytes everywhere
            mean += sign * own
        mean /= len(self._maps)
        variance = np.maximum(self._squares - mean**2, _CONSTANT * self._squares)  # with n in the denominator
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(mean / np.sqrt(variance / (len(self._maps) - 1)))


def _levels(found: Enhanced) -> Array:
    """Return the share of the maps whose maximum reaches each voxel's value; the first map is the map itself."""
    ordered = np.sort(found.maxima)
    reached = len(ordered) - np.searchsorted(ordered, found.first - _SAME * np.abs(found.first))
    return np.where(np.isnan(found.first), np.nan, reached / len(ordered))
