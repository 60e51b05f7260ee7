"""Printing the rows of a query as a table, CSV or JSON; CSV and JSON stream, whatever their size."""

from __future__ import annotations

import json
from pathlib import Path

import click
import polars as pl

from affectlake.lake.diff import changed_outputs, diff_rows
from affectlake.lake.query import query
from affectlake.lake.versions import Version

ROWS_PER_BATCH = 100_000
ROWS_SHOWN = 40


def print_changed_rows(root: Path, before: Version, after: Version, table: str) -> None:
    """Print the rows that differ between two versions as JSON lines: the output, what happened, and the row."""
    for output in changed_outputs(root, before, after, table):
        rows = diff_rows(root, before, after, output)
        for change, frame in zip(rows._fields, rows, strict=True):
            for row in frame.iter_rows(named=True):
                click.echo(json.dumps({"output": output, "change": change} | row, default=str))


def print_rows(root: Path, sql: str, at: str, form: str) -> None:
    """Answer `sql` at the version `at` and print the rows as ``"table"``, ``"csv"`` or ``"json"`` (a row a line)."""
    rows = query(root, sql, at)
    if form == "table":
        shown = rows.limit(ROWS_SHOWN + 1).pl()
        with pl.Config(tbl_rows=ROWS_SHOWN, tbl_cols=-1, fmt_str_lengths=80, tbl_hide_dataframe_shape=True):
            click.echo(shown.head(ROWS_SHOWN))
        if shown.height > ROWS_SHOWN:
            click.echo(f"the first {ROWS_SHOWN} rows; --format csv gives all", err=True)
        return
    for number, batch in enumerate(rows.fetch_arrow_reader(ROWS_PER_BATCH)):
        frame = pl.DataFrame(batch)
        if form == "csv":
            click.echo(frame.write_csv(include_header=number == 0), nl=False)
        else:
            click.echo("".join(f"{json.dumps(row, default=str)}\n" for row in frame.iter_rows(named=True)), nl=False)
