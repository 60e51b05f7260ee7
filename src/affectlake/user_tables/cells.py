"""Cells of a user's table as numbers and ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.user_tables.table import UserTable, clean

MISSING = ("NA", "N/A", "NaN", "nan", "null", "NULL")
"""Cells that statistics programs write for a missing number."""


class Legal(NamedTuple):
    """The legal numbers of some columns: a name of these columns for messages, and the inclusive bounds."""

    kind: str
    low: float
    high: float


def to_numbers(
    table: UserTable, frame: pl.DataFrame, labels: pl.Series, legal: Legal, *, missing: bool = False, hint: str = ""
) -> tuple[NDArray[np.float64], list[str]]:
    """Convert text cells to numbers, and check that they are within the bounds.

    A comma is a decimal comma if the cells of the file are not separated by commas, and no cell of the columns has a
    point.

    Parameters
    ----------
    table : UserTable
        The table that has the columns, for messages.
    frame : polars.DataFrame
        Text columns of it.
    labels : polars.Series
        Name of each row, for messages.
    legal : Legal
        The legal numbers.
    missing : bool, default=False
        Whether empty cells and those of `MISSING` are accepted, as NaN.
    hint : str
        What else can be done about wrong cells, after a semicolon.

    Returns
    -------
    values : float64 (n_rows, n_columns)
    notes : list of str
        What was done beyond plain reading.

    Raises
    ------
    SourceError
        If a cell is empty, not a number, or outside the bounds; with the first such cell and their number.
    """
    cells = frame.select(pl.all().str.strip_chars())
    notes = []
    if table.separator != "," and _any(cells, pl.all().str.contains(r"^[+-]?\d+,\d+$")):
        if _any(cells, pl.all().str.contains(".", literal=True)):
            point = _first(cells, pl.all().str.contains(".", literal=True))
            raise SourceError(
                f"the {table.file.name} has numbers with decimal commas and numbers with points",
                wanted="one of them in all cells",
                found=_cell(table, frame, labels, point),
                todo="write all numbers in one way",
            )
        cells = cells.select(pl.all().str.replace(",", ".", literal=True))
        notes.append("read decimal commas")
    absent = np.zeros((frame.height, frame.width), bool)
    if missing:
        absent = cells.select(pl.all().is_null() | pl.all().is_in(["", *MISSING])).to_numpy()
        if absent.any():
            notes.append(f"missing scores: {int(absent.sum()):,}")
    values = cells.select(pl.all().cast(pl.Float64, strict=False)).to_numpy().astype(np.float64)
    values[absent] = np.nan
    wanted = f"a number from {legal.low:g} to {legal.high:g} in each {legal.kind} column"
    if np.isneginf(legal.low) and np.isposinf(legal.high):
        wanted = f"a number in each {legal.kind} column"
    faults = (
        (np.isnan(values) & ~absent, "are not numbers" if missing else "are empty or not numbers"),
        ((values < legal.low) | (values > legal.high) | np.isinf(values), "are out of range"),
    )
    for bad, problem in faults:
        if bad.any():
            count = int(bad.sum())
            raise SourceError(
                f"{count:,} cells of the {table.file.name} {problem}"
                if count > 1
                else f"a cell of the {table.file.name} {problem.replace('are', 'is').replace('numbers', 'a number')}",
                wanted=wanted,
                found=_cell(table, frame, labels, np.argwhere(bad)[0]),
                todo=("correct the cells" if missing else "correct the cells, or fetch the file again") + hint,
            )
    return np.ascontiguousarray(values), notes


def texts_of(table: UserTable, column: str, what: str) -> pl.Series:
    """Return the cells of a column, verbatim; raise if one is empty.

    Parameters
    ----------
    table : UserTable
    column : str
    what : str
        What a cell is, for messages, such as ``caption``.
    """
    texts = table.require([column]).to_series()
    empty = texts.is_null() | (texts.str.strip_chars() == "")
    if empty.any():
        raise SourceError(
            f"{int(empty.sum()):,} rows of the {table.file.name} have no {what}",
            wanted=f"a text in column {column!r} of every row",
            found=f"an empty cell in row {table.rows[int(empty.arg_true()[0])]}",
            todo="fill in the cells, or remove these rows",
        )
    return texts


def ids_of(table: UserTable, column: str) -> pl.Series:
    """Return the ids in a column, stripped and in Unicode's composed form; raise if a cell is empty."""
    texts = texts_of(table, column, "id")
    plain = texts.str.contains(r"^[\x21-\x7e]+$").all()
    return texts if plain else pl.Series(column, [clean(text) for text in texts], dtype=pl.String)


def examples(items: Sequence[object], shown: int = 5) -> str:
    """Return the first items as text, and the number of further ones."""
    more = f" and {len(items) - shown:,} more" if len(items) > shown else ""
    return ", ".join(map(str, items[:shown])) + more


def _any(cells: pl.DataFrame, condition: pl.Expr) -> bool:
    return bool(cells.select(condition.fill_null(value=False)).to_numpy().any())


def _first(cells: pl.DataFrame, condition: pl.Expr) -> NDArray[np.int64]:
    return np.asarray(np.argwhere(cells.select(condition.fill_null(value=False)).to_numpy())[0])


def _cell(table: UserTable, frame: pl.DataFrame, labels: pl.Series, at: NDArray[np.int64]) -> str:
    row, column = (int(place) for place in at)
    cell = frame[row, column]
    shown = repr(cell) if cell and cell.strip() else "an empty cell"
    return f"{shown} in row {table.rows[row]} ({labels[row]}), column {frame.columns[column]!r}"
