"""Arithmetic that several tables share: correlations, scores of embeddings, and similarity matrices of prototypes."""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import log_softmax, softmax
from statsmodels.stats.proportion import proportion_confint

from tests.support.recomputed.cells import Cells, Level, Mean, between, estimate, impossible
from tests.support.recomputed.world import Array, Ints, World

DRAWS = 100
"""The number of the test's own draws."""


def own_rng(*names: object) -> np.random.Generator:
    """Return a random generator of the test."""
    return np.random.default_rng([sum(map(ord, str(name))) for name in names])


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Return the Wilson interval of a proportion."""
    low, high = proportion_confint(hits, n, method="wilson")
    return float(low), float(high)


class Correlations(NamedTuple):
    """Pearson's r of every column with every other column, and its interval; NaN for constant columns."""

    r: Array
    low: Array
    high: Array


def correlations(x: Array, y: Array) -> Correlations:
    """Return the correlations of every column of x with every column of y."""
    varies = np.outer(np.ptp(x, axis=0) > 0, np.ptp(y, axis=0) > 0)
    found = Correlations(*(np.full(varies.shape, np.nan) for _ in range(3)))
    for a, b in np.argwhere(varies):
        found.r[a, b], found.low[a, b], found.high[a, b] = correlation(x[:, a], y[:, b])
    return found


def correlation(x: Array, y: Array, level: float = 0.95) -> tuple[float, float, float]:
    """Return Pearson's r of two vectors and the ends of its interval, at least as wide as SciPy's (Fisher's)."""
    one = stats.pearsonr(x, y)
    r, (low, high) = float(one.statistic), one.confidence_interval(level)
    influence = stats.zscore(x) * stats.zscore(y) - r * (stats.zscore(x) ** 2 + stats.zscore(y) ** 2) / 2
    if len(x) < 4 or abs(r) > 1 - 1e-6:
        return r, float(low), float(high)
    half = float(stats.norm.ppf((1 + level) / 2) * np.std(influence) / (1 - r**2) / np.sqrt(len(x) - 3))
    return r, min(float(low), math.tanh(math.atanh(r) - half)), max(float(high), math.tanh(math.atanh(r) + half))


def quick_r(x: Array, y: Array) -> Array:
    """Return Pearson's r of every column of x with every column of y; NaN for constant ones."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]


class Scored(NamedTuple):
    """Accuracy and loss of an embedding, and by how much the accuracy may differ because of near ties."""

    accuracy: float
    loss: float
    slack: float


def scored(weights: Array, answers: Ints) -> Scored:
    """Score an embedding on answers (m, 3), the odd one last."""
    similar = np.stack([(weights[answers[:, a]] * weights[answers[:, b]]).sum(1) for a, b in ((0, 1), (0, 2), (1, 2))])
    gap = similar[0] - similar[1:]  # (2, m)
    right = np.where((gap >= 0).all(axis=0), 1 / (1 + (gap == 0).sum(axis=0)), 0.0)
    close = ((np.abs(gap) > 0) & (np.abs(gap) < 1e-6 * (1 + np.abs(similar[0])))).any(axis=0)
    return Scored(float(right.mean()), float(-log_softmax(similar, axis=0)[0].mean()), float(close.mean()))


def odd_probabilities(weights: Array, triplets: Ints) -> Array:
    """Return the probability of each stimulus of a triplet to be the odd one (m, 3)."""
    pairs = ((1, 2), (0, 2), (0, 1))
    return softmax(np.stack([(weights[triplets[:, a]] * weights[triplets[:, b]]).sum(1) for a, b in pairs], 1), axis=1)


class Pairs(NamedTuple):
    """The trials of all pairs of prototypes: the pair, whether the pair was similar, and the trial."""

    pair: Ints
    similar: Array
    trial: Ints

    def matrix(self, n: int, of_trials: NDArray[np.bool_] | None = None) -> Array:
        """Return the mean similarity of each pair (n (n - 1) / 2,); NaN without a trial."""
        use = slice(None) if of_trials is None else of_trials[self.trial]
        size = n * (n - 1) // 2
        with np.errstate(invalid="ignore"):
            return np.bincount(self.pair[use], self.similar[use], size) / np.bincount(self.pair[use], minlength=size)


def pairs_of(world: World, triplets: Ints, p_odd: Array) -> Pairs:
    """Return the trials of each pair of prototypes; `p_odd` (m, 3) says how probably each one is odd."""
    place = {stimulus: at for at, stimulus in enumerate(world.prototypes)}
    number = {pair: at for at, pair in enumerate(combinations(range(len(place)), 2))}
    found = [
        (number[min(place[a], place[b]), max(place[a], place[b])], p_odd[trial, third], trial)
        for trial, (i, j, k) in enumerate(triplets.tolist())
        for a, b, third in ((i, j, 2), (i, k, 1), (j, k, 0))
        if a in place and b in place
    ]
    pair, similar, trial = np.array(found, np.float64).reshape(-1, 3).T
    return Pairs(pair.astype(np.int64), similar, trial.astype(np.int64))


def measured(world: World, agent: str) -> Pairs:
    """Return the trials of each pair of prototypes in an agent's validation choices."""
    answers = world.answers(agent, "validation")
    return pairs_of(world, answers, np.tile([0.0, 0.0, 1.0], (len(answers), 1)))


def weighted_r(x: Array, y: Array, counts: Ints) -> float:
    """Return Pearson's r of pairs that occur `counts` times; NaN if it is not defined."""
    use = (counts > 0) & ~np.isnan(x) & ~np.isnan(y)
    if use.sum() < 2 or np.ptp(x[use]) < 1e-12 or np.ptp(y[use]) < 1e-12:
        return math.nan
    covariance = np.cov(x[use], y[use], fweights=counts[use])
    return float(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))


def matrix_correlation(one: Array, other: Array, world: World, rng: np.random.Generator) -> Cells:
    """Return the correlation of two similarity matrices of the prototypes, given as pairs.

    Stimuli are resampled for the interval, and shuffled for the level (Mantel's test).
    """
    geometry, n = world.params.geometry, len(world.prototypes)
    known = ~(np.isnan(one) | np.isnan(other))
    if known.sum() < 3 or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return impossible("pairs of stimuli" if known.sum() < 3 else "equally similar", int(known.sum()))
    r, (a, b) = float(stats.pearsonr(one[known], other[known]).statistic), np.triu_indices(n, 1)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    drawn = np.array([weighted_r(one, other, row[a] * row[b]) for row in counts])
    square = np.full((n, n), np.nan)
    square[a, b] = square[b, a] = other
    orders = [rng.permutation(n) for _ in range(3 * DRAWS)]
    null = np.array([weighted_r(one, square[order[a], order[b]], known.astype(int)) for order in orders])
    m = geometry.permutations
    return estimate(r, int(known.sum()), between(drawn, geometry.resamples), Mean(null, m), Level(r, null, m))


def best(weights: Array, other: Array) -> Array:
    """Return Fisher's z of the best match of each dimension; NaN for a constant one."""
    r = quick_r(weights, other[:, np.ptp(other, axis=0) > 0])
    r[np.ptp(weights, axis=0) == 0] = np.nan
    return np.arctanh(np.clip(r.max(axis=1), -1 + 1e-12, 1 - 1e-12))
