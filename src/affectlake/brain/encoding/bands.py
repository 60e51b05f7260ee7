"""Encoding with a penalty for each band of features, and how much of a voxel each band explains.

With bands X_b whose features are divided by the square root of the band's total variance, a model of the bands M is

    ŷ = Σ_{b∈M} √w_b X_b β_b,   (β, w, λ) = argmin ‖ỹ - ŷ‖² + λ Σ_b ‖β_b‖²,

so that band b has the penalty λ / w_b: banded ridge regression (Nunez-Elizalde et al. 2019, Dupré la Tour et al. 2022).
The relative weights w and λ are chosen for every voxel by the validation error of the inner folds, from candidates that
also leave out bands, and everything. R² is that of the held-out stimuli of all outer folds together,

    R²(M) = 1 - Σ_i (y_i - ŷ_i)² / Σ_i (y_i - ȳ_i)²,

where ȳ_i is the mean of the training stimuli. Leaving out bands gives R² of every combination of bands, from which
:mod:`~affectlake.brain.encoding.shares` computes what only one band explains, and what several share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.crossvalidation import PENALTIES, check, solver_for, voxel_blocks
from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import Array, Choice, Solver
from affectlake.brain.recordings.subjects import ZScored
from affectlake.errors import UsageError
from affectlake.process.blas_threads import one_blas_thread

_FEW = 300  # features up to which sums choose penalties faster than predictions, if there are many voxels
_RANK = 1e-10  # eigenvalues below this share of the largest are directions without variance
_BLOCK = 2048  # voxels at a time, of which a candidate has some


class BandedEncoding(NamedTuple):
    """Held-out variance that each combination of bands explains; NaN for voxels that are not usable.

    Parameters
    ----------
    models : list of tuple of str
        The bands of each model: first no band, last all. Nuisance features are in all of them.
    r2 : float64 (n_models, n_voxels)
    split : float64 (n_bands + n_nuisance, n_voxels)
        Parts of R² of the model with all bands, one for each band, then for each nuisance band; they add up to it
        (product measure).
    losses : float64 (n_models, n_stimuli, n_regions)
        Squared error of each stimulus when it was held out, divided by the mean of (y_i - ȳ_i)² of its voxel, and
        averaged over the usable voxels of a region; 0 for a region without such voxels. R² of a region, the mean of its
        voxels, is 1 - losses.mean over stimuli.
    weights : float64 (n_outer, n_bands + n_nuisance, n_voxels)
        w of the model with all bands; 0 for a band that was left out.
    penalty : float64 (n_outer, n_voxels)
        λ of the model with all bands; NaN where it leaves out everything.
    usable : bool (n_voxels,)
        False for a voxel that is constant or has a NaN or an infinite value.
    """

    models: list[tuple[str, ...]]
    r2: Array
    split: Array
    losses: Array
    weights: Array
    penalty: Array
    usable: NDArray[np.bool_]


class _Candidate(NamedTuple):
    """Weights of the bands, and the models that can choose them."""

    weights: tuple[float, ...]
    models: list[int]


class _Chosen(NamedTuple):
    """For each model, outer fold and voxel: the smallest error, its candidate (-1: none), and its penalty."""

    error: Array
    candidate: NDArray[np.int16]
    at: NDArray[np.int16]


def encode_bands(
    bands: Mapping[str, NDArray[np.floating]],
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    *,
    nuisance: Mapping[str, NDArray[np.floating]] | None = None,
    regions: NDArray[np.bool_] | None = None,
    ratios: Sequence[float],
    penalties: Array = PENALTIES,
    workers: int = 1,
    on_candidate: Callable[[int, int], None] | None = None,
) -> BandedEncoding:
    """Predict every voxel from every combination of bands of features.

    Parameters
    ----------
    bands : mapping of str to float (n_stimuli, n_features)
        The bands, by name. There are as many models as subsets of them.
    patterns : float (n_stimuli, n_voxels)
        An array, a memory map, or a :class:`~affectlake.brain.recordings.subjects.ZScored`; read block by block.
    folds : Folds
        Outer folds for R², inner folds for weights and penalties.
    nuisance : mapping of str to float (n_stimuli, n_features), optional
        Bands that are part of every model, so that what they explain counts for no band.
    regions : bool (n_regions, n_voxels), optional
        The voxels of each region; regions may overlap. By default, there are no regions.
    ratios : sequence of float
        Candidate weights of a band, above 0 and at most 1; 1 is always one. The largest weight of a candidate is 1.
    penalties : float64 (n_penalties,)
        Candidate values of λ, above 0.
    workers : int, default=1
        Number of threads over blocks of voxels. The result does not depend on it.
    on_candidate : callable, optional
        Called with the number of candidates that are finished and the number of all, which are run through twice.

    Returns
    -------
    BandedEncoding

    Raises
    ------
    SourceError
        If features and patterns are not of the same stimuli, or a feature is NaN.
    UsageError
        If there are no bands, one is also a nuisance feature, or ratios or penalties are not legal.

    Notes
    -----
    With the same candidates, weights and penalties are those of himalaya's ``GroupRidgeCV``, and `split` is its
    ``r2_score_split``.
    """
    apart = nuisance or {}
    _check(bands, apart, ratios)
    scaled = [_scaled(x) for x in (*bands.values(), *apart.values())]
    for part in scaled:
        check(part, patterns, folds, penalties)
    x = np.concatenate(scaled, axis=1)
    band_of = np.repeat(np.arange(len(scaled)), [part.shape[1] for part in scaled])
    models = [some for n in range(len(bands) + 1) for some in combinations(range(len(bands)), n)]
    candidates = _candidates(len(bands), len(apart), models, sorted({*ratios, 1.0}))
    work = _Work(x, band_of, patterns, folds, penalties, candidates, models, workers)
    done = 0

    def progress() -> None:
        nonlocal done
        done += 1
        if on_candidate:
            on_candidate(done, 2 * len(candidates))

    with one_blas_thread():
        chosen, usable = work.choose(progress)
        r2, split, losses = work.evaluate(chosen, _Regions.of(regions, usable), progress)
    whole, some = chosen.candidate[-1], chosen.candidate[-1] >= 0
    table = np.array([candidate.weights for candidate in candidates])
    return BandedEncoding(
        [tuple(list(bands)[b] for b in model) for model in models],
        r2,
        split,
        losses,
        np.where(usable, np.where(some, table[whole].transpose(2, 0, 1), 0.0), np.nan).transpose(1, 0, 2),
        np.where(usable & some, penalties[chosen.at[-1]], np.nan),
        usable,
    )


class _Regions(NamedTuple):
    """The usable voxels in each region, bool (n_regions, n_voxels), and their number."""

    inside: NDArray[np.bool_]
    size: NDArray[np.int64]

    @classmethod
    def of(cls, regions: NDArray[np.bool_] | None, usable: NDArray[np.bool_]) -> _Regions:
        inside = np.zeros((0, len(usable)), dtype=bool) if regions is None else regions & usable
        return cls(inside, np.count_nonzero(inside, axis=1))

    def means(self, values: Array, at: NDArray[np.int64], names: NDArray[np.int64]) -> Array:
        """Return the part of values (n, voxels) of some voxels in the means of some regions: (n, regions)."""
        return np.asarray(values @ (self.inside[np.ix_(names, at)] / self.size[names, None]).T)

    def present(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the regions of some voxels."""
        return np.flatnonzero(self.inside[:, at].any(axis=1))


