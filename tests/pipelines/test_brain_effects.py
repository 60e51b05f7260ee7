"""Columns beside the t-tests: few subjects, equal differences, missing subjects and few relabellings."""

from __future__ import annotations

import polars as pl
import pytest

from affectlake.pipelines.steps.brain_effects import prevalence_rows, with_effect_sizes
from affectlake.pipelines.steps.rows import Row, to_table

NONE = float("nan")
KEYS: Row = {"method": "encoding", "region": "VC", "agent": "one", "other_agent": "other"}


def test_tests_of_few_subjects_have_the_values_that_exist() -> None:
    rows: list[Row] = [
        KEYS | {"agent": name, "t": t, "n_subjects": n}
        for name, t, n in (("five", 4.2, 5), ("two", 4.2, 2), ("one", NONE, 1), ("equal", NONE, 5), ("none", NONE, 0))
    ]
    found = {row["agent"]: row for row in to_table("group_stats", with_effect_sizes(rows)).to_dicts()}
    assert found["five"]["effect_size"] == pytest.approx(0.7979 * 4.2 / 5**0.5, rel=1e-4)
    assert found["five"]["bayes_factor"] == pytest.approx(5.6167, rel=1e-4)
    assert found["two"]["effect_size"] is None and found["two"]["effect_ci_high"] > 0 < found["two"]["bayes_factor"]
    for name in ("one", "equal", "none"):
        values = (found[name][column] for column in ("effect_size", "effect_ci_low", "effect_ci_high", "bayes_factor"))
        assert set(values) == {None}
    assert with_effect_sizes([]) == []


def _prevalence(scores: list[float | None], null: list[list[float]]) -> Row:
    subjects = {"agent": "one", "subject": [f"S{at}" for at in range(len(scores))], "region": "VC"}
    own = pl.DataFrame(subjects | {"region_score": pl.Series(scores, dtype=pl.Float64)})
    drawn = pl.DataFrame(subjects).head(len(null)).with_columns(
        null_scores=pl.Series(null, dtype=pl.List(pl.Float32))
    )  # fmt: skip
    (row,) = to_table("prevalence", prevalence_rows("encoding", own, drawn)).to_dicts()
    return row


def test_subjects_without_a_score_are_not_counted() -> None:
    null = [[0.1] * 19] * 3
    row = _prevalence([0.2, None, 0.05], null)
    assert (row["n_subjects"], row["n_significant"], row["note"]) == (2, 1, None)
    row = _prevalence([0.1, 0.1, 0.1], null)  # as high as every relabelling: ties
    assert (row["n_subjects"], row["n_significant"], row["prevalence"]) == (3, 0, 0.0)
    row = _prevalence([0.2], null[:1])
    assert row["n_significant"] == 1 and row["prevalence_high"] == 1.0


@pytest.mark.parametrize(
    ("scores", "null", "note"),
    [
        ([None, None], [[0.1] * 19] * 2, "no subject has a score"),
        ([0.2, 0.2], [[], []], "no values under relabelled stimuli"),
        ([0.2, 0.2], [[0.1] * 19], "no values under relabelled stimuli"),
        ([0.2, 0.2], [[0.1] * 18] * 2, "18 relabellings are too few for a level of 0.05"),
    ],
)
def test_without_a_prevalence_a_row_says_why(scores: list[float | None], null: list[list[float]], note: str) -> None:
    row = _prevalence(scores, null)
    assert row["note"] == note
    assert {row[name] for name in ("n_significant", "prevalence", "prevalence_low", "prevalence_bound")} == {None}
