"""How well predicted vectors find their own videos among held-out ones, with intervals over videos."""

from __future__ import annotations

from collections.abc import Callable
from math import lgamma
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TOPS = (1, 5, 10)


class Interval(NamedTuple):
    """An estimate with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Retrieval(NamedTuple):
    """Retrieval among n held-out videos: shares with exact binomial intervals, and others with bootstrap intervals.

    `top` has the share of videos whose own target is among the nearest 1, 5 and 10. `cosine` is the mean similarity of
    prediction and target.
    """

    n: int
    top: dict[int, Interval]
    median_rank: Interval
    cosine: Interval


def ranks(predicted: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rank of each video's own target by cosine similarity to its prediction, from 1 to n.

    Parameters
    ----------
    predicted, targets : float (n, d)
        Rows of any length above 0; a row of zeros is equally similar to everything.

    Returns
    -------
    float64 (n,)
        Equal similarities (to 1e-6) share the mean of their ranks, so that a constant prediction has (n + 1) / 2.
    """
    found = np.round(_unit(predicted) @ _unit(targets).T, 6)
    own = np.diag(found)[:, None]
    result: NDArray[np.float64] = 1 + (found > own).sum(axis=1) + 0.5 * ((found == own).sum(axis=1) - 1)
    return result


def retrieval(
    predicted: NDArray[np.floating],
    targets: NDArray[np.floating],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Retrieval:
    """Score predictions of held-out videos.

    Parameters
    ----------
    predicted, targets : float (n, d)
        One row per held-out video; all n targets are the gallery.
    rng : numpy.random.Generator
        Source of the bootstrap resamples of videos.
    resamples : int
        Their number.

    Notes
    -----
    Ranks are computed once, in the gallery of all n videos; resamples draw videos with their ranks. The intervals are
    for other videos of the same kind, for the model as it was trained. ``benchmarks/projector.py --coverage`` measures
    how often they contain the true value.
    """
    found = ranks(predicted, targets)
    n = len(found)
    cosines = (_unit(predicted) * _unit(targets)).sum(axis=1)
    drawn = rng.integers(0, n, (resamples, n))
    top = {k: share_interval(int((found <= k).sum()), n) for k in TOPS}
    medians, means = np.median(found[drawn], axis=1), cosines[drawn].mean(axis=1)
    return Retrieval(
        n,
        top,
        Interval(float(np.median(found)), *_ends(medians)),
        Interval(float(cosines.mean()), *_ends(means)),
    )


def difference(
    first: NDArray[np.floating], second: NDArray[np.floating], rng: np.random.Generator, resamples: int = 1000
) -> Interval:
    """Return the mean difference first - second of values of the same videos, with a bootstrap interval over videos."""
    each = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    drawn = rng.integers(0, len(each), (resamples, len(each)))
    return Interval(float(each.mean()), *_ends(each[drawn].mean(axis=1)))


def share_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Return a share with its exact binomial interval (Clopper & Pearson 1934).

    Parameters
    ----------
    successes, n : int
        Numbers of successes and of trials, n at least 1.
    level : float
        Coverage, at least reached for independent trials.
    """
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else _solve(lambda p: 1 - _at_most(successes - 1, n, p) - tail)
    high = 1.0 if successes == n else _solve(lambda p: tail - _at_most(successes, n, p))
    return Interval(successes / n, low, high)


def _at_most(k: int, n: int, p: float) -> float:
    """Return the binomial probability of at most k of n."""
    counts = np.arange(k + 1)
    logs = [lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in range(k + 1)]
    return float(np.exp(np.array(logs) + counts * np.log(p) + (n - counts) * np.log1p(-p)).sum())


def _solve(rising: Callable[[float], float]) -> float:
    """Return the root in (0, 1) of a rising function, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _ends(values: NDArray[np.floating]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
