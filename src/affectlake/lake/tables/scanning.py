"""How Polars opens Parquet files: exactly the files named, and with the columns that they hold, nothing else.

A path is never a pattern, and folders named ``agent=x`` are not columns. What DuckDB reads is in
:mod:`~affectlake.lake.tables.views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectlake.lake.store.versions import File
from affectlake.lake.tables.uniting import POLARS, unite


def scan_files(paths: Sequence[Path], schema: pl.Schema | None = None) -> pl.LazyFrame:
    """Open files lazily, their rows one after another.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    schema : polars.Schema, optional
        The columns to read them as: missing ones are null, numbers widen. By default all have the first's.
    """
    if schema is None:
        return pl.scan_parquet(list(paths), glob=False, hive_partitioning=False)
    if not paths:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(
        list(paths),
        glob=False,
        hive_partitioning=False,
        schema=schema,
        missing_columns="insert",
        cast_options=pl.ScanCastOptions(integer_cast=["upcast", "allow-float"], float_cast="upcast"),
    )


def scan_published(files: Sequence[File]) -> pl.LazyFrame:
    """Open files of a published version as they are, whatever contract they were written under.

    Raises
    ------
    VersionError
        If their columns cannot be united.
    """
    paths = [file.cached for file in files]
    return scan_files(paths) if len(paths) == 1 else scan_files(paths, schema_of(files))


def schema_of(files: Sequence[File]) -> pl.Schema:
    """Return the columns that hold the rows of all `files`, from their footers.

    Raises
    ------
    VersionError
        If their columns cannot be united.
    """
    found = [(str(file.path), scan_files([file.cached]).collect_schema()) for file in files]
    types = {str(kind): kind for _, schema in found for kind in schema.values()} | {"Float64": pl.Float64()}
    named = [(name, {column: str(kind) for column, kind in schema.items()}) for name, schema in found]
    return pl.Schema({column: types[kind] for column, kind in unite(named, POLARS).items()})
