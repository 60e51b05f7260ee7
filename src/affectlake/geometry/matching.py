"""Dimensions of one embedding matched with those of another: one to one, and one to several.

Similarity of embeddings as wholes is in `alignment`, matches between fits of one agent in `reproducibility`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.correlations import rating_correlations, unit_columns

Array = NDArray[np.float64]

FEWEST = 10
"""Smallest number of stimuli, one for each fold."""

N_FOLDS = 10
PENALTIES = np.logspace(-4, 4, 33)
"""Ridge penalties, as multiples of the mean variance of the predictors' principal components."""

CONTRIBUTES = 0.1
"""Share of the explained variance from which a dimension is named."""


class DimensionMatches(NamedTuple):
    """Matches of each of d dimensions; NaN, -1 or empty where there are none.

    Parameters
    ----------
    matched : int64 (d,)
        The dimension of the other embedding in the one-to-one matching; -1 for a dimension without one.
    r, ci_low, ci_high : float64 (d,)
        Pearson r with it, and its interval over stimuli.
    p : float64 (d,)
        p-value of r: the share of relabellings of the stimuli whose best match is at least as high.
    several_r : float64 (d,)
        Pearson r of the dimension with what all other dimensions predict for held-out stimuli.
    several_p : float64 (d,)
        p-value of the prediction: the share of relabellings in which they explain as much.
    several : list of list of int
        The dimensions that explain a tenth of the explained variance each, or more; the largest share first.
    """

    matched: NDArray[np.int64]
    r: Array
    ci_low: Array
    ci_high: Array
    p: Array
    several_r: Array
    several_p: Array
    several: list[list[int]]


def dimension_matches(
    weights: NDArray[np.floating],
    other: NDArray[np.floating],
    rng: np.random.Generator,
    n_permutations: int = 1000,
) -> DimensionMatches:
    """Match each dimension with one dimension of another embedding, and with all of them together.

    **One to one.** Dimensions are paired so that the sum of their correlations is highest (Kuhn 1955, Nav. Res. Logist.
    Q. 2, 83-97). r is compared with the *highest* correlation with any dimension of the other embedding when the
    stimuli are relabelled, so that p takes the choice of the match into account.

    **One to several.** All dimensions of the other embedding predict the dimension by ridge regression: ten folds of
    stimuli, and in each the penalty with the smallest generalised cross-validation error of training stimuli (Golub,
    Heath & Wahba 1979, Technometrics 21, 215-223). p compares the R² of least squares over all stimuli with that of
    relabelled stimuli. The share of a dimension in the explained variance is β x r, standardised coefficient times
    correlation (Pratt 1987), of the ridge regression over all stimuli.

    Parameters
    ----------
    weights : float array (n_stimuli, d)
    other : float array (n_stimuli, d_other)
        Embedding of the same stimuli.
    rng : numpy.random.Generator
        Draws folds and relabellings.
    n_permutations : int, default=1000
        With 0, there are no p-values.

    Returns
    -------
    DimensionMatches
        A constant dimension has no match, and matches no other. There are no matches with fewer than ten stimuli.

    Raises
    ------
    AffectlakeError
        If the two have different numbers of stimuli, or a value is not finite.
    """
    found = rating_correlations(weights, other)  # also refuses what is not finite
    n, d = weights.shape
    matched = _one_to_one(found.r)
    nan = np.full(d, np.nan)
    at = np.maximum(matched, 0)[:, None]
    r, low, high = (
        np.where(matched >= 0, np.take_along_axis(part, at, axis=1)[:, 0], np.nan) if part.shape[1] else nan
        for part in (found.r, found.ci_low, found.ci_high)
    )
    nothing = DimensionMatches(np.full(d, -1), nan, nan, nan, nan, nan, nan, [[] for _ in range(d)])
    x, y = unit_columns(weights), unit_columns(other)
    use, predictors = ~np.isnan(x).any(axis=0), ~np.isnan(y).any(axis=0)
    if n < FEWEST or not use.any() or not predictors.any():
        return nothing
    x, y = x[:, use], y[:, predictors]
    best, explained = _nulls(x, y, rng, n_permutations)
    p, several_p, several_r = nan.copy(), nan.copy(), nan.copy()
    if n_permutations:
        p[use] = np.where(np.isnan(r[use]), np.nan, (1 + (best >= r[use]).sum(axis=0)) / (1 + n_permutations))
        own = (_basis(y).T @ x) ** 2
        several_p[use] = (1 + (explained >= own.sum(axis=0) - 1e-12).sum(axis=0)) / (1 + n_permutations)
    several_r[use] = _held_out_r(x, y, rng)
    several: list[list[int]] = [[] for _ in range(d)]
    names = np.flatnonzero(predictors)
    for dimension, shares in zip(np.flatnonzero(use), _contributions(x, y).T, strict=True):
        order = np.argsort(-shares, kind="stable")
        several[dimension] = [int(names[one]) for one in order if shares[one] >= CONTRIBUTES]
    return DimensionMatches(matched, r, low, high, p, several_r, several_p, several)