class _Training(NamedTuple):
    """A candidate on the training set of an outer fold, with its features as they are in `x`.

    With X̃ = X √w, X̃'X̃ = V diag(s) V' of the centred training stimuli: √w V (d, k), s (k,), the means (d,), X (n, d).
    """

    axes: Array
    values: Array
    mean: Array
    x: Array

    def fit(self, patterns: Array, penalties: Array) -> Array:
        """Return β (d, v) for the features as they are, at a penalty for each voxel; NaN penalties give 0."""
        projected = self.axes.T @ (self.x.T @ (patterns - patterns.mean(axis=0)))
        return np.asarray(self.axes @ (projected / (self.values[:, None] + penalties)))


class _Gains(NamedTuple):
    """By how much a candidate reduces squares in a fold: by model and voxel, by band and voxel, by model and region."""

    at: NDArray[np.int64]
    saved: Array
    split: Array
    names: NDArray[np.int64]
    losses: Array


class _Work:
    """What all candidates share; each is run through all voxels before the next, so that one solver is in memory."""

    def __init__(
        self,
        x: Array,
        band_of: NDArray[np.int64],
        patterns: NDArray[np.floating] | ZScored,
        folds: Folds,
        penalties: Array,
        candidates: list[_Candidate],
        models: list[tuple[int, ...]],
        workers: int,
    ) -> None:
        self.x, self.band_of, self.patterns, self.folds = x, band_of, patterns, folds
        self.penalties, self.candidates, self.models = penalties, candidates, models
        self.workers, self.n_outer, self.n_voxels = max(workers, 1), len(folds.inner), patterns.shape[1]

    def solver(self, candidate: _Candidate) -> Solver:
        """Return the algorithm that chooses a candidate's penalties."""
        factors = np.sqrt(np.array(candidate.weights))[self.band_of]
        kept = factors > 0
        return solver_for(self.x[:, kept] * factors[kept], self.folds, self.penalties, standardise=False, few=_FEW)

    def training(self, candidate: _Candidate) -> list[_Training]:
        """Return a candidate on the training set of each outer fold."""
        factors = np.sqrt(np.array(candidate.weights))[self.band_of]
        kept = factors > 0
        found = []
        for inner in self.folds.inner:
            x = self.x[inner >= 0][:, kept]
            mean = x.mean(axis=0)
            values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) * np.outer(factors[kept], factors[kept]))
            some = values > _RANK * max(values[-1], 0.0)
            found.append(_Training(factors[kept][:, None] * vectors[:, some], values[some], mean, x))
        return found

    def block(self, voxels: slice) -> tuple[Array, NDArray[np.int64]]:
        """Return the usable voxels of a block, centred, and which these are."""
        block = np.asarray(self.patterns[:, voxels])
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        kept = block[:, usable].astype(np.float64)
        return kept - kept.mean(axis=0), np.arange(self.n_voxels)[voxels][usable]

    def choose(self, progress: Callable[[], None]) -> tuple[_Chosen, NDArray[np.bool_]]:
        """Find the best candidate and penalty of every model, outer fold and voxel; the first of equal ones."""
        shape = len(self.models), self.n_outer, self.n_voxels
        chosen = _Chosen(np.zeros(shape), np.full(shape, -1, dtype=np.int16), np.zeros(shape, dtype=np.int16))
        usable = np.zeros(self.n_voxels, dtype=bool)
        with ThreadPoolExecutor(self.workers) as pool:
            for number, candidate in enumerate(self.candidates):
                for at, best in pool.map(
                    partial(self._choices, solver=self.solver(candidate)), voxel_blocks(self.n_voxels)
                ):
                    usable[at] = True
                    if best is None:
                        continue
                    for model in candidate.models:  # an error of 0 is that of no prediction
                        fold, voxel = np.nonzero(best.error < chosen.error[model][:, at])
                        chosen.error[model, fold, at[voxel]] = best.error[fold, voxel]
                        chosen.candidate[model, fold, at[voxel]] = number
                        chosen.at[model, fold, at[voxel]] = best.at[fold, voxel]
                progress()
        return chosen, usable

    def _choices(self, voxels: slice, solver: Solver) -> tuple[NDArray[np.int64], Choice | None]:
        """Return the usable voxels of a block, and their best penalties."""
        kept, at = self.block(voxels)
        return at, solver.choose(kept) if len(at) else None

    def evaluate(self, chosen: _Chosen, regions: _Regions, progress: Callable[[], None]) -> tuple[Array, Array, Array]:
        """Return R² of every model, its parts, and the losses of stimuli, from the predictions of held-out stimuli."""
        n_bands = int(self.band_of.max()) + 1
        saved, split = np.zeros((len(self.models), self.n_voxels)), np.zeros((n_bands, self.n_voxels))
        losses = np.zeros((len(self.models), len(self.x), len(regions.size)))
        total, every_model = np.full(self.n_voxels, np.nan), np.arange(len(self.models))
        with ThreadPoolExecutor(self.workers) as pool:
            for at, squares in pool.map(self._deviations, voxel_blocks(self.n_voxels)):
                total[at] = squares.sum(axis=0)
                names = regions.present(at)
                losses[:, :, names] += regions.means(squares * (len(squares) / total[at]), at, names)
            for number, candidate in enumerate(self.candidates):
                folds = self.training(candidate) if (chosen.candidate == number).any() else []
                for fold, training in enumerate(folds):
                    work = partial(self._gains, number, fold, training, chosen=chosen, total=total, regions=regions)
                    for found in pool.map(work, voxel_blocks(self.n_voxels, _BLOCK)):
                        if found is None:
                            continue
                        saved[:, found.at] += found.saved  # in order: sums do not depend on threads
                        split[:, found.at] += found.split
                        losses[np.ix_(every_model, self.folds.inner[fold] == -1, found.names)] -= found.losses
                progress()
        return saved / total, split / total, losses

    def _gains(
        self,
        number: int,
        fold: int,
        training: _Training,
        voxels: slice,
        chosen: _Chosen,
        total: Array,
        regions: _Regions,
    ) -> _Gains | None:
        """Return by how much predictions of a candidate in a fold reduce the squares of voxels that have chosen it."""
        at = np.arange(self.n_voxels)[voxels]
        picked = chosen.candidate[:, fold, at] == number  # (model, voxel)
        some = picked.any(axis=0)
        if not some.any():
            return None
        at, picked = at[some], picked[:, some]
        inner = self.folds.inner[fold]
        block = np.asarray(self.patterns[:, voxels])[:, some].astype(np.float64)
        y = block[inner >= 0]
        penalty = self.penalties[np.where(picked, chosen.at[:, fold, at], 0).max(axis=0)]  # the same for all models
        beta = training.fit(y, penalty)
        kept = np.isin(self.band_of, np.flatnonzero(self.candidates[number].weights))
        x, y = self.x[inner == -1][:, kept] - training.mean, block[inner == -1] - y.mean(axis=0)
        bands, split = self.band_of[kept], np.zeros((int(self.band_of.max()) + 1, len(at)))
        parts = {int(band): x[:, bands == band] @ beta[bands == band] for band in np.unique(bands)}
        predicted = np.sum(list(parts.values()), axis=0)
        left = 2 * y - predicted
        gain = predicted * left  # y² less the squared error
        for band, part in parts.items():
            split[band] = np.where(picked[-1], np.einsum("nv,nv->v", part, left), 0.0)
        names = regions.present(at)
        losses = np.zeros((len(self.models), len(x), len(names)))
        if len(names):
            scaled = gain * (len(self.x) / total[at])
            for model in np.flatnonzero(picked.any(axis=1)):
                losses[model] = regions.means(scaled[:, picked[model]], at[picked[model]], names)
        return _Gains(at, picked * gain.sum(axis=0), split, names, losses)

    def _deviations(self, voxels: slice) -> tuple[NDArray[np.int64], Array]:
        """Return the usable voxels of a block, and (y - ȳ)², where ȳ is the mean of the fold's training stimuli."""
        kept, at = self.block(voxels)
        found = np.empty_like(kept)
        for inner in self.folds.inner:
            found[inner == -1] = kept[inner == -1] - kept[inner >= 0].mean(axis=0)
        return at, found**2


