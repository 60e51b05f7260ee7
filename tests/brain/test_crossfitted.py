"""Whitening by the noise of other stimuli: rsatoolbox group by group, no bias, and folds of repeated presentations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from affectlake.brain import crossfitted
from affectlake.brain.contributions.estimates import estimates
from affectlake.brain.contributions.pair_scores import mean_of_pairs
from affectlake.brain.crossfitted import crossfitted_distances
from affectlake.brain.crossnobis import crossnobis, noise_covariance, residuals
from affectlake.brain.repeat_folds import repeat_folds, without_run_means
from affectlake.errors import SourceError
from affectlake.rsm import pairs

N, V, FOLDS = 8, 12, 3


def presented(
    patterns: NDArray[np.float64], rng: np.random.Generator, folds: int = FOLDS
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return presentations of every pattern in every fold with correlated noise, in a random order."""
    n, v = patterns.shape
    stimulus, fold = np.tile(np.arange(n), folds), np.repeat(np.arange(folds), n)
    order = rng.permutation(n * folds)
    noise = rng.normal(size=(n * folds, v)) + 0.7 * rng.normal(size=(n * folds, 1))
    return (patterns[stimulus] + noise)[order], stimulus[order], fold[order]


@pytest.mark.parametrize("shrinkage", ["diagonal", "identity", "none"])
def test_every_pair_is_whitened_by_the_noise_of_other_stimuli(shrinkage: str) -> None:
    """With a group for each stimulus, the distance of two is rsatoolbox's, by the covariance of all others."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import cov_from_residuals
    from rsatoolbox.rdm import calc_rdm

    rng = np.random.default_rng(0)
    x, stimulus, fold = presented(rng.normal(size=(N, 5)), rng)
    name = {"diagonal": "shrinkage_diag", "identity": "shrinkage_eye", "none": "full"}[shrinkage]
    expected = []
    for i, j in combinations(range(N), 2):
        two = np.isin(stimulus, (i, j))
        left, freedom = residuals(x[~two], stimulus[~two])
        own = Dataset(x[two], obs_descriptors={"stimulus": stimulus[two], "fold": fold[two]})
        precision = np.linalg.inv(cov_from_residuals(left, freedom, name))
        with np.errstate(invalid="ignore"):
            found = calc_rdm(own, "crossnobis", "stimulus", noise=precision, cv_descriptor="fold")
        expected.append(found.dissimilarities[0, 0])
    one = crossfitted_distances(x, stimulus, fold, shrinkage)  # type: ignore[arg-type]
    assert np.allclose(pairs(one.distances), expected, atol=1e-9)
    assert one.n_voxels == 5 and one.whitening == "covariance" and not np.diag(one.distances).any()


def test_planted_distances_are_recovered_in_groups_of_several_stimuli() -> None:
    """On average, distances are those of the planted patterns, whitened by as much noise that is independent."""
    rng, n = np.random.default_rng(1), 40
    patterns = np.zeros((n, V))
    patterns[::2] = np.linspace(0.2, 1.0, V)
    found, precision = np.zeros((n, n)), np.zeros((V, V))
    for _ in range(60):
        found += crossfitted_distances(*presented(patterns, rng)).distances / 60
        left, freedom = residuals(*presented(np.zeros((n * 8 // 10, V)), rng)[:2])
        precision += noise_covariance(left, freedom).precision / 60
    unequal = np.add.outer(np.arange(n), np.arange(n)) % 2 == 1
    assert abs(pairs(np.where(unequal, 0.0, found)).mean()) < 0.01
    true = patterns[0] @ precision @ patterns[0] / V
    assert found[unequal].mean() == pytest.approx(true, rel=0.1) and true > 0.1


def test_own_residuals_are_biased_and_those_of_others_are_not() -> None:
    """Two presentations of independent noise, whitened by its variances: 2 / (n - 2) without other stimuli."""
    rng, n = np.random.default_rng(2), 12
    own, others = [], []
    for _ in range(60):
        x = rng.normal(size=(2 * n, 200))
        stimulus, fold = np.tile(np.arange(n), 2), np.repeat([0, 1], n)
        left, freedom = residuals(x, stimulus)
        own.append(pairs(crossnobis(x / np.sqrt((left**2).sum(axis=0) / freedom), stimulus, fold)).mean())
        others.append(pairs(crossfitted_distances(x, stimulus, fold).distances).mean())
    assert np.mean(own) == pytest.approx(2 / (n - 2), abs=4 * np.std(own) / np.sqrt(60))
    assert abs(np.mean(others)) < 4 * np.std(others) / np.sqrt(60) < 0.1


def test_distances_of_noise_exceed_zero_as_often_as_they_should() -> None:
    low, own = [], []
    for seed in range(150):
        x, stimulus, fold = presented(np.zeros((20, 15)), np.random.default_rng(seed), 2)
        low.append(estimates(mean_of_pairs(crossfitted_distances(x, stimulus, fold).distances)).low[0])
        precision = noise_covariance(*residuals(x, stimulus)).precision
        own.append(estimates(mean_of_pairs(crossnobis(x, stimulus, fold, precision))).low[0])
    assert (np.array(low) > 0).mean() < 0.07 and (np.array(own) > 0).mean() > 0.2


def test_the_mean_of_pairs_and_its_jackknife() -> None:
    d = np.random.default_rng(3).normal(size=(9, 9))
    d += d.T
    found = mean_of_pairs(d)
    without = [pairs(np.delete(np.delete(d, i, 0), i, 1)).mean() for i in range(9)]
    assert found.value[0] == pytest.approx(pairs(d).mean())
    assert np.allclose(found.influence[0], 8 / 9 * (np.mean(without) - without))


def test_many_voxels_are_whitened_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks, with any number of threads, and equal to a covariance without correlations."""
    rng = np.random.default_rng(4)
    x, stimulus, fold = presented(rng.normal(size=(N, V)), rng)
    x *= np.linspace(1, 4, V)
    monkeypatch.setattr(crossfitted, "MOST_WHITENED", V - 1)
    monkeypatch.setattr(crossfitted, "_VOXELS", 5)
    found = crossfitted_distances(x, stimulus, fold)
    expected = np.zeros((N, N))
    for i, j in combinations(range(N), 2):
        rest = ~np.isin(stimulus, (i, j))
        left, freedom = residuals(x[rest], stimulus[rest])
        scaled = x / np.sqrt((left**2).sum(axis=0) / freedom)
        expected[i, j] = crossnobis(scaled, stimulus, fold)[i, j]
    assert found.whitening == "variances" and found.n_voxels == V
    assert np.allclose(pairs(found.distances), pairs(expected))
    assert np.array_equal(found.distances, crossfitted_distances(x, stimulus, fold, workers=3).distances)


