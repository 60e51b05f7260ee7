"""Find the rows of a frame that break a rule, and why, so that the valid rows can be kept.

The rules are those of the suite in :mod:`~affectlake.lake.tables.expectations`, from the same contract; the suite
refuses a part as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

import polars as pl

from affectlake.lake.tables.contracts import Column, Contract
from affectlake.lake.tables.rules import matches

_SHOWN = 60  # characters of a value


class _Fault(NamedTuple):
    """Whether a row breaks a rule, and the message about it."""

    found: pl.Expr
    message: pl.Expr


def row_faults(frame: pl.DataFrame, table: Contract) -> list[str | None]:
    """Return, for each row, a message about the rules that it breaks; None if it breaks none of them.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of `table`; missing columns are not checked.
    table : Contract
        The table's contract.
    """
    columns = [column for column in table.columns if column.name in frame.columns]
    faults = [fault for column in columns for fault in _of_column(column)]
    faults += _of_rules(table, set(frame.columns))
    if not faults:
        return [None] * frame.height
    each = [pl.when(fault.found.fill_null(value=False)).then(fault.message) for fault in faults]
    messages = frame.select(pl.concat_str(each, separator="; ", ignore_nulls=True).alias("message"))["message"]
    return [message or None for message in messages]


def _of_column(column: Column) -> Iterator[_Fault]:
    value = pl.col(column.name)
    if not column.nullable:
        yield _Fault(value.is_null(), pl.lit(f"{column.name} is null"))
    if column.minimum is not None:
        yield _Fault(~(value >= column.minimum), _message(value, f"at least {column.minimum:g}"))
    if column.maximum is not None:
        yield _Fault(~(value <= column.maximum), _message(value, f"at most {column.maximum:g}"))
    if column.values:
        yield _Fault(~value.is_in(column.values), _message(value, f"one of {', '.join(column.values)}"))
    if column.pattern:
        yield _Fault(~value.str.contains(column.pattern), _message(value, f"a text like {column.pattern}"))


def _of_rules(table: Contract, names: set[str]) -> Iterator[_Fault]:
    for rule in table.rules:
        if not names.issuperset(filter(None, (rule.column, *rule.columns))):
            continue
        if rule.kind == "increasing":
            pairs = list(pairwise(rule.columns))
            rising = pl.all_horizontal([pl.col(low) < pl.col(high) for low, high in pairs])
            if rule.equal_where is not None and rule.equal_where.column in names:
                ordered = pl.all_horizontal([pl.col(low) <= pl.col(high) for low, high in pairs])
                rising = rising | (ordered & matches(rule.equal_where))
            yield _Fault(~rising, pl.lit(f"{', '.join(rule.columns)} do not rise"))
        elif rule.kind == "one_of":
            among = pl.any_horizontal([pl.col(rule.column) == pl.col(other) for other in rule.columns])
            yield _Fault(~among, pl.lit(f"{rule.column} is not one of {', '.join(rule.columns)}"))
        elif rule.kind == "different":
            equal = pl.any_horizontal([pl.col(one) == pl.col(other) for one, other in combinations(rule.columns, 2)])
            yield _Fault(equal, pl.lit(f"{', '.join(rule.columns)} are not different"))


def _message(value: pl.Expr, wanted: str) -> pl.Expr:
    name = value.meta.output_name()
    return pl.format(f"{name} is {{}}, wanted {{}}", value.cast(pl.String).str.slice(0, _SHOWN), pl.lit(wanted))
