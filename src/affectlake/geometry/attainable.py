"""Expected accuracy of a perfect model of an agent, from repeated answers to the same triplets."""

from __future__ import annotations

from itertools import pairwise, permutations, product

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.estimates import Estimate, left_out
from affectlake.geometry.intervals import half_width

STEPS = 60
"""Probabilities of the grid are multiples of 1/60; those of two or three equal answers are among them."""

MIN_ANSWERS = 10
OUTER, INNER = 40, 15
"""Draws of the double bootstrap: so many draws are corrected by so many draws each."""

MAX_STEPS_OF_EM, TOLERANCE = 500, 1e-6


def attainable_accuracy(answers: NDArray[np.integer], n_resamples: int = 200) -> Estimate:
    """Return the mean over triplets of the probability of the most probable answer: E[max_c p_c].

    It is the accuracy, on new answers, of a model that knows the agent's probabilities p. The largest of the observed
    shares n_c / R is above max_c p_c on average, so that their mean is too high. Here the distribution of p over
    triplets is estimated without a parametric form, by nonparametric maximum likelihood on a grid of probabilities
    (Kiefer & Wolfowitz 1956, Ann. Math. Stat. 27, 887-906; by EM, Laird 1978, J. Am. Stat. Assoc. 73, 805-811), and
    E[max_c p_c] is its mean. The order of the answers has no meaning, so that the distribution is taken to be
    symmetric in it. The remaining bias b is estimated from answers drawn from the estimated distribution (parametric
    bootstrap; Efron & Tibshirani 1993, chapter 10) and subtracted. The half-width of the interval is 1.96 σ + |b|, with
    σ the standard deviation of the corrected value over a double bootstrap (Hall 1986, Ann. Stat. 14, 1431-1452): the
    first 40 draws are each corrected by 15 draws of their own, because the correction itself varies. Near an agent that
    guesses, where max_c p_c has a kink, the value is too high by up to 0.012 for 20 answers per triplet.

    Parameters
    ----------
    answers : int array (n_triplets, n_answers)
        Number of times that each of three stimuli was the odd one, or each of two was chosen as more like the head;
        triplets with fewer than 10 answers are not used, because fewer answers do not determine the distribution.
    n_resamples : int, default=200
        Number of draws (with a fixed seed), at least 2; with 0, the bias is not corrected and there is no interval.

    Returns
    -------
    Estimate
        ``n`` is the number of triplets. Not defined if fewer than two triplets have enough answers.
    """
    enough = answers[answers.sum(axis=1) >= MIN_ANSWERS]
    if len(enough) < 2:
        return left_out(
            f"{len(enough)} triplets were answered {MIN_ANSWERS} times or more; two are needed", len(enough)
        )
    patterns, times = np.unique(np.sort(enough, axis=1), axis=0, return_counts=True)
    grid = _grid(answers.shape[1])
    likelihood = _likelihood(patterns, grid)  # (n_patterns, n_grid)
    top = grid.max(axis=1)
    n = int(times.sum())
    weights = _distribution(times[None] / n, likelihood)
    value = float((weights @ top)[0])
    if not n_resamples:
        return Estimate(value, n=n)
    fitted = (weights @ likelihood.T)[0]
    rng = np.random.default_rng(n)
    drawn = rng.multinomial(n, fitted / fitted.sum(), size=n_resamples)
    weights = _distribution(drawn / n, likelihood)
    again = weights @ top
    bias = float(again.mean()) - value
    outer = min(OUTER, n_resamples)
    fitted = np.repeat(weights[:outer] @ likelihood.T, INNER, axis=0)
    drawn = rng.multinomial(n, fitted / fitted.sum(axis=1, keepdims=True))
    inner = (_distribution(drawn / n, likelihood) @ top).reshape(outer, INNER).mean(axis=1)
    corrected = 2 * again[:outer] - inner
    half = half_width() * float(corrected.std(ddof=1)) + abs(bias)
    found = value - bias
    value, low, high = (min(max(one, 1 / answers.shape[1]), 1.0) for one in (found, found - half, found + half))
    return Estimate(value, low, high, n=n)


def _grid(n_answers: int) -> NDArray[np.float64]:
    """Return all probabilities p₁ ≥ p₂ ≥ … that are multiples of 1/`STEPS`: (n_grid, n_answers)."""
    every = product(range(STEPS + 1), repeat=n_answers - 1)
    points = [(*some, STEPS - sum(some)) for some in every]
    falling = [one for one in points if all(high >= low >= 0 for high, low in pairwise(one))]
    return np.array(falling, np.float64) / STEPS


def _likelihood(patterns: NDArray[np.integer], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each pattern, in any order of the answers, at each grid point."""
    from scipy.special import gammaln, xlogy  # imported late: slow

    orders = list(permutations(range(patterns.shape[1])))
    counts = patterns.astype(np.float64)
    ways = gammaln(counts.sum(axis=1) + 1) - gammaln(counts + 1).sum(axis=1)
    found = np.zeros((len(patterns), len(grid)))
    for order in orders:
        found += np.exp(ways[:, None] + xlogy(counts[:, None, list(order)], grid[None]).sum(axis=2))
    distinct = np.array([len({tuple(row[list(order)]) for order in orders}) for row in patterns])
    return np.asarray(found / len(orders) * distinct[:, None])


def _distribution(shares: NDArray[np.float64], likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the maximum-likelihood weights of the grid points for each row of shares of the patterns, by EM."""
    weights = np.full((len(shares), likelihood.shape[1]), 1 / likelihood.shape[1])
    for _ in range(MAX_STEPS_OF_EM):
        fitted = weights @ likelihood.T
        factor = np.divide(shares, fitted, out=np.zeros_like(shares), where=fitted > 0) @ likelihood
        updated = weights * factor
        if float(np.abs(updated - weights).sum(axis=1).max()) < TOLERANCE:
            return updated
        weights = updated
    return weights
