"""Labels of dimensions: the ratings with the highest correlations. Correlations are computed in `correlations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.estimates import resampled_counts

Character = Literal["categorical", "dimensional", "mixed", "uninterpretable"]
MOST = 3
GAP = 0.1
INTERPRETABLE = 0.1


class Label(NamedTuple):
    """One label of a dimension: the rating (its column), its rank from 1, its sign and its correlation."""

    dimension: int  # position in the embedding, from 0
    rank: int
    rating: int
    direction: Literal["high", "low"]
    r: float


def labels(r: NDArray[np.floating], gap: float = GAP, most: int = MOST) -> list[Label]:
    """Return up to `most` labels of each dimension, by the paper's cut-off rule.

    Ratings are ranked by |r|. The second is kept unless the first is `gap` or more above it, the third unless the
    second is `gap` or more above it. A label is "high" for a positive correlation, "low" for a negative one.
    (Du et al. 2025, 'Labeling of the learned affective components', Extended Data Table 1.)

    Parameters
    ----------
    r : float array (n_dimensions, n_ratings)
        Pearson correlations; NaN if not defined.
    gap : float, default=0.1
        Distance in |r| of the rule, 0.1 in the paper.
    most : int, default=3
        Maximum number of labels, 3 in the paper.

    Returns
    -------
    list of Label
        Ordered by dimension and rank. A dimension without a defined correlation has no label.
    """
    found = []
    for dimension, row in enumerate(np.asarray(r, np.float64)):
        size = np.nan_to_num(np.abs(row), nan=-1.0)
        order = np.argsort(-size, kind="stable")
        for rank, rating in enumerate(order[:most].tolist()):
            above = size[order[rank - 1]] - size[rating] if rank else 0.0
            if size[rating] < 0 or (rank and above >= gap - 1e-12):
                break
            found.append(Label(dimension, rank + 1, rating, "low" if row[rating] < 0 else "high", float(row[rating])))
    return found


def character(own: Sequence[Label], families: Sequence[str], threshold: float = INTERPRETABLE) -> Character:
    """Return whether a dimension is categorical, dimensional, mixed or uninterpretable, from its labels' families.

    Parameters
    ----------
    own : sequence of Label
        The labels of one dimension.
    families : sequence of {"category", "dimension"}
        Family of each rating.
    threshold : float
        A dimension is uninterpretable if its largest |r| is not above it.
    """
    if not own or not max(abs(label.r) for label in own) > threshold:
        return "uninterpretable"
    kinds = {families[label.rating] for label in own}
    if len(kinds) > 1:
        return "mixed"
    return "categorical" if kinds == {"category"} else "dimensional"


def label_stability(
    weights: NDArray[np.floating], scores: NDArray[np.floating], rng: np.random.Generator, n_resamples: int = 200
) -> NDArray[np.float64]:
    """Return how often the first label of each dimension remains the first when stimuli are resampled.

    Parameters
    ----------
    weights : float array (n_stimuli, n_dimensions)
    scores : float array (n_stimuli, n_ratings)
    rng : numpy.random.Generator
    n_resamples : int
        Number of bootstrap resamples of the stimuli, at least 1.

    Returns
    -------
    float64 (n_dimensions,)
        Shares from 0 to 1; NaN for a constant dimension.
    """
    x, y = np.asarray(weights, np.float64), np.asarray(scores, np.float64)
    whole = _r(x, y, np.ones(len(x)))
    dead = np.isnan(whole).all(axis=1)
    first = np.nan_to_num(np.abs(whole), nan=-1.0).argmax(axis=1)
    kept = np.zeros(x.shape[1])
    for counts in resampled_counts(len(x), n_resamples, rng):
        kept += np.nan_to_num(np.abs(_r(x, y, counts.astype(np.float64))), nan=-1.0).argmax(axis=1) == first
    return np.where(dead, np.nan, kept / n_resamples)


def _r(x: NDArray[np.float64], y: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlations of every column of x with every column of y, with rows weighted by `counts`."""
    drawn = counts > 0
    share = (counts[drawn] / counts.sum())[:, None]
    a, b = x[drawn], y[drawn]
    a, b = a - (share * a).sum(axis=0), b - (share * b).sum(axis=0)
    spread_a, spread_b = (share * a * a).sum(axis=0), (share * b * b).sum(axis=0)
    scale = np.sqrt(
        np.outer(np.where(spread_a > 1e-20, spread_a, np.nan), np.where(spread_b > 1e-20, spread_b, np.nan))
    )
    return np.asarray((share * a).T @ b / scale)
