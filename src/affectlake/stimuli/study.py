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
CAPTIONS = {"stimulus_index": pl.Int32, "caption_index": pl.Int16, "caption": pl.String}


class Study(NamedTuple):
    """The data of a source as tables with the columns and types of ``schemas``, each sorted by its key.

    Attributes
    ----------
    stimuli : polars.DataFrame
        ``stimulus_index, stimulus_id, category, n_captions``: one row per stimulus; the index counts up from 0.
    exclusions : polars.DataFrame
        ``source, stimulus_id, reason, n_rows``: what was excluded, and why.
    ratings : polars.DataFrame
        ``stimulus_index, rating, family, score``: every category and dimension of every stimulus.
    captions : polars.DataFrame
        ``stimulus_index, caption_index, caption``: verbatim texts.
    """

    stimuli: pl.DataFrame
    exclusions: pl.DataFrame
    ratings: pl.DataFrame
    captions: pl.DataFrame


class Scores(NamedTuple):
    """Ratings as in a source.

    Attributes
    ----------
    categories : float64 (n_stimuli, n_categories)
        Proportions of raters, 0 to 1.
    dimensions : float64 (n_stimuli, n_dimensions)
        Means of the nine-point scales, 1 to 9.
    category_names, dimension_names : sequence of str
        Names of the columns, as spelled in the source.
    """

    categories: FloatMatrix
    dimensions: FloatMatrix
    category_names: Sequence[str]
    dimension_names: Sequence[str]


def assemble(stimulus_ids: Sequence[str], scores: Scores, captions: pl.DataFrame, exclusions: pl.DataFrame) -> Study:
    """Return the study of stimuli that are in their final order.

    Parameters
    ----------
    stimulus_ids : sequence of str
        The source's id of each stimulus.
    scores : Scores
        Ratings, in the same order.
    captions : polars.DataFrame
        Columns of `CAPTIONS`, in any order.
    exclusions : polars.DataFrame
        Columns of `EXCLUSIONS`, in any order.
    """
    index = np.arange(len(stimulus_ids), dtype=np.int32)
    names = [name.lower() for name in scores.category_names]
    best = [names[row.argmax()] if row.max(initial=0) > 0 else None for row in scores.categories]
    counts = captions.group_by("stimulus_index").agg(pl.len().cast(pl.Int32).alias("n_captions"))
    stimuli = (
        pl.DataFrame({"stimulus_index": index, "stimulus_id": list(stimulus_ids)})
        .with_columns(category=pl.Series(best, dtype=pl.String))
        .join(counts, on="stimulus_index", how="left")
        .with_columns(pl.col("n_captions").fill_null(0))
        .sort("stimulus_index")
    )
    ratings = pl.concat(
        [
            _long(scores.categories, scores.category_names, "category"),
            _long(scores.dimensions, scores.dimension_names, "dimension"),
        ]
    )
    return Study(
        stimuli=stimuli,
        exclusions=exclusions.cast(pl.Schema(EXCLUSIONS)).sort("source", "stimulus_id"),
        ratings=ratings.sort("stimulus_index", "rating"),
        captions=captions.select(*CAPTIONS).cast(pl.Schema(CAPTIONS)).sort("stimulus_index", "caption_index"),
    )


def _long(scores: FloatMatrix, names: Sequence[str], family: str) -> pl.DataFrame:
    n_stimuli, n_ratings = scores.shape
    return pl.DataFrame(
        {
            "stimulus_index": np.repeat(np.arange(n_stimuli, dtype=np.int32), n_ratings),
            "rating": [name.lower() for name in names] * n_stimuli,
            "family": [family] * scores.size,
            "score": scores.ravel(),
        }
    )


def prototypes(ratings: pl.DataFrame, per_category: int = 2) -> NDArray[np.int32]:
    """Return the prototypes: the highest-rated stimuli of each category, each stimulus once.

    Stimuli are ranked by their score on the category, over all stimuli (ties by index), whatever their other scores
    are. A stimulus with score 0 is not a prototype.

    Parameters
    ----------
    ratings : polars.DataFrame
        The table `ratings`.
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
    best = (
        ratings.filter((pl.col("family") == "category") & (pl.col("score") > 0))
        .sort("rating", "score", "stimulus_index", descending=[False, True, False])
        .group_by("rating", maintain_order=True)
        .head(per_category)
    )
    return best["stimulus_index"].unique().sort().cast(pl.Int32).to_numpy().copy()
