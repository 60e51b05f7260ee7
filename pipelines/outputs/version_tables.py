"""The tables of a version as the report and the maps read them: over one connection, whatever their columns are.

A version may have been written under an older contract than today's, or a newer one. A table or a column that it does
not have is without rows or null here, and said in words; nothing else depends on today's contracts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from affectlake.lake.query import Reader
from affectlake.lake.store.versions import Manifest, Version
from affectlake.lake.tables.views import in_quotes
from affectlake.report.columns import COLUMNS, TYPES, Columns


class VersionTables:
    """Tables of one version, opened once for any number of questions.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    version : Version
        The version.
    columns : mapping of str to Columns, optional
        Which tables may be named, and what is read of them; by default what the report reads.

    Attributes
    ----------
    manifest : Manifest
        The version's.
    present : dict of str to list of str
        The outputs of each table of the version.
    unread : dict of str to str
        Of each table that cannot be shown in full, what it lacks.
    """

    def __init__(self, lake: Path, version: Version, columns: Mapping[str, Columns] = COLUMNS) -> None:
        self.version = version
        self.manifest = Manifest(lake, version.commit)
        self.present = self.manifest.tables()
        self.unread: dict[str, str] = {}
        self._reader = Reader(self.manifest, version, list(columns))
        for table, wanted in columns.items():
            self._open(table, wanted)

    def rows(self, sql: str) -> pl.DataFrame:
        """Return the rows of one SELECT. Each table has the columns that are read; rows without a needed value are out.

        Those of other names are as they were published.
        """
        found: pl.DataFrame = self._reader.query(sql).pl()
        return found

    def table(self, name: str) -> pl.DataFrame:
        """Return the rows of a table; none where the version does not have it."""
        return self.rows(f"SELECT * FROM {in_quotes(name)}")

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """One line for each table that cannot be shown in full."""
        return tuple(f"{table}: {what}" for table, what in self.unread.items())

    def _open(self, table: str, wanted: Columns) -> None:
        """Let the name of a table mean its rows with the columns that are wanted."""
        published = self._columns_of(table)
        every = (*wanted.needed, *wanted.optional)
        nothing = {name: f"NULL::{_type(name)} AS {in_quotes(name)}" for name in every}
        if set(wanted.needed) <= set(published):
            chosen = [_as_read(name, kind, every) for name, kind in published.items()]
            chosen += [null for name, null in nothing.items() if name not in published]
            whole = " AND ".join(f"{in_quotes(name)} IS NOT NULL" for name in wanted.needed)
            rows = f"SELECT * FROM (SELECT {', '.join(chosen)} FROM {_as_published(table)}) WHERE {whole}"
        else:
            rows = f"SELECT {', '.join(nothing.values())} WHERE false"
        self._reader.connection.execute(f"CREATE TEMP VIEW {in_quotes(table)} AS {rows}")  # hides the published one
        words = self._shortcomings(table, published, wanted) if published else []
        if words:
            self.unread[table] = "; ".join(words)

    def _columns_of(self, table: str) -> dict[str, str]:
        """Return the types of a table's columns as it was published; none where the version does not have it."""
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
        counted = [name for name in every if name in published and published[name] != _type(name)]
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
    """Return the SQL of a column: as it is, or cast where another type is read; what cannot be cast is null."""
    if name not in every or kind == _type(name):
        return in_quotes(name)
    return f"TRY_CAST({in_quotes(name)} AS {_type(name)}) AS {in_quotes(name)}"


def _type(name: str) -> str:
    return TYPES.get(name, "VARCHAR")
