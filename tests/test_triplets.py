"""Drawing, splitting, packing triplets, and writing down the odd one."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chi2, chisquare

from affectlake.errors import SamplingError
from affectlake.triplet_sampling import sample_dyads, sample_pairs, sample_rows, sample_uniform
from affectlake.triplets import (
    hashed_shares,
    odd_last,
    pack,
    split,
    split_validation,
    unpack,
)

NONE = np.empty((0, 3), dtype=np.int32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def is_canonical(triplets: np.ndarray) -> bool:
    rows = [tuple(row) for row in triplets.tolist()]
    return rows == sorted(set(rows)) and all(i < j < k for i, j, k in rows)


def dyad_counts(triplets: np.ndarray, n_stimuli: int) -> np.ndarray:
    """In how many triplets each dyad is, (n, n) upper triangle."""
    counts = np.zeros((n_stimuli, n_stimuli), int)
    for a, b in combinations(range(3), 2):
        np.add.at(counts, (triplets[:, a], triplets[:, b]), 1)
    return counts[np.triu_indices(n_stimuli, 1)]


@pytest.mark.parametrize("n_stimuli", [11, 12, 13, 14, 17, 23, 37, 38, 39, 60, 150])
def test_every_dyad_gets_three_thirds_and_no_triplet_comes_twice(n_stimuli: int) -> None:
    triplets = sample_dyads(n_stimuli, rng(n_stimuli))
    assert triplets.dtype == np.int32
    assert triplets.shape == (3 * comb(n_stimuli, 2), 3)
    assert is_canonical(triplets)
    assert triplets.min() >= 0
    assert triplets.max() < n_stimuli
    assert dyad_counts(triplets, n_stimuli).min() >= 3


@pytest.mark.parametrize("per_dyad", [1, 2, 5])
@pytest.mark.parametrize("more", [0, 1, 7, 60])
def test_other_numbers_of_thirds(per_dyad: int, more: int) -> None:
    n_stimuli = 3 * per_dyad + 2 + more
    triplets = sample_dyads(n_stimuli, rng(), per_dyad)
    assert len(triplets) == per_dyad * comb(n_stimuli, 2)
    assert is_canonical(triplets)


def test_eleven_stimuli_use_every_triplet() -> None:
    assert sample_dyads(11, rng()).tolist() == [list(c) for c in combinations(range(11), 3)]


@pytest.mark.parametrize("n_stimuli", [0, 2, 3, 10])
def test_more_triplets_than_exist_are_refused(n_stimuli: int) -> None:
    with pytest.raises(SamplingError) as error:
        sample_dyads(n_stimuli, rng())
    assert f"{comb(n_stimuli, 3)} triplets exist" in str(error.value)
    assert f"{3 * comb(n_stimuli, 2)} different triplets" in str(error.value)
    assert "11 stimuli or more" in str(error.value)


def test_no_third_is_no_sample() -> None:
    with pytest.raises(SamplingError, match="at least 1 third"):
        sample_dyads(20, rng(), 0)


@pytest.mark.parametrize("n_stimuli", [20, 300])
def test_same_seed_same_triplets(n_stimuli: int) -> None:
    first, again, other = (sample_dyads(n_stimuli, rng(seed)) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_stimuli_are_drawn_uniformly(seed: int) -> None:
    n = 300
    counts = np.bincount(sample_dyads(n, rng(seed)).ravel(), minlength=n)
    # 3 (n - 1) times in its own dyads, 3 (n - 1) / 2 times on average as a random third
    expected, variance = 4.5 * (n - 1), 1.5 * (n - 1)
    statistic = ((counts - expected) ** 2 / variance).sum()
    low, high = chi2.ppf([1e-4, 1 - 1e-4], n - 1)
    assert counts.sum() == 9 * comb(n, 2)
    assert low < statistic < high
    assert abs(np.corrcoef(counts, np.arange(n))[0, 1]) < 4 / np.sqrt(n)


def test_no_stimulus_is_favoured_over_many_draws() -> None:
    n, draws = 45, 300  # the roomy regime at its tightest: many draws collide
    totals = sum(np.bincount(sample_dyads(n, rng(seed)).ravel(), minlength=n) for seed in range(draws))
    z = (totals - 4.5 * (n - 1) * draws) / np.sqrt(1.5 * (n - 1) * draws)
    assert np.abs(z).max() < 4.5
    assert abs(np.corrcoef(totals, np.arange(n))[0, 1]) < 0.6


@pytest.mark.parametrize("n_stimuli", [12, 14])
def test_no_triplet_is_favoured_where_nearly_all_are_used(n_stimuli: int) -> None:
    draws, exist = 400, comb(n_stimuli, 3)
    share = 3 * comb(n_stimuli, 2) / exist
    every = pack(np.array(list(combinations(range(n_stimuli), 3)), np.int32), n_stimuli)
    drawn = np.zeros(exist)
    for seed in range(draws):
        keys = pack(sample_dyads(n_stimuli, rng(seed)), n_stimuli)
        drawn[np.searchsorted(every, keys)] += 1
    statistic = ((drawn - share * draws) ** 2).sum() / (draws * share * (1 - share))
    assert statistic < chi2.ppf(1 - 1e-4, exist - 1)


def test_pairs_of_prototypes() -> None:
    main = sample_dyads(120, rng())
    prototypes = rng(1).choice(120, 12, replace=False)
    triplets = sample_pairs(prototypes, 120, 40, rng(2), exclude=main)
    assert triplets.shape == (40 * comb(12, 2), 3)
    assert is_canonical(triplets)
    assert not np.isin(pack(triplets, 120), pack(main, 120)).any()
    assert (np.isin(triplets, prototypes).sum(axis=1) >= 2).all()
    assert triplets.tobytes() == sample_pairs(prototypes, 120, 40, rng(2), exclude=main).tobytes()
    assert triplets.tobytes() == sample_pairs(np.sort(prototypes), 120, 40, rng(2), exclude=main).tobytes()


def test_thirds_of_pairs_are_uniform_over_the_catalogue() -> None:
    n, prototypes = 60, np.arange(50, 60)
    others = sum(
        np.bincount(sample_pairs(prototypes, n, 10, rng(seed), NONE).ravel(), minlength=n)[:50] for seed in range(200)
    )
    # each pair draws 10 of 58 thirds, a prototype no more often than another stimulus
    expected = others.mean()
    assert 200 * comb(10, 2) * 10 / 58 < expected < 200 * comb(10, 2) * 10 / 50
    assert ((others - expected) ** 2).sum() / (expected * (1 - 10 / 58)) < chi2.ppf(1 - 1e-4, 49)


def test_pairs_can_use_up_everything() -> None:
    """Four prototypes of six stimuli: 6 pairs x 2 others = 12 triplets, and 4 of prototypes alone."""
    allowed = sample_pairs(np.arange(4), 6, 2, rng(), NONE)
    assert len(allowed) == 12
    with pytest.raises(SamplingError, match="at most 16"):
        sample_pairs(np.arange(4), 6, 3, rng(), NONE)
    only_others = np.array(list(combinations(range(4), 3)), np.int32)
    exact = sample_pairs(np.arange(4), 6, 2, rng(), exclude=only_others)
    assert exact.tolist() == [[i, j, k] for i, j in combinations(range(4), 2) for k in (4, 5)]
    with pytest.raises(SamplingError, match="at most 11"):
        sample_pairs(np.arange(4), 6, 2, rng(), exclude=np.vstack([only_others, [[0, 1, 4]]]).astype(np.int32))


@pytest.mark.parametrize("seed", range(20))
def test_tight_pairs_are_found_when_they_exist(seed: int) -> None:
    """All stimuli are prototypes and every triplet is needed: only an exact assignment gets there."""
    assert len(sample_pairs(np.arange(11), 11, 3, rng(seed), NONE)) == comb(11, 3)


@pytest.mark.parametrize("prototypes", [[3], [1, 1, 2], [-1, 2], [4, 20]])
def test_prototypes_that_are_none_are_refused(prototypes: list[int]) -> None:
    with pytest.raises(SamplingError, match="0 to 19"):
        sample_pairs(np.array(prototypes), 20, 3, rng(), NONE)


def test_pairs_without_a_third_are_refused() -> None:
    with pytest.raises(SamplingError, match="1 or more"):
        sample_pairs(np.arange(4), 20, 0, rng(), NONE)


@pytest.mark.parametrize("count", [0, 1, 50, 165])
def test_rows_are_drawn_without_replacement_in_their_order(count: int) -> None:
    triplets = sample_dyads(11, rng())
    drawn = sample_rows(triplets, count, rng(1))
    assert drawn.shape == (count, 3)
    assert is_canonical(drawn)


def test_more_rows_than_there_are_is_refused() -> None:
    with pytest.raises(SamplingError, match="0 to 165"):
        sample_rows(sample_dyads(11, rng()), 166, rng())


def test_every_row_is_drawn_equally_often() -> None:
    triplets = sample_dyads(11, rng())
    keys = pack(triplets, 11)
    drawn = np.zeros(165)
    for seed in range(500):
        drawn[np.searchsorted(keys, pack(sample_rows(triplets, 33, rng(seed)), 11))] += 1
    assert ((drawn - 100) ** 2).sum() / (500 * 0.2 * 0.8) < chi2.ppf(1 - 1e-4, 164)


@given(n=st.integers(0, 400), fraction=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_a_split_is_a_partition_of_exact_size(n: int, fraction: float, seed: int) -> None:
    rows = np.arange(3 * n).reshape(n, 3)
    test = split(n, fraction, rng(seed))
    assert test.shape == (n,)
    assert test.sum() == round(n * fraction)
    both = np.vstack([rows[test], rows[~test]])
    assert sorted(both.tolist()) == rows.tolist()
    assert (split(n, fraction, rng(seed)) == test).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_share_beyond_one_is_refused(fraction: float) -> None:
    with pytest.raises(SamplingError, match="0 to 1"):
        split(10, fraction, rng())


def test_a_split_is_uniform_over_rows() -> None:
    held_out = sum(split(100, 0.1, rng(seed)).astype(int) for seed in range(1000))
    assert ((held_out - 100) ** 2).sum() / (1000 * 0.1 * 0.9) < chi2.ppf(1 - 1e-4, 99)


@given(n=st.integers(3, 200_000), data=st.data())
def test_packing_keeps_rows_and_their_order(n: int, data: st.DataObject) -> None:
    row = st.lists(st.integers(0, n - 1), min_size=3, max_size=3, unique=True).map(sorted)
    rows = sorted(data.draw(st.lists(row, min_size=1, max_size=20)))
    triplets = np.array(rows, dtype=np.int32)
    keys = pack(triplets, n)
    assert keys.tolist() == sorted(keys.tolist())
    assert unpack(keys, n).tolist() == rows


@settings(max_examples=50)
@given(column=arrays(np.int8, st.integers(1, 40), elements=st.integers(0, 2)), seed=st.integers(0, 1000))
def test_the_odd_one_goes_last(column: np.ndarray, seed: int) -> None:
    triplets = sample_rows(sample_dyads(20, rng(seed)), len(column), rng(seed))
    odd = triplets[np.arange(len(column)), column]
    found = odd_last(triplets, odd)
    assert found.dtype == np.int32
    for row, last, got in zip(triplets.tolist(), odd.tolist(), found.tolist(), strict=True):
        assert got == [*(x for x in row if x != last), last]


def test_an_odd_one_of_another_triplet_is_refused() -> None:
    triplets = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    with pytest.raises(SamplingError, match=r"one of \[3, 4, 5\] in row 1"):
        odd_last(triplets, np.array([0, 2], np.int32))
    with pytest.raises(SamplingError, match="2 odd stimuli"):
        odd_last(triplets, np.array([0], np.int32))


def test_the_size_of_the_paper() -> None:
    triplets = sample_dyads(2180, rng())
    keys = pack(triplets, 2180)
    assert len(triplets) == 7_125_330
    assert (np.diff(keys) > 0).all()
    prototypes = rng(1).choice(2180, 66, replace=False)
    validation = sample_pairs(prototypes, 2180, 100, rng(2), exclude=triplets)
    assert len(validation) == 214_500
    wanted = pack(validation, 2180)
    assert (keys[np.searchsorted(keys, wanted) - len(keys)] != wanted).all()


def test_validation_rows_are_random_rows_that_are_not_test_rows() -> None:
    test = split(1000, 0.1, np.random.default_rng(0))
    found = [split_validation(test, 0.05, np.random.default_rng(seed)) for seed in (1, 2)]
    assert [one.sum() for one in found] == [50, 50]
    assert not (found[0] & test).any()
    assert not np.array_equal(*found)
    shares = np.mean([split_validation(test, 0.3, np.random.default_rng(seed)) for seed in range(400)], axis=0)
    assert abs(shares[~test] - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 400)
    with pytest.raises(SamplingError, match="no triplets are left to learn from"):
        split_validation(test, 0.9, np.random.default_rng(0))


def test_hashed_shares_are_uniform_and_depend_on_the_triplet_and_the_seed_alone() -> None:
    triplets = np.array(list(combinations(range(60), 3)), dtype=np.int32)
    shares = hashed_shares(triplets, 5)
    counts = np.histogram(shares, bins=50, range=(0, 1))[0]
    expected = len(triplets) / 50
    assert chi2.sf(((counts - expected) ** 2 / expected).sum(), 49) > 1e-3
    for column in range(3):  # each index alone is not related to the share
        assert abs(np.corrcoef(triplets[:, column], shares)[0, 1]) < 4 / len(triplets) ** 0.5
    assert len(np.unique(shares)) == len(triplets)
    order = rng().permutation(len(triplets))
    np.testing.assert_array_equal(hashed_shares(triplets[order], 5), shares[order])
    np.testing.assert_array_equal(hashed_shares(triplets[:7], 5), shares[:7])
    other = hashed_shares(triplets, 6)
    assert abs(np.corrcoef(shares, other)[0, 1]) < 4 / len(triplets) ** 0.5
    assert hashed_shares(NONE, 5).shape == (0,)


def test_uniform_draws_are_different_canonical_triplets() -> None:
    triplets = sample_uniform(3000, 200_000, rng())
    keys = pack(triplets, 3000)
    assert (np.diff(keys) > 0).all() and (np.diff(triplets, axis=1) > 0).all()
    assert triplets.min() == 0 and triplets.max() == 2999
    np.testing.assert_allclose(np.bincount(triplets.ravel(), minlength=3000).mean(), 200)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20])
def test_any_share_of_all_triplets_can_be_drawn(count: int) -> None:
    assert len(np.unique(pack(sample_uniform(6, count, rng()), 6))) == count


@pytest.mark.parametrize("count", [2, 8])
def test_all_sets_of_triplets_are_equally_likely(count: int) -> None:
    """Of the C(10, count) = 45 sets of triplets of five stimuli; a chi-square far out would be rare."""
    generator = rng()
    drawn = Counter(tuple(pack(sample_uniform(5, count, generator), 5).tolist()) for _ in range(9000))
    assert len(drawn) == 45
    assert chisquare(list(drawn.values())).pvalue > 1e-4


def test_stimuli_and_pairs_are_in_as_many_triplets_as_by_chance() -> None:
    n, m, generator = 30, 400, rng()
    pairs = np.zeros((n, n))
    for _ in range(300):
        i, j, k = sample_uniform(n, m, generator).T
        for a, b in ((i, j), (i, k), (j, k)):
            np.add.at(pairs, (a, b), 1)
    counts = pairs[np.triu_indices(n, 1)]
    expected = 300 * m * 3 / len(counts)
    spread = np.sqrt(expected * (1 - m / comb(n, 3)))  # hypergeometric; triplets of a pair are drawn without repetition
    assert np.abs(counts - expected).max() < 5 * spread
    assert 0.8 < counts.std() / spread < 1.2


def test_no_more_can_be_drawn_uniformly_than_exist() -> None:
    with pytest.raises(SamplingError, match=r"10 triplets exist"):
        sample_uniform(5, 11, rng())
