"""Rating vectors from the ratings table."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from affectlake.errors import SourceError
from affectlake.judge.vectors.ratings import rating_matrix, rating_vectors

CATEGORY = np.array([[0.2, 0.9], [0.5, 0.0], [0.0, 0.3]])
DIMENSION = np.array([[1.0, 5.0, 9.0], [2.0, 2.0, 2.0], [7.5, 8.0, 1.0]])


@pytest.fixture
def ratings() -> pl.DataFrame:
    rows = [
        (i, name, family, score)
        for family, names, scores in (("category", "xy", CATEGORY), ("dimension", "abc", DIMENSION))
        for i, row in enumerate(scores)
        for name, score in zip(names, row, strict=True)
    ]
    return pl.DataFrame(
        rows,
        schema={"stimulus_index": pl.Int32, "rating": pl.String, "family": pl.String, "score": pl.Float64},
        orient="row",
    )


def test_a_family_is_taken_as_it_is(ratings: pl.DataFrame) -> None:
    for frame in (ratings, ratings.sample(fraction=1, shuffle=True, seed=1)):
        np.testing.assert_array_equal(rating_vectors(frame, "category", 3), CATEGORY)
        np.testing.assert_array_equal(rating_vectors(frame, "dimension", 3), DIMENSION)


def test_columns_of_a_matrix_are_in_the_order_of_their_names(ratings: pl.DataFrame) -> None:
    for frame in (ratings, ratings.sample(fraction=1, shuffle=True, seed=1)):
        found = rating_matrix(frame, 3)
        np.testing.assert_array_equal(found.scores, np.hstack([DIMENSION, CATEGORY]))
        assert (found.names, found.families) == (list("abcxy"), ["dimension"] * 3 + ["category"] * 2)
        np.testing.assert_array_equal(rating_matrix(frame, 3, "category").scores, CATEGORY)


def test_a_matrix_is_polars_pivot_with_gaps(ratings: pl.DataFrame) -> None:
    holed = ratings.filter(~((pl.col("stimulus_index") == 1) & (pl.col("rating") == "b")))
    wide = holed.sort("stimulus_index", "rating").pivot("rating", index="stimulus_index", values="score")
    found = rating_matrix(holed, 3)
    assert found.names == wide.columns[1:]
    np.testing.assert_array_equal(found.scores, wide.drop("stimulus_index").to_numpy())
    assert np.isnan(found.scores[1, 1])


def test_no_ratings_are_a_matrix_without_columns(ratings: pl.DataFrame) -> None:
    assert rating_matrix(ratings.clear(), 3).scores.shape == (3, 0)


def test_the_concatenated_cosine_is_the_mean_of_the_two(ratings: pl.DataFrame) -> None:
    def cosines(vectors: np.ndarray) -> np.ndarray:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit @ unit.T

    found = rating_vectors(ratings, "concatenated", 3)
    assert found.shape == (3, 5)
    np.testing.assert_allclose(cosines(found), (cosines(CATEGORY) + cosines(DIMENSION)) / 2, atol=1e-14)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.slice(1), "stimulus_index 0 has 1"),
        (lambda f: pl.concat([f, f.slice(1, 1)]), "stimulus_index 0 has 3"),
        (lambda f: f.filter(pl.col("stimulus_index") < 2), "stimulus_index 2 has 0"),
        (lambda f: f.filter(pl.col("family") == "dimension"), "0 category ratings"),
        (
            lambda f: f.with_columns(rating=pl.when(pl.int_range(pl.len()) == 1).then(pl.lit("z")).otherwise("rating")),
            "",
        ),
        (
            lambda f: f.with_columns(score=pl.when(pl.int_range(pl.len()) == 1).then(None).otherwise("score")),
            "1 without",
        ),
        (lambda f: pl.concat([f.slice(0, 1), f.slice(0, 1), f.slice(2)]), "6 rows"),
    ],
)
def test_gaps_are_refused(ratings: pl.DataFrame, spoil: object, said: str) -> None:
    with pytest.raises(SourceError, match="category ratings are not complete") as error:
        rating_vectors(spoil(ratings), "category", 3)  # type: ignore[operator]
    assert said in str(error.value)


def test_stimuli_beyond_the_catalogue_are_refused(ratings: pl.DataFrame) -> None:
    with pytest.raises(SourceError, match="not complete"):
        rating_vectors(ratings, "category", 2)


def test_a_family_of_zeros_cannot_be_scaled(ratings: pl.DataFrame) -> None:
    zero = pl.when((pl.col("stimulus_index") == 1) & (pl.col("family") == "category")).then(0.0).otherwise("score")
    with pytest.raises(SourceError, match="stimulus_index 1"):
        rating_vectors(ratings.with_columns(score=zero), "concatenated", 3)
