"""Encoding with few features, without predictions: all errors are quadratic forms in sums over the stimuli.

One pass over a block of voxels gives X'X, X'Y, ΣX, ΣY, ΣY² of the smallest *pieces* of which every training, validation
and test set is composed (thirty pieces for 5 × 6 folds of `nested_folds`). For an inner fold with training sums A and
validation sums B, both centred on the training means,

    X̃_A'X̃_A = Q diag(s) Q',   T = diag(s)^-½ Q',   u = T X̃_A'ỹ_A,   d_i(λ) = s_i / (s_i + λ),   β = T'(d ∘ u),

and with H = T X̃_B'X̃_B T', b = T X̃_B'ỹ_B the squared error is

    ‖ỹ_B‖² - 2 Σ_i d_i u_i b_i + Σ_ij d_i d_j H_ij u_i u_j.

The first term does not depend on λ. The other terms are linear in the products u_i b_i and u_i u_j, with coefficients
that are smooth in λ: the matrix of coefficients (products × penalties) has a numerical rank of about twenty, so that
one thin matrix product gives the errors of all penalties, summed over the inner folds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.folds import Folds
from affectlake.brain.encoding.kernels import add_errors, space
from affectlake.brain.encoding.solver import CONSTANT, Array, Block, Choice, best_of

_SAME = 1e-13  # singular values below this share of the largest do not change an error in double precision
_PROBES = 64  # far above the rank of the curves
_RANK = 1e-10  # eigenvalues below this share of the largest are directions without variance


class _Sums(NamedTuple):
    """n, ΣX (d,), X'X (d, d) of some stimuli, and for a block of voxels ΣY (v,), ΣY² (v,), X'Y (d, v)."""

    n: float
    x: Array
    xx: Array
    y: Array
    yy: Array
    xy: Array


class _BlockSums(NamedTuple):
    """ΣY (pieces, v), ΣY² (pieces, v) and X'Y (pieces, d, v) of a block of voxels, and the sums of all stimuli."""

    y: Array
    yy: Array
    xy: Array
    total: _Sums


class _Basis(NamedTuple):
    """Principal axes of the training features: means (d,), T (k, d), and d(λ) = s / (s + λ) (k, n_penalties)."""

    mean: Array
    axes: Array
    shrinkage: Array


class _Fold(NamedTuple):
    """Data of one outer fold: pieces of its test set and inner folds, bases, and the compressed error curves.

    `ends` and `coefficients` are those of :func:`~affectlake.brain.encoding.kernels.add_errors` for each inner fold;
    `curves` is (n_penalties, rank).
    """

    test: NDArray[np.int64]
    inner: list[NDArray[np.int64]]
    basis: _Basis
    inner_bases: list[_Basis]
    ends: list[Array]
    coefficients: list[Array]
    curves: Array


