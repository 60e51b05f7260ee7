"""SQL over the tables of a version, read from the cache. Queries cannot read or write anything else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import duckdb

from affectlake.errors import QueryError, VersionError, nearest
from affectlake.lake.store.versions import Manifest, Version, resolve
from affectlake.lake.tables.relations import frame_of, names_apart
from affectlake.lake.tables.views import Named, in_quotes, open_views

if TYPE_CHECKING:  # imported late: it takes longer than most queries do
    import polars as pl
    import pyarrow as pa

_QUOTED = r"""[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(\w*)\$.*?\$\2\$|--[^\n]*|/\*.*?\*/"""  # strings and comments
# what is not table@version: strings, other quoted names and comments; then table@version, bare or in quotes
_AT = re.compile(
    rf"""({_QUOTED})|"([A-Za-z_]\w*)@([\w.:+~^/-]+)"|("(?:[^"]|"")*")|\b([A-Za-z_]\w*)@(\w+)""",
    re.DOTALL,
)
_WORD = re.compile(r"\w+")
_END = re.compile(rf"""({_QUOTED}|"(?:[^"]|"")*")|;""", re.DOTALL)
_NUMBERS = {f"{sign}{name}" for name in ("tinyint", "smallint", "integer", "bigint", "hugeint") for sign in ("", "u")}
_VALUES = _NUMBERS | {"boolean", "float", "double", "decimal", "varchar", "enum", "uuid", "blob", "null"}
_TIMES = {"date", "time", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"}

Params = Mapping[str, object] | Sequence[object] | None
"""Values of a query's parameters: by name, or in order."""

Words = Literal["nothing", "intervals", "times"]
# the types of values that are returned unchanged, for each choice of what is converted to text; all if None
_PLAIN: dict[Words, frozenset[str] | None] = {
    "nothing": None, "intervals": frozenset(_VALUES | _TIMES), "times": frozenset(_VALUES),
}  # fmt: skip
# functions of DuckDB that accept an address in memory, or SQL in a string that could call them
_UNSAFE = re.compile(
    r"""\b(arrow_scan\w*|pandas_scan|python_map_function|query|query_table|json_execute_serialized_sql|write_log)"?\s*\(""",
    re.IGNORECASE,
)


class Connected(NamedTuple):
    """A closed connection, the query for DuckDB, the existing tables, and errors of tables that cannot be read."""

    connection: duckdb.DuckDBPyConnection
    sql: str
    tables: list[str]
    missing: dict[str, VersionError]


def connect(root: Path, at: str | Version, sql: str) -> Connected:
    """Open an in-memory DuckDB in which the tables that a query names are views, closed to everything else.

    Parameters
    ----------
    root : Path
        Root of the lake.
    at : str or Version
        Version of table names without ``@version``; the latest if empty.
    sql : str
        A query; each ``table@version`` in it becomes a view of that version.

    Returns
    -------
    Connected
        The connection, with external access off except for the files of these tables, and its configuration locked; the
        query with ``table@version`` quoted.
    """
    named: dict[str, set[str]] = {}
    for match in _AT.finditer(sql):
        if match[4] or match[7]:
            named.setdefault(match[4] or match[7], set()).add((match[3] or match[6]).lower())
    # words in strings and comments count as names of tables too: that is always enough
    plain = _AT.sub(lambda match: match[0] if match[1] or match[5] else " ", sql).lower()
    versions = [Named(resolve(root, at), "", frozenset(_WORD.findall(plain)))]
    versions += [Named(resolve(root, name), f"@{name}", frozenset(words)) for name, words in named.items()]
    connection, tables, missing = open_views(root, versions, sql)
    return Connected(connection, _AT.sub(_quoted, sql), tables, missing)


def _quoted(match: re.Match[str]) -> str:
    if match[1] or match[5]:
        return match[0]
    return f'"{match[3] or match[6]}@{match[4] or match[7]}"'


def query(
    root: Path, sql: str, at: str | Version = "", *, words_for: Words = "nothing", params: Params = None
) -> duckdb.DuckDBPyRelation:
    """Answer one SELECT over the tables of a version.

    Parameters
    ----------
    root : Path
        Root of the lake.
    sql : str
        The query.
    at : str or Version
        Version of table names without ``@version``; the latest if empty.
    words_for : {"nothing", "intervals", "times"}
        Which values are converted to text by DuckDB: none; those that Arrow or Parquet cannot store, such as intervals;
        or also dates and times, as Python cannot represent all of them.
    params : dict or sequence, optional
        Values of the query's parameters: by name, for ``$name``, or in order, for ``?``.

    Returns
    -------
    duckdb.DuckDBPyRelation
        The rows, not yet computed: take ``.fetchall()``, ``.show()``, :func:`frame`, or :func:`batches`.

    Raises
    ------
    QueryError
        If the SQL is not one SELECT, or cannot be answered; for an unknown table, the error suggests the nearest name.
    """
    with _asked(root, sql, at) as (connection, ready):
        found = connection.sql(ready, params=params)
        worded = _worded(ready, found.columns, found.types, _PLAIN[words_for])
        return connection.sql(worded, params=params) if worded else found


def stream(
    root: Path,
    sql: str,
    at: str | Version = "",
    *,
    limit: int = -1,
    params: Params = None,
    seconds: float = math.inf,
) -> duckdb.DuckDBPyConnection:
    """Start to answer one SELECT as :func:`query` does, with times as text; all rows, or the first `limit`.

    It is given up after `seconds`.

    Returns
    -------
    duckdb.DuckDBPyConnection
        To be read once, by :func:`tuples`; its ``description`` has the names and types of the columns.
    """
    with _asked(root, sql, at) as (connection, statement), within(connection, seconds):
        ready = statement if limit < 0 else f"SELECT * FROM (\n{_unended(statement)}\n) LIMIT {limit}"
        found = connection.execute(ready, params)
        kinds = [column[1] for column in found.description]
        worded = _worded(ready, [column[0] for column in found.description], kinds, _PLAIN["times"])
        return connection.execute(worded, params) if worded else found


def _worded(statement: str, columns: Sequence[str], kinds: Sequence[Any], plain: frozenset[str] | None) -> str:
    """Return `statement` with values that are not `plain` cast to text; an empty string if all are plain."""
    casts = [_holdable(kind, plain) if plain else "" for kind in kinds]
    if not any(casts):
        return ""
    given = [f"c{i}" for i in range(len(casts))]
    chosen = [
        f"{value}::{cast or kind} AS {in_quotes(name)}"
        for value, cast, kind, name in zip(given, casts, kinds, names_apart(columns), strict=True)
    ]
    return f"SELECT {', '.join(chosen)} FROM (\n{_unended(statement)}\n) t({', '.join(given)})"


def _unended(statement: str) -> str:
    """Return one statement without its final semicolon and the text after it."""
    end = next((match.start() for match in _END.finditer(statement) if match[1] is None), len(statement))
    return statement[:end]


def _holdable(kind: Any, plain: frozenset[str]) -> str:
    """Return the type, in SQL, that `kind` is to be cast to (text if it is not `plain`); empty if it is not cast."""
    if kind.id in plain:
        return ""
    if kind.id not in ("list", "array", "map", "struct"):
        return "VARCHAR"
    parts = kind.children[:1] if kind.id == "array" else kind.children
    inner = [_holdable(child, plain) for _, child in parts]
    if not any(inner):
        return ""
    types = [cast or str(child) for cast, (_, child) in zip(inner, parts, strict=True)]
    if kind.id == "map":
        return f"MAP({', '.join(types)})"
    if kind.id == "struct":
        named = [f"{in_quotes(name)} {one}" if name else one for one, (name, _) in zip(types, parts, strict=True)]
        return f"STRUCT({', '.join(named)})"
    size = kind.children[1][1] if kind.id == "array" else ""
    return f"{types[0]}[{size}]"


class Reader:
    """The tables of one version over one connection, for several queries: the files are checked once.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the version.
    version : Version
        The version.
    tables : sequence of str
        Tables that queries may name; those that the version lacks are left out.

    Raises
    ------
    VersionError
        If a file of one of them is missing or damaged.
    """

    def __init__(self, manifest: Manifest, version: Version, tables: Sequence[str]) -> None:
        words = frozenset(name.lower() for name in tables)
        found = open_views(manifest.root, [Named(version, "", words, manifest)], "")
        for error in found.missing.values():
            raise error
        self.connection = found.connection
        self._known = found.names

    def query(self, sql: str) -> duckdb.DuckDBPyRelation:
        """Answer one SELECT over the tables, as :func:`query` does."""
        with _answering(Connected(self.connection, sql, self._known, {})) as (connection, ready):
            return connection.sql(ready)


@contextmanager
def within(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt what a connection computes if it takes more than `seconds`.

    Raises
    ------
    QueryError
        If it was interrupted.
    """
    if math.isinf(seconds):
        yield
        return
    timer = Timer(max(0.0, seconds), connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise _too_long(seconds) from error
    except QueryError as error:
        if isinstance(error.__cause__, duckdb.InterruptException):
            raise _too_long(seconds) from error
        raise
    finally:
        timer.cancel()


def _too_long(seconds: float) -> QueryError:
    return QueryError(
        f"the query took more than {seconds:g} s and was ended", todo="read fewer rows, or use `affectlake query`"
    )


@contextmanager
def _asked(root: Path, sql: str, at: str | Version) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """Yield a closed connection and its query, checked to be one SELECT; convert errors of DuckDB to QueryError."""
    unsafe = _UNSAFE.search(sql)
    if unsafe:
        raise QueryError(f"{unsafe[1]}() is not allowed in queries", todo="name tables, such as choices or choices@v1")
    with _answering(connect(root, at, sql)) as ready:
        yield ready


@contextmanager
def _answering(connected: Connected) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    connection, ready, tables, missing = connected
    try:
        statements = connection.extract_statements(ready)
        if len(statements) != 1 or not _is_select(statements[0]):
            raise QueryError(
                "a query must be one SELECT",
                found=", ".join(map(_kind, statements)) or "nothing",
                todo="pass one SELECT; tables are only changed by `affectlake run`",
            )
        yield connection, statements[0].query
    except duckdb.CatalogException as error:
        named = re.search(r"Table with name ([\w@]+)", str(error))
        if named and named[1].lower() in missing:
            raise missing[named[1].lower()] from error
        todo = nearest(named[1], tables) if named else ""
        raise QueryError(
            "the query cannot be answered", found=str(error), allowed=", ".join(sorted(tables)), todo=todo
        ) from error
    except (duckdb.Error, UnicodeError) as error:
        raise QueryError("the query cannot be answered", found=str(error), todo=_parameters_todo(error)) from error


# what a SELECT may begin with; a PIVOT without IN (…), also in a subquery, is several statements for DuckDB
_BEGINS = re.compile(r"(\s|--[^\n]*(\n|$)|/\*.*?\*/|\()*(select|with|from|pivot|unpivot)\b", re.IGNORECASE | re.DOTALL)


def _is_select(statement: duckdb.Statement) -> bool:
    if statement.type == duckdb.StatementType.MULTI:
        return _BEGINS.match(statement.query) is not None
    return bool(statement.type == duckdb.StatementType.SELECT)


def _kind(statement: duckdb.Statement) -> str:
    """Return the kind of a statement; of one that is several for DuckDB, its first word."""
    kind = str(statement.type).rpartition(".")[2]
    return statement.query.split(maxsplit=1)[0].upper() if kind == "MULTI" else kind


def _parameters_todo(error: Exception) -> str:
    text = str(error)
    if "parameters are not supported for a statement that expands" in text:
        return "name the columns of PIVOT: PIVOT … ON measure IN ('accuracy', 'agreement') …"
    if "provided for the following parameters" in text:
        return "give each parameter a value: --param NAME=VALUE, or lake.sql(sql, params={'NAME': value})"
    return ""


def tuples(found: duckdb.DuckDBPyConnection, n_rows: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
    """Compute the rows of :func:`stream` in batches of at most `n_rows`, as Python values.

    Raises
    ------
    QueryError
        If a row cannot be computed.
    """
    try:
        while piece := found.fetchmany(n_rows):
            yield piece
    except (duckdb.Error, OSError) as error:
        raise QueryError("the query cannot be answered", found=str(error)) from error


def names(found: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the columns of :func:`stream`; duplicate names are numbered (``x``, ``x_1``)."""
    return names_apart([column[0] for column in found.description])


def frame(rows: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """Compute all `rows`, as a Polars frame; 128-bit integers, such as sums, become 64 bits.

    Raises
    ------
    QueryError
        If a row cannot be computed.
    """
    import polars as pl

    try:
        found = frame_of(rows)
        whole = [name for name, kind in found.schema.items() if isinstance(kind, pl.Decimal) and not kind.scale]
        return found.cast(dict.fromkeys(whole, pl.Int64())) if whole else found
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise QueryError("the query cannot be answered", found=str(error)) from error


def batches(rows: duckdb.DuckDBPyRelation, n_rows: int = 100_000) -> Iterator[pa.RecordBatch]:
    """Compute `rows` in batches of at most `n_rows`; the first batch may be empty, but has the schema.

    Duplicate column names are numbered (``x``, ``x_1``); 128-bit integers, such as sums, become 64 bits
    if they fit.

    Raises
    ------
    QueryError
        If a row cannot be computed.
    """
    import pyarrow as pa

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
    except (duckdb.Error, pa.ArrowInvalid, OSError) as error:  # OSError: how Arrow passes on errors of DuckDB
        raise QueryError("the query cannot be answered", found=str(error)) from error


def _plain(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    fields = []
    for field, name in zip(schema, names_apart(schema.names), strict=True):
        whole = pa.types.is_decimal(field.type) and field.type.scale == 0
        fields.append(pa.field(name, pa.int64() if whole else field.type))
    return pa.schema(fields)
