"""The odd one out by cosine similarity, against independent formulations."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from affectlake.errors import SourceError
from affectlake.judge.vectors import similarity, similarity_kernels
from affectlake.judge.vectors.ratings import families_of, rating_vectors
from affectlake.judge.vectors.similarity import choose_by_cosine
from affectlake.stimuli import load_emotion
from affectlake.triplet_sampling import sample_dyads


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def triplets() -> np.ndarray:
    return sample_dyads(40, rng())


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return rng(1).normal(size=(40, 7))


def test_the_most_similar_pair_stays(vectors: np.ndarray, triplets: np.ndarray) -> None:
    found = choose_by_cosine(vectors, triplets, rng())
    assert found.odd.dtype == np.int32
    assert not found.tied.any()
    for row, odd in zip(triplets.tolist(), found.odd.tolist(), strict=True):
        pair = max(combinations(row, 2), key=lambda p: 1 - cosine(vectors[p[0]], vectors[p[1]]))
        assert odd not in pair


def test_the_farthest_on_average_is_the_same_one(vectors: np.ndarray, triplets: np.ndarray) -> None:
    found = choose_by_cosine(vectors, triplets, rng())
    for row, odd in zip(triplets.tolist(), found.odd.tolist(), strict=True):
        average = {a: np.mean([cosine(vectors[a], vectors[b]) for b in row if b != a]) for a in row}
        assert odd == max(average, key=lambda a: average[a])


def test_lengths_do_not_matter(vectors: np.ndarray, triplets: np.ndarray) -> None:
    expected = choose_by_cosine(vectors, triplets, rng())
    lengths = np.exp(rng(2).uniform(-600, 600, size=(40, 1)))
    found = choose_by_cosine(vectors * lengths, triplets, rng())
    assert (found.odd == expected.odd).all()
    turned, _ = np.linalg.qr(rng(3).normal(size=(7, 7)))
    assert (choose_by_cosine(vectors @ turned, triplets, rng()).odd == expected.odd).all()


def test_the_order_of_stimuli_and_columns_does_not_matter(vectors: np.ndarray, triplets: np.ndarray) -> None:
    expected = choose_by_cosine(vectors, triplets, rng())
    order = rng(4).permutation(40)
    place = np.argsort(order).astype(np.int32)
    found = choose_by_cosine(vectors[order], place[triplets][:, [2, 0, 1]], rng())
    assert (order[found.odd] == expected.odd).all()


def test_without_the_matrix_the_answers_are_the_same(
    vectors: np.ndarray, triplets: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = np.round(vectors)
    coarse[(coarse == 0).all(axis=1)] = 1
    expected = choose_by_cosine(coarse, triplets, rng())
    monkeypatch.setattr(similarity, "LARGEST_MATRIX_BYTES", 0)
    found = choose_by_cosine(coarse, triplets, rng())
    assert expected.tied.any()
    assert (found.odd == expected.odd).all()
    assert (found.tied == expected.tied).all()


def test_similarities_are_exactly_symmetric(vectors: np.ndarray) -> None:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = similarity_kernels.similarities(unit)
    assert (found == found.T).all()
    np.testing.assert_allclose(found, unit @ unit.T, atol=1e-14)


def test_independent_vectors_agree_at_chance(triplets: np.ndarray) -> None:
    one, other = (choose_by_cosine(rng(seed).normal(size=(40, 200)), triplets, rng()) for seed in (5, 6))
    assert abs((one.odd == other.odd).mean() - 1 / 3) < 0.05


def test_a_three_way_tie_is_broken_evenly() -> None:
    vectors = np.array([[1.0, 2, 3], [0.1, 0.2, 0.3], [3, 6, 9], [1, 0, 0]])
    asked = np.tile(np.array([[0, 1, 2]], np.int32), (30_000, 1))
    found = choose_by_cosine(vectors, asked, rng())
    assert found.tied.all()
    assert np.abs(np.bincount(found.odd, minlength=3) / 30_000 - 1 / 3).max() < 0.015


def test_a_two_way_tie_is_broken_evenly_between_the_two() -> None:
    vectors = np.array([[1.0, 1.0], [1.0, 0.3], [0.3, 1.0]])  # 1 and 2 are equally near to 0
    asked = np.tile(np.array([[0, 1, 2]], np.int32), (30_000, 1))
    found = choose_by_cosine(vectors, asked, rng())
    counts = np.bincount(found.odd, minlength=3) / 30_000
    assert found.tied.all()
    assert counts[0] == 0
    assert abs(counts[1] - 0.5) < 0.015


def test_a_tie_of_the_two_smaller_similarities_is_none() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    found = choose_by_cosine(vectors, np.array([[0, 1, 2]], np.int32), rng())
    assert found.odd.tolist() == [0]
    assert not found.tied.any()


def test_only_ties_depend_on_the_generator(triplets: np.ndarray) -> None:
    coarse = rng(7).integers(0, 2, size=(40, 3)) + np.array([0, 0, 1])
    one, again, other = (choose_by_cosine(coarse.astype(float), triplets, rng(seed)) for seed in (1, 1, 2))
    assert one.odd.tobytes() == again.odd.tobytes()
    assert (one.tied == other.tied).all()
    assert (one.odd == other.odd)[~one.tied].all()
    assert (one.odd != other.odd)[one.tied].any()


def test_no_triplets_no_choices(vectors: np.ndarray) -> None:
    assert choose_by_cosine(vectors, np.empty((0, 3), np.int32), rng()).odd.shape == (0,)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_is_refused(vectors: np.ndarray, triplets: np.ndarray, value: float) -> None:
    bad = vectors.copy()
    bad[[3, 17]] = value
    with pytest.raises(SourceError, match="2 of 40 vectors have no direction") as error:
        choose_by_cosine(bad, triplets, rng())
    assert "3, 17" in str(error.value)


@pytest.mark.parametrize("row", [[0, 1, 40], [-1, 2, 3]])
def test_a_stimulus_without_vector_is_refused(vectors: np.ndarray, row: list[int]) -> None:
    with pytest.raises(SourceError, match="0 to 39"):
        choose_by_cosine(vectors, np.array([row], np.int32), rng())


@pytest.mark.realdata
def test_the_published_ratings_at_full_size(real_data: Path) -> None:
    path = real_data / "cowen_keltner_2017" / "CowenKeltnerEmotionalVideos.csv"
    study = load_emotion(path, None, [859, 866, 1673, 2157])
    asked = sample_dyads(2181, rng())
    answers = {}
    for which in ("category", "dimension", "concatenated"):
        vectors = rating_vectors(study.ratings, families_of(study.families, which), 2181)
        answers[which] = choose_by_cosine(vectors, asked, rng(1))
        some = rng(2).choice(len(asked), 2000, replace=False)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        i, j, k = asked[some].T
        pairs = np.stack([(unit[a] * unit[b]).sum(axis=1) for a, b in ((j, k), (i, k), (i, j))])
        clear = ~answers[which].tied[some]
        assert (asked[some, pairs.argmax(axis=0)] == answers[which].odd[some])[clear].all()
    assert 0 < answers["category"].tied.mean() < 0.002
    assert answers["dimension"].tied.mean() < 1e-5
    assert 0.4 < (answers["category"].odd == answers["dimension"].odd).mean() < 0.8