class GramSolver:
    """Encoding of blocks of voxels from sums (see the docstring of the module).

    Parameters
    ----------
    x : float64 (n_stimuli, n_features)
    folds : Folds
    penalties : float64 (n_penalties,)
    standardise : bool
    """

    def __init__(self, x: Array, folds: Folds, penalties: Array, standardise: bool) -> None:
        x = x - x.mean(axis=0)
        self._penalties, self._standardise = penalties, standardise
        names, place = np.unique(np.vstack([folds.outer, folds.inner]), axis=1, return_inverse=True)
        n_inner = int(folds.inner.max()) + 1
        if names.shape[1] > 2 * len(folds.inner) * n_inner:  # folds without a common structure: one piece for each
            self._rows = [np.flatnonzero(row == fold) for row in folds.inner for fold in range(-1, n_inner)]
            self._rows = [rows for rows in self._rows if len(rows)]
            labels = [(o, f) for o, row in enumerate(folds.inner) for f in range(-1, n_inner) if (row == f).any()]
            pick = [
                [[i for i, (a, b) in enumerate(labels) if (a, b) == (o, f)] for f in range(-1, n_inner)]
                for o in range(len(folds.inner))
            ]
        else:
            self._rows = [np.flatnonzero(place == piece) for piece in range(names.shape[1])]
            pick = [
                [np.flatnonzero(names[1 + o] == f).tolist() for f in range(-1, n_inner)]
                for o in range(len(folds.inner))
            ]
        self._x = [x[rows] for rows in self._rows]
        self._n, self._sum_x = np.array([len(part) for part in self._x]), np.stack([x.sum(axis=0) for x in self._x])
        self._xx = np.stack([part.T @ part for part in self._x])  # (pieces, d, d)
        self._ends = np.stack([[part.min(axis=0), part.max(axis=0)] for part in self._x])  # (pieces, 2, d)
        self._folds = [self._prepare([np.asarray(i, dtype=np.int64) for i in parts if i]) for parts in pick]

    def solve(self, patterns: Array) -> Block:
        """Return r, λ and β of a block of voxels (see :class:`~affectlake.brain.encoding.solver.Solver`)."""
        sums = self._sum(patterns)
        fold_r, penalty, betas = [], [], []
        for fold in self._folds:
            test, train = self._split(fold, sums)
            best = self._curves(fold, train, sums).argmin(axis=0)  # the smallest λ if several are equal
            betas.append(_fitted(fold.basis, train, best))
            fold_r.append(self._correlate(test, betas[-1], sums.total.yy))
            penalty.append(self._penalties[best])
        return Block(np.stack(fold_r), np.stack(penalty), np.mean(betas, axis=0))

    def choose(self, patterns: Array) -> Choice:
        """Return the best penalties of a block of voxels (see :class:`~affectlake.brain.encoding.solver.Solver`)."""
        sums = self._sum(patterns)
        return best_of(self._curves(fold, self._split(fold, sums)[1], sums) for fold in self._folds)

    def _sum(self, patterns: Array) -> _BlockSums:
        parts = [patterns[rows] for rows in self._rows]
        xy = np.stack([x.T @ y for x, y in zip(self._x, parts, strict=True)])  # (pieces, d, v)
        y = np.stack([part.sum(axis=0) for part in parts])
        yy = np.stack([np.einsum("nv,nv->v", part, part) for part in parts])
        every = np.concatenate([self._folds[0].test, *self._folds[0].inner])
        return _BlockSums(y, yy, xy, self._sums(every, y, yy, xy))

    def _split(self, fold: _Fold, sums: _BlockSums) -> tuple[_Sums, _Sums]:
        """Return the sums of the test set and the training set of an outer fold."""
        test = self._sums(fold.test, sums.y, sums.yy, sums.xy)
        return test, _minus(sums.total, test)

    def _curves(self, fold: _Fold, train: _Sums, sums: _BlockSums) -> Array:
        """Return the validation errors of one outer fold, up to a constant per voxel: (n_penalties, v)."""
        n_features, n_voxels = train.xy.shape
        compressed = np.zeros((fold.curves.shape[1], n_voxels))
        scratch = space(n_features, max(ends.shape[1] for ends in fold.ends), len(compressed), n_voxels)
        for pieces, basis, ends, coefficients in zip(
            fold.inner, fold.inner_bases, fold.ends, fold.coefficients, strict=True
        ):
            held_out = self._sums(pieces, sums.y, sums.yy, sums.xy)
            add_errors(
                compressed,
                scratch,
                basis.axes,
                ends,
                coefficients,
                (train.n, train.y, train.xy),
                (held_out.n, held_out.y, held_out.xy),
            )
        return fold.curves @ compressed

    @staticmethod
    def _correlate(test: _Sums, beta: Array, total: Array) -> Array:
        """Return r of predictions and test responses from their sums; NaN if either is constant."""
        covariance = np.einsum("dv,dv->v", beta, test.xy - np.outer(test.x, test.y / test.n))
        gram = test.xx - np.outer(test.x, test.x) / test.n
        predicted = np.einsum("dv,dv->v", beta, gram @ beta)
        observed = test.yy - test.y**2 / test.n
        with np.errstate(divide="ignore", invalid="ignore"):
            r = covariance / np.sqrt(predicted * observed)
        varies = predicted > CONSTANT * (predicted + (test.x @ beta) ** 2 / test.n)
        return np.where((observed > CONSTANT * total) & varies, np.clip(r, -1.0, 1.0), np.nan)

    def _sums(self, pieces: NDArray[np.int64], y: Array, yy: Array, xy: Array) -> _Sums:
        if len(pieces) == 1:  # nothing is copied
            p = pieces[0]
            return _Sums(float(self._n[p]), self._sum_x[p], self._xx[p], y[p], yy[p], xy[p])
        return _Sums(
            float(self._n[pieces].sum()),
            self._sum_x[pieces].sum(axis=0),
            self._xx[pieces].sum(axis=0),
            y[pieces].sum(axis=0),
            yy[pieces].sum(axis=0),
            xy[pieces].sum(axis=0),
        )

    def _prepare(self, parts: list[NDArray[np.int64]]) -> _Fold:
        test, *inner = parts
        empty = np.zeros((len(self._rows), 0)), np.zeros((len(self._rows), self._xx.shape[1], 0))
        sums = [self._sums(pieces, empty[0], empty[0], empty[1]) for pieces in inner]
        train = self._sums(np.concatenate(inner), empty[0], empty[0], empty[1])
        bases = [
            self._basis(_minus(train, held_out), np.concatenate([*inner[:at], *inner[at + 1 :]]))
            for at, held_out in enumerate(sums)
        ]
        coefficients = [self._coefficients(basis, held_out) for basis, held_out in zip(bases, sums, strict=True)]
        wide = np.concatenate(coefficients, axis=1)
        # the span of the columns from random combinations of them: far cheaper than their singular values
        probe = np.random.default_rng(0).standard_normal((wide.shape[1], min(len(wide), _PROBES)))
        left, values, _ = np.linalg.svd(wide @ probe, full_matrices=False)
        curves = left[:, values > _SAME * values.max(initial=0.0)]
        right = curves.T @ wide
        ends = np.cumsum([part.shape[1] for part in coefficients])[:-1]
        return _Fold(
            test,
            inner,
            self._basis(train, np.concatenate(inner)),
            bases,
            [
                np.ascontiguousarray((basis.axes @ np.stack([train.x - held_out.x, held_out.x, basis.mean], axis=1)).T)
                for basis, held_out in zip(bases, sums, strict=True)
            ],
            [np.ascontiguousarray(part.T) for part in np.split(right, ends, axis=1)],
            curves,
        )

    def _basis(self, sums: _Sums, pieces: NDArray[np.int64]) -> _Basis:
        """Return the axes of the features of some pieces; one that is constant in them has no part in any axis."""
        mean = sums.x / sums.n
        gram = sums.xx - sums.n * np.outer(mean, mean)
        constant = self._ends[pieces, 0].min(axis=0) == self._ends[pieces, 1].max(axis=0)
        gram[constant], gram[:, constant] = 0.0, 0.0  # sums leave a rounding error, which must not be divided by
        spread = np.sqrt(np.diag(gram) / sums.n) if self._standardise else np.ones(len(gram))
        scale = np.where(spread > 0, spread, 1.0)
        values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
        kept = values > _RANK * max(values[-1], 0.0)
        values, vectors = values[kept], vectors[:, kept]
        axes = vectors.T / (scale * np.sqrt(values)[:, None])
        return _Basis(mean, axes, values[:, None] / (values[:, None] + self._penalties))

    @staticmethod
    def _coefficients(basis: _Basis, held_out: _Sums) -> Array:
        """Return the coefficients of the products in the mean error: (n_penalties, k + k (k + 1) / 2)."""
        mean, d = basis.mean, basis.shrinkage
        cross = np.outer(held_out.x, mean)
        gram = held_out.xx - cross - cross.T + held_out.n * np.outer(mean, mean)
        h = basis.axes @ gram @ basis.axes.T
        i, j = np.triu_indices(len(h))
        twice = np.where(i == j, 1.0, 2.0) * h[i, j]
        return np.concatenate([-2.0 * d, twice[:, None] * d[i] * d[j]]).T / held_out.n


def _fitted(basis: _Basis, train: _Sums, at: NDArray[np.integer]) -> Array:
    """Return β (d, v) of a training set, at the penalty that is chosen for each voxel."""
    u = basis.axes @ (train.xy - np.outer(train.x, train.y / train.n))
    return np.asarray(basis.axes.T @ (basis.shrinkage[:, at] * u))


def _minus(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(a.n - b.n, a.x - b.x, a.xx - b.xx, a.y - b.y, a.yy - b.yy, a.xy - b.xy)
