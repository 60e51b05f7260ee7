"""What a version consists of, as rows of the page's tables: stimuli, exclusions, triplets, choices and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import MISSING, count

SHOWN_IDS = 12
DIGEST_LENGTH = 8


def tiles(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Return the numbers of stimuli, ratings, captions, triplets and choices, each with its name."""
    excluded = inputs.exclusions["stimulus_id"].n_unique()
    triplets = int(inputs.trial_counts["n_triplets"].sum())
    choices = int(inputs.choice_counts["n_choices"].sum())
    return [
        (count(len(inputs.stimuli)), "stimuli"),
        *((count(len(family.ratings)), family.plural) for family in inputs.families),
        (count(len(inputs.captions)), "captions"),
        (count(excluded), "excluded"),
        (count(triplets), "triplets"),
        (count(choices), "choices"),
    ]


def exclusions(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one row per source and reason, with the first ids."""
    grouped = (
        rows.sort("source", "reason", "stimulus_id")
        .group_by("source", "reason", maintain_order=True)
        .agg(pl.col("stimulus_id"), pl.col("n_rows").sum())
    )
    found = []
    for source, reason, ids, n_rows in grouped.iter_rows():
        more = len(ids) - SHOWN_IDS
        shown = ", ".join(ids[:SHOWN_IDS]) + (f" and {count(more)} more" if more > 0 else "")
        found.append({"source": source, "reason": reason, "n": len(ids), "n_rows": n_rows, "ids": shown})
    return found


def trials(trial_counts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one row per trial set with its triplets in each split."""
    rows: dict[str, dict[str, Any]] = {}
    for trial_set, split, n in trial_counts.select("trial_set", "split", "n_triplets").sort("trial_set").iter_rows():
        row = rows.setdefault(trial_set, {"trial_set": trial_set, "train": 0, "validation": 0, "test": 0})
        row[split] = row.get(split, 0) + n
    return list(rows.values())


def choices(choice_counts: pl.DataFrame, order: list[str]) -> list[dict[str, Any]]:
    """Return one row per agent, protocol and trial set, agents in the page's order."""
    rows = choice_counts.group_by("agent", "protocol", "trial_set").agg(
        pl.col("n_choices").sum(), pl.col("n_tied").sum()
    )
    rows = rows.with_columns(pl.col("protocol", "trial_set").fill_null(MISSING))
    return sorted(rows.to_dicts(), key=lambda row: (order.index(row["agent"]), row["protocol"], row["trial_set"]))


def files(tables: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one row per table and partition, with the beginning of its digest."""
    return [
        row | {"digest": str(row["digest"] or MISSING)[:DIGEST_LENGTH], "partition": row["partition"] or ""}
        for row in tables.sort("table", "partition").to_dicts()
    ]


def plain(value: object) -> object:
    """Return nested mappings and sequences as plain dicts and lists, which YAML can write."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
