"""Open Parquet files with Polars: exactly the given files, with exactly the columns in them.

Paths are not expanded as patterns, and folders named ``agent=x`` are not columns. The same for DuckDB is in
:mod:`~affectlake.lake.tables.views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from affectlake.lake.store.versions import File
from affectlake.lake.tables.uniting import POLARS, unite


def scan_files(paths: Sequence[Path], schema: pl.Schema | None = None) -> pl.LazyFrame:
    """Open files lazily and concatenate their rows.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    schema : polars.Schema, optional
        The columns to return: missing ones are null, numbers are widened. By default, those of the first file.
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


def n_rows_of(path: Path) -> int:
    """Return the number of rows of a Parquet file, from its footer."""
    return int(scan_files([path]).select(pl.len()).collect().item())


def contract_version_of(path: Path, unknown: str = "") -> str:
    """Return the version of the contract under which a Parquet file was written; `unknown` if it is not recorded."""
    return pl.read_parquet_metadata(path).get("affectlake.version", unknown)


def scan_published(files: Sequence[File]) -> pl.LazyFrame:
    """Open files of a published version as they are, regardless of the contract under which they were written.

    Raises
    ------
    VersionError
        If their columns cannot be united.
    """
    paths = [file.cached for file in files]
    return scan_files(paths) if len(paths) == 1 else scan_files(paths, schema_of(files))


def schema_of(files: Sequence[File]) -> pl.Schema:
    """Return a schema for the rows of all `files`, from their footers.

    Raises
    ------
    VersionError
        If their columns cannot be united.
    """
    found = [(str(file.path), scan_files([file.cached]).collect_schema()) for file in files]
    types = {str(kind): kind for _, schema in found for kind in schema.values()} | {"Float64": pl.Float64()}
    named = [(name, {column: str(kind) for column, kind in schema.items()}) for name, schema in found]
    return pl.Schema({column: types[kind] for column, kind in unite(named, POLARS).items()})
