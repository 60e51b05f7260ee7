"""The tables of versions as views of a closed DuckDB, which can read only the versions' files."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

from affectlake.errors import VersionError
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import File, Manifest, Version
from affectlake.lake.tables.derived import DERIVED
from affectlake.lake.tables.uniting import DUCKDB, unite

_PATTERN = re.compile(r"[\[*?]")  # characters that make a path a pattern for DuckDB; in brackets, each is literal


# words of queries about the tables themselves, which need all names and columns
_CATALOGUE = re.compile(r"\b(information_schema|(duckdb|pragma|sqlite|pg)_\w+|show|describe)\b", re.IGNORECASE)


class Named(NamedTuple):
    """A version whose tables a query may name, the suffix of their names in it, and words that may be their names.

    Also the manifest, if it has been read already.
    """

    version: Version
    suffix: str
    words: frozenset[str]
    manifest: Manifest | None = None


class Views(NamedTuple):
    """A closed connection, the names of all tables, and the errors of tables whose files cannot be read."""

    connection: duckdb.DuckDBPyConnection
    names: list[str]
    missing: dict[str, VersionError]


class _View(NamedTuple):
    name: str
    select: str
    files: Sequence[File] = ()


def open_views(root: Path, versions: Sequence[Named], sql: str) -> Views:
    """Open an in-memory DuckDB in which the tables that a query names are views, closed to everything else.

    Only the files of these tables are opened, after checking that they are as published. A query about the tables
    themselves gets all names and columns, but not the rows of further tables.

    Parameters
    ----------
    root : Path
        Root of the lake.
    versions : sequence of Named
        The versions.
    sql : str
        The query.
    """
    connection = duckdb.connect(":memory:")
    views: list[_View] = []
    names: list[str] = []
    missing: dict[str, VersionError] = {}
    ask_all = _CATALOGUE.search(sql) is not None
    for version, suffix, given, known in versions:
        manifest = known or Manifest(root, version.commit)
        tables = manifest.tables()
        derived = [name for name, one in DERIVED.items() if set(one.tables) <= set(tables) and name not in tables]
        words = given.union(*(DERIVED[name].tables for name in derived if name in given))
        for table, outputs in tables.items():
            name = f"{table}{suffix}"
            names.append(name)
            try:
                if table.lower() in words:
                    files = whole_files(manifest, *outputs)
                    views.append(_View(name, unite_sql(connection, files), files))
                elif ask_all:
                    files = [file for output in outputs for file in manifest.files(output)]
                    unseen = f"{unite_sql(connection, files)} WHERE error('the files were not examined')"
                    views.append(_View(name, unseen, files))
            except VersionError as error:  # damage to one table must not prevent queries about others
                missing[name.lower()] = error
            except duckdb.Error as error:
                missing[name.lower()] = _unreadable(name, error)
        for name in derived:
            names.append(f"{name}{suffix}")
            if name in words or ask_all:
                read = {table: in_quotes(f"{table}{suffix}") for table in DERIVED[name].tables}
                views.append(_View(f"{name}{suffix}", DERIVED[name].select.format(**read)))
    # results larger than memory go here and are removed by DuckDB; its default is the current folder
    spill = Path(tempfile.gettempdir()) / f"affectlake-{os.getpid()}-{secrets.token_hex(4)}"
    paths = {path for view in views for file in view.files for path in (str(file.cached), pattern_of(file.cached))}
    connection.execute(f"SET temp_directory = {_text(str(spill))}")
    connection.execute(f"SET allowed_paths = {quoted_texts(sorted(paths))}")
    connection.execute("SET python_enable_replacements = false")  # a name is a table, never a Python variable
    with suppress(duckdb.InvalidInputException):  # there is no progress bar in a notebook without ipywidgets
        connection.execute("SET enable_progress_bar = false")  # it would be printed among the rows
    connection.execute("SET enable_external_access = false")
    for view in views:
        try:
            connection.execute(f"CREATE VIEW {in_quotes(view.name)} AS {view.select}")
        except duckdb.Error as error:
            missing[view.name.lower()] = _unreadable(view.name, error) if view.files else _underived(view.name, error)
    connection.execute("SET lock_configuration = true")
    return Views(connection, names, missing)


def _unreadable(name: str, error: duckdb.Error) -> VersionError:
    what = f"a file of {name} is not a readable Parquet file"
    return VersionError(what, found=str(error), todo="check every file with `affectlake fsck`")


def _underived(name: str, error: duckdb.Error) -> VersionError:
    table, _, version = name.partition("@")
    what = f"{name} cannot be computed from the tables of {version or 'this version'}"
    return VersionError(what, found=str(error), todo=f"query {' and '.join(DERIVED[table].tables)} instead")


def unite_sql(connection: duckdb.DuckDBPyConnection, files: Sequence[File]) -> str:
    """Return the SELECT of all rows of `files`, united by name where their columns differ."""
    given = quoted_texts([pattern_of(file.cached) for file in files])
    scan = f"FROM read_parquet({given}, hive_partitioning=false"
    different = _one_of_each_schema(connection, files)
    if len(different) < 2:
        return f"SELECT * {scan})"
    columns = unite([(str(file.path), _types(connection, file)) for file in different], DUCKDB)
    casts = ", ".join(f"{in_quotes(column)}::{kind} AS {in_quotes(column)}" for column, kind in columns.items())
    return f"SELECT {casts} {scan}, union_by_name=true)"


def _one_of_each_schema(connection: duckdb.DuckDBPyConnection, files: Sequence[File]) -> list[File]:
    if len(files) < 2:
        return list(files)
    given = quoted_texts([pattern_of(file.cached) for file in files])
    columns = "list((name, type, duckdb_type, num_children) ORDER BY column_id)"
    schemas = f"SELECT file_name, {columns} AS columns FROM parquet_schema({given}) GROUP BY file_name"
    found = connection.execute(f"SELECT min(file_name) FROM ({schemas}) GROUP BY columns").fetchall()
    chosen = {name for (name,) in found}
    return [file for file in files if str(file.cached) in chosen]


def _types(connection: duckdb.DuckDBPyConnection, file: File) -> dict[str, str]:
    described = f"DESCRIBE SELECT * FROM read_parquet({_text(pattern_of(file.cached))}, hive_partitioning=false)"
    return {row[0]: row[1] for row in connection.execute(described).fetchall()}


def pattern_of(path: Path | str) -> str:
    """Return a pattern that only `path` matches: DuckDB treats every path as a pattern."""
    return _PATTERN.sub(lambda match: f"[{match[0]}]", str(path))


def quoted_texts(values: list[str]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def in_quotes(name: str) -> str:
    """Return a column's or table's name, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'
