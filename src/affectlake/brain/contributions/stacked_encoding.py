"""Stacked encoding: a ridge regression for each band, and an average of their predictions in every voxel.

For every voxel and outer fold, each band has a ridge regression of its own, whose penalty has the smallest validation
error of the inner folds. Their predictions of the inner folds' validation stimuli give the weights of the average
(:mod:`~affectlake.brain.contributions.stacking`), for every combination of bands. R² is that of the held-out stimuli,
as in :mod:`~affectlake.brain.encoding.bands`; the held-out predictions are the patterns of voxel-encoded RSA
(:mod:`~affectlake.brain.contributions.voxel_encoded_rsa`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.stacking import stack_weights
from affectlake.brain.encoding.band_gains import Regions, held_out_squares
from affectlake.brain.encoding.band_problem import Problem, principal_axes, scaled_bands, subsets
from affectlake.brain.encoding.crossvalidation import PENALTIES, solver_for, voxel_blocks
from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import Array
from affectlake.brain.recordings.subjects import ZScored
from affectlake.process.blas_threads import one_blas_thread


class StackedEncoding(NamedTuple):
    """Ridge regressions of bands, and the weights with which their predictions are averaged, in every outer fold.

    Parameters
    ----------
    models : list of tuple of str
        The bands of each model: first no band, last all. Nuisance features are in all of them.
    weights : float32 (n_outer, n_models, n_bands + n_nuisance, n_voxels)
        Weights of the bands' predictions; NaN for voxels that are not usable.
    coefficients : float32 (n_outer, n_features, n_voxels)
        β of the bands' ridge regressions, for the features of `features`.
    features : float64 (n_stimuli, n_features)
        Features of all bands, scaled.
    band_of : int64 (n_features,)
        Band of each feature, from 0; nuisance bands come last.
    usable : bool (n_voxels,)
        False for a voxel that is constant or has a NaN or an infinite value.
    """

    models: list[tuple[str, ...]]
    weights: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    features: Array
    band_of: NDArray[np.int64]
    usable: NDArray[np.bool_]

    def predicted(self, fold: int, rows: NDArray[np.integer], voxels: NDArray[np.integer], centre: Array) -> Array:
        """Return the predictions of every model, less the mean of the training stimuli: (n_models, n_rows, n_voxels).

        Parameters
        ----------
        fold : int
            Outer fold.
        rows, voxels : int
            Stimuli and voxels.
        centre : float64 (n_features,)
            Mean features of the training stimuli.
        """
        x, beta = self.features[rows] - centre, self.coefficients[fold][:, voxels]
        parts = np.stack([x[:, self.band_of == band] @ beta[self.band_of == band]
                          for band in range(self.weights.shape[2])])  # fmt: skip
        return np.asarray(np.einsum("mbv,biv->miv", self.weights[fold][:, :, voxels], parts))


class _Axes(NamedTuple):
    """Principal axes of a band in a training set: mean (d,), axes (d, k), and their squares (k,)."""

    mean: Array
    axes: Array
    values: Array

    @classmethod
    def of(cls, x: Array) -> _Axes:
        mean = x.mean(axis=0)
        return cls(mean, *principal_axes(x - mean))

    def coefficients(self, x: Array, y: Array, penalty: Array) -> Array:
        """Return β (d, v) of training features (n, d) and centred patterns (n, v), with a penalty for each voxel."""
        return self.axes @ (self.axes.T @ ((x - self.mean).T @ y) / (self.values[:, None] + penalty))


def encode_stacked(
    bands: Mapping[str, NDArray[np.floating]],
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    *,
    nuisance: Mapping[str, NDArray[np.floating]] | None = None,
    penalties: Array = PENALTIES,
    workers: int = 1,
    checkpoint: Path | None = None,
    on_voxels: Callable[[int, int], None] | None = None,
) -> StackedEncoding:
    """Predict every voxel from averages of the bands' predictions.

    Parameters
    ----------
    bands, patterns, folds, nuisance, penalties, workers
        As in :func:`affectlake.brain.encoding.bands.encode_bands`.
    checkpoint : Path, optional
        Folder for finished blocks of voxels, from which a process that was killed resumes. Results of other inputs are
        replaced. Without it, results are in memory.
    on_voxels : callable, optional
        Called with the number of voxels that are finished, and the number of all.

    Returns
    -------
    StackedEncoding

    Raises
    ------
    SourceError
        If features and patterns are not of the same stimuli, or a feature is NaN.
    UsageError
        If there are no bands, one is also a nuisance feature, or penalties are not legal.
    """
    apart = nuisance or {}
    scaled = scaled_bands(bands, apart, patterns, folds, penalties)
    models = subsets(len(bands))
    x = np.concatenate(scaled, axis=1)
    band_of = np.repeat(np.arange(len(scaled)), [part.shape[1] for part in scaled])
    problem = Problem(x, band_of, patterns, folds, penalties, [], models, max(workers, 1))
    shapes = (problem.n_outer, len(models), len(scaled)), (problem.n_outer, x.shape[1]), ()
    store = _Store.of(checkpoint, problem, shapes)
    blocks = list(voxel_blocks(problem.n_voxels))
    with one_blas_thread():
        training = _Training(problem, scaled)

        def fit(number: int) -> int:
            kept, at = problem.block(blocks[number])
            weights, coefficients = training.fit(kept)
            store.weights[..., at], store.coefficients[..., at], store.usable[at] = weights, coefficients, True
            return number

        waiting = [number for number in range(len(blocks)) if not store.done[number]]
        n_done = sum(block.stop - block.start for number, block in enumerate(blocks) if store.done[number])
        with ThreadPoolExecutor(problem.workers) as pool:
            for number in pool.map(fit, waiting):
                store.finish(number)
                n_done += blocks[number].stop - blocks[number].start
                if on_voxels:
                    on_voxels(n_done, problem.n_voxels)
    names = [tuple(list(bands)[band] for band in model) for model in models]
    return StackedEncoding(names, store.weights, store.coefficients, x, band_of, np.array(store.usable, dtype=bool))


class _Store(NamedTuple):
    """Arrays of finished blocks of voxels, in memory or in files, and which blocks are finished."""

    weights: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    usable: NDArray[np.uint8]
    done: NDArray[np.uint8]

    @classmethod
    def of(cls, folder: Path | None, problem: Problem, shapes: tuple[tuple[int, ...], ...]) -> _Store:
        """Return the arrays with the results of a process that was killed, if the folder has them; else empty ones."""
        n_blocks = len(list(voxel_blocks(problem.n_voxels)))
        layout = {
            name: ((*shape, problem.n_voxels), kind)
            for name, shape, kind in zip(cls._fields, shapes, (np.float32, np.float32, np.uint8), strict=False)
        }
        layout["done"] = ((n_blocks,), np.uint8)  # fmt: skip
        if folder is None:
            return cls(*(_empty(np.empty(shape, kind)) for shape, kind in layout.values()))
        folder.mkdir(parents=True, exist_ok=True)
        of, digest = folder / "inputs", problem.digest()
        same = of.exists() and of.read_text(encoding="utf-8") == digest
        of.unlink(missing_ok=True)
        files = {name: folder / f"{name}.npy" for name in layout}
        if same and all(file.exists() for file in files.values()):
            found = cls(*(np.load(file, mmap_mode="r+") for file in files.values()))
        else:
            found = cls(*(_empty(np.lib.format.open_memmap(files[name], mode="w+", dtype=kind, shape=shape))
                          for name, (shape, kind) in layout.items()))  # fmt: skip
        of.write_text(digest, encoding="utf-8")
        return found

    def finish(self, block: int) -> None:
        """Mark a block as finished, after its results are in the files."""
        for array in (self.weights, self.coefficients, self.usable):
            if isinstance(array, np.memmap):
                array.flush()
        self.done[block] = 1
        if isinstance(self.done, np.memmap):
            self.done.flush()


def _empty(array: NDArray[Any]) -> NDArray[Any]:
    array[...] = np.nan if array.dtype.kind == "f" else 0
    return array


class _Training:
    """Ridge regressions of all bands in all training sets; voxels are fitted block by block."""

    def __init__(self, problem: Problem, scaled: list[Array]) -> None:
        self._problem, self._scaled = problem, scaled
        self._solvers = [solver_for(x, problem.folds, problem.penalties, False) for x in scaled]
        self._outer = [[_Axes.of(x[inner >= 0]) for x in scaled] for inner in problem.folds.inner]
        self._inner = [
            [[_Axes.of(x[(inner >= 0) & (inner != part)]) for x in scaled] for part in range(int(inner.max()) + 1)]
            for inner in problem.folds.inner
        ]

    def fit(self, kept: Array) -> tuple[Array, Array]:
        """Return the weights (n_outer, n_models, n_bands, v), and coefficients (n_outer, n_features, v)."""
        at = [solver.choose(kept).at for solver in self._solvers]
        found = [self._of_fold(fold, kept, [self._problem.penalties[own[fold]] for own in at])
                 for fold in range(self._problem.n_outer)]  # fmt: skip
        return np.stack([weights for weights, _ in found]), np.stack([beta for _, beta in found])

    def _of_fold(self, fold: int, kept: Array, penalty: list[Array]) -> tuple[Array, Array]:
        inner, n_bands = self._problem.folds.inner[fold], len(self._scaled)
        products = np.zeros((n_bands, n_bands, kept.shape[1]))
        for part, axes in enumerate(self._inner[fold]):
            train, test = (inner >= 0) & (inner != part), inner == part
            mean = kept[train].mean(axis=0)
            y, left = kept[train] - mean, kept[test] - mean
            errors = [
                left - (x[test] - own.mean) @ own.coefficients(x[train], y, level)
                for x, own, level in zip(self._scaled, axes, penalty, strict=True)
            ]
            for a in range(n_bands):
                for b in range(a + 1):
                    products[a, b] += np.einsum("iv,iv->v", errors[a], errors[b])
        for a in range(n_bands):
            products[:a, a] = products[a, :a]
        train = inner >= 0
        y = kept[train] - kept[train].mean(axis=0)
        beta = [own.coefficients(x[train], y, level)
                for x, own, level in zip(self._scaled, self._outer[fold], penalty, strict=True)]  # fmt: skip
        return self._stacked(products), np.concatenate(beta)

    def _stacked(self, products: Array) -> Array:
        """Return the weights of every model (n_models, n_bands, v)."""
        n_bands = len(products)
        own = len(self._problem.models[-1])
        weights = np.zeros((len(self._problem.models), n_bands, products.shape[2]))
        for number, model in enumerate(self._problem.models):
            some = np.array([*model, *range(own, n_bands)], dtype=np.int64)
            if len(some):
                weights[number, some] = stack_weights(products[np.ix_(some, some)])
        return weights


def losses(
    found: StackedEncoding,
    patterns: NDArray[np.floating] | ZScored,
    folds: Folds,
    regions: NDArray[np.bool_],
    *,
    workers: int = 1,
) -> Array:
    """Return the errors of held-out predictions, as in :class:`~affectlake.brain.encoding.bands.BandedEncoding`.

    Parameters
    ----------
    found : StackedEncoding
    patterns, folds
        As for `found`.
    regions : bool (n_regions, n_voxels)
        The voxels of each region; those that are not usable are left out.
    workers : int, default=1
        Number of threads over blocks of voxels. The result does not depend on it.

    Returns
    -------
    float64 (n_models, n_stimuli, n_regions)
        Squared error of each stimulus when it was held out, divided by the mean of (y_i - ȳ_i)² of its voxel, and
        averaged over the voxels of a region.
    """
    inside = Regions.of(regions, found.usable)
    at = np.flatnonzero(inside.inside.any(axis=0))
    blocks = [at[block] for block in voxel_blocks(len(at))]

    def of_block(voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], Array]:
        kept = np.asarray(patterns[:, voxels], dtype=np.float64)
        names, squares = inside.present(voxels), held_out_squares(folds, kept)
        scale = len(kept) / squares.sum(axis=0)
        own = np.empty((len(found.models), len(kept), len(names)))
        for fold, inner in enumerate(folds.inner):
            train, test = inner >= 0, np.flatnonzero(inner == -1)
            y = kept[test] - kept[train].mean(axis=0)
            predicted = found.predicted(fold, test, voxels, found.features[train].mean(axis=0))
            for model, values in enumerate(predicted):
                own[model, test] = inside.means((y - values) ** 2 * scale, voxels, names)
        return names, own

    total = np.zeros((len(found.models), len(found.features), len(inside.size)))
    with one_blas_thread(), ThreadPoolExecutor(max(workers, 1)) as pool:
        for names, own in pool.map(of_block, blocks):  # in order, whatever the threads
            total[:, :, names] += own
    return total
