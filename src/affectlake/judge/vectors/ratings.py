"""Rating vectors: the numbers from which a `ratings` agent judges.

From the ratings table to one vector per stimulus. How vectors are compared does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.judge.agents import Ratings

FloatMatrix = NDArray[np.float64]


def rating_vectors(ratings: pl.DataFrame, which: Ratings, n_stimuli: int) -> FloatMatrix:
    """Return one vector of ratings per stimulus.

    Parameters
    ----------
    ratings : polars.DataFrame
        The ratings table: ``stimulus_index, rating, family, score``, in any order.
    which : {'category', 'dimension', 'concatenated'}
        ``category`` and ``dimension`` take the scores of that family as they are. ``concatenated`` scales each
        stimulus's category vector and its dimension vector to length 1 and joins them; the cosine similarity of two
        stimuli is then the mean of their two similarities. (Joined as they are, scores of 1 to 9 would drown
        proportions of 0 to 1. The paper does not say how its 'Human-concat' scales them.)
    n_stimuli : int
        Size of the catalogue.

    Returns
    -------
    float64 (n_stimuli, n_ratings)
        Columns in the order of the rating names.

    Raises
    ------
    SourceError
        A stimulus lacks a rating or has one twice, there are no ratings of that family, or a vector to be scaled is
        zero.
    """
    return VECTORS[which](ratings, n_stimuli)


def _family(ratings: pl.DataFrame, family: str, n_stimuli: int) -> FloatMatrix:
    rows = ratings.filter(pl.col("family") == family).sort("stimulus_index", "rating")
    names = rows["rating"].unique().sort()
    index = rows["stimulus_index"].to_numpy()
    expected = np.repeat(np.arange(n_stimuli), len(names))
    complete = len(names) > 0 and np.array_equal(index, expected)
    if not complete or rows["score"].null_count() or not (rows["rating"] == pl.concat([names] * n_stimuli)).all():
        counts = np.bincount(index, minlength=n_stimuli)
        odd = np.flatnonzero(counts != len(names))
        raise SourceError(
            f"The {family} ratings are not complete.",
            wanted=f"each of {len(names)} {family} ratings once for each of {n_stimuli:,} stimuli",
            found=f"{rows.height:,} rows"
            + (f"; stimulus_index {odd[0]} has {counts[odd[0]]}" if len(odd) else "")
            + (f"; {rows['score'].null_count():,} without a score" if rows["score"].null_count() else ""),
            todo="build the ratings table again from its source",
        )
    return rows["score"].to_numpy().astype(np.float64).reshape(n_stimuli, len(names))


def _concatenated(ratings: pl.DataFrame, n_stimuli: int) -> FloatMatrix:
    parts = []
    for family in ("category", "dimension"):
        scores = _family(ratings, family, n_stimuli)
        length = np.linalg.norm(scores, axis=1, keepdims=True)
        if not length.all():
            at = np.flatnonzero(length == 0)
            raise SourceError(
                f"{len(at):,} stimuli have a {family} vector of zeros, which has no direction.",
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
