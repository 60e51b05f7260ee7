"""The t-SNE map: the same each time, in a standard orientation, planted clusters apart."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from affectlake.errors import AffectlakeError
from affectlake.geometry.layout import layout


@pytest.fixture(scope="module")
def clusters() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.maximum(np.repeat(np.eye(4, 6) * 4, 25, axis=0) + rng.normal(size=(100, 6)) * 0.2, 0).astype(np.float32)


def test_same_map_twice_and_neighbours_kept(clusters: np.ndarray) -> None:
    found, again = layout(clusters, 3, 15), layout(clusters, 3, 15)
    assert found.coordinates.dtype == np.float32 and found.coordinates.shape == (100, 2)
    assert found.coordinates.tobytes() == again.coordinates.tobytes()
    assert found.note == "" and found.perplexity == 15
    assert trustworthiness(clusters, found.coordinates, n_neighbors=8) > 0.95
    middles = found.coordinates.reshape(4, 25, 2).mean(axis=1)
    nearest = np.linalg.norm(found.coordinates[:, None] - middles, axis=2).argmin(axis=1)
    assert (nearest == np.repeat(np.arange(4), 25)).all()


def test_standard_orientation(clusters: np.ndarray) -> None:
    xy = layout(clusters, 0, 15).coordinates.astype(float)
    np.testing.assert_allclose(xy.mean(axis=0), 0, atol=1e-4)
    covariance = np.cov(xy.T)
    assert abs(covariance[0, 1]) < 1e-3 * covariance[0, 0]
    assert covariance[0, 0] >= covariance[1, 1]
    assert ((xy**3).sum(axis=0) > -1e-2).all()


def test_small_studies_use_a_smaller_perplexity() -> None:
    found = layout(np.random.default_rng(0).random((10, 3)), 0, 30.0)
    assert found.perplexity == 3 and found.note == "perplexity 3 instead of 30: there are 10 stimuli"
    assert np.isfinite(found.coordinates).all()


def test_one_dimension_is_laid_out_too() -> None:
    assert layout(np.random.default_rng(0).random((30, 1)), 0, 5).coordinates.shape == (30, 2)


@pytest.mark.parametrize(("weights", "reason"), [(np.ones((3, 2)), "at least 4"), (np.ones((9, 2)), "same weights")])
def test_nothing_to_lay_out_says_why(weights: np.ndarray, reason: str) -> None:
    found = layout(weights, 0)
    assert found.coordinates.shape == (0, 2) and reason in found.note


def test_wrong_input_is_refused() -> None:
    with pytest.raises(AffectlakeError, match="finite"):
        layout(np.full((9, 2), np.nan), 0)
    with pytest.raises(AffectlakeError, match="perplexity"):
        layout(np.ones((9, 2)), 0, 0.0)
