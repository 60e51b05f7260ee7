"""The kernels against finite differences, torch's autograd, and a longhand dense Adam in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from affectlake.spose import kernels
from affectlake.spose.state import LONGEST_GAP, Rule, State, aligned_rows, gap_table, padded


def planted(n_stimuli: int, d: int, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a sparse embedding and (m, 3) choices drawn from it, odd one last."""
    truth = np.abs(rng.normal(0, 1.2, (n_stimuli, d))) * (rng.random((n_stimuli, d)) < 0.5)
    triplets = np.stack([rng.integers(0, n_stimuli, m) for _ in range(3)], axis=1)
    i, j, k = triplets.T
    triplets = triplets[(i != j) & (i != k) & (j != k)]
    i, j, k = (truth[column] for column in triplets.T)
    similarity = np.stack([(j * k).sum(1), (i * k).sum(1), (i * j).sum(1)], axis=1)
    odd = (similarity + rng.gumbel(size=similarity.shape)).argmax(axis=1)
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])[odd]
    return truth, np.take_along_axis(triplets, order, axis=1).astype(np.int32)


def loss_of(x: np.ndarray, triplets: np.ndarray) -> float:
    i, j, k = (x[column] for column in triplets.T)
    s = np.stack([(i * j).sum(1), (i * k).sum(1), (j * k).sum(1)], axis=1)
    return float((np.log(np.exp(s).sum(axis=1)) - s[:, 0]).sum())


