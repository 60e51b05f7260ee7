"""What edits do to ratings: each edit against its own null edit, over stimuli.

A null edit is a clip that went through the same inversion and the same denoising with unchanged tokens. Inversion alone
changes a clip, so the original is not a baseline. Repeats of a question are averaged first: stimuli are the sample, and
answers to the same question are not independent. NaN is an answer without a rating; it is left out and counted.

Nothing is corrected for the number of dimensions here; see :func:`affectlake.brain.statistics.benjamini_hochberg`.
"""

from __future__ import annotations

import math
from itertools import islice, permutations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.brain.statistics import paired_interval
from affectlake.errors import SourceError

Array = NDArray[np.float64]
Direction = Literal["up", "down", "either"]
"""The change that an edit is meant to make; ``either``: the test is two-sided."""

MOST_DOSES = 7
"""Largest number of doses of a stimulus whose orders are enumerated (7! = 5,040)."""

_MOST_ORDERS = 5_040


class SignTest(NamedTuple):
    """Exact sign test over stimuli.

    Attributes
    ----------
    n_up, n_down, n_ties : int
        Stimuli with a positive, a negative and no difference. Ties are not part of the test.
    p_value : float
        Binomial probability of at least as many differences in the direction as found, of ``n_up + n_down`` with 1/2
        each; twice the smaller tail, at most 1, for either direction. 1 if all are ties.
    """

    n_up: int
    n_down: int
    n_ties: int
    p_value: float


class Effect(NamedTuple):
    """Ratings after an edit and after its null edit.

    Attributes
    ----------
    n : int
        Stimuli with both ratings.
    n_missing : int
        Stimuli without one of them.
    mean_before, mean_after : float
        Mean rating of null edits and of edits, over the `n` stimuli; NaN without any.
    difference, ci_low, ci_high : float
        Mean of (edit - null edit), and its 95 % t-interval over stimuli; NaN ends if fewer than two, or all equal.
    signs : SignTest
        Of the differences.
    """

    n: int
    n_missing: int
    mean_before: float
    mean_after: float
    difference: float
    ci_low: float
    ci_high: float
    signs: SignTest


class Trend(NamedTuple):
    """Dose-response over stimuli.

    Attributes
    ----------
    n : int
        Stimuli with ratings at two or more different doses.
    slope, ci_low, ci_high : float
        Mean over stimuli of the least-squares slope of rating on dose, and its 95 % t-interval.
    p_value : float
        One-sided, that ratings rise with the dose: exact permutation of the doses within stimuli.
    """

    n: int
    slope: float
    ci_low: float
    ci_high: float
    p_value: float


class Specificity(NamedTuple):
    """Whether the edit of a dimension changes the ratings of this dimension more than those of others.

    Attributes
    ----------
    diagonal, rest : float
        Mean change of the dimension edited, and of the others.
    difference : float
        ``diagonal - rest``.
    p_value : float
        Share of the assignments of questions to edits with a difference at least as large; NaN for one dimension.
    n_orders : int
        Number of assignments, with the observed one.
    """

    diagonal: float
    rest: float
    difference: float
    p_value: float
    n_orders: int


def mean_of_repeats(stimulus: NDArray[np.integer], rating: NDArray[np.floating], n_stimuli: int) -> Array:
    """Return each stimulus's mean rating over its repeats, float64 (n_stimuli,); NaN for a stimulus without any.

    Parameters
    ----------
    stimulus : int (m,)
        Index of the stimulus of each answer, 0 to ``n_stimuli - 1``.
    rating : float (m,)
        Rating of each answer; NaN if it could not be read, which is left out of the mean.
    n_stimuli : int
        Number of stimuli.
    """
    rated = ~np.isnan(rating)
    total = np.bincount(stimulus[rated], weights=rating[rated], minlength=n_stimuli)
    number = np.bincount(stimulus[rated], minlength=n_stimuli)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(number > 0, total / np.maximum(number, 1), np.nan), dtype=np.float64)


