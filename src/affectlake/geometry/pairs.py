"""Similarity matrices of a few stimuli from choices, and their agreement. Embeddings do not belong here.

The similarity of stimuli a and b is the share of trials with both in which they were not the odd one, that is, in which
the third stimulus was. (Du et al. 2025, 'Measuring human-model behavioral consistency'; Hebart et al. 2020.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.estimates import Estimate, left_out, percentile_interval, permutation_level, resampled_counts

Matrix = NDArray[np.float64]
_ROUNDING = 1e-12  # a smaller share of the mean square is not a variance
_PAIRS = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # two columns of a triplet, and the third


def odd_shares(triplets: NDArray[np.int32], odd: NDArray[np.int32]) -> Matrix:
    """Return probabilities (m, 3) that each column is the odd one, from choices: 1 for the odd one, 0 otherwise."""
    return np.asarray(triplets == odd[:, None], np.float64)


def pair_matrix(triplets: NDArray[np.int32], p_odd: NDArray[np.floating], items: NDArray[np.integer]) -> Matrix:
    """Return the similarity of every pair of `items` from the triplets that contain both.

    Parameters
    ----------
    triplets : int32 (m, 3)
        Stimulus indices in any order.
    p_odd : float array (m, 3)
        Probability that the stimulus in each column is the odd one; 0 and 1 for choices.
    items : int array (n_items,)
        The stimuli of the matrix, in increasing order.

    Returns
    -------
    float64 (n_items, n_items)
        Symmetric, values from 0 to 1; NaN on the diagonal and for a pair that is in no triplet.

    Raises
    ------
    AffectlakeError
        If the shapes do not match, or the items are not in increasing order.
    """
    if triplets.shape != p_odd.shape or triplets.ndim != 2 or triplets.shape[1] != 3:
        raise AffectlakeError(
            "the shapes of triplets and probabilities do not match", found=f"{triplets.shape} and {p_odd.shape}"
        )
    if not len(items) or np.any(np.diff(items) <= 0):
        raise AffectlakeError("the stimuli of the matrix are not in increasing order", found=str(items[:5]))
    n = len(items)
    place = np.full(max(int(triplets.max(initial=0)), int(items[-1])) + 1, -1)
    place[items] = np.arange(n)
    rows = place[triplets]  # (m, 3), −1 for other stimuli
    together, trials = np.zeros(n * n), np.zeros(n * n)
    for a, b, third in _PAIRS:
        both = (rows[:, a] >= 0) & (rows[:, b] >= 0)
        cell = rows[both, a] * n + rows[both, b]
        trials += np.bincount(cell, minlength=n * n)
        together += np.bincount(cell, weights=p_odd[both, third], minlength=n * n)
    total, kept = trials.reshape(n, n), together.reshape(n, n)
    total, kept = total + total.T, kept + kept.T
    return np.asarray(np.divide(kept, total, out=np.full((n, n), np.nan), where=total > 0))


def matrix_correlation(
    one: Matrix, other: Matrix, rng: np.random.Generator, n_resamples: int = 1000, n_permutations: int = 1000
) -> Estimate:
    """Return Pearson's r of two similarity matrices over the pairs that are defined in both.

    The interval is computed by resampling stimuli, not pairs, because the pairs of one stimulus are not independent: a
    pair is weighted by the product of the counts of its two stimuli, and a stimulus is never paired with its own copy.
    The p-value is computed by shuffling the stimuli of one matrix (Mantel 1967, Cancer Res. 27, 209-220).

    Parameters
    ----------
    one, other : float64 (n, n)
        Symmetric; the diagonal is not used, NaN is a pair without trials.
    rng : numpy.random.Generator
    n_resamples, n_permutations : int, default=1000
        With 0, the interval or the p-value is not computed.

    Returns
    -------
    Estimate
        ``n`` is the number of pairs. Not defined, with the reason, if there are fewer than three stimuli or pairs, or a
        matrix is constant.
    """
    if one.shape != other.shape:
        raise AffectlakeError("the similarity matrices differ in size", found=f"{one.shape} and {other.shape}")
    n = len(one)
    upper = np.triu_indices(n, 1)
    defined = ~(np.isnan(one[upper]) | np.isnan(other[upper]))
    a, b = upper[0][defined], upper[1][defined]
    x, y = one[a, b], other[a, b]
    if len(x) < 3:
        return left_out(f"{len(x)} pairs of stimuli were judged in both, three are needed", len(x))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return left_out("every pair of stimuli is equally similar, so there is no correlation", len(x))
    r = float(weighted_r(x, y, np.ones((1, len(x))))[0])
    counts = resampled_counts(n, n_resamples, rng)
    low, high = percentile_interval(weighted_r(x, y, (counts[:, a] * counts[:, b]).astype(np.float64)))
    null = np.array([_shuffled_r(one, other, rng.permutation(n), a, b) for _ in range(n_permutations)])
    chance = float(np.nanmean(null)) if len(null) else float("nan")
    return Estimate(r, low, high, chance, permutation_level(r, null), len(x))


class Reliability(NamedTuple):
    """Mean split-half correlation of a similarity matrix over random halves of its trials; NaN if not defined.

    ``ends`` are those of the middle 95 % of the correlations.
    """

    value: float
    ends: tuple[float, float]
    n_splits: int


def split_half_reliability(
    triplets: NDArray[np.int32],
    p_odd: NDArray[np.floating],
    items: NDArray[np.integer],
    rng: np.random.Generator,
    n_splits: int = 20,
) -> Reliability:
    """Return the mean Pearson r between the matrices of two random halves of the trials.

    This is the reliability of half the data, without the Spearman-Brown correction, as in the paper's equation 4.

    Parameters
    ----------
    triplets, p_odd, items
        As in :func:`pair_matrix`.
    rng : numpy.random.Generator
        Draws the halves.
    n_splits : int
        Number of splits that are averaged, at least 1.
    """
    found = []
    for _ in range(n_splits):
        first = rng.permutation(len(triplets)) < len(triplets) // 2
        halves = [pair_matrix(triplets[part], p_odd[part], items) for part in (first, ~first)]
        found.append(matrix_correlation(halves[0], halves[1], rng, 0, 0).value)
    return Reliability(float(np.mean(found)), percentile_interval(np.array(found)), n_splits)


def equation_4(raw: Estimate, one: Reliability, other: Reliability) -> Estimate:
    """Divide a correlation of two matrices by the geometric mean of their split-half reliabilities.

    ρ̃ = ρ(m, h) / √(ρ(m₁, m₂) ρ(h₁, h₂)), as printed in Du et al. 2025, equation 4. The interval and the value under the
    null hypothesis are divided likewise; the p-value does not change. The numerator is of all trials and the
    denominator of half of them, so that the quotient is too large, the more so the fewer trials there are: about 1.04
    for two equal agents with 214,500 trials, 1.7 with 10,725. Agents with different numbers of trials cannot be
    compared by it; :func:`affectlake.geometry.halves.halves_correlation` does not have this bias.

    Parameters
    ----------
    raw : Estimate
        From :func:`matrix_correlation`.
    one, other : Reliability
        Reliabilities of the two matrices.

    Returns
    -------
    Estimate
        Not defined, with the reason, if a reliability is not positive.
    """
    if raw.note:
        return raw
    lowest = min(one.value, other.value)
    if not lowest > 0:
        return left_out(f"a split-half reliability is {lowest:.3g}; equation 4 needs it above 0", raw.n)
    scale = float(np.sqrt(one.value * other.value))
    return raw._replace(
        value=raw.value / scale, ci_low=raw.ci_low / scale, ci_high=raw.ci_high / scale, chance=raw.chance / scale
    )


def weighted_r(x: Matrix, y: Matrix, weights: Matrix) -> Matrix:
    """Return the weighted Pearson correlation of `x` and `y` (n,) for each row of weights (m, n).

    It is NaN if `x` or `y` is constant, to the precision of its sums, where the weight is not 0.
    """
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = weights @ x / total, weights @ y / total
        covariance = weights @ (x * y) / total - mean_x * mean_y
        square_x, square_y = weights @ x**2 / total, weights @ y**2 / total
        spread_x, spread_y = square_x - mean_x**2, square_y - mean_y**2
        varies = (spread_x > _ROUNDING * square_x) & (spread_y > _ROUNDING * square_y)
        return np.asarray(covariance / np.sqrt(np.where(varies, spread_x * spread_y, np.nan)))


def _shuffled_r(one: Matrix, other: Matrix, order: NDArray[np.intp], a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    x, y = one[a, b], other[order[a], order[b]]
    both = ~np.isnan(y)
    return float(np.corrcoef(x[both], y[both])[0, 1]) if both.sum() > 2 and np.ptp(y[both]) > 0 else float("nan")
