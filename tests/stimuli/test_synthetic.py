"""The synthetic world: what was planted can be found again."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import pearsonr

from affectlake.errors import UsageError
from affectlake.judge.vectors.ratings import families_of, rating_vectors
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.judge.vectors.text import tfidf_svd
from affectlake.stimuli import CATEGORIES, DIMENSIONS, make_synthetic, prototypes
from affectlake.stimuli.synthetic_words import GRAMMAR, PROFILES
from affectlake.triplet_sampling import sample_dyads


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_tables_of_300_stimuli() -> None:
    study = make_synthetic(300, rng()).study
    assert study.stimuli["stimulus_id"].to_list()[:2] == ["synthetic-0001", "synthetic-0002"]
    assert study.stimuli["stimulus_index"].to_list() == list(range(300))
    assert study.stimuli["n_captions"].to_list() == [5] * 300
    assert study.ratings.height == 300 * (12 + 14)
    assert study.captions.height == 1500
    assert study.exclusions.is_empty()
    assert study.captions["caption"].str.contains("synthetic").all()
    of_categories = study.ratings.filter(pl.col("family") == "category")
    of_dimensions = study.ratings.filter(pl.col("family") == "dimension")
    assert of_categories["score"].is_between(0, 1).all()
    assert of_dimensions["score"].is_between(1, 9).all()
    assert ((of_categories["score"] * 12).round() / 12 - of_categories["score"]).abs().max() < 1e-12
    assert 12 <= len(prototypes(study.ratings, study.families)) <= 24


@pytest.mark.parametrize("n_stimuli", [30, 60, 119, 240, 300, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_categories_have_ten_members_or_nearly_so(n_stimuli: int, seed: int) -> None:
    world = make_synthetic(n_stimuli, rng(seed))
    sizes = np.bincount(world.mix.argmax(axis=1))
    assert sizes.min() >= 10
    rated = world.study.stimuli["category"].value_counts()["count"]
    assert len(rated) == len(world.categories)
    assert rated.min() >= (10 if n_stimuli >= 240 else 7)


def test_the_mix_is_the_planted_truth() -> None:
    world = make_synthetic(300, rng())
    np.testing.assert_allclose(world.mix.sum(axis=1), 1)
    assert ((world.mix > 0).sum(axis=1) <= 2).all()
    assert world.mix.max(axis=1).min() >= 0.6
    planted = [world.categories[at] for at in world.mix.argmax(axis=1)]
    assert np.mean(np.array(planted) == world.study.stimuli["category"].to_numpy()) > 0.95


def test_the_rated_dimensions_follow_the_profiles() -> None:
    world = make_synthetic(300, rng())
    truth = world.mix @ world.profiles
    rated = world.study.ratings.filter(pl.col("family") == "dimension").sort("stimulus_index", "rating")
    scores = rated["score"].to_numpy().reshape(300, 14)
    for column in range(14):
        assert pearsonr(truth[:, column], scores[:, column]).statistic > 0.8, DIMENSIONS[column]


def test_agents_judge_as_the_planted_mix_would() -> None:
    world = make_synthetic(300, rng())
    triplets = sample_dyads(300, rng(1))
    truth = choose_by_cosine(world.mix, triplets, rng(2))
    captions = world.study.captions.group_by("stimulus_index", maintain_order=True).agg("caption")["caption"].to_list()
    answers = {
        "category": rating_vectors(world.study.ratings, families_of(world.study.families, "category"), 300),
        "dimension": rating_vectors(world.study.ratings, families_of(world.study.families, "dimension"), 300),
        "concatenated": rating_vectors(world.study.ratings, families_of(world.study.families, "concatenated"), 300),
        "captions": tfidf_svd(captions, 100, 0).astype(np.float64),
    }
    clear = ~truth.tied
    agreement = {
        name: (choose_by_cosine(vectors, triplets, rng(3)).odd == truth.odd)[clear].mean()
        for name, vectors in answers.items()
    }
    assert agreement["category"] > 0.8, agreement
    assert min(agreement.values()) > 0.5, agreement


def test_same_seed_same_world() -> None:
    one, again, other = (make_synthetic(60, rng(seed)) for seed in (1, 1, 2))
    assert all(a.equals(b) for a, b in zip(one.study, again.study, strict=True))
    assert not one.study.ratings.equals(other.study.ratings)


def test_a_world_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="30 or more"):
        make_synthetic(29, rng())


def test_the_constants_fit_together() -> None:
    assert set(PROFILES) == set(GRAMMAR) <= set(CATEGORIES)
    assert (len(CATEGORIES), len(DIMENSIONS)) == (34, 14)
    assert all(len(profile) == 14 and min(profile) >= 1 and max(profile) <= 9 for profile in PROFILES.values())