def read_share(stimulus: NDArray[np.integer], rating: NDArray[np.floating], n_stimuli: int) -> Array:
    """Return the share of each stimulus's answers that have a rating, float64 (n_stimuli,); NaN without an answer.

    Compare two arms with :func:`effect` and the direction ``either``: a difference is a result by itself.

    Parameters
    ----------
    stimulus, rating, n_stimuli
        As for :func:`mean_of_repeats`.
    """
    return mean_of_repeats(stimulus, (~np.isnan(rating)).astype(np.float64), n_stimuli)


def sign_test(differences: NDArray[np.floating], direction: Direction = "either") -> SignTest:
    """Return the exact sign test of differences, of which NaN is left out.

    Parameters
    ----------
    differences : float (n,)
        Edit minus null edit of each stimulus. Differences below 1e-9 are ties.
    direction : {'up', 'down', 'either'}
        The change that the edit is meant to make.
    """
    found = differences[~np.isnan(differences)]
    n_up, n_down = int((found > 1e-9).sum()), int((found < -1e-9).sum())
    n_ties = len(found) - n_up - n_down
    up, down = _upper_tail(n_up, n_up + n_down), _upper_tail(n_down, n_up + n_down)
    p = {"up": up, "down": down, "either": min(1.0, 2 * min(up, down))}[direction]
    return SignTest(n_up, n_down, n_ties, p)


def _upper_tail(k: int, n: int) -> float:
    """Return the probability of `k` or more of `n` fair coins."""
    return float(sum(math.comb(n, one) for one in range(k, n + 1)) / 2**n)


def effect(after: NDArray[np.floating], before: NDArray[np.floating], direction: Direction) -> Effect:
    """Return the effect of an edit on ratings, against its null edit.

    Parameters
    ----------
    after, before : float (n_stimuli,)
        Rating of the edit and of the null edit of each stimulus, means over repeats; NaN if there is none.
    direction : {'up', 'down', 'either'}
        The change that the edit is meant to make.

    Raises
    ------
    SourceError
        If the lengths differ.
    """
    if len(after) != len(before):
        raise SourceError(
            "edits and null edits are not of the same stimuli",
            wanted="one rating of each for each stimulus",
            found=f"{len(after)} and {len(before)}",
        )
    both = ~(np.isnan(after) | np.isnan(before))
    x, y = np.asarray(before[both], np.float64), np.asarray(after[both], np.float64)
    if not len(x):
        nothing = math.nan
        return Effect(0, len(after), nothing, nothing, nothing, nothing, nothing, sign_test(y - x, direction))
    low, high = paired_interval(y, x)
    n_missing = len(after) - len(x)
    means = float(x.mean()), float(y.mean()), float((y - x).mean())
    return Effect(len(x), n_missing, *means, low, high, sign_test(y - x, direction))


def dose_trend(ratings: NDArray[np.floating], doses: NDArray[np.floating]) -> Trend:
    r"""Return how ratings follow the dose of an edit, within stimuli.

    The statistic is Page's :math:`L = \sum_s \sum_d R_s(d)\, r_s(d)`, with mid-ranks of the doses and of the ratings of
    a stimulus (Page 1963, J. Am. Stat. Assoc. 58, 216-230, doi 10.1080/01621459.1963.10500843). Its distribution over
    all orders of the ratings within each stimulus is computed exactly, also with ties and with missing ratings.

    Parameters
    ----------
    ratings : float (n_stimuli, n_doses)
        Mean rating of each stimulus at each dose; NaN if there is none, which is left out.
    doses : float (n_stimuli, n_doses) or (n_doses,)
        Weights to which the dimension was set, as a share of its largest.

    Raises
    ------
    SourceError
        If there are more than `MOST_DOSES` doses.
    """
    values = np.asarray(ratings, np.float64)
    given = np.broadcast_to(np.asarray(doses, np.float64), values.shape)
    if values.shape[1] > MOST_DOSES:
        raise SourceError("too many doses", found=str(values.shape[1]), allowed=f"{MOST_DOSES} or fewer")
    slopes: list[float] = []
    observed, chances = 0, {0: 1.0}
    for row, dose in zip(values, given, strict=True):
        kept = ~np.isnan(row)
        y, x = row[kept], dose[kept]
        if len(y) < 2 or np.ptp(x) == 0:
            continue
        centred = x - x.mean()
        slopes.append(float(centred @ y / (centred @ centred)))
        rank_x, rank_y = _double_ranks(x), _double_ranks(y)
        observed += int(rank_x @ rank_y)
        chances = _added(chances, rank_x, rank_y)
    if not slopes:
        return Trend(0, math.nan, math.nan, math.nan, math.nan)
    low, high = paired_interval(np.array(slopes), np.zeros(len(slopes)))
    p = sum(chance for total, chance in chances.items() if total >= observed)
    return Trend(len(slopes), float(np.mean(slopes)), low, high, min(1.0, p))


