"""The tables of a version, as the report and the maps read them, over one connection.

A version may have been written under other contracts than the current ones. A missing table has no rows here, a missing
column is null, and both are reported. Nothing else depends on the current contracts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import polars as pl

from affectlake.lake.query import Reader
from affectlake.lake.store.versions import Manifest, Version
from affectlake.lake.tables.contracts import contracts
from affectlake.lake.tables.relations import frame_of
from affectlake.lake.tables.views import in_quotes
from affectlake.pipelines.outputs.restricted import Restricted
from affectlake.report.columns import COLUMNS, Columns


class VersionTables:
    """Tables of one version, opened once for any number of queries.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    version : Version
        The version.
    columns : mapping of str to Columns, optional
        The tables to read, with their columns; by default, those of the report.
    hidden : mapping of str to Restricted, optional
        Tables with columns that are read as nulls, because they may not be republished; by default, none.

    Attributes
    ----------
    manifest : Manifest
        Manifest of the version.
    present : dict of str to list of str
        Outputs of each table of the version.
    unread : dict of str to str
        For each table that cannot be shown completely, what is missing.
    """

    def __init__(
        self,
        lake: Path,
        version: Version,
        columns: Mapping[str, Columns] = COLUMNS,
        hidden: Mapping[str, Restricted] = MappingProxyType({}),
    ) -> None:
        self.version = version
        self.manifest = Manifest(lake, version.commit)
        self.present = self.manifest.tables()
        self.unread: dict[str, str] = {}
        self._hidden = {table: one.columns for table, one in hidden.items()}
        self._reader = Reader(self.manifest, version, list(columns))
        for table, wanted in columns.items():
            self._open(table, wanted)

    def rows(self, sql: str) -> pl.DataFrame:
        """Return the rows of one SELECT.

        The tables in `columns` have the columns to read, without rows that lack a needed value. Other tables are as
        they were published.
        """
        return frame_of(self._reader.query(sql))

    def table(self, name: str) -> pl.DataFrame:
        """Return the rows of a table; none if the version does not have it."""
        return self.rows(f"SELECT * FROM {in_quotes(name)}")

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """One line for each table that cannot be shown completely."""
        return tuple(f"{table}: {what}" for table, what in self.unread.items())

    def _open(self, table: str, wanted: Columns) -> None:
        """Create a view with the name of a table, which has the columns to read."""
        published = self._columns_of(table)
        every = (*wanted.needed, *wanted.optional, *wanted.varying)
        nothing = {name: f"NULL::{_type(name) or 'VARCHAR'} AS {in_quotes(name)}" for name in every}
        if set(wanted.needed) <= set(published):
            hidden = self._hidden.get(table, ())
            chosen = [
                f"NULL::{kind} AS {in_quotes(name)}" if name in hidden else _as_read(name, kind, every)
                for name, kind in published.items()
            ]
            chosen += [null for name, null in nothing.items() if name not in published]
            whole = " AND ".join(f"{in_quotes(name)} IS NOT NULL" for name in wanted.needed if name not in hidden)
            rows = f"SELECT * FROM (SELECT {', '.join(chosen)} FROM {_as_published(table)}) WHERE {whole or 'true'}"
        else:
            rows = f"SELECT {', '.join(nothing.values())} WHERE false"
        self._reader.connection.execute(f"CREATE TEMP VIEW {in_quotes(table)} AS {rows}")  # hides the published table
        words = self._shortcomings(table, published, wanted) if published else []
        if words:
            self.unread[table] = "; ".join(words)

    def _columns_of(self, table: str) -> dict[str, str]:
        """Return the column types of a table as published; empty if the version does not have it."""
        if table not in self.present:
            return {}
        published = self._reader.query(f"SELECT * FROM {_as_published(table)}")
        return dict(zip(published.columns, map(str, published.types), strict=True))

    def _shortcomings(self, table: str, published: Mapping[str, str], wanted: Columns) -> list[str]:
        every = (*wanted.needed, *wanted.optional)
        missing = [name for name in every if name not in published]
        words = [f"no column {', '.join(missing)}"] if missing else []
        if set(missing) & set(wanted.needed):
            return [*words, "its rows cannot be shown"]
        shown = [name for name in every if name in published and name not in self._hidden.get(table, ())]
        counted = [name for name in shown if _type(name) not in ("", published[name])]
        counts = ", ".join(["count(*)", *(f"count({in_quotes(name)})" for name in counted)])
        n_all, *held = self._reader.query(f"SELECT {counts} FROM {_as_published(table)}").fetchall()[0]
        n_shown, *read = self._reader.query(f"SELECT {counts} FROM {in_quotes(table)}").fetchall()[0]
        if n_shown < n_all:
            words.append(f"{n_all - n_shown:,} of {n_all:,} rows lack {' or '.join(wanted.needed)}")
        else:
            words += [
                f"{before - after:,} values of {name}, {published[name]}, cannot be read as {_type(name)}"
                for name, before, after in zip(counted, held, read, strict=True)
                if after < before
            ]
        return words


def _as_published(table: str) -> str:
    return f"memory.main.{in_quotes(table)}"


def _as_read(name: str, kind: str, every: tuple[str, ...]) -> str:
    """Return the SQL of a column, with a cast if its type differs; values that cannot be cast are null."""
    if name not in every or _type(name) in ("", kind):
        return in_quotes(name)
    return f"TRY_CAST({in_quotes(name)} AS {_type(name)}) AS {in_quotes(name)}"


def _type(name: str) -> str:
    """Return DuckDB's type of a column by ``schemas/fields.yaml``; empty for one that no table has today."""
    return _DUCKDB[_types()[name]] if name in _types() else ""


@cache
def _types() -> dict[str, str]:
    return {column.name: column.type for table in contracts().values() for column in table.columns}


_DUCKDB = {
    "string": "VARCHAR",
    "bool": "BOOLEAN",
    "binary": "BLOB",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "list<float32>": "FLOAT[]",
}
