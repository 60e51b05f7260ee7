"""Encoding with many features: validation errors from predictions at a few combinations of penalties.

With the training features X̃_A = P diag(√s) V', u = P'ỹ_A and d_i(λ) = s_i / (s_i + λ), the validation predictions are
R diag(d(λ)) u with R = X̃_B V diag(s)^-½. As functions of λ the k curves d_i are smooth: d = A C with a numerical rank
r of about twenty for any k. The r matrix products Z_r = R diag(A_r) u are therefore enough for all penalties, and

    error(λ) = ‖ỹ_B‖² - 2 Σ_r C_rλ ⟨ỹ_B, Z_r⟩ + Σ_rs C_rλ C_sλ ⟨Z_r, Z_s⟩.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.solver import CONSTANT, Array, Block, Choice, best_of

_SAME = 1e-12
_RANK = 1e-10


class _Split(NamedTuple):
    """A training and a held-out set: their rows, P (n_train, k), R (n_held_out, k), √s⁻¹ V' (k, d), d(λ) (k, λ)."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    left: Array
    right: Array
    axes: Array
    shrinkage: Array


class RowSolver:
    """Encoding of blocks of voxels from predictions (see the docstring of the module).

    The parameters are those of :class:`~affectlake.brain.encoding.gram.GramSolver`.
    """

    def __init__(self, x: Array, folds: Folds, penalties: Array, standardise: bool) -> None:
        self._penalties, self._standardise, self._x = penalties, standardise, x - x.mean(axis=0)
        self._outer = [self._split(row >= 0, row == -1) for row in folds.inner]
        self._inner = [
            [self._split((row >= 0) & (row != fold), row == fold, keep_axes=False) for fold in range(row.max() + 1)]
            for row in folds.inner
        ]

    def solve(self, patterns: Array) -> Block:
        """Return r, λ and β of a block of voxels (see :class:`~affectlake.brain.encoding.solver.Solver`)."""
        fold_r, penalty, weights = [], [], []
        for outer, curves in zip(self._outer, self._curves(patterns), strict=True):
            best = curves.argmin(axis=0)
            shrunk = outer.shrinkage[:, best] * _projected(outer, patterns)[0]
            fold_r.append(_correlations(outer.right @ shrunk, patterns[outer.held_out], patterns))
            penalty.append(self._penalties[best])
            weights.append(outer.axes.T @ shrunk)
        return Block(np.stack(fold_r), np.stack(penalty), np.mean(weights, axis=0))

    def choose(self, patterns: Array) -> Choice:
        """Return the best penalties of a block of voxels (see :class:`~affectlake.brain.encoding.solver.Solver`)."""
        return best_of(self._curves(patterns))

    def _curves(self, patterns: Array) -> Iterator[Array]:
        """Yield the validation errors of each outer fold, up to a constant per voxel: (n_penalties, v)."""
        for inner in self._inner:
            yield np.sum([_errors(split, patterns) for split in inner], axis=0)

    def _split(self, train: NDArray[np.bool_], held_out: NDArray[np.bool_], keep_axes: bool = True) -> _Split:
        mean = self._x[train].mean(axis=0)
        a, b = self._x[train] - mean, self._x[held_out] - mean
        a[:, self._x[train].max(axis=0) == self._x[train].min(axis=0)] = 0.0  # not the rounding error of the mean
        if self._standardise:
            spread = np.sqrt((a**2).mean(axis=0))
            scale = np.where(spread > 0, spread, 1.0)
        else:
            scale = np.ones(a.shape[1])
        left, roots, right = np.linalg.svd(a / scale, full_matrices=False)
        kept = roots**2 > _RANK * roots[0] ** 2
        axes = right[kept] / roots[kept][:, None]  # (k, d)
        values = roots[kept][:, None] ** 2
        return _Split(
            np.flatnonzero(train),
            np.flatnonzero(held_out),
            left[:, kept],
            (b / scale) @ axes.T,
            axes / scale if keep_axes else np.empty((0, 0)),
            values / (values + self._penalties),
        )


def _projected(split: _Split, patterns: Array) -> tuple[Array, Array]:
    """Return u (k, v) and the training means (v,)."""
    mean = patterns[split.train].mean(axis=0)
    return split.left.T @ (patterns[split.train] - mean), mean


def _errors(split: _Split, patterns: Array) -> Array:
    """Return the mean squared validation error at every penalty, up to a constant per voxel: (n_penalties, v)."""
    u, mean = _projected(split, patterns)
    if not len(u):  # no feature varies
        return np.zeros((split.shrinkage.shape[1], patterns.shape[1]))
    truth = patterns[split.held_out] - mean
    combine, values, curves = np.linalg.svd(split.shrinkage, full_matrices=False)
    kept = values > _SAME * values[0]
    combine, curves = combine[:, kept] * values[kept], curves[kept]  # (k, r), (r, λ)
    predictions = np.stack([(split.right * column) @ u for column in combine.T])  # (r, n_held_out, v)
    linear = np.einsum("rnv,nv->rv", predictions, truth)
    i, j = np.triu_indices(len(curves))
    quadratic = np.stack(
        [np.einsum("nv,nv->v", predictions[a], predictions[b]) for a, b in zip(i, j, strict=True)]
    )  # (pairs, v)
    twice = np.where(i == j, 1.0, 2.0)[:, None] * curves[i] * curves[j]
    return np.asarray((twice.T @ quadratic - 2.0 * curves.T @ linear) / len(truth))


def _correlations(predicted: Array, observed: Array, patterns: Array) -> Array:
    """Return Pearson's r of each column; NaN if the prediction or the response is constant."""
    p, o = predicted - predicted.mean(axis=0), observed - observed.mean(axis=0)
    pp, oo, po = (np.einsum("nv,nv->v", a, b) for a, b in ((p, p), (o, o), (p, o)))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = po / np.sqrt(pp * oo)
    total = np.einsum("nv,nv->v", patterns, patterns)
    varies = pp > CONSTANT * np.einsum("nv,nv->v", predicted, predicted)
    return np.where((oo > CONSTANT * total) & varies, np.clip(r, -1.0, 1.0), np.nan)
