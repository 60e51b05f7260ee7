"""Null distributions of brain maps: the stimuli's labels are exchanged, and everything that depends on them is redone.

Arrays in, arrays out. NaN is a value that is not defined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_VOXELS = 8192  # at a time


class Relabelled(Sequence[NDArray[np.floating]]):
    """RSMs of some stimuli under several orders, computed when they are read.

    Entry ``k * len(rsms) + b`` is RSM b with the stimuli of order k: rows and columns are taken together, so that the
    dependence between pairs is kept.

    Parameters
    ----------
    rsms : float (n_rsms, n, n)
    orders : int (n_orders, m)
        Rows of the RSMs.
    """

    def __init__(self, rsms: NDArray[np.floating], orders: NDArray[np.integer]) -> None:
        self._rsms, self._orders = rsms, orders

    def __len__(self) -> int:
        return len(self._rsms) * len(self._orders)

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        """Return one RSM, float (m, m)."""
        if not 0 <= at < len(self):
            raise IndexError(at)
        k, which = divmod(at, len(self._rsms))
        order = self._orders[k]
        return self._rsms[which][np.ix_(order, order)]


def orders(n: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` random orders of n stimuli: int64 (count, n)."""
    return np.stack([rng.permutation(n) for _ in range(count)]) if count else np.empty((0, n), dtype=np.int64)


class Levels(NamedTuple):
    """Levels of significance of a map against its null distribution; NaN where the map is, or without a null.

    Parameters
    ----------
    mean : float64 (n_voxels,)
        Mean of the null distribution: the value that the analysis gives without any relation.
    p : float64 (n_voxels,)
        Two-tailed permutation p of the voxel alone.
    pooled : float64 (n_voxels,)
        One-tailed p against the null values of all voxels together.
    familywise : float64 (n_voxels,)
        One-tailed p against the maximum over all voxels.
    """

    mean: Array
    p: Array
    pooled: Array
    familywise: Array


def levels(values: NDArray[np.floating], null: NDArray[np.floating]) -> Levels:
    """Return the levels of significance of a map.

    Values are standardised per voxel by mean and standard deviation over the map and its null together, so that voxels
    whose null distributions differ in mean or in width can be compared, and the map is treated as each of its
    relabellings is. A maximum over voxels is then exact: its level is kept whatever the dependence between voxels.

    Parameters
    ----------
    values : float (n_voxels,)
    null : float (n_permutations, n_voxels)
        The same map, with every step that uses the labels redone, under relabelled stimuli.

    Returns
    -------
    Levels
        The levels. All p-values are (1 + number of null values that reach the value) / (1 + number of null values).

    Notes
    -----
    Maximum statistic: Nichols & Holmes 2002. Pooling over voxels: Brammer et al. 1997.
    """
    n, v = null.shape[0], len(values)
    nothing = np.full(v, np.nan)
    if n == 0:
        return Levels(nothing, nothing.copy(), nothing.copy(), nothing.copy())
    mean, p, scores = nothing.copy(), nothing.copy(), np.full((n + 1, v), np.nan, dtype=np.float32)
    for part in (slice(first, first + _VOXELS) for first in range(0, v, _VOXELS)):
        both = np.vstack([values[None, part], null[:, part]]).astype(np.float64)
        mean[part] = both[1:].mean(axis=0)
        z = _standardised(both)
        p[part] = (1 + (np.abs(z[1:]) >= np.abs(z[0]) - 1e-6).sum(axis=0)) / (1 + n)
        p[part][np.isnan(z[0])] = np.nan
        scores[:, part] = z
    known = ~np.isnan(scores[0])
    pooled, familywise = nothing.copy(), nothing.copy()
    if known.any():
        own, drawn = scores[0, known], scores[1:, known]
        pool = np.sort(drawn, axis=None)
        pooled[known] = (1 + len(pool) - np.searchsorted(pool, own - 1e-6)) / (1 + len(pool))
        highest = np.sort(drawn.max(axis=1))
        familywise[known] = (1 + n - np.searchsorted(highest, own - 1e-6)) / (1 + n)
    return Levels(mean, p, pooled, familywise)


def standardised(values: NDArray[np.floating], null: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a map and its null distribution, standardised per voxel as in :func:`levels`.

    Parameters
    ----------
    values : float (n_voxels,)
    null : float (n_permutations, n_voxels)

    Returns
    -------
    float32 (n_permutations + 1, n_voxels)
        The map, then its null distribution; NaN for a voxel where one of them is NaN, or all are equal.
    """
    found = np.empty((len(null) + 1, len(values)), dtype=np.float32)
    for part in (slice(first, first + _VOXELS) for first in range(0, len(values), _VOXELS)):
        found[:, part] = _standardised(np.vstack([values[None, part], null[:, part]]).astype(np.float64))
    return found


def _standardised(both: Array) -> Array:
    spread = both.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((both - both.mean(axis=0)) / np.where(spread > 0, spread, np.nan))


def packed(selected: NDArray[np.bool_]) -> list[bytes]:
    """Return which stimuli are selected in each permutation, bool (n_permutations, n), as bytes per stimulus."""
    return [row.tobytes() for row in np.packbits(selected.T, axis=1)]


def unpacked(bits: Sequence[bytes], count: int) -> Iterator[NDArray[np.bool_]]:
    """Yield the stimuli that are selected in each of `count` permutations, bool (n,) (see :func:`packed`)."""
    rows = np.array([np.frombuffer(one, dtype=np.uint8) for one in bits])
    yield from np.unpackbits(rows, axis=1, count=count).T.astype(bool)
