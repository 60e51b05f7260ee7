"""What all candidate weights of bands have in common: features, patterns, folds, penalties and models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.crossvalidation import check, voxel_blocks
from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import Array
from affectlake.brain.recordings.subjects import ZScored
from affectlake.errors import UsageError

_RANK = 1e-10  # eigenvalues below this share of the largest are directions without variance


def subsets(n_bands: int) -> list[tuple[int, ...]]:
    """Return every combination of bands: no band first, all bands last."""
    return [some for n in range(n_bands + 1) for some in combinations(range(n_bands), n)]


def scaled_bands(
    bands: Mapping[str, NDArray[np.floating]],
    nuisance: Mapping[str, NDArray[np.floating]],
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    penalties: Array,
) -> list[Array]:
    """Return the features of each band, then of each nuisance band, divided by the square root of its total variance.

    Raises
    ------
    SourceError
        If features and patterns are not of the same stimuli, or a feature is NaN.
    UsageError
        If there are no bands, one is also a nuisance feature, or penalties are not legal.
    """
    if not bands:
        raise UsageError("variance partitioning needs at least one band", found="none")
    twice = sorted(set(bands) & set(nuisance))
    if twice:
        raise UsageError("a band is also a nuisance feature", found=", ".join(twice), todo="leave one of them out")
    found = [_scaled(x) for x in (*bands.values(), *nuisance.values())]
    for part in found:
        check(part, patterns, folds, penalties)
    return found


def _scaled(x: NDArray[np.floating]) -> Array:
    """Return features as float64, divided by the square root of their total variance, if there is any."""
    found = np.asarray(x, dtype=np.float64)
    spread = np.sqrt(found.var(axis=0).sum()) if found.size else 0.0
    return found / spread if spread > 0 and np.isfinite(spread) else found


def principal_axes(centred: Array) -> tuple[Array, Array]:
    """Return V (d, k) and s (k,) with X'X = V diag(s) V' of centred features X (n, d), without axes of no variance."""
    values, vectors = np.linalg.eigh(centred.T @ centred)
    some = values > _RANK * max(values[-1], 0.0)
    return vectors[:, some], values[some]


class Candidate(NamedTuple):
    """Weights of the bands, and the models that can choose them."""

    weights: tuple[float, ...]
    models: list[int]


def candidates(
    n_bands: int, n_nuisance: int, models: Sequence[tuple[int, ...]], ratios: Sequence[float]
) -> list[Candidate]:
    """Return all weights whose largest is 1, each with the models that have all of its bands.

    Parameters
    ----------
    n_bands, n_nuisance : int
        Number of bands, and of nuisance bands, which all models have.
    models : sequence of tuple of int
        Bands of each model.
    ratios : sequence of float
        Weights above 0, of which one is 1.
    """
    found = []
    for weights in product([0.0, *ratios], repeat=n_bands + n_nuisance):
        if max(weights) == 1.0:
            needs = {band for band in range(n_bands) if weights[band] > 0}
            found.append(Candidate(weights, [at for at, model in enumerate(models) if needs <= set(model)]))
    return found


@dataclass(frozen=True)
class Problem:
    """Bands of features that predict voxels.

    Parameters
    ----------
    x : float64 (n_stimuli, n_features)
        Features of all bands.
    band_of : int64 (n_features,)
        Band of each feature, from 0; nuisance bands come last.
    patterns : float (n_stimuli, n_voxels)
    folds : Folds
    penalties : float64 (n_penalties,)
    candidates : list of Candidate
    models : list of tuple of int
        Bands of each model.
    workers : int
        Number of threads over blocks of voxels.
    """

    x: Array
    band_of: NDArray[np.int64]
    patterns: NDArray[np.floating] | ZScored
    folds: Folds
    penalties: Array
    candidates: list[Candidate]
    models: list[tuple[int, ...]]
    workers: int

    @property
    def n_outer(self) -> int:
        return len(self.folds.inner)

    @property
    def n_voxels(self) -> int:
        return int(self.patterns.shape[1])

    @property
    def n_bands(self) -> int:
        """Number of bands, with those of nuisance features."""
        return int(self.band_of.max()) + 1

    def factors(self, candidate: Candidate) -> Array:
        """Return √w of every feature."""
        weights: Array = np.array(candidate.weights)[self.band_of]
        return np.sqrt(weights)

    def block(self, voxels: slice) -> tuple[Array, NDArray[np.int64]]:
        """Return the usable voxels of a block, centred, and which these are."""
        block = np.asarray(self.patterns[:, voxels])
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        kept = block[:, usable].astype(np.float64)
        return kept - kept.mean(axis=0), np.arange(self.n_voxels)[voxels][usable]

    def digest(self) -> str:
        """Return a digest of everything on which results depend."""
        found = hashlib.blake2b(digest_size=16)
        shapes = self.x.shape, self.patterns.shape, self.models, [tuple(one) for one in self.candidates]
        found.update(repr(shapes).encode())
        for array in (self.x, self.band_of, self.penalties, self.folds.inner):
            found.update(np.ascontiguousarray(array).data)
        for voxels in voxel_blocks(self.n_voxels):
            found.update(np.ascontiguousarray(self.patterns[:, voxels]).data)
        return found.hexdigest()
