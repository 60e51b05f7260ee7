"""Answers to a trial in several orders, combined: planted stimuli are found again whatever the position bias."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectlake.judge.responses.combining import (
    FLOOR,
    by_log_probability,
    by_majority,
    calibrated,
    calibrated_probabilities,
    member_probabilities,
    position_bias,
)
from affectlake.judge.trials.caption_draw import draw_uniform
from affectlake.judge.trials.orders import ORDER_SETS, ORDERS, SLOT

N = 4_000


def answers(bias: tuple[float, float, float], k: int, n: int = N, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    """Probabilities and orders of answers of a rater with logits for members and a bias of positions; the truth."""
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(n, 3)) * scale
    codes = ORDER_SETS[rng.integers(6, size=n)][:, :k]
    shown = np.take_along_axis(np.repeat(logits[:, None], k, axis=1), ORDERS[codes].astype(np.intp) - 1, axis=2)
    odds = np.exp(shown + np.array(bias))
    return odds / odds.sum(axis=2, keepdims=True), codes, logits.argmax(axis=1) + 1


def uniform(n: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(size=n)


def test_each_set_of_orders_shows_each_member_equally_often_at_each_position() -> None:
    for base in range(6):
        for k in (3, 6):
            shown = ORDERS[ORDER_SETS[base, :k]]
            assert all(sorted(shown[:, p].tolist()) == sorted([1, 2, 3] * (k // 3)) for p in range(3))
        assert ORDER_SETS[base, 0] == base and sorted(ORDER_SETS[base]) == list(range(6))
        assert [SLOT[base, code] for code in ORDER_SETS[base]] == list(range(6))
        cyclic = {tuple(ORDERS[base][[(p + s) % 3 for p in range(3)]]) for s in range(3)}
        assert {tuple(ORDERS[code]) for code in ORDER_SETS[base, :3]} == cyclic


@pytest.mark.parametrize("k", [3, 6])
def test_a_position_bias_cancels_in_the_mean_log_probability(k: int) -> None:
    """Up to the floor: probabilities below it are not what the rater meant."""
    probabilities, codes, truth = answers((4.0, -1.0, 0.0), k)
    assert probabilities.min() > FLOOR
    found = by_log_probability(probabilities, codes, uniform(N))
    assert np.array_equal(found.member, truth) and not found.tied.any()
    single = by_log_probability(probabilities[:, :1], codes[:, :1], uniform(N))
    assert (single.member == truth).mean() < 0.5


def test_the_bias_cancels_exactly_so_calibration_of_whole_sets_changes_nothing() -> None:
    probabilities, codes, _ = answers((2.0, 0.0, -1.0), 3)
    bias = position_bias(probabilities.reshape(-1, 3))
    corrected = np.exp(np.log(probabilities) - bias.mean_log)
    one, other = (by_log_probability(p, codes, uniform(N)) for p in (probabilities, corrected / corrected.max()))
    assert (one.member == other.member).mean() > 0.999


def test_calibration_recovers_most_of_what_a_bias_hides() -> None:
    probabilities, codes, truth = answers((3.0, 0.0, 0.0), 1, scale=1.5)
    first = by_log_probability(probabilities, codes, uniform(N)).member
    bias = position_bias(probabilities[:, 0])
    found = calibrated(probabilities[:, 0], codes[:, 0], bias, uniform(N))
    assert (first == truth).mean() < 0.6 and (found.member == truth).mean() > 0.97
    assert bias.n == N and bias.mean_log.argmax() == 0


def test_without_a_bias_calibration_changes_little() -> None:
    probabilities, codes, truth = answers((0.0, 0.0, 0.0), 1)
    found = calibrated(probabilities[:, 0], codes[:, 0], position_bias(probabilities[:, 0]), uniform(N))
    assert (found.member == truth).mean() > 0.98


def by_hand(positions: list[int], orders: list[int]) -> set[int]:
    """The members with the most votes."""
    votes = [int(ORDERS[o][p - 1]) for p, o in zip(positions, orders, strict=True) if p]
    return {m for m in votes if votes.count(m) == max(map(votes.count, votes))}


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(0, 5), st.sampled_from([1, 3, 6]))
def test_the_majority_decides_and_a_tie_is_drawn(positions: list[int], base: int, k: int) -> None:
    codes, best = ORDER_SETS[base, :k], by_hand(positions[:k], ORDER_SETS[base, :k].tolist())
    n = 300
    found = by_majority(np.tile(np.array(positions[:k], dtype=np.int8), (n, 1)), np.tile(codes, (n, 1)), uniform(n))
    assert set(found.member.tolist()) == (best or {0})
    assert found.tied.all() == (len(best) > 1) and found.tied.any() == (len(best) > 1)
    if len(best) > 1:  # each of them about equally often
        counts = np.bincount(found.member, minlength=4)[sorted(best)]
        assert counts.min() > n / len(best) / 1.6


def test_a_rater_who_always_names_one_position_is_a_tie_in_each_set() -> None:
    codes = ORDER_SETS[np.arange(6)][:, :3]
    found = by_majority(np.ones((6, 3), dtype=np.int8), codes, uniform(6))
    assert found.tied.all() and set(found.member.tolist()) <= {1, 2, 3}


def test_a_position_that_the_server_did_not_list_does_not_decide_alone() -> None:
    codes = ORDER_SETS[:1, :3]  # i is at the positions 1, 3, 2
    probabilities = np.full((1, 3, 3), 1e-3)
    for at, code in enumerate(codes[0]):
        probabilities[0, at, ORDERS[code].tolist().index(1)] = 0.998
    probabilities[0, 0] = [0.0, 0.5, 0.5]  # once, i is not listed
    assert by_log_probability(probabilities, codes, uniform(1)).member.tolist() == [1]


def weighed_by_hand(probabilities: np.ndarray, codes: np.ndarray) -> list[float]:
    """The geometric mean of each member's probabilities in the orders (k, 3) of one trial, normalised."""
    means = []
    for member in (1, 2, 3):
        product = 1.0
        for own, code in zip(probabilities, codes, strict=True):
            product *= max(own[ORDERS[code].tolist().index(member)], FLOOR)
        means.append(product ** (1 / len(codes)))
    return [mean / sum(means) for mean in means]


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_probability_of_a_member_is_the_geometric_mean_over_orders(k: int) -> None:
    probabilities, codes, _ = answers((4.0, -1.0, 0.0), k, n=50)
    probabilities[0, 0] = [0.0, 0.4, 0.6]
    found = member_probabilities(probabilities, codes)
    wanted = [weighed_by_hand(*one) for one in zip(probabilities, codes, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    chosen = by_log_probability(probabilities, codes, uniform(50))
    assert (found.argmax(axis=1) + 1 == chosen.member).all() and not chosen.tied.any()
    if k == 1:  # those of the positions, put to the members that were shown there
        at = np.take_along_axis(probabilities[1:, 0], np.argsort(ORDERS[codes[1:, 0]], axis=1), axis=1)
        np.testing.assert_allclose(found[1:], at, rtol=1e-9)


@pytest.mark.parametrize("k", [3, 6])
def test_a_bias_cancels_in_the_probabilities_of_several_orders(k: int) -> None:
    biased, codes, _ = answers((2.0, -1.0, 0.0), k)
    unbiased, same, _ = answers((0.0, 0.0, 0.0), k)
    assert np.array_equal(codes, same) and biased.min() > FLOOR
    found, wanted = (member_probabilities(one, codes) for one in (biased, unbiased))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(found, member_probabilities(unbiased[:, :1], codes[:, :1]), rtol=1e-9)


def test_calibrated_probabilities_by_hand() -> None:
    probabilities, codes = np.array([[0.6, 0.3, 0.1], [0.8, 0.2, 0.0]]), np.array([0, 3], dtype=np.uint8)
    bias = position_bias(probabilities)
    wanted = []
    for own, code in zip(probabilities, codes, strict=True):
        odds = [max(p, FLOOR) / np.exp(mean) for p, mean in zip(own, bias.mean_log, strict=True)]
        members = [odds[ORDERS[code].tolist().index(member)] for member in (1, 2, 3)]
        wanted.append([one / sum(members) for one in members])
    np.testing.assert_allclose(calibrated_probabilities(probabilities, codes, bias), wanted, rtol=1e-9)
    many, orders, _ = answers((3.0, 0.0, 0.0), 1)
    own = position_bias(many[:, 0])
    chosen = calibrated(many[:, 0], orders[:, 0], own, uniform(N))
    found = calibrated_probabilities(many[:, 0], orders[:, 0], own)
    assert (found.argmax(axis=1) + 1 == chosen.member).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)


def test_no_trials_have_no_probabilities() -> None:
    nothing, codes = np.empty((0, 3, 3)), np.empty((0, 3), dtype=np.uint8)
    assert member_probabilities(nothing, codes).shape == (0, 3)
    none = position_bias(np.empty((0, 3)))
    assert calibrated_probabilities(np.empty((0, 3)), codes[:, 0], none).shape == (0, 3)


def test_the_draw_depends_on_the_trial_alone() -> None:
    triplets = np.array(list(permutations(range(40), 3))[::7], dtype=np.int32)
    triplets = np.unique(np.sort(triplets, axis=1), axis=0)
    repeat = np.zeros(len(triplets), dtype=np.int16)
    drawn = draw_uniform(triplets, repeat, 5)
    assert np.array_equal(drawn[::2], draw_uniform(triplets[::2], repeat[::2], 5))
    assert not np.array_equal(drawn, draw_uniform(triplets, repeat + np.int16(1), 5))
    assert drawn.min() >= 0 and drawn.max() < 1 and abs(drawn.mean() - 0.5) < 0.02