def _candidates(n_bands: int, n_nuisance: int, models: list[tuple[int, ...]], ratios: list[float]) -> list[_Candidate]:
    """Return all weights whose largest is 1, each with the models that have all of its bands."""
    found = []
    for weights in product([0.0, *ratios], repeat=n_bands + n_nuisance):
        if max(weights) == 1.0:
            needs = {band for band in range(n_bands) if weights[band] > 0}
            found.append(_Candidate(weights, [at for at, model in enumerate(models) if needs <= set(model)]))
    return found


def _scaled(x: NDArray[np.floating]) -> Array:
    """Return features as float64, divided by the square root of their total variance, if there is any."""
    found = np.asarray(x, dtype=np.float64)
    spread = np.sqrt(found.var(axis=0).sum()) if found.size else 0.0
    return found / spread if spread > 0 and np.isfinite(spread) else found


def _check(bands: Mapping[str, object], nuisance: Mapping[str, object], ratios: Sequence[float]) -> None:
    if not bands:
        raise UsageError("variance partitioning needs at least one band", found="none")
    twice = sorted(set(bands) & set(nuisance))
    if twice:
        raise UsageError("a band is also a nuisance feature", found=", ".join(twice), todo="leave one of them out")
    wrong = [ratio for ratio in ratios if not 0 < ratio <= 1]
    if wrong or not ratios:
        raise UsageError(
            "ratios of bands are not legal",
            wanted="numbers above 0, at most 1",
            found=", ".join(map(str, wrong)) or "none",
        )
