"""Means and correlations of the pairs of distance matrices, and the influence of each stimulus on them.

The pairs of one stimulus depend on one another, so that stimuli are left out, not pairs: delete-one jackknife. Without
stimulus i, the sums of products over pairs are those of all pairs less those of row i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.contributions.quantities import Array, Scores
from affectlake.rsm import pairs, ranks

FEWEST_STIMULI = 5
"""Stimuli below which correlations of pairs have no jackknife: without one of four, three pairs are left."""

_COLLINEAR = 1e-9  # variance that others leave, of ranks that they determine


def ranked(distances: NDArray[np.floating]) -> Array:
    """Return the ranks of the pairs, centred and scaled to a sum of squares of 1, as a symmetric matrix.

    Parameters
    ----------
    distances : float (n, n)
        Symmetric.

    Returns
    -------
    float64 (n, n)
        Zeros on the diagonal; all zeros if all distances are equal, or none is finite; NaN if only some are finite.
    """
    found = pairs(distances)
    values = np.zeros(len(found))
    finite = np.isfinite(found)
    if finite.all() and len(found) and np.ptp(found) > 0:
        values = ranks(found) - (len(found) + 1) / 2
        values /= np.sqrt(values @ values)
    elif finite.any() and not finite.all():
        values = np.full(len(found), np.nan)
    square = np.zeros(distances.shape)
    square[np.triu_indices(len(square), k=1)] = values
    return square + square.T


def correlations(data: Array, models: Sequence[Array]) -> Scores:
    """Return the Spearman correlation of each model's distances with those of the data.

    Parameters
    ----------
    data : float64 (n, n)
        From :func:`ranked`.
    models : sequence of float64 (n, n)
        From :func:`ranked`. A model whose distances are all equal predicts nothing: its correlation is 0.
    """
    return _scores([data, *models], _correlation)


def mean_of_pairs(distances: NDArray[np.floating]) -> Scores:
    """Return the mean of the pairs of a symmetric matrix (n, n), with one score."""
    n = len(distances)
    rows = np.asarray(distances, dtype=np.float64).sum(axis=1) - np.diag(distances)
    whole = rows.sum() / 2
    without = (whole - rows) / ((n - 1) * (n - 2) / 2)
    return Scores(np.array([whole / (n * (n - 1) / 2)]), _influence(without[:, None]))


def partial_correlations(data: Array, models: Sequence[Array], controls: Sequence[Sequence[int]]) -> Scores:
    """Return the partial Spearman correlation of each model's distances with the data, given other models.

    Parameters
    ----------
    data : float64 (n, n)
        From :func:`ranked`.
    models : sequence of float64 (n, n)
        From :func:`ranked`.
    controls : sequence of sequence of int
        For the first, second, … model, the numbers of the models that are held constant.

    Returns
    -------
    Scores
        NaN for a model whose ranks are determined by those that are held constant.
    """
    return _scores([data, *models], lambda c: _partial(c, controls))


def _scores(matrices: Sequence[Array], statistic: Callable[[Array], Array]) -> Scores:
    """Return a statistic of the correlations of matrices, (…, k, k) to (…, m), and the influence of each stimulus."""
    n, k = len(matrices[0]), len(matrices)
    rows = np.stack([matrix.sum(axis=1) for matrix in matrices], axis=1)  # (n, k)
    products = np.empty((n, k, k))
    for a in range(k):
        for b in range(a, k):
            products[:, a, b] = products[:, b, a] = np.einsum("ij,ij->i", matrices[a], matrices[b])
    whole = products.sum(axis=0) / 2  # means are 0
    left = n * (n - 1) / 2 - (n - 1)
    without = whole - products - rows[:, :, None] * rows[:, None, :] / left
    value, each = statistic(_normed(whole[None]))[0], statistic(_normed(without))
    return Scores(value, _influence(each))


def _influence(without: Array) -> Array:
    """Return the influence of each stimulus on scores (m, n), from the scores without it (n, m): the jackknife."""
    n = len(without)
    return np.asarray(((n - 1) / n * (without.mean(axis=0) - without)).T)


def _normed(covariance: Array) -> Array:
    """Return correlations of covariances (…, k, k); 0 for what is constant."""
    spread = np.sqrt(np.maximum(np.einsum("...kk->...k", covariance), 0.0))
    scale = np.where(spread > 0, spread, np.where(np.isnan(spread), np.nan, np.inf))
    return np.asarray(covariance / scale[..., :, None] / scale[..., None, :])


def _correlation(c: Array) -> Array:
    return c[..., 0, 1:]


def _partial(c: Array, controls: Sequence[Sequence[int]]) -> Array:
    found = np.empty((len(c), len(controls)))
    for model, held in enumerate(controls):
        own = [0, model + 1]
        part = c[:, own][:, :, own]
        at = [1 + other for other in held if (c[:, 1 + other, 1 + other] > 0).all()]  # those that vary
        if at:
            across = c[:, own][:, :, at]
            inverse = np.linalg.pinv(c[:, at][:, :, at], rcond=_COLLINEAR, hermitian=True)
            part = part - across @ inverse @ across.transpose(0, 2, 1)
        left = np.where(part[:, 1, 1] > _COLLINEAR, part[:, 1, 1], np.nan)
        with np.errstate(invalid="ignore"):
            found[:, model] = part[:, 0, 1] / np.sqrt(np.maximum(part[:, 0, 0], 0.0) * left)
    return found
