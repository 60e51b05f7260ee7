"""Output of query results as a table, CSV, JSON, Parquet or Arrow. All formats except tables are streamed.

Without pyarrow, CSV, Parquet and Arrow are written by Polars from rows in memory.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import click

from affectlake.errors import UsageError
from affectlake.lake.files import layout
from affectlake.lake.query import Params, batches, frame, names, query, stream, tuples
from affectlake.lake.store.versions import Version, cache_folder
from affectlake.process.text_table import text_table

if TYPE_CHECKING:  # imported only when needed, because importing them takes longer than a query
    import duckdb
    import polars as pl
    import pyarrow as pa

Form = Literal["table", "csv", "json", "jsonl", "parquet", "arrow"]
FORMS: tuple[Form, ...] = get_args(Form)
ENDINGS: dict[str, Form] = {
    ".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".arrow": "arrow",
    ".arrows": "arrow",
}  # fmt: skip
ROWS_SHOWN = 40
CHARACTERS_SHOWN = 80
_ROWS_PER_GROUP = 250_000
_NUMBERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip


def print_changed_rows(root: Path, before: Version, after: Version, table: str) -> None:
    """Print the rows that differ between two versions as JSON lines: the output, the kind of change, and the row."""
    from affectlake.lake.diff import changed_outputs, diff_rows

    for output in changed_outputs(root, before, after, table):
        rows = diff_rows(root, before, after, output)
        for change, changed in zip(rows._fields[:3], rows[:3], strict=True):
            for row in changed.iter_rows(named=True):
                click.echo(json.dumps({"output": str(output), "change": change} | row, default=str))


def write_rows(root: Path, sql: str, at: str, form: Form | None, out: Path | None, params: Params = None) -> None:
    """Run a query, and write its rows to a file or to stdout.

    Parameters
    ----------
    root : Path
        Root of the lake.
    sql, at : str
        The query, and the version of tables whose names have no version.
    form : {"table", "csv", "json", "jsonl", "parquet", "arrow"} or None
        The format. json is an array, jsonl one row per line, arrow an IPC stream. None: from the extension of `out`, or
        a table if `out` is None.
    out : Path or None
        The file, which appears once it is complete; None: stdout.
    params : dict, optional
        Values of the query's parameters.

    Raises
    ------
    UsageError
        If the extension is unknown, a binary format would be written to a terminal, or `out` is in a folder of the
        lake's versions.
    QueryError
        If the query cannot be run.
    """
    form = form or (_by_ending(out) if out else "table")
    if form in ("parquet", "arrow") and out is None and sys.stdout.isatty():
        raise UsageError(
            f"{form} cannot be written to a terminal", todo=f"give a file with --out rows.{form}, or use a pipe"
        )
    if form in _BY_ROW:
        limit, write = (ROWS_SHOWN + 1 if form == "table" else -1), _BY_ROW[form]
        with closing(stream(root, sql, at, limit=limit, params=params)) as found, _sink(root, out) as sink:
            write(found, sink)
        return
    rows = query(root, sql, at, words_for="times" if form == "csv" else "intervals", params=params)
    with _sink(root, out) as sink:
        if find_spec("pyarrow") is None:
            _write_at_once(frame(rows), rows.types, form, sink)
        else:
            _write(batches(rows), form, sink)


def parameters_of(given: Sequence[str]) -> dict[str, object]:
    """Return the values of a query's parameters by name.

    Parameters
    ----------
    given : sequence of str
        ``NAME=VALUE``. A value is a number, true, false or null, else text; text in double quotes is text in any case.

    Raises
    ------
    UsageError
        If one is not of this form.
    """
    found: dict[str, object] = {}
    for one in given:
        name, is_given, text = one.partition("=")
        if not is_given or not name.isidentifier():
            raise UsageError(
                f"--param {one!r} is not NAME=VALUE", todo="--param agent=human-category, for $agent in SQL"
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found[name] = text if isinstance(value, dict | list) else value
    return found


def _by_ending(out: Path) -> Form:
    if out.suffix not in ENDINGS:
        raise UsageError(
            f"{out.name} does not have a known extension",
            allowed=", ".join(ENDINGS),
            todo="use one of these, or give --format",
        )
    return ENDINGS[out.suffix]


@contextmanager
def _sink(root: Path, out: Path | None) -> Iterator[IO[bytes]]:
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = out.resolve()
    for closed in ((root / layout.TABLES).resolve(), cache_folder(root), (root / ".git").resolve()):
        if target.is_relative_to(closed):
            raise UsageError(f"{out} is in a folder of the lake's versions", todo="choose another folder")
    aside = target.with_name(f".{target.name}.part")
    try:
        with aside.open("wb") as sink:
            yield sink
        aside.replace(target)
    except OSError as error:
        raise UsageError(f"{out} cannot be written", found=str(error), todo="choose another file") from error
    finally:
        aside.unlink(missing_ok=True)


def _draw(found: duckdb.DuckDBPyConnection, sink: IO[bytes]) -> None:
    rows = [row for piece in tuples(found) for row in piece]
    kinds = [str(column[1]) for column in found.description]
    sink.write(_drawn(names(found), kinds, rows[:ROWS_SHOWN]).encode())
    if len(rows) > ROWS_SHOWN:
        click.echo(f"the first {ROWS_SHOWN} rows; --format csv writes all rows", err=True)


def _write_array(found: duckdb.DuckDBPyConnection, sink: IO[bytes]) -> None:
    before = b"["
    for piece in _lines(found):
        for line in piece:
            sink.write(before + b"\n" + line)
            before = b","
    sink.write(b"[]\n" if before == b"[" else b"\n]\n")


def _write_lines(found: duckdb.DuckDBPyConnection, sink: IO[bytes]) -> None:
    for piece in _lines(found):
        sink.write(b"".join(line + b"\n" for line in piece))


def _lines(found: duckdb.DuckDBPyConnection) -> Iterator[list[bytes]]:
    """Yield the rows as JSON objects, piece by piece."""
    heads, kinds = names(found), [column[1] for column in found.description]
    for piece in tuples(found):
        rows = (dict(zip(heads, map(_sayable, row, kinds), strict=True)) for row in piece)
        yield [json.dumps(row, default=_as_json).encode() for row in rows]


_BY_ROW = {"table": _draw, "json": _write_array, "jsonl": _write_lines}


def _write(pieces: Iterator[pa.RecordBatch], form: Form, sink: IO[bytes]) -> None:
    first = next(pieces)
    if form == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(sink, first.schema, compression="zstd") as writer:
            for piece in pieces:
                writer.write_batch(piece, row_group_size=_ROWS_PER_GROUP)
    elif form == "arrow":
        import pyarrow as pa

        with pa.ipc.new_stream(sink, first.schema) as writer:
            for piece in pieces:
                writer.write_batch(piece)
    else:
        sink.write(_flat(first).write_csv(include_header=True).encode())
        for piece in pieces:
            sink.write(_flat(piece).write_csv(include_header=False).encode())


def _write_at_once(rows: pl.DataFrame, kinds: Sequence[Any], form: Form, sink: IO[bytes]) -> None:
    import polars as pl

    if form == "parquet":
        rows.write_parquet(sink, compression="zstd", row_group_size=_ROWS_PER_GROUP)
    elif form == "arrow":
        rows.write_ipc_stream(sink, compat_level=pl.CompatLevel.oldest())
    else:
        sink.write(_as_texts(rows, lambda name: rows[name].to_list(), kinds).write_csv().encode())


def _drawn(heads: list[str], kinds: list[str], rows: list[tuple[Any, ...]]) -> str:
    """Return rows as a text table with names, types and values; numbers are aligned to the right."""
    right = [at for at, kind in enumerate(kinds) if kind.partition("(")[0] in _NUMBERS and not kind.endswith("]")]
    return text_table([heads, kinds], [[_shown(value) for value in row] for row in rows], right, rule=True) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, bool | list | tuple | dict):
        text = json.dumps(_sayable(value), default=_as_json, ensure_ascii=False)
    else:
        text = "null" if value is None else str(_as_json(value) if isinstance(value, bytes) else value)
    text = " ".join(text.splitlines())
    return text if len(text) <= CHARACTERS_SHOWN else f"{text[: CHARACTERS_SHOWN - 1]}…"


def _flat(piece: pa.RecordBatch) -> pl.DataFrame:
    """Return a batch for CSV, which has no lists or bytes: lists become JSON, and bytes hexadecimal digits."""
    import polars as pl
    import pyarrow as pa

    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([piece])))
    return _as_texts(frame, lambda name: piece.column(name).to_pylist(), [None] * frame.width)


def _as_texts(rows: pl.DataFrame, values: Callable[[str], list[Any]], kinds: Sequence[Any]) -> pl.DataFrame:
    """Return `rows` with lists and bytes as text; `values` returns those of a column, `kinds` has DuckDB's types."""
    import polars as pl

    texts = [
        pl.Series(name, [_csv_text(value, of) for value in values(name)], dtype=pl.String)
        for (name, kind), of in zip(rows.schema.items(), kinds, strict=True)
        if kind.is_nested() or kind == pl.Binary
    ]
    return rows.with_columns(texts)


def _csv_text(value: Any, kind: Any = None) -> str | None:
    if value is None or isinstance(value, bytes):
        return None if value is None else value.hex()
    return json.dumps(_sayable(value, kind), default=_as_json)


def _sayable(value: Any, kind: Any = None) -> Any:
    """Return `value`, of DuckDB's type `kind`, for JSON: NaN and infinities become null, maps become pairs."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        if kind is not None and kind.id == "map":
            (_, keys), (_, values) = kind.children
            return [[_sayable(key, keys), _sayable(one, values)] for key, one in value.items()]
        kinds = dict(kind.children) if kind is not None else {}
        return {key: _sayable(one, kinds.get(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        inner = kind.children[0][1] if kind is not None else None
        return [_sayable(one, inner) for one in value]
    return value


def _as_json(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    return value.hex() if isinstance(value, bytes) else str(value)
