"""The fingerprint of the published table: itself, its permutations, noise, and missing dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.geometry.fingerprint import PublishedLabel, fingerprint

ROWS = pl.read_csv(Path(__file__).parents[1] / "fixtures" / "extended_data_table_1.csv").filter(
    pl.col("system") == "human-dimension"
)
TABLE = [PublishedLabel(*row) for row in ROWS.select("component", "rating", "r").iter_rows()]
RATINGS = sorted(set(ROWS["rating"]))


def published() -> np.ndarray:
    r = np.zeros((30, len(RATINGS)))
    for component, rating, value in TABLE:
        r[component - 1, RATINGS.index(rating)] = value
    return r


def test_the_table_has_no_distance_from_itself_in_any_order() -> None:
    found = fingerprint(published(), RATINGS, TABLE)
    assert found.distance == 0 and found.order == pytest.approx(1)
    assert found.matched.tolist() == list(range(30))
    order = np.random.default_rng(0).permutation(30)
    shuffled = fingerprint(published()[order], RATINGS, TABLE)
    assert shuffled.distance == 0 and abs(shuffled.order) < 0.5
    assert order[shuffled.matched].tolist() == list(range(30))
    assert fingerprint(published()[::-1], RATINGS, TABLE).order == pytest.approx(-1)


def test_the_distance_is_the_mean_difference_of_the_labels() -> None:
    one = published()
    one[3, RATINGS.index("valence")] += 0.09
    assert fingerprint(one, RATINGS, TABLE).distance == pytest.approx(0.09 / len(TABLE))
    noise = 0.01 * np.random.default_rng(1).normal(size=one.shape)
    assert fingerprint(published() + noise, RATINGS, TABLE).distance == pytest.approx(0.008, abs=0.002)


def test_a_component_without_a_dimension_counts_with_its_whole_correlations() -> None:
    found = fingerprint(published()[:29], RATINGS, TABLE)
    assert found.matched[-1] == -1 and (found.matched[:29] == np.arange(29)).all()
    assert found.distance == pytest.approx(sum(abs(one.r) for one in TABLE if one.component == 30) / len(TABLE))
    more = fingerprint(np.vstack([published(), np.zeros((3, len(RATINGS)))]), RATINGS, TABLE)
    assert more.distance == 0
