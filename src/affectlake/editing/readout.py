"""Linear readouts of dimensions from features of pictures: ridge regression, and how well it predicts held-out stimuli.

Arrays in, arrays out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.encoding.folds import Folds, nested_folds
from affectlake.brain.statistics import benjamini_hochberg
from affectlake.errors import SourceError
from affectlake.geometry.correlations import rating_correlations, unit_columns

Array = NDArray[np.float64]

LEVEL = 0.05
"""False discovery rate over the dimensions of an agent, above which a dimension is not read from pictures."""

COLUMNS_AT_ONCE = 600
"""Number of permuted targets that are fitted at once."""

_NO_VARIANCE = 1e-10


class Readout(NamedTuple):
    """Readouts a_j = w_j · f + b_j of d dimensions from p features, and their correlations with held-out stimuli.

    Parameters
    ----------
    weights : float64 (d, p)
        w, fitted to all stimuli.
    intercepts, penalties : float64 (d,)
        b, and the penalty λ of the fit to all stimuli.
    r, ci_low, ci_high : float64 (d,)
        Pearson correlation of held-out predictions and weights, both centred within each outer fold, and its 95 %
        interval; NaN for a dimension that does not vary.
    p_value, p_fdr : float64 (d,)
        One-tailed p by permutations of the stimuli, and the same adjusted over dimensions.
    """

    weights: Array
    intercepts: Array
    penalties: Array
    r: Array
    ci_low: Array
    ci_high: Array
    p_value: Array
    p_fdr: Array

    @property
    def is_read(self) -> NDArray[np.bool_]:
        """Whether the correlation of each dimension is above chance."""
        return np.asarray(self.p_fdr <= LEVEL)


def read_out(
    features: NDArray[np.floating],
    weights: NDArray[np.floating],
    penalties: Sequence[float],
    n_folds: int,
    n_permutations: int,
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda _n: None,
) -> Readout:
    """Fit linear readouts of dimensions from features, and test them on held-out stimuli.

    Ridge regression, λ for each dimension by inner folds within each outer fold, so that no stimulus is used to choose
    the model that predicts it. The features are centred and divided by one number, the root of their mean variance, so
    that λ does not depend on their unit.

    Parameters
    ----------
    features : float (n, p)
        Features of n stimuli.
    weights : float (n, d)
        The embedding.
    penalties : sequence of float
        Values of λ, at least 0; ``[0]`` is least squares, of minimal length if it is not unique.
    n_folds : int
        Number of outer folds, and of inner folds within each.
    n_permutations : int
        Number of permutations of the stimuli; the whole procedure is repeated for each.
    rng : numpy.random.Generator
        Draws the folds, then the permutations.
    progress : callable
        Called with the number of permutations done so far.

    Raises
    ------
    SourceError
        If the features do not vary, or a value is not finite.
    UsageError
        If there are too few stimuli for the folds.

    Notes
    -----
    Correlations of cross-validated predictions are not independent over folds, so that a t-test of r has too many false
    positives (:func:`affectlake.brain.statistics.correlation_p_values`). Under permutations of the stimuli, the test
    has its level for any distribution of weights and features. The interval is that of
    :func:`affectlake.geometry.correlations.rating_correlations`.
    """
    x, y = np.asarray(features, np.float64), np.asarray(weights, np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise SourceError("features or weights have values that are not finite")
    scale = float(np.sqrt(x.var(axis=0).mean()))
    if not scale > _NO_VARIANCE * max(1.0, float(np.abs(x).max(initial=0.0))):
        raise SourceError(
            "the features of all stimuli are the same", todo="choose another model in attribution.encoder"
        )
    centre = x.mean(axis=0)
    x, back = _rotated((x - centre) / scale)
    folds = nested_folds(len(x), n_folds, n_folds, rng)
    fits = [_outer_fits(x, folds, fold, penalties) for fold in range(n_folds)]
    r, predicted = _held_out_r(fits, folds, y)
    found = [_interval(_within(predicted[:, [at]], folds), _within(y[:, [at]], folds)) for at in range(y.shape[1])]
    n_higher = np.zeros(y.shape[1])
    at_once = max(1, COLUMNS_AT_ONCE // max(y.shape[1], 1))
    for start in range(0, n_permutations, at_once):
        orders = [rng.permutation(len(y)) for _ in range(min(at_once, n_permutations - start))]
        null, _ = _held_out_r(fits, folds, np.hstack([y[order] for order in orders]))
        n_higher += (null.reshape(len(orders), -1) >= r - 1e-12).sum(axis=0)
        progress(start + len(orders))
    p = np.where(np.isnan(r), np.nan, (1 + n_higher) / (1 + n_permutations))
    w, chosen = _final(x, y, folds, penalties)
    w = (w @ back) / scale
    low, high = np.array(found).reshape(-1, 2).T
    return Readout(w, y.mean(axis=0) - w @ centre, chosen, r, low, high, p, benjamini_hochberg(p))


class _Fit(NamedTuple):
    """A training set and the stimuli that are predicted from it, in the training set's principal axes."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    left: Array
    inverses: list[Array]
    right: Array

    def predictions(self, y: Array, only: int | None = None) -> list[Array]:
        """Return the predictions of the test stimuli with each λ, or with one, for targets of all stimuli (n, m)."""
        own = y[self.train]
        mean = own.mean(axis=0)
        projected = self.right @ (own - mean)
        inverses = self.inverses if only is None else [self.inverses[only]]
        return [mean + (self.left * inverse) @ projected for inverse in inverses]


