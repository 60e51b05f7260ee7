"""The few rows of a part that decide whether all of its rows pass a suite of rules about single rows.

If any row breaks a rule, one of these does: of a column, the first null, the smallest and the largest value, and each
different value where a set or a pattern is given; of two columns, the row in which their difference is smallest. A
suite takes as long for a few rows as it does for a thousand, and some ten times as long for a million.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq


def witnesses(part: Path, suite: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the rows of a part that decide about a suite.

    Parameters
    ----------
    part : Path
        A Parquet file.
    suite : sequence of mapping
        Expectations of Great Expectations (``type``, ``kwargs``) that hold for a table if they hold in each row:
        not null, between, in set, match regex, and greater than.

    Returns
    -------
    pyarrow.Table
        Rows with the columns of the suite, in the order of the part; if a rule does not hold in the part, it does not
        hold here.
    """
    used = sorted({name for rule in suite for name in _columns(rule["kwargs"])})
    table = pq.read_table(part, columns=used, partitioning=None)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    if not frame.height:
        return table
    deciding = [one for rule in suite for one in _deciding(rule["type"], rule["kwargs"], frame.schema)]
    found = frame.lazy().select(one.implode().alias(str(at)) for at, one in enumerate(deciding)).collect()
    rows = np.unique(np.concatenate([column.explode().drop_nulls().to_numpy() for column in found]).astype(np.int64))
    return table.take(rows)


def _columns(kwargs: Mapping[str, Any]) -> Iterator[str]:
    yield from (kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs)


def _deciding(rule: str, kwargs: Mapping[str, Any], schema: pl.Schema) -> Iterator[pl.Expr]:
    """Yield expressions for the indices of the rows that decide about one rule."""
    if rule == "expect_column_pair_values_a_to_be_greater_than_b":
        high, low = (pl.col(kwargs[key]) for key in ("column_A", "column_B"))
        yield (high.cast(pl.Float64) - low.cast(pl.Float64)).arg_min()
        yield (_absent(kwargs["column_A"], schema) | _absent(kwargs["column_B"], schema)).arg_max()
        yield (_absent(kwargs["column_A"], schema) ^ _absent(kwargs["column_B"], schema)).arg_max()
        return
    name = kwargs["column"]
    if rule == "expect_column_values_to_not_be_null":
        yield _absent(name, schema).arg_max()
    elif rule == "expect_column_values_to_be_between":
        values = pl.col(name).fill_nan(None) if schema[name].is_float() else pl.col(name)
        yield values.arg_min()
        yield values.arg_max()
    elif rule in ("expect_column_values_to_be_in_set", "expect_column_values_to_match_regex"):
        yield pl.col(name).arg_unique()
    else:
        raise ValueError(f"{rule} is not a rule that single rows decide")


def _absent(name: str, schema: pl.Schema) -> pl.Expr:
    """Return whether a value is absent for pandas: null, or NaN."""
    column = pl.col(name)
    return column.is_null() | column.is_nan().fill_null(value=True) if schema[name].is_float() else column.is_null()
