"""Enhancement of maps by their clusters: TFCE and cluster mass, of one map or of many.

Threshold-free cluster enhancement (Smith & Nichols 2009) is, for a voxel of height h_v,

    TFCE(v) = ∫_0^{h_v} e(h)^E h^H dh,   E = 0.5, H = 2,

where e(h) is the number of voxels in the cluster that contains v when the map is cut at the height h. It changes only
at the heights of voxels, so the integral is a sum over the clusters that contain v, each with a closed form (Chen et
al. 2026 call this eTFCE). Other programs approximate it by a sum over steps: nilearn's, without the factor dh, is

    Σ_k e(h_k)^E h_k^H,   h_k = k max / n_steps,  k = 1 … n_steps,

and is computed here as well, to compare. Times dh = max / n_steps, it approaches the integral.

The mass of a cluster is Σ (x_v - u) over its voxels, which are those above the cluster-forming threshold u (Bullmore et
al. 1999). Voxels that are NaN or infinite belong to no cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError, UsageError

Array = NDArray[np.float64]
Maps = NDArray[np.floating] | Sequence[NDArray[np.floating]]
"""Maps, each (n_voxels,): an array, or a sequence that computes each map when it is read."""

EXTENT, HEIGHT = 0.5, 2.0
"""E and H of Smith & Nichols 2009."""

_NO_STEPS = np.empty(0)


class Enhanced(NamedTuple):
    """The first of several maps after enhancement, float64 (n_voxels,), and the maximum of each map, (n_maps,)."""

    first: Array
    maxima: Array


def tfce(
    values: NDArray[np.floating], neighbours: NDArray[np.int32], *, extent: float = EXTENT, height: float = HEIGHT,
    n_steps: int = 0, two_sided: bool = False,
) -> Array:  # fmt: skip
    """Return the threshold-free cluster enhancement of a map.

    Parameters
    ----------
    values : float (n_voxels,)
        The map, such as t or z.
    neighbours : int32 (n_voxels, n_neighbours)
        From :func:`affectlake.brain.clusters.neighbours.neighbours_of`.
    extent, height : float
        The exponents E, at least 0, and H, at least 0.
    n_steps : int, default=0
        0: the integral; otherwise nilearn's sum over this number of steps, without the factor dh.
    two_sided : bool, default=False
        Whether values below 0 are enhanced as well, as those of the map with the opposite sign. Otherwise they give 0.

    Returns
    -------
    float64 (n_voxels,)
        0 without a value above 0 (or, if two-sided, other than 0); NaN where the map is NaN or infinite.

    Raises
    ------
    SourceError
        If map and neighbours have different numbers of voxels.
    UsageError
        If an exponent or the number of steps is negative.
    """
    heights = np.asarray(_checked([values], neighbours)[0], dtype=np.float64)
    if not (extent >= 0 and height >= 0 and n_steps >= 0):
        raise UsageError(
            "the settings of TFCE are not legal", found=f"E = {extent}, H = {height}, {n_steps} steps",
            allowed="0 or more",
        )  # fmt: skip
    known = heights[np.isfinite(heights)]
    top = np.abs(known).max(initial=0.0) if two_sided else known.max(initial=0.0)
    enhanced = _Enhancing(neighbours, extent, height, np.linspace(0, top, n_steps + 1)[1:])
    found = enhanced(heights)[0]
    return found - enhanced(-heights)[0] if two_sided else found


def cluster_masses(values: NDArray[np.floating], neighbours: NDArray[np.int32], threshold: float) -> Array:
    """Return, for each voxel above a threshold, the mass of its cluster.

    Parameters
    ----------
    values : float (n_voxels,)
        The map.
    neighbours : int32 (n_voxels, n_neighbours)
        From :func:`affectlake.brain.clusters.neighbours.neighbours_of`.
    threshold : float
        Cluster-forming threshold u, above 0.

    Returns
    -------
    float64 (n_voxels,)
        0 for a voxel at or below the threshold; NaN where the map is NaN or infinite.

    Raises
    ------
    SourceError
        If map and neighbours have different numbers of voxels.
    UsageError
        If the threshold is not above 0.
    """
    return _Weighing(neighbours, threshold)(_checked([values], neighbours)[0])[0]


def tfce_of_maps(maps: Maps, neighbours: NDArray[np.int32], *, workers: int = 1) -> Enhanced:
    """Return the TFCE (E = 0.5, H = 2) of the first of several maps, and the maximum over voxels of each map's.

    Parameters
    ----------
    maps : float (n_maps, n_voxels), or a sequence of maps
        The map, then those of the null distribution.
    neighbours : int32 (n_voxels, n_neighbours)
        From :func:`affectlake.brain.clusters.neighbours.neighbours_of`.
    workers : int, default=1
        Number of threads over maps. The result does not depend on it.

    Returns
    -------
    Enhanced

    Raises
    ------
    SourceError
        If maps and neighbours have different numbers of voxels.
    """
    return _of_maps(_checked(maps, neighbours), _Enhancing(neighbours, EXTENT, HEIGHT, _NO_STEPS), workers)


def masses_of_maps(maps: Maps, neighbours: NDArray[np.int32], threshold: float, *, workers: int = 1) -> Enhanced:
    """Return the cluster masses of the first of several maps, and the largest mass of each map.

    The parameters and errors are those of :func:`tfce_of_maps` and :func:`cluster_masses`.
    """
    return _of_maps(_checked(maps, neighbours), _Weighing(neighbours, threshold), workers)


class _Enhancing:
    """TFCE of one map at a time, with arrays that a thread uses again."""

    def __init__(self, neighbours: NDArray[np.int32], extent: float, height: float, steps: Array) -> None:
        self.neighbours, self.own = neighbours, local()
        self.settings: tuple[Any, ...] = (float(extent), float(height), steps)

    def kernel(self, values: Array, found: Array) -> float:
        from affectlake.brain.clusters.kernels import enhance

        return float(enhance(values, self.neighbours, *self.settings, self.own.space, found))

    def __call__(self, values: NDArray[np.floating]) -> tuple[Array, float]:
        """Return the enhancement of a map, NaN where the map is not finite, and its maximum."""
        from affectlake.brain.clusters.kernels import space

        if not hasattr(self.own, "space"):
            self.own.space = space(len(self.neighbours))
        heights, found = np.ascontiguousarray(values, dtype=np.float64), np.empty(len(values))
        highest = self.kernel(heights, found)
        found[~np.isfinite(heights)] = np.nan
        return found, highest


class _Weighing(_Enhancing):
    """Cluster masses of one map at a time."""

    def __init__(self, neighbours: NDArray[np.int32], threshold: float) -> None:
        if not 0 < threshold < np.inf:
            raise UsageError("the cluster-forming threshold is not legal", found=str(threshold), allowed="above 0")
        super().__init__(neighbours, EXTENT, HEIGHT, _NO_STEPS)
        self.threshold = float(threshold)

    def kernel(self, values: Array, found: Array) -> float:
        from affectlake.brain.clusters.kernels import weigh

        return float(weigh(values, self.neighbours, self.threshold, self.own.space, found))


def _checked(maps: Maps, neighbours: NDArray[np.int32]) -> Maps:
    if len(maps) and len(maps[0]) != len(neighbours):
        raise SourceError(
            "a map and its neighbours are not of the same voxels", wanted=f"{len(neighbours):,} voxels",
            found=f"{len(maps[0]):,}",
        )  # fmt: skip
    return maps


def _of_maps(maps: Maps, enhanced: _Enhancing, workers: int) -> Enhanced:
    first, highest = enhanced(maps[0])
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        others = pool.map(lambda at: enhanced(maps[at])[1], range(1, len(maps)))
        return Enhanced(first, np.array([highest, *others]))
