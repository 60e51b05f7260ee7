"""Cross-validated distances: rsatoolbox, scikit-learn, no bias without differences, planted distances."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from affectlake.brain.crossnobis import crossnobis, noise_covariance, residuals
from affectlake.errors import SourceError
from affectlake.rsm import pairs

N, FOLDS, V = 7, 4, 12


def presented(
    patterns: NDArray[np.float64], rng: np.random.Generator, mix: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return presentations of every pattern in every fold, twice in the first, in a random order."""
    stimulus = np.concatenate([np.tile(np.arange(len(patterns)), FOLDS), np.arange(len(patterns))])
    fold = np.concatenate([np.repeat(np.arange(FOLDS), len(patterns)), np.zeros(len(patterns), dtype=np.int64)])
    order = rng.permutation(len(stimulus))
    noise = rng.normal(size=(len(stimulus), patterns.shape[1]))
    return (patterns[stimulus] + (noise if mix is None else noise @ mix))[order], stimulus[order], fold[order]


@pytest.mark.parametrize("shrinkage", ["diagonal", "identity", "none"])
def test_equal_to_rsatoolbox(shrinkage: str) -> None:
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import cov_from_residuals, cov_from_unbalanced
    from rsatoolbox.rdm import calc_rdm

    rng = np.random.default_rng(0)
    x, stimulus, fold = presented(rng.normal(size=(N, V)), rng, rng.normal(size=(V, V)))
    theirs = Dataset(x, obs_descriptors={"stimulus": stimulus, "fold": fold})
    name = {"diagonal": "shrinkage_diag", "identity": "shrinkage_eye", "none": "full"}[shrinkage]
    left, freedom = residuals(x, stimulus)
    noise = noise_covariance(left, freedom, shrinkage)  # type: ignore[arg-type]
    assert freedom == len(x) - N
    assert np.allclose(noise.covariance, cov_from_residuals(left, freedom, name), rtol=1e-9)
    assert np.allclose(noise.covariance, cov_from_unbalanced(theirs, "stimulus", method=name), rtol=1e-9)
    for precision in (None, noise.precision):
        with np.errstate(invalid="ignore"):  # its descriptors are whole numbers, into which it writes NaN
            expected = calc_rdm(theirs, "crossnobis", "stimulus", noise=precision, cv_descriptor="fold")
        assert np.allclose(pairs(crossnobis(x, stimulus, fold, precision)), expected.dissimilarities[0], atol=1e-9)


def test_shrinkage_to_the_identity_is_that_of_scikit_learn() -> None:
    from sklearn.covariance import ledoit_wolf

    x = np.random.default_rng(1).normal(size=(30, 50)) @ np.diag(np.linspace(1, 3, 50))
    covariance, share = ledoit_wolf(x)
    found = noise_covariance(x, len(x), "identity")
    assert np.allclose(found.covariance, covariance) and found.shrinkage == pytest.approx(share)
    assert np.allclose(found.precision @ covariance, np.eye(50), atol=1e-8)


def test_distances_are_unbiased() -> None:
    """Equal patterns have distance 0 on average, others their true distance; uncorrected ones are far above it."""
    rng = np.random.default_rng(2)
    patterns = np.zeros((N, V))
    patterns[-1] = 1.0
    mix = rng.normal(size=(V, V)) / 3 + np.eye(V)
    precision = np.linalg.inv(mix.T @ mix)
    found = np.mean([crossnobis(*presented(patterns, rng, mix), precision) for _ in range(400)], axis=0)
    true = precision.sum() / V
    assert np.abs(found[:-1, :-1]).max() < 0.06
    assert np.abs(found[-1, :-1] - true).max() < 0.15 and true > 0.3
    assert np.array_equal(found, found.T) and not np.diag(found).any()


def test_whitening_recovers_a_difference_in_a_quiet_direction() -> None:
    """A small difference in a quiet direction, and noise that voxels share: whitening is needed."""
    rng = np.random.default_rng(3)
    patterns = np.zeros((2, V))
    patterns[1, :2] = 0.5, -0.5
    shared = np.eye(V) * 0.3 + np.vstack([np.full((1, V), 3.0), np.zeros((V - 1, V))])
    raw, white = [], []
    for _ in range(200):
        x, stimulus, fold = presented(patterns, rng, shared)
        left, freedom = residuals(*presented(np.zeros((20, V)), rng, shared)[:2])
        precision = noise_covariance(left, freedom).precision
        raw.append(crossnobis(x, stimulus, fold)[0, 1])
        white.append(crossnobis(x, stimulus, fold, precision)[0, 1])
    assert np.mean(white) / np.std(white) > 2 * np.mean(raw) / np.std(raw)
    assert np.mean(white) > 3 * np.std(white) / np.sqrt(200)


def test_a_stimulus_that_was_shown_once_has_no_distance() -> None:
    rng = np.random.default_rng(4)
    x, stimulus, fold = presented(rng.normal(size=(N, V)), rng)
    once = (stimulus != 2) | (fold == 1)
    found = crossnobis(x[once], stimulus[once], fold[once])
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all()
    rest = np.delete(np.arange(N), 2)
    expected = crossnobis(x, stimulus, fold)
    assert np.allclose(found[np.ix_(rest, rest)], expected[np.ix_(rest, rest)])
    ignored = crossnobis(x, np.where(stimulus == N - 1, -1, stimulus), fold)
    assert np.allclose(ignored, expected[:-1, :-1])
    partly = (stimulus != 1) | (fold < 2)  # in two of four folds
    assert np.isfinite(crossnobis(x[partly], stimulus[partly], fold[partly])).all()


def test_what_cannot_be_computed_is_one_message() -> None:
    x, stimulus = np.ones((4, 3)), np.array([0, 1, 0, 1])
    with pytest.raises(SourceError, match="repeated presentations"):
        crossnobis(x, stimulus, np.zeros(4, dtype=int))
    with pytest.raises(SourceError, match="do not fit together"):
        crossnobis(x, stimulus, stimulus, np.eye(2))
    with pytest.raises(SourceError, match="noise cannot be estimated"):
        residuals(x, np.array([0, 1, 2, -1]))
    with pytest.raises(SourceError, match="no covariance"):
        noise_covariance(x)
