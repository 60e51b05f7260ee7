"""Rows of a DuckDB query as a Polars frame, without pyarrow, which DuckDB's own ``.pl()`` needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from affectlake.lake.tables.views import in_quotes

if TYPE_CHECKING:  # imported late: it takes longer than most queries do
    import duckdb
    import polars as pl


def frame_of(rows: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """Compute `rows`; duplicate column names are numbered (``x``, ``x_1``).

    Raises
    ------
    duckdb.Error
        If a row cannot be computed.
    """
    import polars as pl

    names = names_apart(rows.columns)
    if names != rows.columns:
        rows = rows.project(", ".join(f"#{at} AS {in_quotes(name)}" for at, name in enumerate(names, 1)))
    return pl.DataFrame(_Stream(rows))


def names_apart(given: Sequence[str]) -> list[str]:
    """Return names of columns with duplicates numbered: ``x``, ``x_1``."""
    found: list[str] = []
    for name in given:
        choices = (name, *(f"{name}_{i}" for i in range(1, len(given) + 1)))
        found.append(next(choice for choice in choices if choice not in found))
    return found


class _Stream:
    """A relation of which Polars sees the Arrow stream only.

    Polars remembers the types of the objects that it reads; of DuckDB's own, that makes a warning at the end of Python.
    """

    def __init__(self, rows: duckdb.DuckDBPyRelation) -> None:
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._rows.__arrow_c_stream__(requested_schema)
