"""Halves against halves: equal agents have the value 1 for any number of trials, and NumPy gives the same numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from affectlake.errors import AffectlakeError
from affectlake.geometry.halves import halves_correlation, split_halves
from affectlake.geometry.pairs import (
    equation_4,
    matrix_correlation,
    odd_shares,
    pair_matrix,
    split_half_reliability,
)

N = 40
ITEMS = np.arange(N, dtype=np.int32)
PLACES = np.random.default_rng(1).gamma(0.5, 1.0, (400, 12))


def trials(rng: np.random.Generator, n: int) -> np.ndarray:
    pairs = np.array(list(combinations(range(N), 2)))[rng.integers(0, N * (N - 1) // 2, n)]
    return np.sort(np.column_stack([pairs, rng.integers(N, 400, n)]), axis=1).astype(np.int32)


def answered(rng: np.random.Generator, triplets: np.ndarray, weights: np.ndarray = PLACES) -> np.ndarray:
    a, b, c = (weights[triplets[:, at]] for at in range(3))
    logits = np.stack([(b * c).sum(1), (a * c).sum(1), (a * b).sum(1)], axis=1)
    odd = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return odd_shares(triplets, triplets[np.arange(len(triplets)), odd])


@pytest.mark.parametrize("sizes", [(80_000, 80_000), (20_000, 20_000), (8_000, 8_000), (80_000, 8_000)])
def test_equal_agents_have_the_value_1_for_any_number_of_trials(sizes: tuple[int, int]) -> None:
    """Independent answers of one embedding; equation 4 gives more than 1, and more for fewer trials."""
    found, printed = [], []
    for seed in range(12):
        rng = np.random.default_rng([seed, *sizes])
        every = trials(rng, max(sizes))
        sides = [(every[:n], answered(rng, every[:n])) for n in sizes]
        halves = [split_halves(rows, shares, ITEMS, seed, 8) for rows, shares in sides]
        found.append(halves_correlation(halves[0], halves[1], rng, 0).value)
        raw = matrix_correlation(*(pair_matrix(rows, shares, ITEMS) for rows, shares in sides), rng, 0, 0)
        reliabilities = [split_half_reliability(rows, shares, ITEMS, rng, 8) for rows, shares in sides]
        printed.append(equation_4(raw, *reliabilities).value)
    assert np.mean(found) == pytest.approx(1, abs=0.02)
    assert np.mean(printed) > 1.02


def test_the_interval_contains_the_truth_of_equal_agents_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(40):
        rng = np.random.default_rng([7, seed])
        every = trials(rng, 10_000)
        halves = [split_halves(every, answered(rng, every), ITEMS, seed, 6) for _ in range(2)]
        one = halves_correlation(*halves, rng, 100)
        held += one.ci_low <= 1 <= one.ci_high
    assert held >= 32  # of 40; a 95 % interval holds in fewer than 32 in one of 10,000 studies


def test_the_value_is_numpys_from_matrices_of_disjoint_halves() -> None:
    rng = np.random.default_rng(3)
    rows, other_rows = trials(rng, 9_000), trials(rng, 5_000)
    shares = answered(rng, rows)
    other = answered(rng, other_rows, rng.permutation(PLACES))
    one, two = split_halves(rows, shares, ITEMS, 5, 3), split_halves(other_rows, other, ITEMS, 5, 3)
    upper = np.triu_indices(N, 1)
    r = np.zeros((3, 3))
    for split in range(3):
        m1, m2, h1, h2 = (m[upper] for m in (*one.matrices[split], *two.matrices[split]))
        kept = ~np.isnan(m1 + m2 + h1 + h2)

        def pearson(x: np.ndarray, y: np.ndarray, kept: np.ndarray = kept) -> float:
            return float(np.corrcoef(x[kept], y[kept])[0, 1])

        r[split] = (pearson(m1, h2) + pearson(m2, h1)) / 2, pearson(m1, m2), pearson(h1, h2)
    between, within, within_other = r.mean(axis=0)
    found = halves_correlation(one, two, rng, 0)
    assert found.value == pytest.approx(between / np.sqrt(within * within_other))
    assert found.value < 0.5


def test_halves_are_a_partition_and_one_triplet_is_in_the_same_half_for_everyone() -> None:
    rng = np.random.default_rng(4)
    rows = trials(rng, 6_000)
    shares = answered(rng, rows)
    found = split_halves(rows, shares, ITEMS, 9, 4)
    once = np.unique(rows, axis=0, return_index=True)[1]
    whole = {tuple(row): value for row, value in zip(rows[once], shares[once], strict=True)}
    again = split_halves(rng.permuted(rows[once], axis=1), np.zeros((len(once), 3)), ITEMS, 9, 4)
    assert len(whole) < len(rows)  # some triplets are asked several times
    for split in range(4):
        assert np.array_equal(np.isnan(found.matrices[split]), np.isnan(again.matrices[split]))
    counts = split_halves(rows, np.ones((len(rows), 3)), ITEMS, 9, 64)  # 1 wherever a half has a trial
    assert 0.3 < np.isnan(counts.matrices[:, 0]).mean() / np.isnan(counts.matrices[:, 1]).mean() < 3


def test_each_trial_is_in_exactly_one_half() -> None:
    """The trials of both halves add up to those of the whole, and each half has about half of them."""
    rng = np.random.default_rng(5)
    rows = trials(rng, 20_000)
    alone = np.unique(rows, axis=0)
    first = np.zeros(8)
    for row in alone[:400]:
        one = split_halves(row[None], np.ones((1, 3)), ITEMS, 2, 8).matrices[:, :, row[0], row[1]]
        assert (np.isnan(one).sum(axis=1) == 1).all()
        first += ~np.isnan(one[:, 0])
    assert (np.abs(first / 400 - 0.5) < 0.13).all()


def test_what_has_no_value_says_why() -> None:
    rng = np.random.default_rng(6)
    rows = trials(rng, 4_000)
    guesses = odd_shares(rows, rows[np.arange(len(rows)), rng.integers(0, 3, len(rows))])
    flat = split_halves(rows, np.full((len(rows), 3), 1 / 3), ITEMS, 1, 2)
    own = split_halves(rows, answered(rng, rows), ITEMS, 1, 2)
    assert "equally similar" in halves_correlation(flat, own, rng, 10).note
    few = split_halves(rows[:3], guesses[:3], ITEMS, 1, 2)
    assert "three are needed" in halves_correlation(few, own, rng, 10).note
    with pytest.raises(AffectlakeError, match="differ in shape"):
        halves_correlation(own, split_halves(rows, guesses, ITEMS, 1, 3), rng, 10)
    with pytest.raises(AffectlakeError, match="splits"):
        split_halves(rows, guesses, ITEMS, 1, 65)
    opposite = own._replace(matrices=np.stack([own.matrices[:, 0], 1 - own.matrices[:, 0]], axis=1))
    assert "above 0" in halves_correlation(opposite, own, rng, 10).note


def splitmix64(x: int) -> int:
    """SplitMix64 as published by Vigna, in Python's integers."""
    mask = 2**64 - 1
    z = (x + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@pytest.mark.reference
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_the_halves_are_those_of_splitmix64(seed: int) -> None:
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the published first value of seed 0
    triplets = np.array([[2, 0, 1], [0, 1, 2], [5, 9, 3]], np.int32)
    bits = [splitmix64(splitmix64((a << 42 | b << 21 | c) ^ seed)) for a, b, c in np.sort(triplets, axis=1).tolist()]
    items, p_odd = np.arange(10), np.tile([0.2, 0.3, 0.5], (3, 1))
    found = split_halves(triplets, p_odd, items, seed, n_splits=64).matrices
    for split in range(64):
        first = np.array([bit >> split & 1 for bit in bits], dtype=bool)
        for half, part in enumerate((first, ~first)):
            expected = pair_matrix(triplets[part], p_odd[part], items)
            assert np.array_equal(found[split, half], expected, equal_nan=True)


def test_indices_of_stimuli_are_limited_by_the_bits_of_a_key() -> None:
    largest = np.array([[0, 1, 2**21 - 1], [0, 1, 2]], np.int32)
    assert split_halves(largest, np.tile([0.2, 0.3, 0.5], (2, 1)), np.arange(3), 0).matrices.shape == (20, 2, 3, 3)
    with pytest.raises(AffectlakeError, match="too large to split") as caught:
        split_halves(largest + 1, np.tile([0.2, 0.3, 0.5], (2, 1)), np.arange(3), 0)
    assert (caught.value.wanted, caught.value.found) == ("below 2,097,152", "2,097,152")
