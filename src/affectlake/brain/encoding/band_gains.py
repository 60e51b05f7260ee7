"""How much of held-out stimuli the chosen models of bands explain, per voxel, band and region."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.band_choices import Choices
from affectlake.brain.encoding.band_problem import Candidate, Problem, principal_axes
from affectlake.brain.encoding.crossvalidation import voxel_blocks
from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import Array


class Regions(NamedTuple):
    """The usable voxels in each region, bool (n_regions, n_voxels), and their number."""

    inside: NDArray[np.bool_]
    size: NDArray[np.int64]

    @classmethod
    def of(cls, regions: NDArray[np.bool_] | None, usable: NDArray[np.bool_]) -> Regions:
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


class Gains(NamedTuple):
    """What the models explain, as in :class:`~affectlake.brain.encoding.bands.BandedEncoding`."""

    r2: Array
    split: Array
    covariance: Array
    losses: Array


class _Block(NamedTuple):
    """What the models explain of the voxels `at` of a block, and its part in the losses of the regions `names`."""

    at: NDArray[np.int64]
    saved: Array
    split: Array
    covariance: Array
    names: NDArray[np.int64]
    losses: Array


def evaluate(
    problem: Problem,
    chosen: Choices,
    regions: Regions,
    groups: NDArray[np.integer],
    progress: Callable[[int], None],
) -> Gains:
    """Return what every model explains of held-out stimuli.

    Parameters
    ----------
    problem : Problem
    chosen : Choices
        The best candidate of every model, outer fold and voxel.
    regions : Regions
    groups : int (n_stimuli,)
        Groups of stimuli that are independent of one another, from 0.
    progress : callable
        Called with the number of candidates whose axes are computed.
    """
    axes = []
    for number, candidate in enumerate(problem.candidates):
        used = (chosen.candidate == number).any(axis=(0, 2))
        axes.append([_axes(problem, candidate, fold) if used[fold] else None for fold in range(problem.n_outer)])
        progress(number + 1)
    n_own = len(problem.models[-1])
    r2, split = (np.full((n, problem.n_voxels), np.nan) for n in (len(problem.models), problem.n_bands))
    covariance = np.full((n_own, n_own, problem.n_voxels), np.nan)
    losses = np.zeros((len(problem.models), len(problem.x), len(regions.size)))
    work = partial(_of_block, problem=problem, axes=axes, chosen=chosen, regions=regions, groups=groups)
    with ThreadPoolExecutor(problem.workers) as pool:
        for found in pool.map(work, voxel_blocks(problem.n_voxels)):  # in order: sums do not depend on threads
            r2[:, found.at], split[:, found.at], covariance[..., found.at] = found.saved, found.split, found.covariance
            losses[:, :, found.names] += found.losses
    return Gains(r2, split, covariance, losses)


def _of_block(
    voxels: slice,
    problem: Problem,
    axes: list[list[_Axes | None]],
    chosen: Choices,
    regions: Regions,
    groups: NDArray[np.integer],
) -> _Block:
    """Return what the models explain of a block of voxels, and its part in the losses of regions."""
    kept, at = problem.block(voxels)
    own, names = chosen.candidate[:, :, at], regions.present(at)
    squares = held_out_squares(problem.folds, kept)
    total = squares.sum(axis=0)
    scale = len(problem.x) / total
    saved, split = np.zeros((len(problem.models), len(at))), np.zeros((problem.n_bands, len(at)))
    losses = np.repeat(regions.means(squares * scale, at, names)[None], len(problem.models), axis=0)
    signs = _of_bands_alone(problem.models)
    alone = np.zeros((len(signs), len(problem.x), len(at)))
    for fold, inner in enumerate(problem.folds.inner):
        train, test = inner >= 0, np.flatnonzero(inner == -1)
        mean, means = problem.x[train].mean(axis=0), kept[train].mean(axis=0)
        xy = problem.x[train].T @ (kept[train] - means)
        x, y = problem.x[test] - mean, kept[test] - means
        for number in np.unique(own[:, fold][own[:, fold] >= 0]).tolist():
            picked = own[:, fold] == number  # (model, voxel)
            some = np.flatnonzero(picked.any(axis=0))
            picked = picked[:, some]
            penalty = problem.penalties[np.where(picked, chosen.at[:, fold, at[some]], 0).max(axis=0)]  # of all models
            found = axes[number][fold]
            assert found is not None
            beta = found.axes @ (found.axes.T @ xy[:, some] / (found.values[:, None] + penalty))
            left = 2 * y[:, some]
            parts = [x[:, problem.band_of == band] @ beta[problem.band_of == band] for band in range(len(split))]
            predicted = np.sum(parts, axis=0)
            left -= predicted
            gain = predicted * left  # y² less the squared error
            saved[:, some] += picked * gain.sum(axis=0)
            for band, part in enumerate(parts):
                split[band, some] += picked[-1] * np.einsum("nv,nv->v", part, left)
            gain *= scale[some]
            for model in np.flatnonzero(picked.any(axis=1)) if len(names) else ():
                mine = picked[model]
                losses[model, test] -= regions.means(gain[:, mine], at[some[mine]], names)
            for band, times in enumerate(signs @ picked):  # 0 for voxels whose models with and without it are the same
                mine = np.flatnonzero(times)
                alone[band][np.ix_(test, some[mine])] += times[mine] * gain[:, mine]
    return _Block(at, saved / total, split / total, _covariance(alone, groups), names, losses)


def _of_bands_alone(models: list[tuple[int, ...]]) -> NDArray[np.int64]:
    """Return the signs with which models add up to the part of each band alone: int64 (n_bands, n_models)."""
    signs = np.zeros((len(models[-1]), len(models)), dtype=np.int64)
    signs[:, -1] = 1
    for band in models[-1]:
        signs[band, models.index(tuple(other for other in models[-1] if other != band))] -= 1
    return signs


def _covariance(values: Array, groups: NDArray[np.integer]) -> Array:
    """Return the covariance of means over stimuli, (bands, bands, voxels), from groups that are independent."""
    n = int(groups.max(initial=-1)) + 1
    if n < 2:
        return np.full((len(values), len(values), values.shape[2]), np.nan)
    apart = values - values.mean(axis=1, keepdims=True)
    order = np.argsort(groups, kind="stable")
    sums = np.add.reduceat(apart[:, order], np.searchsorted(groups[order], np.arange(n)), axis=1)
    scale = n / (n - 1) / values.shape[1] ** 2
    return np.asarray(scale * np.einsum("anv,bnv->abv", sums, sums))


def held_out_squares(folds: Folds, kept: Array) -> Array:
    """Return (y - ȳ)², where ȳ is the mean of the training stimuli of the outer fold in which y is held out."""
    found = np.empty_like(kept)
    for inner in folds.inner:
        found[inner == -1] = kept[inner == -1] - kept[inner >= 0].mean(axis=0)
    return found**2


def _axes(problem: Problem, candidate: Candidate, fold: int) -> _Axes:
    """Return the principal axes of a candidate in the training set of an outer fold."""
    factors, x = problem.factors(candidate), problem.x[problem.folds.inner[fold] >= 0]
    vectors, values = principal_axes((x - x.mean(axis=0)) * factors)
    return _Axes(factors[:, None] * vectors, values)
