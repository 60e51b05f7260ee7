"""Ratings as a matrix with one row per stimulus, and the rating vectors of `ratings` agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.judge.agents import Ratings

FloatMatrix = NDArray[np.float64]


class RatingMatrix(NamedTuple):
    """Ratings as a matrix.

    Attributes
    ----------
    scores : float64 (n_stimuli, n_ratings)
        Scores; NaN where a stimulus does not have the rating.
    names, families : list of str
        Name and family of each column.
    """

    scores: FloatMatrix
    names: list[str]
    families: list[str]


def rating_matrix(ratings: pl.DataFrame, n_stimuli: int, *families: str) -> RatingMatrix:
    """Return the ratings with one row per stimulus and one column per rating, sorted by name.

    Parameters
    ----------
    ratings : polars.DataFrame
        The ratings table: ``stimulus_index, rating, family, score``, in any order.
    n_stimuli : int
        Size of the catalogue; ratings of stimuli beyond it are left out.
    *families : str
        Families to include; all families if none is given.
    """
    rows = ratings.filter(pl.col("stimulus_index") < n_stimuli)
    if families:
        rows = rows.filter(pl.col("family").is_in(families))
    columns = dict(rows.select("rating", "family").unique().sort("rating").iter_rows())
    column = rows["rating"].rank("dense").cast(pl.Int64) - 1
    scores = np.full((n_stimuli, len(columns)), np.nan)
    scores[rows["stimulus_index"].to_numpy(), column.to_numpy()] = rows["score"].to_numpy()
    return RatingMatrix(scores, list(columns), list(columns.values()))


def rating_vectors(ratings: pl.DataFrame, which: Ratings, n_stimuli: int) -> FloatMatrix:
    """Return one vector of ratings per stimulus.

    Parameters
    ----------
    ratings : polars.DataFrame
        The ratings table: ``stimulus_index, rating, family, score``, in any order.
    which : {'category', 'dimension', 'concatenated'}
        ``category`` and ``dimension`` use the scores of that family unchanged. ``concatenated`` scales each stimulus's
        category vector and its dimension vector to length 1 and concatenates them; the cosine similarity of two stimuli
        is then the mean of the two similarities. (Without scaling, scores of 1 to 9 would dominate proportions of 0 to
        1. The paper does not describe the scaling of its 'Human-concat'.)
    n_stimuli : int
        Size of the catalogue.

    Returns
    -------
    float64 (n_stimuli, n_ratings)
        Columns in the order of the rating names.

    Raises
    ------
    SourceError
        If a stimulus lacks a rating or has one twice, there are no ratings of that family, or a vector to be scaled is
        zero.
    """
    return VECTORS[which](ratings, n_stimuli)


def _family(ratings: pl.DataFrame, family: str, n_stimuli: int) -> FloatMatrix:
    """Return one family's ratings; raise if one is missing or duplicated."""
    rows = ratings.filter(pl.col("family") == family)
    scores, names, _ = rating_matrix(rows, n_stimuli)
    if not names or rows.height != scores.size or np.isnan(scores).any():
        counts = np.bincount(rows["stimulus_index"].to_numpy(), minlength=n_stimuli)
        odd = np.flatnonzero(counts != len(names))
        raise SourceError(
            f"the {family} ratings are not complete",
            wanted=f"each of {len(names)} {family} ratings once for each of {n_stimuli:,} stimuli",
            found=f"{rows.height:,} rows"
            + (f"; stimulus_index {odd[0]} has {counts[odd[0]]}" if len(odd) else "")
            + (f"; {rows['score'].null_count():,} without a score" if rows["score"].null_count() else ""),
            todo="rebuild the ratings table from its source",
        )
    return scores


def _concatenated(ratings: pl.DataFrame, n_stimuli: int) -> FloatMatrix:
    parts = []
    for family in ("category", "dimension"):
        scores = _family(ratings, family, n_stimuli)
        length = np.linalg.norm(scores, axis=1, keepdims=True)
        if not length.all():
            at = np.flatnonzero(length == 0)
            raise SourceError(
                f"{len(at):,} stimuli have a {family} vector of zeros, which has no direction",
                found=f"stimulus_index {', '.join(map(str, at[:5]))}",
                todo="exclude those stimuli",
            )
        parts.append(scores / length)
    return np.hstack(parts)


VECTORS: dict[Ratings, Callable[[pl.DataFrame, int], FloatMatrix]] = {
    "category": lambda ratings, n_stimuli: _family(ratings, "category", n_stimuli),
    "dimension": lambda ratings, n_stimuli: _family(ratings, "dimension", n_stimuli),
    "concatenated": _concatenated,
}
