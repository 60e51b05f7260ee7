"""Orders shown: exact balance, whatever the trials; the same under the same seed; every order about equally often."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectlake.judge.trials.orders import ORDERS, balanced_orders, order_codes, shown
from affectlake.triplet_sampling import sample_dyads
from tests.support.questions import position_counts

Trials = np.ndarray


def drawn(triplets: Trials, n_stimuli: int, seed: int = 0) -> Trials:
    return balanced_orders(triplets, n_stimuli, np.random.default_rng(seed))


@st.composite
def trials(draw: st.DrawFn) -> tuple[Trials, int]:
    """Any triplets over a small catalogue, in any number, some stimuli often and some never."""
    n_stimuli = draw(st.integers(3, 12))
    every = list(combinations(range(n_stimuli), 3))
    chosen = draw(st.lists(st.sampled_from(every), max_size=60))
    return np.array(chosen, dtype=np.int32).reshape(-1, 3), n_stimuli


@settings(max_examples=200)
@given(trials(), st.integers(0, 2**32 - 1))
def test_every_stimulus_stands_equally_often_at_each_position(case: tuple[Trials, int], seed: int) -> None:
    triplets, n_stimuli = case
    codes = drawn(triplets, n_stimuli, seed)
    in_order = shown(triplets, codes)
    assert np.array_equal(np.sort(in_order, axis=1), triplets)  # each order shows its own three stimuli
    assert np.array_equal(order_codes(triplets, in_order), codes)
    assert np.ptp(position_counts(in_order, n_stimuli), axis=1).max() <= 1


def test_an_order_shows_the_member_it_names() -> None:
    triplets = np.array([(10, 20, 30)] * 6, dtype=np.int32)
    for code, members in enumerate(ORDERS):
        expected = [(10, 20, 30)[member - 1] for member in members]
        assert shown(triplets[:1], np.array([code], np.uint8))[0].tolist() == expected


def test_the_same_seed_gives_the_same_orders_and_another_others() -> None:
    triplets = sample_dyads(40, np.random.default_rng(5))
    assert np.array_equal(drawn(triplets, 40, 1), drawn(triplets, 40, 1))
    assert (drawn(triplets, 40, 1) != drawn(triplets, 40, 2)).mean() > 0.7


def test_orders_are_pinned() -> None:
    """The orders of a seed never change: keys of questions already asked depend on them."""
    triplets = np.array(list(combinations(range(6), 3)), dtype=np.int32)
    assert drawn(triplets, 6, 2025).tolist() == PINNED


PINNED = [3, 2, 4, 4, 1, 0, 2, 3, 1, 3, 3, 1, 4, 1, 2, 4, 5, 2, 1, 0]


def test_the_six_orders_are_equally_frequent() -> None:
    triplets = sample_dyads(200, np.random.default_rng(1))  # 59,700 trials
    counts = np.bincount(drawn(triplets, 200), minlength=6)
    expected = len(triplets) / 6
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_an_order_says_nothing_of_the_rest_of_the_trial() -> None:
    """A stimulus's position does not depend on whether it has a low or a high index."""
    triplets = sample_dyads(200, np.random.default_rng(2))
    in_order = shown(triplets, drawn(triplets, 200))
    lowest_at = np.bincount((in_order == triplets[:, :1]).argmax(axis=1), minlength=3)
    assert np.abs(lowest_at / len(triplets) - 1 / 3).max() < 0.01


@pytest.mark.parametrize("n_trials", [0, 1, 2])
def test_few_trials(n_trials: int) -> None:
    triplets = np.array([(0, 1, 2), (2, 3, 4)], dtype=np.int32)[:n_trials]
    assert drawn(triplets, 5).shape == (n_trials,)