def test_the_number_of_threads_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    x, stimulus, fold = presented(rng.normal(size=(25, 60)), rng)
    one, three = (crossfitted_distances(x, stimulus, fold, workers=n).distances for n in (1, 3))
    assert np.array_equal(one, three)


def test_voxels_that_cannot_be_used_are_left_out() -> None:
    rng = np.random.default_rng(6)
    x, stimulus, fold = presented(rng.normal(size=(N, V)), rng)
    bad = np.hstack([x, x[:, :3]])
    bad[3, V], bad[:, V + 1] = np.nan, stimulus  # not finite; the same in all presentations of a stimulus
    bad[:, V + 2] = np.where(np.isin(stimulus, (0, 1)), x[:, 0], 0.0)  # noise in two groups of stimuli alone
    found = crossfitted_distances(bad, stimulus, fold)
    assert found.n_voxels == V
    assert np.array_equal(found.distances, crossfitted_distances(x, stimulus, fold).distances)
    nothing = crossfitted_distances(np.ones_like(x), stimulus, fold)
    assert nothing.n_voxels == 0 and np.isnan(nothing.distances).all()


def test_what_cannot_be_computed_is_one_message() -> None:
    rng = np.random.default_rng(7)
    x, stimulus, fold = presented(rng.normal(size=(N, 30)), rng, 2)
    with pytest.raises(SourceError, match="cannot be inverted"):
        crossfitted_distances(x, stimulus, fold, "none")
    few = np.where(stimulus < 4, stimulus, -1)
    with pytest.raises(SourceError, match="need repeated stimuli"):
        crossfitted_distances(x, few, fold)
    with pytest.raises(SourceError, match="need repeated stimuli") as caught:
        crossfitted_distances(x, stimulus, np.where(stimulus == 3, 0, fold))
    assert "1 of them in fewer than two folds" in caught.value.found


