"""SQL over the tables of a version, read where the cache keeps them. Nothing can be written or read beside them."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from affectlake.errors import QueryError, nearest
from affectlake.lake.versions import Manifest, Version, resolve

# what is no table@version: strings, other quoted names and comments; then table@version, bare or in quotes
_AT = re.compile(
    r"""([Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(\w*)\$.*?\$\2\$|--[^\n]*|/\*.*?\*/)"""
    r"""|"([A-Za-z_]\w*)@(\w+)"|("(?:[^"]|"")*")|\b([A-Za-z_]\w*)@(\w+)""",
    re.DOTALL,
)
# functions of DuckDB that take an address in memory, or SQL in a string in which such a one could hide
_UNSAFE = re.compile(
    r"""\b(arrow_scan\w*|pandas_scan|python_map_function|query|query_table|json_execute_serialized_sql|write_log)"?\s*\(""",
    re.IGNORECASE,
)


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
        suffix = match[4] or match[7]
        if suffix:
            versions[suffix] = resolve(root, suffix)
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
    # results larger than memory go here and are removed by DuckDB; the usual place is the folder the user stands in
    spill = Path(tempfile.gettempdir()) / f"affectlake-{os.getpid()}-{secrets.token_hex(4)}"
    connection.execute(f"SET temp_directory = {_text(str(spill))}")
    connection.execute(f"SET allowed_paths = {_texts(sorted(set(paths)))}")
    connection.execute("SET python_enable_replacements = false")  # a name means a table, never a variable of ours
    connection.execute("SET enable_external_access = false")
    for view in views:
        connection.execute(view)
    connection.execute("SET lock_configuration = true")
    return connection, _AT.sub(_quoted, sql)


def _quoted(match: re.Match[str]) -> str:
    if match[1] or match[5]:
        return match[0]
    return f'"{match[3] or match[6]}@{match[4] or match[7]}"'


def query(root: Path, sql: str, at: str = "") -> duckdb.DuckDBPyRelation:
    """Answer one SELECT over the tables of a version.

    Returns
    -------
    duckdb.DuckDBPyRelation
        The rows, not yet computed: stream them with ``to_arrow_reader``, or take ``.pl()``, ``.df()``, ``.show()``.

    Raises
    ------
    QueryError
        If the SQL is not one SELECT, or cannot be answered; an unknown table is answered with the nearest name.
    """
    unsafe = _UNSAFE.search(sql)
    if unsafe:
        raise QueryError(f"{unsafe[1]}() is closed to queries", todo="name tables, such as choices or choices@v1")
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
    except (duckdb.Error, UnicodeError) as error:
        raise QueryError("the query cannot be answered", found=str(error)) from error


def batches(rows: duckdb.DuckDBPyRelation, n_rows: int = 100_000) -> Iterator[pa.RecordBatch]:
    """Compute `rows` piece by piece, at most `n_rows` at a time; the first piece may be empty, but has the schema.

    Columns of one name are told apart (``x``, ``x_1``); whole numbers of 128 bits, as sums are, become 64 bits
    where they fit.

    Raises
    ------
    QueryError
        If a row cannot be computed.
    """
    try:
        reader = rows.to_arrow_reader(n_rows)
        schema = _plain(reader.schema)
        nothing = [pa.nulls(0, field.type) for field in schema]  # `pa.array` would import pandas
        yield pa.RecordBatch.from_arrays(nothing, schema=schema)
        for batch in reader:
            columns = zip(batch.columns, schema, strict=True)
            # Arrow's casts are imported with the first one
            cast = [column if column.type == field.type else column.cast(field.type) for column, field in columns]
            yield pa.RecordBatch.from_arrays(cast, schema=schema)
    except (duckdb.Error, pa.ArrowInvalid, OSError) as error:  # OSError: how Arrow passes on what DuckDB says
        raise QueryError("the query cannot be answered", found=str(error)) from error


def _plain(schema: pa.Schema) -> pa.Schema:
    fields: list[pa.Field] = []
    for field in schema:
        taken = {other.name for other in fields}
        name = next(
            n for n in (field.name, *(f"{field.name}_{i}" for i in range(1, len(schema) + 1))) if n not in taken
        )
        whole = pa.types.is_decimal(field.type) and field.type.scale == 0
        fields.append(pa.field(name, pa.int64() if whole else field.type))
    return pa.schema(fields)


def _texts(values: list[str]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
