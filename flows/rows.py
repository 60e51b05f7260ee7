"""Giving the rows of a query as a table, CSV, JSON, Parquet or Arrow; all but the table stream, whatever their size."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import click
import pyarrow as pa

from affectlake.errors import UsageError
from affectlake.lake import layout
from affectlake.lake.query import batches, query
from affectlake.lake.versions import Version, cache_folder

if TYPE_CHECKING:  # imported late: they take longer than a query does
    import polars as pl

Form = Literal["table", "csv", "json", "parquet", "arrow"]
FORMS: tuple[Form, ...] = get_args(Form)
ENDINGS: dict[str, Form] = {
    ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet", ".arrow": "arrow",
    ".arrows": "arrow",
}  # fmt: skip
ROWS_SHOWN = 40
_ROWS_PER_GROUP = 250_000


def print_changed_rows(root: Path, before: Version, after: Version, table: str) -> None:
    """Print the rows that differ between two versions as JSON lines: the output, what happened, and the row."""
    from affectlake.lake.diff import changed_outputs, diff_rows

    for output in changed_outputs(root, before, after, table):
        rows = diff_rows(root, before, after, output)
        for change, frame in zip(rows._fields, rows, strict=True):
            for row in frame.iter_rows(named=True):
                click.echo(json.dumps({"output": output, "change": change} | row, default=str))


def give_rows(root: Path, sql: str, at: str, form: Form | None, out: Path | None) -> None:
    """Answer `sql` at the version `at`, into the file `out` or to stdout.

    Parameters
    ----------
    root : Path
        Root of the lake.
    sql, at : str
        The query, and the version that plain table names mean.
    form : {"table", "csv", "json", "parquet", "arrow"} or None
        JSON is a row a line, Arrow an IPC stream. By the ending of `out` when None; without `out` a table.
    out : Path or None
        A file; it appears when it is whole.

    Raises
    ------
    UsageError
        If the form is not known from the ending, is binary and stdout a terminal, or `out` lies among a lake's tables.
    QueryError
        If the query cannot be answered.
    """
    form = form or (_by_ending(out) if out else "table")
    if form in ("parquet", "arrow") and out is None and sys.stdout.isatty():
        raise UsageError(f"{form} is not for a terminal", todo=f"name a file: --out rows.{form}, or a pipe")
    rows = query(root, sql, at)
    if form == "table" and out is None:
        import polars as pl

        shown = _limited(rows)
        with pl.Config(tbl_rows=ROWS_SHOWN, tbl_cols=-1, fmt_str_lengths=80, tbl_hide_dataframe_shape=True):
            click.echo(shown.head(ROWS_SHOWN))
        if shown.height > ROWS_SHOWN:
            click.echo(f"the first {ROWS_SHOWN} rows; --format csv gives all", err=True)
        return
    with _sink(root, out) as sink:
        _write(batches(rows), form, sink)


def _limited(rows: Any) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(pl.from_arrow(pa.Table.from_batches(list(batches(rows.limit(ROWS_SHOWN + 1))))))


def _by_ending(out: Path) -> Form:
    if out.suffix not in ENDINGS:
        raise UsageError(
            f"{out.name} does not say what it is to be", allowed=", ".join(ENDINGS), todo="or name it with --format"
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
            raise UsageError(f"{out} lies where the lake keeps its versions", todo="name another folder")
    aside = target.with_name(f".{target.name}.part")
    try:
        with aside.open("wb") as sink:
            yield sink
        aside.replace(target)
    except OSError as error:
        raise UsageError(f"{out} cannot be written", found=str(error), todo="name another file") from error
    finally:
        aside.unlink(missing_ok=True)


def _write(pieces: Iterator[pa.RecordBatch], form: Form, sink: IO[bytes]) -> None:
    first = next(pieces)
    if form == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(sink, first.schema, compression="zstd") as writer:
            for piece in pieces:
                writer.write_batch(piece, row_group_size=_ROWS_PER_GROUP)
    elif form == "arrow":
        with pa.ipc.new_stream(sink, first.schema) as writer:
            for piece in pieces:
                writer.write_batch(piece)
    elif form == "csv":
        sink.write(_flat(first).write_csv(include_header=True).encode())
        for piece in pieces:
            sink.write(_flat(piece).write_csv(include_header=False).encode())
    else:
        for piece in pieces:
            lines = (json.dumps(_sayable(row), default=_as_json, allow_nan=False) for row in piece.to_pylist())
            sink.write("".join(f"{line}\n" for line in lines).encode())


def _flat(piece: pa.RecordBatch) -> pl.DataFrame:
    """Return a piece for CSV, which holds no lists: those become JSON."""
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([piece])))
    nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind == pl.Binary]
    texts = [
        pl.Series(
            name,
            [None if v is None else json.dumps(_sayable(v), default=_as_json) for v in piece.column(name).to_pylist()],
            dtype=pl.String,
        )
        for name in nested
    ]
    return frame.with_columns(texts)


def _sayable(value: Any) -> Any:
    """Return `value` with what JSON has no word for, NaN and the infinities, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _sayable(one) for key, one in value.items()}
    return [_sayable(one) for one in value] if isinstance(value, list) else value


def _as_json(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    return value.hex() if isinstance(value, bytes) else str(value)
