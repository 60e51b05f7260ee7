"""Which rows of a frame break what a row decides alone, and why: so that the good ones can be taken.

The same rules, from the same contract, as the suite of :mod:`~affectlake.lake.tables.expectations`, which refuses a
part as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from affectlake.lake.tables.contracts import Column, Contract

_SHOWN = 60  # characters of a value


class _Fault(NamedTuple):
    """Whether a row is at fault, and the words about it."""

    found: pl.Expr
    words: pl.Expr


def row_faults(frame: pl.DataFrame, table: Contract) -> list[str | None]:
    """Return, for each row, what it breaks; None for one that keeps the contract.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of `table`; columns that it lacks are not looked at.
    table : Contract
        The table's contract.
    """
    columns = [column for column in table.columns if column.name in frame.columns]
    faults = [fault for column in columns for fault in _of_column(column)]
    faults += _of_rules(table, set(frame.columns))
    if not faults:
        return [None] * frame.height
    words = [pl.when(fault.found.fill_null(value=False)).then(fault.words) for fault in faults]
    said = frame.select(pl.concat_str(words, separator="; ", ignore_nulls=True).alias("said"))["said"]
    return [one or None for one in said]


def _of_column(column: Column) -> Iterator[_Fault]:
    value = pl.col(column.name)
    if not column.nullable:
        yield _Fault(value.is_null(), pl.lit(f"{column.name} is null"))
    if column.minimum is not None:
        yield _Fault(~(value >= column.minimum), _says(value, f"{column.minimum:g} or more"))
    if column.maximum is not None:
        yield _Fault(~(value <= column.maximum), _says(value, f"{column.maximum:g} or less"))
    if column.values:
        yield _Fault(~value.is_in(column.values), _says(value, f"one of {', '.join(column.values)}"))
    if column.pattern:
        yield _Fault(~value.str.contains(column.pattern), _says(value, f"a text like {column.pattern}"))


def _of_rules(table: Contract, names: set[str]) -> Iterator[_Fault]:
    for rule in table.rules:
        if not names.issuperset(filter(None, (rule.column, *rule.columns))):
            continue
        if rule.kind == "increasing":
            pairs = zip(rule.columns, rule.columns[1:], strict=False)
            rising = pl.all_horizontal([pl.col(low) < pl.col(high) for low, high in pairs])
            yield _Fault(~rising, pl.lit(f"{', '.join(rule.columns)} do not rise"))
        elif rule.kind == "one_of":
            among = pl.any_horizontal([pl.col(rule.column) == pl.col(other) for other in rule.columns])
            yield _Fault(~among, pl.lit(f"{rule.column} is not one of {', '.join(rule.columns)}"))


def _says(value: pl.Expr, wanted: str) -> pl.Expr:
    name = value.meta.output_name()
    return pl.format(f"{name} is {{}}, wanted {{}}", value.cast(pl.String).str.slice(0, _SHOWN), pl.lit(wanted))