def _double_ranks(values: Array) -> NDArray[np.int64]:
    """Return twice the mid-ranks, which are whole numbers."""
    below = (values[None] < values[:, None] - 1e-9).sum(axis=1)
    same = (np.abs(values[None] - values[:, None]) <= 1e-9).sum(axis=1)
    return np.asarray(2 * below + same + 1, dtype=np.int64)


def _added(chances: dict[int, float], rank_x: NDArray[np.int64], rank_y: NDArray[np.int64]) -> dict[int, float]:
    """Return the distribution of a sum, with the stimulus of these ranks added to it."""
    orders = np.array(list(permutations(rank_y.tolist())))
    totals, counts = np.unique(orders @ rank_x, return_counts=True)
    found: dict[int, float] = {}
    for total, chance in chances.items():
        for own, count in zip(totals.tolist(), (counts / len(orders)).tolist(), strict=True):
            found[total + own] = found.get(total + own, 0.0) + chance * count
    return found


def specificity(changes: NDArray[np.floating], rng: np.random.Generator, n_random: int = 9_999) -> Specificity:
    """Return whether edits change the ratings of their own dimension more than those of others.

    Parameters
    ----------
    changes : float (d, d)
        Mean change of the ratings of dimension j (column) by the edit of dimension i (row), with the sign of the edit:
        positive if the rating moved as the edit was meant to move dimension i. NaN is left out.
    rng : numpy.random.Generator
        Draws assignments if there are more than 5,040.
    n_random : int
        Number of random assignments then; the observed one is added.

    Returns
    -------
    Specificity
        The p-value is exact over all d! assignments of columns to rows for up to 7 dimensions; with fewer than four
        dimensions it cannot be below 0.05 (1/3! is 0.17).

    Raises
    ------
    SourceError
        If `changes` is not square.
    """
    if changes.ndim != 2 or changes.shape[0] != changes.shape[1]:
        raise SourceError("the matrix of changes is not square", found=str(changes.shape))
    d, matrix = len(changes), np.asarray(changes, np.float64)
    if d < 2:
        own = float(matrix[0, 0]) if d else math.nan
        return Specificity(own, math.nan, math.nan, math.nan, d)
    if math.factorial(d) <= _MOST_ORDERS:
        orders = np.array(list(islice(permutations(range(d)), _MOST_ORDERS)))
    else:
        drawn = rng.permuted(np.tile(np.arange(d), (n_random, 1)), axis=1)
        orders = np.vstack([np.arange(d), drawn])  # the observed assignment first
    kept = ~np.isnan(matrix)
    filled = np.where(kept, matrix, 0.0)
    rows = np.arange(d)
    own_sum, own_n = filled[rows, orders].sum(axis=1), kept[rows, orders].sum(axis=1)
    rest_sum, rest_n = filled.sum() - own_sum, kept.sum() - own_n
    with np.errstate(invalid="ignore", divide="ignore"):
        diagonal, rest = own_sum / own_n, rest_sum / rest_n
    differences = diagonal - rest
    if np.isnan(differences[0]):
        return Specificity(float(diagonal[0]), float(rest[0]), math.nan, math.nan, len(orders))
    at_least = np.nan_to_num(differences, nan=-np.inf) >= differences[0] - 1e-9
    return Specificity(float(diagonal[0]), float(rest[0]), float(differences[0]), float(at_least.mean()), len(orders))
