"""The losses of the projector against plain loops, finite differences and values known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affectlake.editing.losses import LARGEST_SCALE, Targets, Temperature, composite, squared_error, two_way_infonce

Array = NDArray[np.float64]


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def equation_6(predicted: Array, target: Array, temperature: float) -> float:
    """Equation 6 of the paper, as printed, in plain loops."""

    def s(a: Array, b: Array) -> float:
        return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))

    B, total = len(predicted), 0.0
    for i in range(B):
        own = math.exp(s(predicted[i], target[i]) / temperature)
        forward = sum(math.exp(s(predicted[i], target[j]) / temperature) for j in range(B))
        backward = sum(math.exp(s(predicted[k], target[i]) / temperature) for k in range(B))
        total += math.log(own / forward) + math.log(own / backward)
    return -total / B


def test_equation_6_equals_plain_loops() -> None:
    predicted, target = drawn(7, 5), drawn(7, 5, seed=1)
    found = two_way_infonce(torch.from_numpy(predicted), torch.from_numpy(target), 0.3)
    assert float(found) == pytest.approx(equation_6(predicted, target, 0.3), rel=1e-12)


def test_the_mean_of_directions_is_half_of_the_printed_sum() -> None:
    predicted, target = torch.from_numpy(drawn(6, 4)), torch.from_numpy(drawn(6, 4, seed=1))
    both = two_way_infonce(predicted, target, 0.5)
    assert float(two_way_infonce(predicted, target, 0.5, "mean")) == pytest.approx(float(both) / 2)


def test_gradients_equal_finite_differences() -> None:
    predicted = torch.from_numpy(drawn(5, 4)).requires_grad_()
    target = torch.from_numpy(drawn(5, 4, seed=1))
    log_scale = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    two_way_infonce(predicted, target, torch.exp(-log_scale)).backward()
    step, base = 1e-6, predicted.detach().numpy()
    for i, j in np.ndindex(base.shape):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved[i, j] += sign * step
            ends.append(equation_6(moved, target.numpy(), math.exp(-1.2)))
        assert predicted.grad is not None
        assert float(predicted.grad[i, j]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)
    ends = [equation_6(base, target.numpy(), math.exp(-1.2 - sign * step)) for sign in (1, -1)]
    assert log_scale.grad is not None
    assert float(log_scale.grad) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)


def test_chance_and_perfect_pairs_have_known_values() -> None:
    same = torch.ones(8, 3)
    assert float(two_way_infonce(same, same, 0.07)) == pytest.approx(2 * math.log(8), rel=1e-6)
    apart = torch.eye(8)
    assert float(two_way_infonce(apart, apart, 0.01)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("copies", [2, 4])
def test_copies_of_a_video_punish_each_other(copies: int) -> None:
    """The documented bound: m copies, all else perfect, have a loss of 2 log m and not 0."""
    apart = torch.eye(8).repeat_interleave(copies, dim=0)
    assert float(two_way_infonce(apart, apart, 0.01)) == pytest.approx(2 * math.log(copies), abs=1e-6)


def test_the_temperature_starts_and_is_bounded_as_in_clip() -> None:
    temperature = Temperature()
    assert float(temperature().detach()) == pytest.approx(0.07)
    with torch.no_grad():
        temperature.log_scale += 5
    temperature.clip()
    assert float(1 / temperature().detach()) == pytest.approx(LARGEST_SCALE, rel=1e-5)


def test_squared_errors_differ_by_the_elements_of_a_row() -> None:
    predicted, target = torch.from_numpy(drawn(4, 3, 5)), torch.from_numpy(drawn(4, 3, 5, seed=1))
    rows = np.mean([np.sum((a - b) ** 2) for a, b in zip(predicted.numpy(), target.numpy(), strict=True)])
    assert float(squared_error(predicted, target, "rows")) == pytest.approx(rows)
    assert float(squared_error(predicted, target)) == pytest.approx(rows / 15)


def test_equation_9_adds_its_terms_with_their_weights() -> None:
    joint, language, vision = (torch.from_numpy(drawn(6, 4, seed=seed)) for seed in range(3))
    scores, goal = torch.from_numpy(drawn(6, 2, seed=3)), torch.from_numpy(drawn(6, 2, seed=4))
    found = composite(
        joint, scores, Targets(language, vision, goal), 0.5, contrastive=0.25, tokens=3, n_token_elements=10,
        unexplained=2.0,
    )  # fmt: skip
    clip = equation_6(joint.numpy(), vision.numpy(), 0.5) + equation_6(joint.numpy(), language.numpy(), 0.5)
    error = float(np.mean((joint.numpy() - language.numpy()) ** 2))
    token = (float(np.sum((scores.numpy() - goal.numpy()) ** 2)) / 6 + 2) / 10
    assert float(found.total) == pytest.approx(error + 0.25 * clip + 3 * token)
    alone = composite(joint, None, Targets(language), 0.5)
    assert float(alone.vision) == float(alone.token_error) == 0
