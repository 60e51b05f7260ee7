"""Nearest-centroid classification of an embedding, with a permutation test. Other classifiers do not belong here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import AffectlakeError
from affectlake.geometry.intervals import wilson_interval

TOPS = (1, 2, 3)
BATCH_ELEMENTS = 4_000_000  # distances in memory at a time: 16 MB of float32, and a few arrays of the same size


class TopAccuracy(NamedTuple):
    """Share of stimuli whose category is among the `top` nearest, with its 95 % interval.

    The interval is Wilson's, with n divided by the ratio of the variance over label permutations to that of independent
    stimuli, if it is above 1. Stimuli are not independent, because all of them share the centroids.
    ``chance`` is the mean over label permutations; ``p_value`` is (1 + permutations at least as high) /
    (1 + permutations).
    """

    top: int
    accuracy: float
    ci_low: float
    ci_high: float
    chance: float
    p_value: float


class NearestCentroid(NamedTuple):
    """Result of the classification. If nothing was classified, ``accuracies`` is empty and ``reason`` says why.

    ``n_stimuli`` and ``n_categories`` are counted after small categories were excluded. A `top` that is not smaller
    than the number of categories is always correct and is not reported.
    """

    n_stimuli: int
    n_categories: int
    accuracies: tuple[TopAccuracy, ...]
    reason: str


def nearest_centroid(
    weights: NDArray[np.floating],
    categories: Sequence[str | None],
    rng: np.random.Generator,
    *,
    min_category_size: int = 10,
    permutations: int = 1000,
) -> NearestCentroid:
    """Classify each stimulus by the nearest category centroid, computing its own category's centroid without it.

    The distance is Euclidean. Without stimulus x, the mean of a category of n stimuli with mean m is
    (n m − x)/(n − 1), so its distance from x is n/(n − 1) times that of m: no centroid is computed twice. Another
    category at exactly the same distance counts as nearer. (Du et al. 2025, 'Nearest-centroid classification'.)

    Parameters
    ----------
    weights : float array (n_stimuli, n_dimensions)
        The embedding.
    categories : sequence of str or None, length n_stimuli
        Category of each stimulus; a stimulus without one is excluded.
    rng : numpy.random.Generator
        Shuffles the labels.
    min_category_size : int, default=10
        Categories with fewer stimuli are excluded; at least 2, because a centroid requires another stimulus.
    permutations : int, default=1000
        Number of label permutations, at least 1.

    Returns
    -------
    NearestCentroid
        Accuracies of top 1 to 3, or the reason why there are none: fewer than two categories are large enough, or all
        stimuli have the same weights.

    Raises
    ------
    AffectlakeError
        If the lengths differ, a weight is not finite, or an option is below its minimum.
    """
    _check(weights, categories, min_category_size, permutations)
    kept, labels, sizes = _large_categories(categories, min_category_size)
    points = np.asarray(weights, np.float64)[kept]
    if len(sizes) < 2:
        reason = f"{len(sizes)} of the categories have {min_category_size} stimuli or more; two are needed"
        return NearestCentroid(len(kept), len(sizes), (), reason)
    if np.all(points == points[0]):
        return NearestCentroid(len(kept), len(sizes), (), "every stimulus has the same weights")

    points -= points.mean(axis=0)  # does not change distances and reduces rounding errors
    tops = [top for top in TOPS if top < len(sizes)]
    grouped = np.argsort(labels, kind="stable")
    hits = _hits(points, grouped[None], sizes, tops)[0]
    shuffled = np.concatenate(
        [
            _hits(points.astype(np.float32), batch, sizes, tops)
            for batch in _shuffles(len(points), permutations, len(sizes), rng)
        ]
    )  # (permutations, n_tops)
    chance = shuffled.mean(axis=0) / len(points)
    usual = len(points) * chance * (1 - chance)
    inflation = np.maximum(shuffled.var(axis=0) / np.where(usual > 0, usual, 1), 1)
    low, high = wilson_interval(hits / inflation, len(points) / inflation)
    p_value = (1 + (shuffled >= hits).sum(axis=0)) / (1 + permutations)
    columns = (hits / len(points), low, high, chance, p_value)
    rows = zip(tops, *(column.tolist() for column in columns), strict=True)
    return NearestCentroid(len(kept), len(sizes), tuple(TopAccuracy(*row) for row in rows), "")


def _check(
    weights: NDArray[np.floating], categories: Sequence[str | None], min_category_size: int, permutations: int
) -> None:
    if weights.ndim != 2 or len(weights) != len(categories):
        raise AffectlakeError(
            "the embedding and the categories are not of the same stimuli",
            wanted="a matrix with one row per stimulus",
            found=f"shape {weights.shape} for {len(categories)} categories",
        )
    if not np.isfinite(weights).all():
        raise AffectlakeError("the embedding has values that are not finite")
    if min_category_size < 2 or permutations < 1:
        raise AffectlakeError(
            "invalid options of the classification",
            wanted="min_category_size >= 2 and permutations >= 1",
            found=f"min_category_size {min_category_size}, permutations {permutations}",
        )


class _Kept(NamedTuple):
    rows: NDArray[np.intp]  # (n_kept,) rows of the embedding
    labels: NDArray[np.intp]  # (n_kept,) category numbers from 0
    sizes: NDArray[np.intp]  # (n_categories,)


def _large_categories(categories: Sequence[str | None], min_category_size: int) -> _Kept:
    named = np.array([row for row, category in enumerate(categories) if category is not None], dtype=np.intp)
    if len(named) == 0:
        return _Kept(named, named, named)
    _, labels, counts = np.unique([str(categories[row]) for row in named], return_inverse=True, return_counts=True)
    large = np.flatnonzero(counts >= min_category_size)
    inside = np.isin(labels, large)
    return _Kept(named[inside], np.searchsorted(large, labels[inside]), counts[large])


def _shuffles(n: int, permutations: int, n_categories: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Return the orders of the stimuli under all permutations, in batches (batch, n) whose distances fit in memory."""
    batch = max(1, BATCH_ELEMENTS // (n * n_categories))
    orders = rng.permuted(np.broadcast_to(np.arange(n), (permutations, n)), axis=1)
    return [orders[start : start + batch] for start in range(0, permutations, batch)]


def _hits(
    points: NDArray[np.floating], orders: NDArray[np.intp], sizes: NDArray[np.intp], tops: list[int]
) -> NDArray[np.int64]:
    """Count the stimuli whose category is among the nearest, for each labelling.

    Parameters
    ----------
    points : float array (n, n_dimensions)
    orders : int array (n_labellings, n)
        Each row lists the stimuli category by category.
    sizes : int array (n_categories,)
    tops : list of int

    Returns
    -------
    int64 array (n_labellings, n_tops)
    """
    n_labellings, n = orders.shape
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums = np.add.reduceat(points[orders], starts, axis=1)  # (n_labellings, n_categories, n_dimensions)
    centroids = sums / sizes[:, None].astype(points.dtype)
    flat = centroids.reshape(-1, points.shape[1])
    distances = flat @ (-2 * points.T)  # (n_labellings · n_categories, n)
    distances += np.einsum("cd,cd->c", flat, flat)[:, None]
    distances += np.einsum("nd,nd->n", points, points)  # squared Euclidean
    distances = distances.reshape(n_labellings, len(sizes), n)

    own = np.empty((n_labellings, n), np.intp)  # category of each stimulus
    np.put_along_axis(own, orders, np.repeat(np.arange(len(sizes)), sizes)[None], axis=1)
    stretch = ((sizes / (sizes - 1)) ** 2).astype(points.dtype)
    held_out = np.take_along_axis(distances, own[:, None], axis=1) * stretch[own][:, None]  # (n_labellings, 1, n)
    np.put_along_axis(distances, own[:, None], held_out, axis=1)
    rank = (distances <= held_out).sum(axis=1, dtype=np.int32)  # 1 if no other category is as near
    return np.stack([(rank <= top).sum(axis=1) for top in tops], axis=1)
