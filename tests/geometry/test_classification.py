"""Nearest-centroid classification against scikit-learn in an explicit leave-one-out loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestCentroid as Reference

from affectlake.errors import AffectlakeError
from affectlake.geometry.classification import NearestCentroid, nearest_centroid


def leave_one_out(points: NDArray[np.float64], labels: NDArray[np.str_], top: int) -> float:
    hits = []
    for held_out in range(len(points)):
        rest = np.arange(len(points)) != held_out
        model = Reference().fit(points[rest], labels[rest])
        nearest = np.linalg.norm(model.centroids_ - points[held_out], axis=1).argsort()[:top]
        hits.append(labels[held_out] in model.classes_[nearest])
        if top == 1:
            assert model.predict(points[held_out][None])[0] == model.classes_[nearest[0]]
    return float(np.mean(hits))


def accuracies(found: NearestCentroid) -> list[float]:
    return [one.accuracy for one in found.accuracies]


def blobs(rng: np.random.Generator, sizes: list[int], apart: float) -> tuple[NDArray[np.float64], list[str]]:
    centres = rng.normal(size=(len(sizes), 4)) * apart
    points = np.concatenate([rng.normal(size=(n, 4)) + centre for n, centre in zip(sizes, centres, strict=True)])
    return points, [f"category {at}" for at, n in enumerate(sizes) for _ in range(n)]


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn_leaving_one_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, labels = blobs(rng, [3, 12, 7, 20, 4], apart=0.8)
    order = rng.permutation(len(points))
    points, labels = points[order], [labels[at] for at in order]
    found = nearest_centroid(points, labels, rng, min_category_size=2, permutations=1)
    expected = [leave_one_out(points, np.array(labels), top) for top in (1, 2, 3)]
    assert accuracies(found) == pytest.approx(expected, abs=1e-12)


def test_small_categories_and_unlabelled_stimuli_are_left_out() -> None:
    rng = np.random.default_rng(0)
    points, labels = blobs(rng, [10, 9, 15, 12], apart=1)
    named: list[str | None] = [*labels, None, None]
    found = nearest_centroid(np.vstack([points, np.zeros((2, 4))]), named, np.random.default_rng(1), permutations=20)
    kept = [at for at, name in enumerate(labels) if name != "category 1"]
    again = nearest_centroid(points[kept], [labels[at] for at in kept], np.random.default_rng(1), permutations=20)
    assert (found.n_stimuli, found.n_categories) == (37, 3)
    assert found == again
    assert [one.top for one in found.accuracies] == [1, 2]  # the first three of three are always right


def test_planted_categories_are_found() -> None:
    points, labels = blobs(np.random.default_rng(0), [12, 30, 15, 20], apart=40)
    found = nearest_centroid(points, labels, np.random.default_rng(0), permutations=99)
    assert accuracies(found) == [1, 1, 1]
    assert {one.p_value for one in found.accuracies[:2]} == {0.01}
    assert all(one.ci_high == 1 and one.ci_low < 1 for one in found.accuracies)


def test_chance_without_structure() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(600, 8))
    labels = [str(at % 6) for at in range(600)]
    found = nearest_centroid(points, labels, rng, permutations=300)
    for one in found.accuracies:
        assert one.chance == pytest.approx(one.top / 6, abs=0.05)  # leaving one out pulls it a little below
        assert one.ci_low - 0.05 < one.chance < one.ci_high + 0.05
        assert one.p_value > 0.01


def test_p_values_are_uniform_without_structure() -> None:
    rng = np.random.default_rng(5)
    labels = [str(at % 3) for at in range(60)]
    levels = [
        nearest_centroid(rng.normal(size=(60, 3)), labels, rng, permutations=49).accuracies[0].p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(levels) <= 0.1) < 0.17
    assert np.mean(np.array(levels) <= 0.5) == pytest.approx(0.5, abs=0.13)


def test_permuted_accuracies_equal_the_loop() -> None:
    rng = np.random.default_rng(6)
    points, labels = blobs(rng, [11, 10, 14, 13], apart=0.5)
    found = nearest_centroid(points, labels, np.random.default_rng(9), permutations=7)
    orders = np.random.default_rng(9).permuted(np.broadcast_to(np.arange(48), (7, 48)), axis=1)
    grouped = np.array(sorted(labels))  # order p lists the stimuli category by category
    shuffled = []
    for order in orders:
        permuted = np.empty(48, dtype=grouped.dtype)
        permuted[order] = grouped
        shuffled.append(leave_one_out(points, permuted, 1))
    assert found.accuracies[0].chance == pytest.approx(np.mean(shuffled), abs=1e-12)
    at_least = sum(one >= found.accuracies[0].accuracy for one in shuffled)
    assert found.accuracies[0].p_value == (1 + at_least) / 8


def test_moving_turning_and_reordering_do_not_matter() -> None:
    rng = np.random.default_rng(7)
    points, labels = blobs(rng, [20, 15, 30, 12], apart=0.7)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    order = rng.permutation(len(points))
    moved = nearest_centroid(
        (points @ turn * 3 + 100)[order], [labels[at] for at in order], np.random.default_rng(0), permutations=1
    )
    assert accuracies(moved) == accuracies(nearest_centroid(points, labels, np.random.default_rng(0), permutations=1))


def test_what_cannot_be_classified_says_why() -> None:
    rng = np.random.default_rng(0)
    alone = nearest_centroid(rng.random((30, 2)), ["joy"] * 25 + ["fear"] * 5, rng)
    assert alone.accuracies == () and "1 of the categories have 10 stimuli or more" in alone.reason
    constant = nearest_centroid(np.full((30, 2), 0.3), ["joy"] * 15 + ["fear"] * 15, rng)
    assert constant.accuracies == () and "same weights" in constant.reason
    assert nearest_centroid(np.zeros((4, 2)), [None] * 4, rng).n_stimuli == 0


def test_wrong_shapes_and_options_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(AffectlakeError, match="same stimuli"):
        nearest_centroid(np.ones((3, 2)), ["a"] * 4, rng)
    with pytest.raises(AffectlakeError, match="not finite"):
        nearest_centroid(np.full((3, 2), np.nan), ["a"] * 3, rng)
    with pytest.raises(AffectlakeError, match="min_category_size >= 2"):
        nearest_centroid(np.ones((3, 2)), ["a"] * 3, rng, min_category_size=1)
    with pytest.raises(AffectlakeError, match="permutations >= 1"):
        nearest_centroid(np.ones((3, 2)), ["a"] * 3, rng, permutations=0)


@pytest.mark.realdata
def test_real_categories_and_their_number(real_data: Path) -> None:
    path = real_data / "cowen_keltner_2017" / "CowenKeltnerEmotionalVideos.csv"
    table = pl.read_csv(path, columns=list(range(35)), infer_schema_length=None)
    kept = table.filter(~pl.col("Filename").is_in(["0859.mp4", "0866.mp4", "1673.mp4", "2157.mp4"])).drop("Filename")
    scores = kept.to_numpy()
    labels = [kept.columns[at] for at in scores.argmax(axis=1)]
    found = nearest_centroid(scores, labels, np.random.default_rng(0), permutations=100)
    assert (found.n_stimuli, found.n_categories) == (2167, 27)
    assert found.accuracies[2].accuracy > 0.97
    assert found.accuracies[2].p_value == 1 / 101


def test_the_interval_holds_the_accuracy_although_stimuli_share_centroids() -> None:
    categories = [str(number) for number in np.repeat(np.arange(5), 10)]
    found = [
        nearest_centroid(rng.gamma(0.5, size=(50, 10)), categories, rng, permutations=99).accuracies[0]
        for rng in (np.random.default_rng([3, seed]) for seed in range(400))
    ]
    truth = np.mean([one.accuracy for one in found])
    assert np.mean([one.ci_low <= truth <= one.ci_high for one in found]) >= 0.92
    assert all(one.ci_low <= one.accuracy <= one.ci_high for one in found)
