"""Labels of dimensions: the ratings with the highest correlations. Correlations are computed in `correlations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.geometry.correlations import unit_columns
from affectlake.geometry.estimates import Estimate, left_out, permutation_level, resampled_counts
from affectlake.geometry.intervals import wilson_interval

Character = Literal["categorical", "dimensional", "mixed", "uninterpretable"]
MOST = 3
GAP = 0.1
INTERPRETABLE = 0.1
NONE_INTERPRETABLE = "no dimension is interpretable: no correlation with a rating is above 0.1"


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

    Notes
    -----
    By this rule, 13 components of the paper's LLM and 12 of its MLLM are mixed in Extended Data Table 1. Its text and
    Fig. 3g count 15 and 13: the components whose largest |r| is below 0.1 are included there (threshold 0 here).
    """
    if not own or not max(abs(label.r) for label in own) > threshold:
        return "uninterpretable"
    kinds = {families[label.rating] for label in own}
    if len(kinds) > 1:
        return "mixed"
    return "categorical" if kinds == {"category"} else "dimensional"


class LabelShares(NamedTuple):
    """Share of interpretable dimensions, and the shares of the interpretable ones of each character."""

    interpretable: Estimate
    categorical: Estimate
    dimensional: Estimate
    mixed: Estimate


def label_shares(
    weights: NDArray[np.floating],
    scores: NDArray[np.floating],
    families: Sequence[str],
    rng: np.random.Generator,
    *,
    gap: float = GAP,
    permutations: int = 1000,
) -> LabelShares:
    """Return the shares of a fit's dimensions by their labels, beside those of shuffled stimuli.

    The share of interpretable dimensions is of all dimensions; the other three are of the interpretable ones (Du et al.
    2025, Fig. 3f, g). Intervals are Wilson's, over dimensions. ``chance`` is the mean share if the stimuli of the
    ratings are shuffled, which keeps the correlations within the embedding and within the ratings. With few stimuli
    it is high: the largest of 48 correlations with independent ratings is above 0.1 nearly always for 300 stimuli and
    almost never for 2,000. ``p_value`` is the level of the share of interpretable dimensions against these shares.

    Parameters
    ----------
    weights : float array (n_stimuli, n_dimensions)
    scores : float array (n_stimuli, n_ratings)
    families : sequence of {"category", "dimension"}
        Family of each rating.
    rng : numpy.random.Generator
        Shuffles the stimuli.
    gap : float, default=0.1
        As in :func:`labels`.
    permutations : int, default=1000
        With 0, there is no chance level and no p-value.
    """
    x, y = unit_columns(weights), unit_columns(scores)
    observed = _counts(x.T @ y, families, gap)
    null = np.array([_counts(x[rng.permutation(len(x))].T @ y, families, gap) for _ in range(permutations)])
    d, n_interpretable = x.shape[1], int(observed.sum())
    of_null = null.reshape(permutations, 3)
    totals = of_null.sum(axis=1)
    share_of_null = totals / d
    chance = float(share_of_null.mean()) if permutations else float("nan")
    level = permutation_level(n_interpretable / d, share_of_null)
    found = [_share(n_interpretable, d)._replace(chance=chance, p_value=level)]
    named = totals > 0
    for at, count in enumerate(observed.tolist()):
        if not n_interpretable:
            found.append(left_out(NONE_INTERPRETABLE, d))
            continue
        usual = float((of_null[named, at] / totals[named]).mean()) if named.any() else float("nan")
        found.append(_share(count, n_interpretable)._replace(chance=usual))
    return LabelShares(*found)


def _counts(r: NDArray[np.float64], families: Sequence[str], gap: float) -> NDArray[np.int64]:
    """Return the numbers of categorical, dimensional and mixed dimensions."""
    own: list[list[Label]] = [[] for _ in range(len(r))]
    for label in labels(r, gap):
        own[label.dimension].append(label)
    kinds = [character(one, families) for one in own]
    return np.array([kinds.count(name) for name in ("categorical", "dimensional", "mixed")], np.int64)


def _share(count: int, n: int) -> Estimate:
    low, high = map(float, wilson_interval(count, n))
    return Estimate(count / n, low, high, n=n)


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
