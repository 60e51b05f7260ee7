"""Weighted RSA: a region's distances as a non-negative sum of the distances on each dimension, tested on other stimuli.

With the squared difference of stimuli i and j on dimension k, the model is

    d_ij = c + Σ_k w_k (x_ik - x_jk)²,   w_k ≥ 0,

with the least squares over all pairs of the training stimuli, and the Spearman correlation of d with the region's
distances over the pairs of the held-out stimuli. The sums over pairs that least squares needs are sums over stimuli:
for features with mean 0,

    Σ_{i<j} (a_i - a_j)² (b_i - b_j)² = n Σ a²b² + Σa² Σb² + 2 (Σab)²,
    Σ_{i<j} (a_i - a_j)² d_ij = Σ_i a_i² Σ_j d_ij - a' D a,

so that no array of pairs and features is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.pair_scores import correlations, ranked
from affectlake.brain.contributions.partial_rsa import squared_distances
from affectlake.brain.contributions.quantities import Array, Scores

_RANK = 1e-10  # eigenvalues below this share of the largest are directions without variance


class PairSums(NamedTuple):
    """Covariances, over the pairs of stimuli, of the squared differences on each feature with one another.

    Parameters
    ----------
    mean : float64 (d,)
        Mean over pairs.
    covariance : float64 (d, d)
        Sum over pairs of products of deviations from the mean.
    """

    mean: Array
    covariance: Array


def pair_sums(features: NDArray[np.floating]) -> PairSums:
    """Return the sums over pairs of the squared differences on each feature.

    Parameters
    ----------
    features : float (n, d)
    """
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    n, squares = len(x), x**2
    total = squares.sum(axis=0)
    products = n * squares.T @ squares + np.outer(total, total) + 2 * (x.T @ x) ** 2
    n_pairs = n * (n - 1) / 2
    mean = n * total / n_pairs
    return PairSums(mean, products - n_pairs * np.outer(mean, mean))


def cross_sums(features: NDArray[np.floating], distances: Array) -> Array:
    """Return the sum over pairs of the squared differences on each feature times a region's distances, less its mean.

    Parameters
    ----------
    features : float (n, d)
    distances : float64 (n, n)
        Symmetric, 0 on the diagonal.
    """
    n = len(features)
    d = distances - distances.sum() / (n * (n - 1))
    np.fill_diagonal(d, 0.0)
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    return np.asarray((x**2).T @ d.sum(axis=1) - np.einsum("ik,ij,jk->k", x, d, x, optimize=True))


def non_negative_weights(covariance: Array, cross: Array) -> Array:
    """Return the weights w ≥ 0 with the least squares w' C w - 2 w' g: float64 (d,).

    Parameters
    ----------
    covariance : float64 (d, d)
    cross : float64 (d,)
    """
    from scipy.optimize import nnls

    scale = np.sqrt(np.diag(covariance))
    used = scale > _RANK * scale.max(initial=0.0)
    found = np.zeros(len(cross))
    if not used.any():
        return found
    unit = scale[used]
    values, vectors = np.linalg.eigh(covariance[np.ix_(used, used)] / np.outer(unit, unit))
    some = values > _RANK * values[-1]
    root = np.sqrt(values[some])
    weights, _ = nnls(root[:, None] * vectors[:, some].T, vectors[:, some].T @ (cross[used] / unit) / root)
    found[used] = weights / unit
    return found


class WeightedRSA:
    """Weighted RSA of several regions with the same features, models and folds.

    Parameters
    ----------
    features : float (n, d)
        Features of all bands, side by side.
    band_of : int (d,)
        Band of each feature.
    models : list of tuple of int
        Bands of each model.
    folds : int (n,)
        Fold in which each stimulus is held out, from 0.
    """

    def __init__(
        self,
        features: NDArray[np.floating],
        band_of: NDArray[np.integer],
        models: list[tuple[int, ...]],
        folds: NDArray[np.integer],
    ) -> None:
        self._x = np.asarray(features, dtype=np.float64)
        self._members = [np.flatnonzero(np.isin(band_of, model)) for model in models]
        self._folds = folds
        self._sums = [pair_sums(self._x[folds != fold]).covariance for fold in range(int(folds.max()) + 1)]

    def scores(self, distances: Array) -> Scores:
        """Return the mean over folds of each model's correlation with a region's held-out distances, float64 (n, n).

        A model without a weight above 0 has the correlation 0.
        """
        value, influence = np.zeros(len(self._members)), np.zeros((len(self._members), len(self._x)))
        for fold, covariance in enumerate(self._sums):
            train, test = np.flatnonzero(self._folds != fold), np.flatnonzero(self._folds == fold)
            cross = cross_sums(self._x[train], distances[np.ix_(train, train)].copy())
            models = []
            for at in self._members:
                weights = non_negative_weights(covariance[np.ix_(at, at)], cross[at])
                models.append(ranked(squared_distances(self._x[np.ix_(test, at)] * np.sqrt(weights))))
            found = correlations(ranked(distances[np.ix_(test, test)]), models)
            value += found.value / len(self._sums)
            influence[:, test] = found.influence / len(self._sums)
        return Scores(value, influence)
