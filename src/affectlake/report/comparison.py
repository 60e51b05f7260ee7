"""The page that compares two versions: sizes of tables, and every number that differs. It has no figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import MISSING, count, decimal

KEY = ["agent", "seed", "analysis", "measure", "dimension", "rating", "setting"]
PAIRED = ["agent", "against", "analysis", "measure"]


def moved(before: ReportInputs, after: ReportInputs) -> list[dict[str, Any]]:
    """Return every number of either version: both values, their difference, and whether the intervals overlap.

    Rows of single dimensions are left out: equal dimension numbers in two fits do not mean the same dimension.
    """
    found = list(
        _rows(
            before.metrics.filter(pl.col("dimension").is_null()),
            after.metrics.filter(pl.col("dimension").is_null()),
            KEY,
        )
    )
    tables = [one.analyses.get("comparisons") for one in (before, after)]
    if any(table is not None for table in tables):
        some = next(table for table in tables if table is not None)
        first, second = (some.clear() if table is None else table for table in tables)
        found += list(_rows(first, second, PAIRED))
    return found


def _rows(before: pl.DataFrame, after: pl.DataFrame, key: list[str]) -> Iterator[dict[str, Any]]:
    columns = [*key, "value", "ci_low", "ci_high", "n"]
    joined = (
        before.select(columns)
        .join(after.select(columns), on=key, how="full", nulls_equal=True, coalesce=True, suffix="_after")
        .sort(key, nulls_last=True)
    )
    for row in joined.iter_rows(named=True):
        old, new = row["value"], row["value_after"]
        if old is None and new is None:
            continue
        where = " · ".join(
            str(row[name]).replace("_", " ") for name in key[1:] if row[name] is not None and name != "seed"
        )
        seed = row.get("seed")
        yield {
            "agent": row["agent"],
            "what": where,
            "seed": "" if seed is None else str(seed),
            "before": decimal(old, 4),
            "after": decimal(new, 4),
            "difference": MISSING if old is None or new is None else decimal(new - old, 4),
            "changed": old != new,
            "apart": _apart(row),
        }


def _apart(row: dict[str, Any]) -> bool:
    """Return whether the two 95 % intervals do not overlap."""
    ends = [row[name] for name in ("ci_low", "ci_high", "ci_low_after", "ci_high_after")]
    return None not in ends and (ends[1] < ends[2] or ends[3] < ends[0])


def sizes(before: ReportInputs, after: ReportInputs) -> list[dict[str, Any]]:
    """Return the number of rows of every output in both versions, and whether its bytes are identical."""
    key = ["table", "partition"]
    joined = before.tables.join(after.tables, on=key, how="full", coalesce=True, suffix="_after").sort(key)
    return [
        {
            "output": "/".join(part for part in (row["table"], row["partition"]) if part),
            "before": MISSING if row["n_rows"] is None else count(row["n_rows"]),
            "after": MISSING if row["n_rows_after"] is None else count(row["n_rows_after"]),
            "same": row["digest"] is not None and row["digest"] == row["digest_after"],
        }
        for row in joined.iter_rows(named=True)
    ]


def render_comparison(before: ReportInputs, after: ReportInputs) -> str:
    """Return the comparison of two versions as one HTML page that needs no other file and no network."""
    from affectlake.report.page import environment

    rows = moved(before, after)
    agents = sorted({row["agent"] for row in rows})
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            before=before,
            after=after,
            agents=[
                {
                    "agent": agent,
                    "rows": [row for row in rows if row["agent"] == agent and row["changed"]],
                    "same": sum(row["agent"] == agent and not row["changed"] for row in rows),
                    "apart": sum(row["agent"] == agent and row["apart"] for row in rows),
                }
                for agent in agents
            ],
            n_changed=sum(row["changed"] for row in rows),
            n_apart=sum(row["apart"] for row in rows),
            n_rows=len(rows),
            sizes=sizes(before, after),
        )
    )
