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
    candidate: NDArray[np.int32]
    at: NDArray[np.int32]


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


class _Axes(NamedTuple):
    """Principal axes of a candidate's features in the training set of an outer fold.

    With X̃ = X √w of the centred training stimuli, X̃'X̃ = V diag(s) V': √w V (d, k), and s (k,).
    """

    axes: Array
    values: Array


class _Gains(NamedTuple):
    """By how much predictions reduce the squares of a block: by model and voxel, band and voxel, model and region."""

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

    def factors(self, candidate: _Candidate) -> Array:
        """Return √w of every feature."""
        weights: Array = np.array(candidate.weights)[self.band_of]
        return np.sqrt(weights)

    def solver(self, candidate: _Candidate) -> Solver:
        """Return the algorithm that chooses a candidate's penalties."""
        factors = self.factors(candidate)
        kept = factors > 0
        return solver_for(self.x[:, kept] * factors[kept], self.folds, self.penalties, standardise=False, few=_FEW)

    def axes(self, candidate: _Candidate, fold: int) -> _Axes:
        """Return the principal axes of a candidate in the training set of an outer fold."""
        factors, x = self.factors(candidate), self.x[self.folds.inner[fold] >= 0]
        centred = (x - x.mean(axis=0)) * factors
        values, vectors = np.linalg.eigh(centred.T @ centred)
        some = values > _RANK * max(values[-1], 0.0)
        return _Axes(factors[:, None] * vectors[:, some], values[some])

    def block(self, voxels: slice) -> tuple[Array, NDArray[np.int64]]:
        """Return the usable voxels of a block, centred, and which these are."""
        block = np.asarray(self.patterns[:, voxels])
        usable = np.isfinite(block).all(axis=0) & (block.max(axis=0) > block.min(axis=0))
        kept = block[:, usable].astype(np.float64)
        return kept - kept.mean(axis=0), np.arange(self.n_voxels)[voxels][usable]

    def choose(self, progress: Callable[[], None]) -> tuple[_Chosen, NDArray[np.bool_]]:
        """Find the best candidate and penalty of every model, outer fold and voxel; the first of equal ones."""
        shape = len(self.models), self.n_outer, self.n_voxels
        chosen = _Chosen(np.zeros(shape), np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.int32))
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
        axes = []
        for number, candidate in enumerate(self.candidates):
            used = (chosen.candidate == number).any(axis=(0, 2))
            axes.append([self.axes(candidate, fold) if used[fold] else None for fold in range(self.n_outer)])
            progress()
        saved, split = (np.full((n, self.n_voxels), np.nan) for n in (len(self.models), int(self.band_of.max()) + 1))
        losses = np.zeros((len(self.models), len(self.x), len(regions.size)))
        work = partial(self._gains, axes=axes, chosen=chosen, regions=regions)
        with ThreadPoolExecutor(self.workers) as pool:
            for found in pool.map(work, voxel_blocks(self.n_voxels)):  # in order: sums do not depend on threads
                saved[:, found.at], split[:, found.at] = found.saved, found.split
                losses[:, :, found.names] += found.losses
        return saved, split, losses

    def _gains(self, voxels: slice, axes: list[list[_Axes | None]], chosen: _Chosen, regions: _Regions) -> _Gains:
        """Return what the models explain of a block of voxels, and its part in the losses of regions."""
        kept, at = self.block(voxels)
        own, names = chosen.candidate[:, :, at], regions.present(at)
        squares = self._squares(kept)
        total = squares.sum(axis=0)
        scale = len(self.x) / total
        saved, split = np.zeros((len(self.models), len(at))), np.zeros((int(self.band_of.max()) + 1, len(at)))
        losses = np.repeat(regions.means(squares * scale, at, names)[None], len(self.models), axis=0)
        for fold, inner in enumerate(self.folds.inner):
            train, test = inner >= 0, inner == -1
            mean, means = self.x[train].mean(axis=0), kept[train].mean(axis=0)
            xy = self.x[train].T @ (kept[train] - means)
            x, y = self.x[test] - mean, kept[test] - means
            for number in np.unique(own[:, fold][own[:, fold] >= 0]).tolist():
                picked = own[:, fold] == number  # (model, voxel)
                some = np.flatnonzero(picked.any(axis=0))
                picked = picked[:, some]
                penalty = self.penalties[np.where(picked, chosen.at[:, fold, at[some]], 0).max(axis=0)]  # of all models
                found = axes[number][fold]
                assert found is not None
                beta = found.axes @ (found.axes.T @ xy[:, some] / (found.values[:, None] + penalty))
                left = 2 * y[:, some]
                parts = [x[:, self.band_of == band] @ beta[self.band_of == band] for band in range(len(split))]
                predicted = np.sum(parts, axis=0)
                left -= predicted
                gain = predicted * left  # y² less the squared error
                saved[:, some] += picked * gain.sum(axis=0)
                for band, part in enumerate(parts):
                    split[band, some] += picked[-1] * np.einsum("nv,nv->v", part, left)
                for model in np.flatnonzero(picked.any(axis=1)) if len(names) else ():
                    mine = some[picked[model]]
                    losses[model, test] -= regions.means(gain[:, picked[model]] * scale[mine], at[mine], names)
        return _Gains(at, saved / total, split / total, names, losses)

    def _squares(self, kept: Array) -> Array:
        """Return (y - ȳ)², where ȳ is the mean of the training stimuli of the outer fold in which y is held out."""
        found = np.empty_like(kept)
        for inner in self.folds.inner:
            found[inner == -1] = kept[inner == -1] - kept[inner >= 0].mean(axis=0)
        return found**2


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
