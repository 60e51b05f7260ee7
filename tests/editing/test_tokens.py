"""Principal components of tokens: the same loss and gradient as a whole token head, R² by position, and medoids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affectlake.editing.losses import squared_error
from affectlake.editing.tokens import medoid, position_r2, token_basis


def test_at_full_rank_the_loss_and_its_gradient_are_those_of_the_whole_head() -> None:
    """W_up of equation 8 has positions * width rows; in components, the head has at most n - 1."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(12, 5, 7)) + 3
    joint = rng.normal(size=(12, 4))
    basis = token_basis(tokens, 500)
    assert len(basis.components) == 11
    assert basis.explained == pytest.approx(1)
    head, bias = rng.normal(size=(11, 4)), rng.normal(size=11)
    f = torch.from_numpy(joint).requires_grad_()
    small = squared_error(f @ torch.from_numpy(head).T + torch.from_numpy(bias),
                          torch.from_numpy(basis.scores(tokens).astype(np.float64)), "rows")  # fmt: skip
    (grad_small,) = torch.autograd.grad(small, f)
    components = basis.components.astype(np.float64)
    up, up_bias = components.T @ head, components.T @ bias + basis.mean.ravel()
    whole = squared_error(f @ torch.from_numpy(up).T + torch.from_numpy(up_bias), torch.from_numpy(tokens).flatten(1),
                          "rows")  # fmt: skip
    (grad_whole,) = torch.autograd.grad(whole, f)
    assert float(small.detach()) == pytest.approx(float(whole.detach()), rel=1e-4)
    np.testing.assert_allclose(grad_small, grad_whole, rtol=1e-4, atol=1e-4)


def test_with_fewer_components_the_losses_differ_by_the_reported_remainder() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(20, 4, 6)) * np.linspace(0.1, 2, 6)
    basis = token_basis(tokens, 5)
    guess = rng.normal(size=(20, 5)).astype(np.float32)
    small = np.square(guess - basis.scores(tokens)).sum(axis=1).mean() + basis.unexplained
    whole = np.square(basis.tokens(guess) - tokens).sum(axis=(1, 2)).mean()
    assert small == pytest.approx(whole, rel=1e-4)
    total = np.square(tokens - tokens.mean(axis=0)).sum(axis=(1, 2)).mean()
    assert basis.unexplained == pytest.approx((1 - basis.explained) * total, rel=1e-6)


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    tokens = np.random.default_rng(2).normal(size=(15, 3, 4)) * np.linspace(1, 3, 4)
    basis = token_basis(tokens, 3)
    flat = tokens.reshape(15, -1)
    _, s, vt = np.linalg.svd(flat - flat.mean(axis=0))
    np.testing.assert_allclose(np.abs(basis.components @ vt[:3].T), np.eye(3), atol=1e-4)
    assert basis.explained == pytest.approx((s[:3] ** 2).sum() / (s**2).sum(), rel=1e-6)


def test_r2_of_positions_leaves_out_constant_ones() -> None:
    rng = np.random.default_rng(3)
    actual = rng.normal(size=(50, 3, 8))
    actual[:, 0] = 1.0
    predicted = actual.copy()
    predicted[:, 2] = 0.0
    found = position_r2(predicted, actual, actual.mean(axis=0))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1)
    assert found[2] == pytest.approx(0, abs=0.1)
    assert found[2] < 0


def test_the_medoid_is_the_caption_nearest_the_mean() -> None:
    angles = np.array([0.0, 0.8, 0.5, 1.4])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    mean = vectors.mean(axis=0)
    nearest = int(np.linalg.norm(vectors - mean / np.linalg.norm(mean), axis=1).argmin())
    assert medoid(vectors) == nearest != 0
    assert medoid(np.repeat(vectors[:1], 3, axis=0)) == 0
