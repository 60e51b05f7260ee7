"""SQL over the tables of a version, read where the cache keeps them. Nothing can be written or read beside them."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from affectlake.errors import QueryError, nearest
from affectlake.lake.versions import Manifest, Version, resolve

_AT = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|\b([a-z_]+)@([A-Za-z0-9]+)""")


def connect(root: Path, at: str = "", sql: str = "") -> tuple[duckdb.DuckDBPyConnection, str]:
    """Open an in-memory DuckDB in which every table of a version is a view, closed to everything else.

    Parameters
    ----------
    root : Path
        Root of the lake.
    at : str
        Version that plain table names mean; the latest when empty.
    sql : str
        A query; each ``table@version`` in it becomes a view of that version.

    Returns
    -------
    connection : duckdb.DuckDBPyConnection
        With external access off but for the versions' own files, and its configuration locked.
    sql : str
        The query with ``table@version`` quoted as DuckDB wants it.
    """
    versions: dict[str, Version] = {"": resolve(root, at)}
    for match in _AT.finditer(sql):
        if match[3]:
            versions[match[3]] = resolve(root, match[3])
    connection = duckdb.connect(":memory:")
    paths: list[str] = []
    views: list[str] = []
    for suffix, version in versions.items():
        manifest = Manifest(root, version.commit)
        for table, outputs in manifest.tables().items():
            files = [str(file.cached) for output in outputs for file in manifest.files(output)]
            paths += files
            name = f"{table}@{suffix}" if suffix else table
            views.append(f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet({_texts(files)})')
    connection.execute(f"SET allowed_paths = {_texts(sorted(set(paths)))}")
    connection.execute("SET enable_external_access = false")
    for view in views:
        connection.execute(view)
    connection.execute("SET lock_configuration = true")
    return connection, _AT.sub(lambda m: m[1] or f'"{m[2]}@{m[3]}"', sql)


def query(root: Path, sql: str, at: str = "") -> duckdb.DuckDBPyRelation:
    """Answer one SELECT over the tables of a version.

    Returns
    -------
    duckdb.DuckDBPyRelation
        The rows, not yet computed: stream them with ``fetch_arrow_reader``, or take ``.pl()``, ``.df()``, ``.show()``.

    Raises
    ------
    QueryError
        If the SQL is not one SELECT, or cannot be answered; an unknown table is answered with the nearest name.
    """
    connection, ready = connect(root, at, sql)
    try:
        statements = duckdb.extract_statements(ready)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError(
                "a query is one SELECT",
                found=", ".join(str(s.type).rpartition(".")[2] for s in statements) or "nothing",
                todo="ask one question at a time; tables are changed by `affectlake run`",
            )
        return connection.sql(ready)
    except duckdb.CatalogException as error:
        tables = [
            row[0] for row in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        ]
        missing = re.search(r"Table with name ([\w@]+)", str(error))
        todo = nearest(missing[1], tables) if missing else ""
        raise QueryError(
            "the query cannot be answered", found=str(error), allowed=", ".join(tables), todo=todo
        ) from error
    except duckdb.Error as error:
        raise QueryError("the query cannot be answered", found=str(error)) from error


def _texts(values: list[str]) -> str:
    return "[" + ", ".join("'" + v.replace("'", "''") + "'" for v in values) + "]"