def gradient_of(x: np.ndarray, triplets: np.ndarray) -> np.ndarray:
    """Return the gradient of the summed cross-entropy, longhand in float64."""
    i, j, k = triplets.T
    s = np.stack([(x[i] * x[j]).sum(1), (x[i] * x[k]).sum(1), (x[j] * x[k]).sum(1)], axis=1)
    p = np.exp(s - s.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[:, 0] -= 1
    g = np.zeros_like(x)
    np.add.at(g, i, p[:, :1] * x[j] + p[:, 1:2] * x[k])
    np.add.at(g, j, p[:, :1] * x[i] + p[:, 2:] * x[k])
    np.add.at(g, k, p[:, 1:2] * x[i] + p[:, 2:] * x[j])
    return g


def fresh(n_stimuli: int, d: int) -> State:
    start = np.random.default_rng(3).normal(0.3, 0.1, (n_stimuli, d)).clip(0).astype(np.float32)
    x = padded(start)
    return State(x, *(aligned_rows(*x.shape) for _ in range(3)), np.zeros(n_stimuli, np.int64))


def dense_adam(
    x: np.ndarray, triplets: np.ndarray, order: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train one epoch in float64, every row taking every step and clipped after each; return weights and moments."""
    x, m, v = x.astype(np.float64), np.zeros_like(x, float), np.zeros_like(x, float)
    size = rule.block_size
    n_blocks = rule.batch_size // size
    for t, batch in enumerate(range(0, len(order), n_blocks), start=1):
        blocks = order[batch : batch + n_blocks]
        rows = np.concatenate([triplets[b * size : (b + 1) * size] for b in blocks])
        g = gradient_of(x, rows) / len(rows) + rule.l1_gradient
        m = rule.beta1 * m + (1 - rule.beta1) * g
        v = rule.beta2 * v + (1 - rule.beta2) * g**2
        root = np.sqrt(v / (1 - rule.beta2**t)) + rule.epsilon
        x = np.maximum(x - rule.learning_rate * m / (1 - rule.beta1**t) / root, 0)
    return x, m, v


def rule_for(batch_size: int, dense_until: int, l1_gradient: float = 2e-5) -> Rule:
    return Rule(1e-3, 0.9, 0.999, 1e-8, l1_gradient, batch_size, math.gcd(batch_size, 64), dense_until)


@pytest.mark.parametrize("d", [3, 16, 30, 40])
def test_gradient_equals_finite_differences_and_autograd(d: int) -> None:
    rng = np.random.default_rng(0)
    _, triplets = planted(12, d, 150, rng)
    x = padded((0.5 * np.abs(rng.normal(size=(12, d)))).astype(np.float32))
    gradient = aligned_rows(*x.shape)
    loss = kernels.add_gradients(x, triplets, 0, len(triplets), 1.0, 0.0, gradient)
    found, x64 = gradient[:, :d], x[:, :d].astype(np.float64)

    assert loss == pytest.approx(loss_of(x64, triplets), rel=1e-5)
    assert not gradient[:, d:].any()
    np.testing.assert_allclose(found, gradient_of(x64, triplets), rtol=1e-4, atol=1e-4)
    for row, column in [(0, 0), (3, d - 1), (11, d // 2)]:
        step = np.zeros_like(x64)
        step[row, column] = 1e-5
        slope = (loss_of(x64 + step, triplets) - loss_of(x64 - step, triplets)) / 2e-5
        assert found[row, column] == pytest.approx(slope, rel=1e-3, abs=1e-3)

    weights = torch.tensor(x64, requires_grad=True)
    i, j, k = weights[torch.from_numpy(triplets).long()].unbind(1)
    similarities = torch.stack([(i * j).sum(1), (i * k).sum(1), (j * k).sum(1)], 1)
    (-torch.log_softmax(similarities, 1)[:, 0].sum()).backward()
    np.testing.assert_allclose(found, weights.grad, rtol=1e-4, atol=1e-4)


def test_with_lapses_the_gradient_equals_autograd() -> None:
    rng = np.random.default_rng(0)
    _, triplets = planted(12, 5, 150, rng)
    x = padded(np.abs(rng.normal(size=(12, 5))).astype(np.float32))
    gradient, scale, lapse = aligned_rows(*x.shape), 1 / 150, 0.2
    loss = kernels.add_gradients(x, triplets, 0, len(triplets), scale, lapse, gradient)
    weights = torch.tensor(x[:, :5].astype(np.float64), requires_grad=True)
    i, j, k = weights[torch.from_numpy(triplets).long()].unbind(1)
    meant = torch.softmax(torch.stack([(i * j).sum(1), (i * k).sum(1), (j * k).sum(1)], 1), 1)[:, 0]
    said = (1 - lapse) * meant + lapse / 3
    (-scale * said.log().sum()).backward()
    np.testing.assert_allclose(gradient[:, :5], weights.grad, rtol=1e-4, atol=1e-6)
    said = said.detach()
    assert loss == pytest.approx(float(-said.log().sum()), rel=1e-5)
    scored, right, by_chance = kernels.score(x, triplets, lapse)
    assert scored == pytest.approx(loss, rel=1e-6)
    assert by_chance == pytest.approx(float((lapse / 3 / said).sum()), rel=1e-5)
    certain, same, none = kernels.score(x, triplets, 0.0)
    assert (same, none) == (right, 0.0)
    assert certain == pytest.approx(loss_of(x[:, :5].astype(np.float64), triplets), rel=1e-5)


@pytest.mark.parametrize("batch_size", [7, 32, 96, 128, 5000])
def test_every_triplet_is_trained_on_the_last_batch_included(batch_size: int) -> None:
    _, triplets = planted(40, 4, 1100, np.random.default_rng(1))
    rule, state = rule_for(batch_size, 0), fresh(40, 4)
    n_blocks = -(-len(triplets) // rule.block_size)
    order = np.random.default_rng(2).permutation(n_blocks).astype(np.int32)
    table = gap_table(0.9, 0.999, rule.l1_gradient)
    start = kernels.score(state.weights, triplets, 0.0)[0]
    loss, n, step = kernels.train_epoch(state, triplets, order, 0, rule, table)
    assert n == len(triplets)
    assert step == -(-n_blocks // (batch_size // rule.block_size))
    if step == 1:
        assert loss == pytest.approx(start, rel=1e-6)
    assert (state.settled == step).all()
    assert not state.gradient.any()


def test_stepping_every_row_is_adam() -> None:
    _, triplets = planted(40, 6, 4000, np.random.default_rng(1))
    rule, state = rule_for(128, 2**62), fresh(40, 6)
    order = np.random.default_rng(2).permutation(-(-len(triplets) // 64)).astype(np.int32)
    wanted, m, v = dense_adam(state.weights[:, :6], triplets, order, rule)
    kernels.train_epoch(state, triplets, order, 0, rule, gap_table(0.9, 0.999, rule.l1_gradient))
    np.testing.assert_allclose(state.weights[:, :6], wanted, atol=2e-6)
    np.testing.assert_allclose(state.first_moment[:, :6], m, atol=1e-7)
    np.testing.assert_allclose(state.second_moment[:, :6], v, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("l1_gradient", [0.0, 2e-6, 1e-4])
def test_settling_lazily_is_adam_within_tolerance(l1_gradient: float) -> None:
    """A batch touches 4 % of the rows (a sixth at the paper's size and batch 128), once bias correction has settled."""
    rng = np.random.default_rng(1)
    _, triplets = planted(300, 6, 24_000, rng)
    rule, state = rule_for(4, 2000, max(l1_gradient, 1e-16)), fresh(300, 6)
    order = rng.permutation(-(-len(triplets) // rule.block_size)).astype(np.int32)
    start = state.weights[:, :6].copy()
    wanted, _, _ = dense_adam(start, triplets, order, rule)
    kernels.train_epoch(state, triplets, order, 0, rule, gap_table(0.9, 0.999, rule.l1_gradient))
    moved, error = np.abs(wanted - start), np.abs(state.weights[:, :6] - wanted)
    assert moved.mean() > 0.1
    assert error.mean() < 1e-3 * moved.mean()
    assert error.max() < 1e-2 * moved.mean()


@pytest.mark.parametrize("momentum", [-1e-3, -1e-6, 0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("gap", [1, 2, 9, LONGEST_GAP - 1, 3 * LONGEST_GAP])
def test_missed_steps_in_one_piece_equal_one_by_one(momentum: float, gap: int) -> None:
    """The closed form, the single clip at zero and the pieces, from rising and from falling weights."""
    c, n = 2e-6, 64
    x0 = np.linspace(0, 0.05, n)
    v0 = np.full(n, 1e-7)
    x, m, v = x0.copy(), np.full(n, momentum), v0.copy()
    first = 100_000
    for step in range(first + 1, first + gap + 1):
        m, v = 0.9 * m + 0.1 * c, 0.999 * v + 0.001 * c * c
        root = np.sqrt(v / (1 - 0.999**step)) + 1e-8
        x = np.maximum(x - 1e-3 * m / root, 0)

    rows = [padded(np.full((2, n), value, np.float32)) for value in (0, momentum, 1e-7, 0)]
    rows[0][0] = x0
    state = State(*rows, np.array([first, first + gap]))  # the second row has nothing to settle
    rule, triplets = rule_for(64, 0, c), np.zeros((0, 3), np.int32)
    kernels.train_epoch(state, triplets, np.zeros(0, np.int32), first + gap, rule, gap_table(0.9, 0.999, c))
    np.testing.assert_allclose(state.weights[0], x, atol=2e-3 * np.abs(x - x0).max() + 1e-8)
    np.testing.assert_allclose(state.first_moment[0], m, rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(state.second_moment[0], v, rtol=1e-4)
    np.testing.assert_array_equal(state.first_moment[1], np.float32(momentum))


def test_rows_start_at_a_cache_line_and_are_padded_with_zeros() -> None:
    for n_rows, d in [(1, 1), (7, 30), (100, 33)]:
        rows = padded(np.ones((n_rows, d), np.float32))
        assert rows.ctypes.data % 64 == 0
        assert rows.shape[1] % 16 == 0
        assert rows[:, :d].all() and not rows[:, d:].any()