def folds_of(shown: list[tuple[int, int]], runs: bool = True, fewest: int = 2, most: int = 99, seed: int = 0):  # type: ignore[no-untyped-def]
    stimulus, run = np.array(shown).T
    ties = np.random.default_rng(seed).random(100)
    return repeat_folds(stimulus, run if runs else None, fewest, most, ties)


def test_folds_are_runs_if_every_two_stimuli_share_one() -> None:
    found = folds_of([(3, 1), (5, 1), (7, 1), (5, 2), (3, 2), (-1, 2), (3, 3)])
    assert found.stimuli.tolist() == [3, 5] and found.kind == "runs" and found.n_repeated == 2
    assert found.place.tolist() == [0, 1, -1, 1, 0, -1, 0] and found.fold.tolist() == [1, 1, 1, 2, 2, 2, 3]


def test_stimuli_in_other_runs_are_compared_between_halves_of_their_runs() -> None:
    shown = [(0, 1), (1, 1), (0, 1), (0, 2), (1, 2), (2, 3), (3, 3), (2, 4), (3, 4), (2, 5), (-1, 5)]
    found = folds_of(shown)
    assert found.kind == "halves_of_runs" and found.stimuli.tolist() == [0, 1, 2, 3]
    assert found.fold[:-1].tolist() == [0, 0, 0, 1, 1, 0, 0, 1, 1, 0]  # both presentations of 0 in run 1 together


def test_without_runs_or_in_one_run_folds_are_halves_of_presentations() -> None:
    shown = [(0, 1), (1, 1), (0, 1), (1, 1), (0, 2), (2, 2)]
    for found in (folds_of(shown), folds_of(shown, runs=False)):
        assert found.kind == "halves" and found.stimuli.tolist() == [0, 1]
        assert found.fold[:5].tolist() == [0, 0, 1, 1, 0]
    assert folds_of(shown, fewest=1).stimuli.tolist() == [0]  # in two runs
    none = folds_of([(0, 1), (1, 1), (-1, 2)])
    assert not len(none.stimuli) and none.n_repeated == 0 and set(none.place.tolist()) == {-1}


def test_of_too_many_stimuli_those_with_the_most_presentations_are_chosen() -> None:
    shown = [(s, r) for s in range(10) for r in range(2 + (s in (4, 6)))]
    found = folds_of(shown, most=4)
    assert len(found.stimuli) == 4 and {4, 6} <= set(found.stimuli.tolist()) and found.n_repeated == 10
    others = {tuple(folds_of(shown, most=4, seed=seed).stimuli.tolist()) for seed in range(9)}
    assert len(others) > 2  # ties are decided by chance, not by the order of the catalogue


def test_a_pattern_of_runs_is_not_structure() -> None:
    """Half of the stimuli in two runs, half in two others: what a run adds to all its presentations is left out."""
    rng = np.random.default_rng(8)
    stimulus = np.tile(np.arange(30), 2)
    runs = np.repeat([1, 2], 30) + 2 * (stimulus % 2)
    x = rng.normal(size=(60, V)) + 3 * rng.normal(size=(5, V))[runs]
    found = repeat_folds(stimulus, runs, 5, 99, np.zeros(30))
    assert found.kind == "halves_of_runs"
    shifted = crossfitted_distances(x, found.place, found.fold).distances
    clean = crossfitted_distances(without_run_means(x, stimulus, runs), found.place, found.fold).distances
    across = (np.arange(30)[:, None] % 2) != (np.arange(30) % 2)
    assert np.abs(shifted[across]).mean() > 2 * np.abs(clean[across]).mean()
    assert abs(pairs(clean).mean()) < 0.3
