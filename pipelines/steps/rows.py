"""Rows as tables, and estimates as rows: value, interval, chance level, p-value, and why a value is missing."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from affectlake.geometry.estimates import Estimate
from affectlake.lake.tables.contracts import contract

Row = dict[str, object]
MAX_ROWS = 2_147_483_647


def row(analysis: str, measure: str, found: Estimate, **keys: object) -> Row:
    """Return an estimate as a row; `keys` are further columns, such as ``dimension`` or ``setting``."""
    return {
        "analysis": analysis,
        "measure": measure,
        "value": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "chance": found.chance,
        "p_value": found.p_value,
        "n": min(found.n, MAX_ROWS),
        "note": found.note or None,
        **keys,
    }


def to_table(table: str, rows: Iterable[Row]) -> pl.DataFrame:
    """Return rows as a table with the columns and types of its contract, sorted by the key of the contract.

    Parameters
    ----------
    table : str
        Name of the table.
    rows : iterable of dict
        The rows. Missing values and NaN become null.

    Returns
    -------
    polars.DataFrame
        The table.

    Raises
    ------
    KeyError
        If a row has an unknown column.
    """
    empty = pl.DataFrame(contract(table).schema.empty_table())
    columns: dict[str, list[object]] = {name: [] for name in empty.columns}
    for one in rows:
        for name in one:
            if name not in columns:
                raise KeyError(f"{table} has no column {name}")
        for name, values in columns.items():
            values.append(one.get(name))
    return null_nan(pl.DataFrame(columns, schema=empty.schema)).sort(contract(table).key)


def null_nan(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace NaN by null, which stands for undefined values in tables."""
    return frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))