def _one_to_one(r: Array) -> NDArray[np.int64]:
    """Return the column that is matched with each row; -1 for a row without one, or without a correlation."""
    from scipy.optimize import linear_sum_assignment  # late: slow

    rows, columns = linear_sum_assignment(np.nan_to_num(r, nan=-2.0), maximize=True)
    found = np.full(len(r), -1)
    defined = ~np.isnan(r[rows, columns])
    found[rows[defined]] = columns[defined]
    return found


def _basis(y: Array) -> Array:
    """Return orthonormal columns that span those of `y`."""
    u, s, _ = np.linalg.svd(y, full_matrices=False)
    return np.asarray(u[:, s > 1e-9 * s[0]])


def _nulls(x: Array, y: Array, rng: np.random.Generator, n_permutations: int) -> tuple[Array, Array]:
    """Return the best correlation and the R² of each column of `x` under relabelled stimuli, each (m, d)."""
    basis = _basis(y)
    both = np.hstack([y, basis])
    best, explained = (np.empty((n_permutations, x.shape[1])) for _ in range(2))
    for at in range(n_permutations):
        products = both.T @ x[rng.permutation(len(x))]
        best[at] = products[: y.shape[1]].max(axis=0)
        explained[at] = (products[y.shape[1] :] ** 2).sum(axis=0)
    return best, explained


def _ridge(x: Array, y: Array) -> Array:
    """Return the coefficients (d_y, d_x) of centred `y` for centred `x`, with the penalty of each column of `x`."""
    u, s, vt = np.linalg.svd(y, full_matrices=False)
    products = u.T @ x  # (k, d_x)
    filters = s**2 / (s**2 + PENALTIES[:, None] * (s**2).mean())  # (n_penalties, k)
    residual = (x**2).sum(axis=0) - (1 - (1 - filters) ** 2) @ products**2  # (n_penalties, d_x)
    freedom = 1 - (1 + filters.sum(axis=1)) / len(x)
    usable = freedom > 0
    error = np.where(usable[:, None], residual / np.where(usable, freedom, 1.0)[:, None] ** 2, np.inf)
    chosen = filters[error.argmin(axis=0)].T  # (k, d_x)
    return np.asarray(vt.T @ (chosen / np.where(s > 0, s, 1.0)[:, None] * products))


def _held_out_r(x: Array, y: Array, rng: np.random.Generator) -> Array:
    fold = rng.permutation(len(x)) % N_FOLDS
    predicted = np.empty_like(x)
    for at in range(N_FOLDS):
        test = fold == at
        means = x[~test].mean(axis=0), y[~test].mean(axis=0)
        predicted[test] = means[0] + (y[test] - means[1]) @ _ridge(x[~test] - means[0], y[~test] - means[1])
    return np.asarray((x * np.nan_to_num(unit_columns(predicted))).sum(axis=0))


def _contributions(x: Array, y: Array) -> Array:
    """Return the share of each predictor in what all explain of each column of `x`: (d_y, d_x)."""
    parts = _ridge(x, y) * (y.T @ x)
    total = parts.sum(axis=0)
    return np.asarray(parts / np.where(total > 0, total, np.inf))
