"""Ratings as a matrix with one row per stimulus, and the rating vectors of `ratings` agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.judge.agents import ALL_FAMILIES, Scaling
from affectlake.judge.vectors.scaling import SCALINGS, FloatMatrix, Scale

FAR = 0.1  # share of the largest score above which the smallest one is far from 0


class ScaledFamily(NamedTuple):
    """A family of ratings as an agent uses it: its name, its scale and the scaling of its scores."""

    name: str
    scale: Scale
    scaling: Scaling


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


def families_of(
    families: pl.DataFrame,
    ratings: str | Sequence[str] = ALL_FAMILIES,
    scaling: Scaling | Mapping[str, Scaling] | None = None,
    agent: str = "NAME",
) -> list[ScaledFamily]:
    """Return the families of ratings that an agent uses, in the order in which their vectors are joined.

    Parameters
    ----------
    families : polars.DataFrame
        The table ``families``.
    ratings, scaling, agent : str or sequence of str; str, mapping or None; str
        The agent's settings (:class:`affectlake.judge.agents.RatingsAgent`), and its name for messages.

    Raises
    ------
    SourceError
        If the study does not have a family.
    """
    known = {row["family"]: row for row in families.sort("family").iter_rows(named=True)}
    names = list(known) if ratings == ALL_FAMILIES else [ratings] if isinstance(ratings, str) else ratings
    found = []
    for name in names:
        if name not in known:
            raise SourceError(
                f"there are no {name} ratings",
                wanted=f"ratings of the families that agents.{agent}.ratings names",
                found=f"the families {', '.join(known)}" if known else "no ratings",
                todo="correct the agent, or add the ratings to sources",
            )
        row = known[name]
        alone = len(names) == 1 or not row["are_categories"]
        own: Scaling = "raw" if row["neutral"] is None else "midpoint"
        if isinstance(scaling, Mapping):
            own = scaling.get(name, own)
        elif scaling is not None and alone:
            own = scaling
        found.append(ScaledFamily(name, Scale(row["scale_low"], row["scale_high"], row["neutral"]), own))
    if not found:
        raise SourceError(
            "there are no ratings",
            wanted=f"ratings for the agent {agent}",
            todo="add ratings to sources, or remove the agent from params.yaml",
        )
    return found


def category_family(families: pl.DataFrame) -> str:
    """Return the family of categories in the table ``families``; empty if there is none."""
    named = families.filter("are_categories")["family"]
    return str(named[0]) if len(named) else ""


def kinds_of(ratings: RatingMatrix, categories: str) -> list[Literal["category", "dimension"]]:
    """Return whether each rating is a category (its family is `categories`) or a dimension."""
    return ["category" if family == categories else "dimension" for family in ratings.families]


def several_tops(ratings: RatingMatrix, categories: str) -> NDArray[np.bool_]:
    """Return which stimuli have several categories with the same highest score, above 0: (n_stimuli,).

    The ``category`` of such a stimulus is the first of them in the order of the source. `categories` is the family of
    categories.
    """
    own = [at for at, family in enumerate(ratings.families) if family == categories]
    if not own:
        return np.zeros(len(ratings.scores), bool)
    scores = np.nan_to_num(ratings.scores[:, own])
    best = scores.max(axis=1, keepdims=True)
    return np.asarray(((scores == best) & (best > 0)).sum(axis=1) > 1)


def rating_vectors(ratings: pl.DataFrame, families: Sequence[ScaledFamily], n_stimuli: int) -> FloatMatrix:
    """Return one vector of ratings per stimulus.

    Parameters
    ----------
    ratings : polars.DataFrame
        The ratings table: ``stimulus_index, rating, family, score``, in any order.
    families : sequence of ScaledFamily
        The families to use. The vectors of several families are scaled to length 1 and concatenated; the cosine
        similarity of two stimuli is then the mean of the similarities of each family. (Without this, scores of 1 to 9
        would dominate proportions of 0 to 1. The paper does not describe its 'Human-concat'.)
    n_stimuli : int
        Size of the catalogue.

    Returns
    -------
    float64 (n_stimuli, n_ratings)
        Columns family by family, each in the order of the rating names.

    Raises
    ------
    SourceError
        If a stimulus lacks a rating or has one twice, there are no ratings of a family, or a vector to be scaled is
        zero.
    """
    parts = [SCALINGS[one.scaling](_family(ratings, one.name, n_stimuli), one.scale) for one in families]
    if len(parts) == 1:
        return parts[0]
    return np.hstack([_unit(part, one.name) for part, one in zip(parts, families, strict=True)])


def far_from_zero(ratings: pl.DataFrame, families: Sequence[ScaledFamily]) -> str:
    """Return a warning if scores of a scale that does not begin near 0 are compared without scaling; else ''.

    The cosine of two vectors depends on where 0 is. If the smallest score is far from it (here: above a tenth of the
    largest), all vectors point in much the same direction, and a neutral score has a large part in every similarity.
    """
    for one in families:
        scores = ratings.filter(pl.col("family") == one.name)["score"].drop_nulls()
        if len(scores) and one.scaling == "raw":
            low, high = float(scores.min()), float(scores.max())  # type: ignore[arg-type]
            if low > FAR * high:
                return (
                    f"the {one.name} scores are compared as they are, and the smallest is {low:.2f} (the largest "
                    f"{high:.2f}): a neutral score is then a long vector; for a scale with a neutral middle, set "
                    f"scaling, such as midpoint"
                )
    return ""


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
            todo="add the missing ratings to the source, exclude these stimuli, or leave the agent out of params.yaml",
        )
    return scores


def _unit(scores: FloatMatrix, family: str) -> FloatMatrix:
    """Return the rows scaled to length 1; raise if one is zero."""
    length = np.linalg.norm(scores, axis=1, keepdims=True)
    if not length.all():
        at = np.flatnonzero(length == 0)
        raise SourceError(
            f"{len(at):,} stimuli have a {family} vector of zeros, which has no direction",
            found=f"stimulus_index {', '.join(map(str, at[:5]))}",
            todo="exclude those stimuli",
        )
    return np.asarray(scores / length)
