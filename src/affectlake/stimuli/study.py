"""A study as tables, and the prototypes of its categories.

Reading files and generating stimuli do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

FloatMatrix = NDArray[np.float64]

EXCLUSIONS = {"source": pl.String, "stimulus_id": pl.String, "reason": pl.String, "n_rows": pl.Int32}
FAMILIES = {
    "family": pl.String,
    "scale_low": pl.Float64,
    "scale_high": pl.Float64,
    "neutral": pl.Float64,
    "are_categories": pl.Boolean,
}
RATINGS = {"stimulus_index": pl.Int32, "rating": pl.String, "family": pl.String, "score": pl.Float64}
CAPTIONS = {"stimulus_index": pl.Int32, "caption_index": pl.Int16, "caption": pl.String}


class Study(NamedTuple):
    """The data of a source as tables with the columns and types of ``schemas``, each sorted by its key.

    Attributes
    ----------
    stimuli : polars.DataFrame
        ``stimulus_index, stimulus_id, category, n_captions``: one row per stimulus; the index counts up from 0.
    exclusions : polars.DataFrame
        ``source, stimulus_id, reason, n_rows``: what was excluded, and why.
    families : polars.DataFrame
        ``family, scale_low, scale_high, neutral, are_categories``: the families of ratings.
    ratings : polars.DataFrame
        ``stimulus_index, rating, family, score``: every rating of every stimulus.
    captions : polars.DataFrame
        ``stimulus_index, caption_index, caption``: verbatim texts.
    """

    stimuli: pl.DataFrame
    exclusions: pl.DataFrame
    families: pl.DataFrame
    ratings: pl.DataFrame
    captions: pl.DataFrame


class Family(NamedTuple):
    """A family of ratings: ratings with one scale.

    Attributes
    ----------
    name : str
        Name of the family.
    low, high : float
        Smallest and largest possible score.
    neutral : float or None
        Neutral score of a bipolar scale; None for other scales.
    are_categories : bool
        Whether its ratings are categories, and the highest one is the category of a stimulus.
    """

    name: str
    low: float
    high: float
    neutral: float | None = None
    are_categories: bool = False


class Scores(NamedTuple):
    """The ratings of one family.

    Attributes
    ----------
    family : Family
    names : sequence of str
        Names of the ratings.
    values : float64 (n_stimuli, n_ratings)
        The scores; NaN where a stimulus does not have the rating.
    """

    family: Family
    names: Sequence[str]
    values: FloatMatrix


def assemble(
    stimulus_ids: Sequence[str],
    scores: Sequence[Scores],
    captions: pl.DataFrame,
    exclusions: pl.DataFrame,
    categories: Sequence[str | None] | None = None,
) -> Study:
    """Return the study of stimuli that are in their final order.

    Parameters
    ----------
    stimulus_ids : sequence of str
        The source's id of each stimulus.
    scores : sequence of Scores
        The families of ratings, with stimuli in the same order. At most one has categories.
    captions : polars.DataFrame
        Columns of `CAPTIONS`, in any order.
    exclusions : polars.DataFrame
        Columns of `EXCLUSIONS`, in any order.
    categories : sequence of str or None, optional
        The category of each stimulus; by default, the rating with the highest score (the first one, if several are
        equal) in the family of categories, or None if there is no such family or no score is above 0.
    """
    index = np.arange(len(stimulus_ids), dtype=np.int32)
    best = _highest(scores, len(stimulus_ids)) if categories is None else list(categories)
    counts = captions.group_by("stimulus_index").agg(pl.len().cast(pl.Int32).alias("n_captions"))
    stimuli = (
        pl.DataFrame({"stimulus_index": index, "stimulus_id": list(stimulus_ids)})
        .with_columns(category=pl.Series(best, dtype=pl.String))
        .join(counts, on="stimulus_index", how="left")
        .with_columns(pl.col("n_captions").fill_null(0))
        .sort("stimulus_index")
    )
    families = pl.DataFrame([one.family for one in scores], schema=FAMILIES, orient="row")
    ratings = pl.concat([pl.DataFrame(schema=RATINGS), *map(_long, scores)])
    return Study(
        stimuli=stimuli,
        exclusions=exclusions.cast(pl.Schema(EXCLUSIONS)).sort("source", "stimulus_id"),
        families=families.sort("family"),
        ratings=ratings.sort("stimulus_index", "rating"),
        captions=captions.select(*CAPTIONS).cast(pl.Schema(CAPTIONS)).sort("stimulus_index", "caption_index"),
    )


def _highest(scores: Sequence[Scores], n_stimuli: int) -> list[str | None]:
    """Return the category with the highest score of each stimulus."""
    for one in scores:
        if one.family.are_categories and one.names:
            values = np.where(np.isnan(one.values), -np.inf, one.values)
            return [one.names[row.argmax()] if row.max() > 0 else None for row in values]
    return [None] * n_stimuli


def _long(scores: Scores) -> pl.DataFrame:
    n_stimuli, n_ratings = scores.values.shape
    every = pl.DataFrame(
        {
            "stimulus_index": np.repeat(np.arange(n_stimuli, dtype=np.int32), n_ratings),
            "rating": pl.Series(list(scores.names), dtype=pl.String).gather(np.tile(np.arange(n_ratings), n_stimuli)),
            "score": scores.values.ravel(),
        }
    )
    return every.filter(pl.col("score").is_not_nan()).select(
        "stimulus_index", "rating", pl.lit(scores.family.name).alias("family"), "score"
    )


def prototypes(ratings: pl.DataFrame, families: pl.DataFrame, per_category: int = 2) -> NDArray[np.int32]:
    """Return the prototypes: the highest-rated stimuli of each category, each stimulus once.

    Stimuli are ranked by their score on the category, over all stimuli (ties by index), whatever their other scores
    are. A stimulus with score 0 is not a prototype.

    Parameters
    ----------
    ratings, families : polars.DataFrame
        The tables of these names. Without a family of categories, there are no prototypes.
    per_category : int, default=2
        Number of stimuli per category.

    Returns
    -------
    int32 (n_prototypes,)
        Stimulus indices in increasing order; at most `per_category` times the number of categories.

    Notes
    -----
    Du et al. 2025, 'Collecting behavioral responses from MLLMs': "the two highest-rated videos per emotion category,
    with duplicates consolidated", 66 of 68.
    """
    named = families.filter("are_categories")["family"].implode()
    best = (
        ratings.filter(pl.col("family").is_in(named) & (pl.col("score") > 0))
        .sort("rating", "score", "stimulus_index", descending=[False, True, False])
        .group_by("rating", maintain_order=True)
        .head(per_category)
    )
    return best["stimulus_index"].unique().sort().cast(pl.Int32).to_numpy().copy()
