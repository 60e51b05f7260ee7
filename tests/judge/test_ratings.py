"""Rating vectors from the ratings table."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from affectlake.errors import SourceError, UsageError
from affectlake.judge.agents import RatingsAgent, Scaling, parse_agent
from affectlake.judge.vectors.ratings import (
    ScaledFamily,
    category_family,
    families_of,
    far_from_zero,
    rating_matrix,
    rating_vectors,
    several_tops,
)
from affectlake.judge.vectors.scaling import SCALINGS, Scale
from affectlake.judge.vectors.similarity import choose_by_cosine

CATEGORY = np.array([[0.2, 0.9], [0.5, 0.0], [0.0, 0.3]])
DIMENSION = np.array([[1.0, 5.0, 9.0], [2.0, 2.0, 2.0], [7.5, 8.0, 1.0]])
NINE_POINTS = Scale(1.0, 9.0)
FAMILIES = pl.DataFrame(
    {
        "family": ["category", "dimension"],
        "scale_low": [0.0, 1.0],
        "scale_high": [1.0, 9.0],
        "neutral": pl.Series([None, None], dtype=pl.Float64),
        "are_categories": [True, False],
    }
)


def scaled(name: str, scaling: Scaling = "raw") -> list[ScaledFamily]:
    return [ScaledFamily(name, Scale(0.0, 1.0) if name == "category" else NINE_POINTS, scaling)]


BOTH = [*scaled("category"), *scaled("dimension")]


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
        np.testing.assert_array_equal(rating_vectors(frame, scaled("category"), 3), CATEGORY)
        np.testing.assert_array_equal(rating_vectors(frame, scaled("dimension"), 3), DIMENSION)


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

    found = rating_vectors(ratings, BOTH, 3)
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
        rating_vectors(spoil(ratings), scaled("category"), 3)  # type: ignore[operator]
    assert said in str(error.value)


def test_stimuli_beyond_the_catalogue_are_refused(ratings: pl.DataFrame) -> None:
    with pytest.raises(SourceError, match="not complete"):
        rating_vectors(ratings, scaled("category"), 2)


def test_a_family_of_zeros_cannot_be_scaled(ratings: pl.DataFrame) -> None:
    zero = pl.when((pl.col("stimulus_index") == 1) & (pl.col("family") == "category")).then(0.0).otherwise("score")
    with pytest.raises(SourceError, match="stimulus_index 1"):
        rating_vectors(ratings.with_columns(score=zero), BOTH, 3)


def test_each_scaling_is_scipys_or_sklearns() -> None:
    scores = np.random.default_rng(0).uniform(1, 9, (50, 6))
    scores[:, 3] = 4.0
    found = {name: scale(scores, NINE_POINTS) for name, scale in SCALINGS.items()}
    np.testing.assert_array_equal(found["raw"], scores)
    np.testing.assert_array_equal(found["midpoint"], scores - 5)
    varying = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(
        found["minmax"][:, varying], MinMaxScaler((-1, 1)).fit_transform(scores[:, varying]), atol=1e-12
    )
    np.testing.assert_allclose(found["zscore"][:, varying], stats.zscore(scores[:, varying]), atol=1e-12)
    np.testing.assert_allclose(
        found["centred"][:, varying], StandardScaler(with_std=False).fit_transform(scores[:, varying]), atol=1e-12
    )
    for name in ("minmax", "zscore", "centred"):  # a rating that is the same for every stimulus says nothing
        assert (found[name][:, 3] == 0).all()


def test_one_name_is_the_scaling_of_the_agents_family(ratings: pl.DataFrame) -> None:
    def vectors(entry: dict[str, object]) -> np.ndarray:
        agent = parse_agent("a", {"kind": "ratings", **entry})
        assert isinstance(agent, RatingsAgent)
        return rating_vectors(ratings, families_of(FAMILIES, agent.ratings, agent.scaling), 3)

    np.testing.assert_array_equal(vectors({"ratings": "dimension", "scaling": "midpoint"}), DIMENSION - 5)
    np.testing.assert_array_equal(vectors({"ratings": "category", "scaling": "midpoint"}), CATEGORY - 0.5)
    np.testing.assert_array_equal(vectors({"ratings": "dimension"}), DIMENSION)

    def unit(values: np.ndarray) -> np.ndarray:
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    for scaling in ("midpoint", {"dimension": "midpoint"}):
        found = vectors({"ratings": "concatenated", "scaling": scaling})
        np.testing.assert_allclose(found, np.hstack([unit(CATEGORY), unit(DIMENSION - 5)]))
    both = vectors({"ratings": "concatenated", "scaling": {"category": "centred", "dimension": "midpoint"}})
    np.testing.assert_allclose(both, np.hstack([unit(CATEGORY - CATEGORY.mean(axis=0)), unit(DIMENSION - 5)]))
    with pytest.raises(UsageError, match="raw, midpoint, minmax, zscore, centred"):
        vectors({"ratings": "dimension", "scaling": "signed"})


def test_opposite_sides_of_a_neutral_middle_are_unlike_only_if_the_middle_is_zero() -> None:
    """Bipolar scores: two pleasant stimuli and an unpleasant one that is as strong as the first."""
    scores = np.array([[8.8, 8.0], [6.0, 6.4], [1.6, 2.0]])
    trial = np.array([[0, 1, 2]], np.int32)
    rng = np.random.default_rng(0)
    assert choose_by_cosine(SCALINGS["midpoint"](scores, NINE_POINTS), trial, rng).odd.tolist() == [2]
    assert choose_by_cosine(scores, trial, rng).odd.tolist() != [2]


def test_raw_scores_that_are_far_from_zero_are_warned_of(ratings: pl.DataFrame) -> None:
    high = ratings.with_columns(
        score=pl.when(pl.col("family") == "dimension").then(pl.col("score").clip(2)).otherwise("score")
    )
    assert "the smallest is 2.00" in far_from_zero(high, scaled("dimension"))
    assert "scaling" in far_from_zero(high, BOTH)
    assert far_from_zero(high, scaled("category")) == ""  # proportions begin at 0
    assert far_from_zero(high, scaled("dimension", "midpoint")) == ""


def test_categories_with_the_same_highest_score_are_counted(ratings: pl.DataFrame) -> None:
    assert several_tops(rating_matrix(ratings, 3), "category").tolist() == [False, False, False]
    level = ratings.with_columns(score=pl.when(pl.col("family") == "category").then(pl.lit(0.4)).otherwise("score"))
    assert several_tops(rating_matrix(level, 3), "category").tolist() == [True, True, True]
    nothing = ratings.with_columns(score=pl.when(pl.col("family") == "category").then(pl.lit(0.0)).otherwise("score"))
    assert not several_tops(rating_matrix(nothing, 3), "category").any()
    assert not several_tops(rating_matrix(ratings, 3, "dimension"), "category").any()


def test_bipolar_families_are_compared_from_their_neutral_score() -> None:
    own = FAMILIES.with_columns(neutral=pl.Series([None, 4.0]))
    (one,) = families_of(own, ratings="dimension")
    assert one == ("dimension", Scale(1.0, 9.0, 4.0), "midpoint")
    np.testing.assert_array_equal(SCALINGS["midpoint"](DIMENSION, one.scale), DIMENSION - 4)
    (raw,) = families_of(own, ratings="dimension", scaling="raw")
    assert raw.scaling == "raw"
    every = families_of(own, ratings="concatenated")
    assert [(one.name, one.scaling) for one in every] == [("category", "raw"), ("dimension", "midpoint")]
    named = families_of(own, ratings=["dimension", "category"], scaling={"category": "centred"})
    assert [(one.name, one.scaling) for one in named] == [("dimension", "midpoint"), ("category", "centred")]


def test_families_that_a_study_does_not_have() -> None:
    with pytest.raises(SourceError, match=r"no trait ratings[\s\S]*the families category, dimension"):
        families_of(FAMILIES, ratings="trait")
    with pytest.raises(SourceError, match="there are no ratings"):
        families_of(FAMILIES.clear(), ratings="concatenated")


def test_the_family_of_categories_is_named_in_the_table() -> None:
    assert category_family(FAMILIES) == "category"
    assert category_family(FAMILIES.with_columns(are_categories=pl.lit(value=False))) == ""
