"""How well the labels of an embedding agree with a published table of labels, such as Extended Data Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PublishedLabel(NamedTuple):
    """One label of a published component: the component's number from 1, the rating, and its correlation."""

    component: int
    rating: str
    r: float


class Fingerprint(NamedTuple):
    """Agreement of an embedding's correlations with a published table.

    ``distance`` is the mean absolute difference of the table's correlations from those of the matched dimensions,
    ``order`` Spearman's correlation of the numbers of the matched components and dimensions, and ``matched`` (k,) the
    dimension, from 0, that is matched to each component in increasing order of the components.
    """

    distance: float
    order: float
    matched: NDArray[np.int64]


def fingerprint(r: NDArray[np.floating], ratings: Sequence[str], table: Sequence[PublishedLabel]) -> Fingerprint:
    """Match each published component with one dimension, such that the mean difference of correlations is smallest.

    Components of the table and dimensions are both in order of decreasing sum of weights, so that a high ``order`` says
    that the components also have similar sizes. If there are fewer dimensions than components, some components remain
    unmatched, and each of their labels counts with its whole correlation.

    Parameters
    ----------
    r : float array (n_dimensions, n_ratings)
        Pearson correlations of the dimensions with the ratings; NaN counts as 0.
    ratings : sequence of str
        Names of the ratings, the columns of `r`.
    table : sequence of PublishedLabel
        The published labels, at least one for each component.

    Returns
    -------
    Fingerprint
        ``matched`` contains -1 for an unmatched component.
    """
    from scipy.optimize import linear_sum_assignment  # imported late: slow
    from scipy.stats import spearmanr  # imported late: slow

    size = np.nan_to_num(np.asarray(r, np.float64))
    numbers = sorted({label.component for label in table})
    column = {name: at for at, name in enumerate(ratings)}
    cost = np.zeros((len(numbers), len(size)))
    alone = np.zeros(len(numbers))
    for label in table:
        at = numbers.index(label.component)
        cost[at] += np.abs(size[:, column[label.rating]] - label.r)
        alone[at] += abs(label.r)
    rows, columns = linear_sum_assignment(np.hstack([cost, np.diag(alone) + np.where(np.eye(len(alone)), 0, 1e6)]))
    total = float(np.where(columns < len(size), 0.0, alone[rows]).sum())
    real = columns < len(size)
    total += float(cost[rows[real], columns[real]].sum())
    matched = np.where(real, columns, -1).astype(np.int64)
    order = float(spearmanr(rows[real], columns[real]).statistic) if real.sum() > 2 else float("nan")
    return Fingerprint(total / len(table), order, matched)
