"""Reproducibility of dimensions across fits with different seeds, and the choice of the representative fit.

Fitting does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.correlations import unit_columns
from affectlake.geometry.estimates import Estimate, left_out, permutation_level

Weights = NDArray[np.floating]
_Z_MOST = float(np.arctanh(1 - 1e-12))  # a perfect match would be infinite


def best_matches(weights: Weights, other: Weights) -> NDArray[np.float64]:
    """Return the highest Pearson correlation of each dimension with any dimension of `other`.

    Parameters
    ----------
    weights : float array (n_stimuli, d)
    other : float array (n_stimuli, d_other)
        Embedding of the same stimuli.

    Returns
    -------
    float64 (d,)
        NaN for a constant dimension, or if `other` has only constant dimensions.
    """
    one, two = unit_columns(weights), unit_columns(other)
    two = two[:, ~np.isnan(two).any(axis=0)]
    if not two.shape[1]:
        return np.full(one.shape[1], np.nan)
    return np.asarray(np.clip((one.T @ two).max(axis=1), -1, 1))


def reproducibility(
    fits: Mapping[int, Weights], seed: int, rng: np.random.Generator, n_permutations: int = 100
) -> list[Estimate]:
    """Return the reproducibility of each dimension of one fit over the other fits.

    For each other fit, the best match is used; the correlations are averaged as Fisher z and transformed back. The
    interval is Student's, over the other fits, in z. (Du et al. 2025, 'Reproducibility of embedding dimensions'; Hebart
    et al. 2020.) Under the null hypothesis the stimuli of the other fits are shuffled, which gives the best of d chance
    correlations.

    Parameters
    ----------
    fits : mapping of int to float array (n_stimuli, d_seed)
        All fits by seed.
    seed : int
        Seed of the fit whose dimensions are scored.
    rng : numpy.random.Generator
    n_permutations : int, default=100
        With 0, the p-value is not computed.

    Returns
    -------
    list of Estimate
        One per dimension; ``n`` is the number of other fits, at least 2 for an interval.
    """
    own = fits[seed]
    others = [weights for number, weights in fits.items() if number != seed]
    if not others:
        return [left_out("there is one fit: reproducibility needs two seeds or more")] * own.shape[1]
    z = _z(np.array([best_matches(own, other) for other in others]))  # (n_others, d)
    null = np.array(
        [
            np.tanh(np.mean([_z(best_matches(own, other[rng.permutation(len(own))])) for other in others], axis=0))
            for _ in range(n_permutations)
        ]
    ).reshape(n_permutations, own.shape[1])
    return [_dimension(z[:, at], null[:, at]) for at in range(own.shape[1])]


def mean_reproducibility(fits: Mapping[int, Weights], seed: int) -> Estimate:
    """Return the Fisher-z mean over the dimensions of a fit, with Student's interval over the other fits."""
    others = [weights for number, weights in fits.items() if number != seed]
    if not others:
        return left_out("there is one fit: reproducibility needs two seeds or more")
    z = np.array([np.nanmean(_z(best_matches(fits[seed], other))) for other in others])
    return _dimension(z, np.empty(0))


def agreements(fits: Mapping[int, Weights]) -> dict[int, float]:
    """Return the agreement of each fit with the other fits, in both directions: a correlation by seed.

    This is the mean over the other fits of the Fisher-z means of the best matches of the fit's dimensions in the other
    fit and of the other fit's dimensions in the fit. Without the second direction, a fit that lacks a dimension could
    have the highest agreement.

    Parameters
    ----------
    fits : mapping of int to float array (n_stimuli, d_seed)
        All fits by seed, each with at least one dimension.

    Returns
    -------
    dict of int to float
        NaN if there is only one fit.
    """
    return {seed: _agreement(fits, seed) for seed in sorted(fits)}


def representative_seed(fits: Mapping[int, Weights], held_out_losses: Mapping[int, float]) -> int:
    """Return the seed of the representative fit: the one with the highest agreement with the other fits.

    One or two fits cannot be ranked by agreement; then it is the fit with the lowest held-out loss. A fit without
    dimensions is representative only if no fit has any. If several are equal, it is the one with the smallest seed.

    Parameters
    ----------
    fits : mapping of int to float array (n_stimuli, d_seed)
        All fits by seed, at least one.
    held_out_losses : mapping of int to float
        Held-out loss of every fit.
    """
    kept = {seed: weights for seed, weights in fits.items() if weights.shape[1]}
    if len(kept) > 2:
        scores = agreements(kept)
        return max(scores, key=lambda seed: (scores[seed], -seed))
    return min(kept or fits, key=lambda seed: (held_out_losses[seed], seed))


def _agreement(fits: Mapping[int, Weights], seed: int) -> float:
    own = fits[seed]
    others = [weights for number, weights in fits.items() if number != seed]
    both = [_mean_match(own, other) + _mean_match(other, own) for other in others]
    return float(np.mean(both)) / 2 if both else float("nan")


def _mean_match(weights: Weights, other: Weights) -> float:
    """Return the Fisher-z mean of the best matches as a correlation; a dimension without a match counts as 0."""
    return float(np.tanh(_z(np.nan_to_num(best_matches(weights, other))).mean()))


def _dimension(z: NDArray[np.float64], null: NDArray[np.float64]) -> Estimate:
    from scipy.stats import t

    if np.isnan(z).any():
        return left_out("the dimension is the same for every stimulus, so it matches none", len(z))
    centre = float(z.mean())
    half = float(t.ppf(0.975, len(z) - 1) * z.std(ddof=1) / len(z) ** 0.5) if len(z) > 1 else float("nan")
    value = float(np.tanh(centre))
    chance = float(null.mean()) if len(null) else float("nan")
    low, high = float(np.tanh(centre - half)), float(np.tanh(centre + half))
    return Estimate(value, low, high, chance, permutation_level(value, null), len(z))


def _z(r: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), -_Z_MOST, _Z_MOST)