def _fit(x: Array, train: NDArray[np.int64], test: NDArray[np.int64], penalties: Sequence[float]) -> _Fit:
    centre = x[train].mean(axis=0)
    own, other = x[train] - centre, x[test] - centre
    values, vectors = np.linalg.eigh(own.T @ own)
    inverses = [_inverse(values, penalty) for penalty in penalties]
    return _Fit(train, test, other @ vectors, inverses, vectors.T @ own.T)


def _inverse(values: Array, penalty: float) -> Array:
    """Return 1 / (value + λ); 0 for directions without variance, if λ is 0."""
    total = np.maximum(values, 0) + penalty
    return np.asarray(np.where(total > _NO_VARIANCE * values.max(initial=1.0), 1 / np.maximum(total, 1e-300), 0.0))


def _outer_fits(x: Array, folds: Folds, fold: int, penalties: Sequence[float]) -> tuple[_Fit, list[_Fit]]:
    """Return the fit of an outer fold, and those of its inner folds; with a single λ there is nothing to choose."""
    inner = folds.inner[fold]
    outer = _fit(x, np.flatnonzero(inner >= 0), np.flatnonzero(inner < 0), penalties)
    if len(penalties) == 1:
        return outer, []
    parts = range(int(inner.max()) + 1)
    return outer, [
        _fit(x, np.flatnonzero((inner >= 0) & (inner != k)), np.flatnonzero(inner == k), penalties) for k in parts
    ]


def _chosen(fits: Sequence[_Fit], y: Array) -> NDArray[np.int64]:
    """Return, for each target, which λ has the smallest squared error over the fits; 0 without fits."""
    if not fits:
        return np.zeros(y.shape[1], np.int64)
    errors = np.zeros((len(fits[0].inverses), y.shape[1]))
    for one in fits:
        for at, found in enumerate(one.predictions(y)):
            errors[at] += ((y[one.test] - found) ** 2).sum(axis=0)
    return np.asarray(errors.argmin(axis=0), np.int64)


def _held_out_r(fits: Sequence[tuple[_Fit, list[_Fit]]], folds: Folds, y: Array) -> tuple[Array, Array]:
    """Return the held-out correlation of each target (m,), and the predictions (n, m)."""
    predicted = np.empty_like(y)
    for outer, inner in fits:
        best = _chosen(inner, y)
        for at in np.unique(best):
            own = np.flatnonzero(best == at)
            predicted[np.ix_(outer.test, own)] = outer.predictions(y[:, own], int(at))[0]
    a, b = unit_columns(_within(predicted, folds)), unit_columns(_within(y, folds))
    return np.asarray((a * b).sum(axis=0)), predicted


def _within(values: Array, folds: Folds) -> Array:
    """Return values minus the mean of their outer fold: the mean of other stimuli predicts it with a wrong sign."""
    found = values.copy()
    for fold in range(len(folds.inner)):
        own = folds.outer == fold
        found[own] -= found[own].mean(axis=0)
    return found


def _interval(predicted: Array, y: Array) -> tuple[float, float]:
    found = rating_correlations(predicted, y)
    return float(found.ci_low[0, 0]), float(found.ci_high[0, 0])


def _final(x: Array, y: Array, folds: Folds, penalties: Sequence[float]) -> tuple[Array, Array]:
    """Return the readouts fitted to all stimuli (d, p), and their λ by cross-validation over the outer folds."""
    numbers = range(len(folds.inner))
    fits = [_fit(x, np.flatnonzero(folds.outer != k), np.flatnonzero(folds.outer == k), penalties) for k in numbers]
    best = _chosen(fits if len(penalties) > 1 else [], y)
    values, vectors = np.linalg.eigh(x.T @ x)
    projected = vectors.T @ (x.T @ (y - y.mean(axis=0)))  # (p, d)
    inverse = np.stack([_inverse(values, penalties[at]) for at in best], axis=1)
    return (vectors @ (inverse * projected)).T, np.array([penalties[at] for at in best], np.float64)


def _rotated(x: Array) -> tuple[Array, Array]:
    """Return centred features in at most n dimensions, and the matrix back; ridge does not depend on the rotation."""
    if x.shape[1] <= len(x):
        return x, np.eye(x.shape[1])
    _left, _scale, right = np.linalg.svd(x, full_matrices=False)
    return x @ right.T, right
