"""Agreement of participants: counts against counting by hand, and intervals against the rates of a population."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student

from affectlake.geometry.ceiling import noise_ceiling
from affectlake.geometry.participants import Agreements, participant_agreements, participant_consistency
from benchmarks.validity.participants import Design, rates, simulate


def draw(seed: int, m: int = 300, n_triplets: int = 40, n_participants: int = 7) -> tuple[NDArray[np.int64], ...]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, n_triplets, m) * 11, rng.integers(0, 3, m), rng.integers(0, n_participants, m)


def by_hand(triplet: NDArray[np.int64], odd: NDArray[np.int64], participant: NDArray[np.int64], n: int) -> np.ndarray:
    """Count own pairs, own same, other pairs and other same of each participant, pair by pair: (4, n)."""
    found = np.zeros((4, n), int)
    for a, b in combinations(range(len(triplet)), 2):
        if triplet[a] == triplet[b]:
            p, q, same = participant[a], participant[b], odd[a] == odd[b]
            for one in {p, q}:
                found[0 if p == q else 2, one] += 1
                found[1 if p == q else 3, one] += same
    return found


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_counted_as_by_hand(seed: int) -> None:
    triplet, odd, participant = draw(seed)
    found = participant_agreements(triplet, odd, participant, 8)  # the last one did not answer
    np.testing.assert_array_equal(np.stack(found[:4]), by_hand(triplet, odd, participant, 8))
    own, same, others, other_same = (int(one.sum()) for one in found[:4])
    assert found.within.value == pytest.approx(same / own)
    assert found.between.value == pytest.approx(other_same / others)
    assert (found.within.n, found.between.n) == (7, 7)


def test_the_order_of_answers_and_the_names_of_triplets_do_not_matter() -> None:
    triplet, odd, participant = draw(9)
    one = participant_agreements(triplet, odd, participant, 7)
    order = np.random.default_rng(0).permutation(len(odd))
    other = participant_agreements((5000 - triplet)[order], odd[order], participant[order], 7)
    for a, b in zip(one[:4], other[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.between[:3] == pytest.approx(other.between[:3])


def test_what_is_missing_is_said() -> None:
    def of(*answers: tuple[int, int, int]) -> Agreements:
        triplet, odd, participant = np.array(answers).T
        return participant_agreements(triplet, odd, participant, 4)

    nothing = of((0, 1, 0), (1, 1, 1))
    assert nothing.within.note == "no participant answered a triplet twice"
    assert nothing.between.note == "no triplet was answered by two participants"
    two = of((0, 1, 0), (0, 1, 1))
    assert (two.between.value, two.between.n) == (1.0, 2)
    assert np.isnan(two.between.ci_low)
    alone = of((0, 1, 0), (0, 2, 0))
    assert (alone.within.value, alone.within.n) == (0.0, 1)
    assert np.isnan(alone.within.ci_low)


@pytest.mark.parametrize("n_answers", [3, 2])
@pytest.mark.parametrize("design", [Design(12, 60, 40, 4, 2), Design(40, 400, 60, 4, 2)])
def test_intervals_contain_the_rates_of_the_population(design: Design, n_answers: int) -> None:
    truth = rates(design, n_answers)
    rng, n = np.random.default_rng(3), 250
    hits = np.zeros(2)
    for _ in range(n):
        found = simulate(design, n_answers, rng)
        hits += [
            one.ci_low <= true <= one.ci_high for one, true in zip((found.within, found.between), truth, strict=True)
        ]
    assert (hits / n > 0.95 - 3.5 * (0.95 * 0.05 / n) ** 0.5).all()


def brute_consistency(asked: NDArray[np.int64], odd: NDArray[np.int64], keep: NDArray[np.bool_]) -> float:
    shares = []
    for one in np.unique(asked[keep]):
        counts = np.bincount(odd[keep & (asked == one)])
        if counts.sum() >= 2:
            shares.append(counts.max() / counts.sum())
    return float(np.mean(shares))


def test_the_interval_of_the_consistency_is_the_jackknife_over_participants() -> None:
    rng = np.random.default_rng(2)
    asked, who, odd = (rng.integers(0, n, 150).astype(np.int64) for n in (60, 9, 3))
    found = participant_consistency(asked, odd, who, 10)  # participant 9 answered nothing
    without = np.array([brute_consistency(asked, odd, who != one) for one in range(9)])
    half = student.ppf(0.975, 8) * np.sqrt(8 / 9 * ((without - without.mean()) ** 2).sum())
    assert found.value == pytest.approx(brute_consistency(asked, odd, np.ones(150, bool)))
    assert (found.ci_low, found.ci_high) == pytest.approx((found.value - half, found.value + half))
    counts = np.zeros((60, 3), int)
    np.add.at(counts, (asked, odd), 1)
    over_triplets = noise_ceiling(counts, 0).consistency
    assert (found.value, found.chance) == pytest.approx((over_triplets.value, over_triplets.chance))
    assert found.n == 9


def test_few_participants_have_no_interval_of_the_consistency() -> None:
    three = participant_consistency(np.array([0, 0, 0]), np.array([1, 1, 2]), np.array([0, 1, 2]), 3)
    assert three.value == pytest.approx(2 / 3)
    assert np.isnan(three.ci_low)
    alone = participant_consistency(np.array([0, 1]), np.array([1, 1]), np.array([0, 1]), 2)
    assert alone.note == "no triplet was answered twice"
