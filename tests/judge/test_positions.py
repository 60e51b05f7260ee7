"""Position shares and flip rates against direct counts, SciPy, and what is planted."""

from __future__ import annotations

from itertools import combinations
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectlake.judge.responses.position_bias import flip_rate, position_shares


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=200))
def test_the_test_against_equal_shares_is_pearson_s(positions: list[int]) -> None:
    found = position_shares(np.array(positions, dtype=np.int8))
    third = len(positions) / 3
    expected = sum((positions.count(p) - third) ** 2 / third for p in (1, 2, 3))
    assert found.counts.tolist() == [positions.count(p) for p in (1, 2, 3)]
    assert found.chi_square == pytest.approx(expected)
    assert found.p_value == pytest.approx(exp(-expected / 2))  # the level with two degrees of freedom


def test_no_choices_have_no_test_and_a_fourth_position_is_refused() -> None:
    found = position_shares(np.empty(0, np.int8))
    assert found.n == 0
    assert np.isnan([found.chi_square, found.p_value]).all()
    with pytest.raises(ValueError, match=r"\[4\]"):
        position_shares(np.array([1, 4], dtype=np.int8))


def counted(rows: list[tuple[int, int, int]], *, same: bool) -> float:
    """The flip rate by going through all pairs."""
    rates = []
    for triplet in sorted({t for t, _, _ in rows}):
        answers = [(odd, code) for t, odd, code in rows if t == triplet]
        flips = [a[0] != b[0] for a, b in combinations(answers, 2) if (a[1] == b[1]) == same]
        if flips:
            rates.append(np.mean(flips))
    return float(np.mean(rates)) if rates else float("nan")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(10, 12), st.integers(0, 5)), max_size=40))
def test_flips_are_those_of_all_pairs(rows: list[tuple[int, int, int]]) -> None:
    triplet, odd, code = (np.array([row[c] for row in rows], dtype=np.int64) for c in range(3))
    found = flip_rate(triplet, odd.astype(np.int32), code)
    assert found.other_order == pytest.approx(counted(rows, same=False), nan_ok=True)
    assert found.same_order == pytest.approx(counted(rows, same=True), nan_ok=True)


def test_what_is_planted_is_found() -> None:
    rng = np.random.default_rng(0)
    triplet = np.repeat(np.arange(2_000), 10)
    code = rng.integers(0, 6, size=triplet.size)
    steady = triplet.astype(np.int32) % 3
    assert flip_rate(triplet, steady, code)[:2] == (0.0, 0.0)
    by_order = flip_rate(triplet, (code % 3).astype(np.int32), code)  # the order alone decides
    assert by_order.same_order == 0.0
    assert by_order.other_order == pytest.approx(4 / 5, abs=0.01)  # of five other orders four lead elsewhere
    at_random = flip_rate(triplet, rng.integers(0, 3, size=triplet.size).astype(np.int32), code)
    assert at_random.other_order == pytest.approx(2 / 3, abs=0.01)  # chance
    assert at_random.same_order == pytest.approx(2 / 3, abs=0.01)
