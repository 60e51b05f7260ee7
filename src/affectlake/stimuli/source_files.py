"""Reading and validation of a user's CSV files, with one clear message for each problem.

Cells are read as text, so that messages can quote them. The meaning of columns does not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError, nearest


class Source(NamedTuple):
    """A file of the user.

    Attributes
    ----------
    path : pathlib.Path
        Path of the file.
    what : str
        Its name in messages, such as ``ratings file``.
    param : str
        The key of ``params.yaml`` that contains its path.
    """

    path: Path
    what: str
    param: str


class Scale(NamedTuple):
    """The legal scores of one kind of rating: its name in messages, and the inclusive bounds."""

    kind: str
    low: float
    high: float


def read_text_columns(source: Source, columns: Sequence[str]) -> pl.DataFrame:
    """Read `columns` of a CSV file as text, in this order; of columns with the same name, the first is used.

    Raises
    ------
    SourceError
        If the file is missing, empty, cannot be read, is not UTF-8 CSV, or has no rows or not all columns.
    """
    _check_there(source)
    frame = _read(source)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise _missing_columns(source, missing, [name for name in frame.columns if name not in columns])
    frame = frame.select(columns)
    if frame.is_empty():
        raise SourceError(f"the {source.what} {source.path} has a header but no rows", todo=_other(source))
    return frame


def to_scores(source: Source, frame: pl.DataFrame, labels: pl.Series, scale: Scale) -> NDArray[np.float64]:
    """Convert a data frame of text cells to numbers, and check that they are within the scale.

    Parameters
    ----------
    source : Source
    frame : polars.DataFrame
        Text columns, one per rating.
    labels : polars.Series
        Name of each row, for messages.
    scale : Scale
        The legal numbers.

    Returns
    -------
    float64 (n_rows, n_columns)

    Raises
    ------
    SourceError
        If a cell is empty, not a number, or outside the scale; with the first such cell and their number.
    """
    values = frame.select(pl.all().str.strip_chars().cast(pl.Float64, strict=False)).to_numpy()
    faults = (
        (np.isnan(values), "are empty or not numbers"),
        ((values < scale.low) | (values > scale.high), "are out of range"),
    )
    for bad, problem in faults:
        if bad.any():
            raise SourceError(
                f"{int(bad.sum()):,} cells of the {source.what} {source.path} {problem}",
                wanted=f"a number from {scale.low:g} to {scale.high:g} in each {scale.kind} column",
                found=_first_cell(frame, labels, bad),
                todo="correct the cells, or fetch the file again",
            )
    return np.ascontiguousarray(values)


def examples(items: Sequence[object], shown: int = 5) -> str:
    """Return the first items as text, and the number of further ones."""
    more = f" and {len(items) - shown:,} more" if len(items) > shown else ""
    return ", ".join(map(str, items[:shown])) + more


def _check_there(source: Source) -> None:
    path, what = source.path, source.what
    if not path.exists():
        folder = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError(
            f"there is no {what} at {path}",
            found=nearest(path.name, folder) if path.parent.is_dir() else f"no folder {path.parent}",
            todo=f"set {source.param} to the path of the file",
        )
    if not path.is_file():
        raise SourceError(f"the {what} {path} is a folder, not a file", todo=f"set {source.param} to the CSV file")
    if path.stat().st_size == 0:
        raise SourceError(f"the {what} {path} is empty", wanted="a CSV file with a header", todo=_other(source))


def _other(source: Source) -> str:
    return f"fetch the file again, or set {source.param} to another file"


def _read(source: Source) -> pl.DataFrame:
    try:
        return pl.read_csv(source.path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        raise SourceError(
            f"the {source.what} {source.path} cannot be read as CSV",
            wanted="UTF-8 text, comma-separated, with one header line",
            found=str(error).strip().splitlines()[0],
            todo=_other(source),
        ) from error


def _missing_columns(source: Source, missing: list[str], others: list[str]) -> SourceError:
    close = [f"{name}: {hint}" for name in missing[:5] if (hint := nearest(name, others))]
    return SourceError(
        f"the {source.what} {source.path} lacks {len(missing)} column{'s' if len(missing) > 1 else ''}",
        wanted=examples([repr(name) for name in missing]),
        found="; ".join(close) or f"columns {examples([repr(name[:30]) for name in others], 3)}",
        todo="rename the columns as in the published file",
    )


def _first_cell(frame: pl.DataFrame, labels: pl.Series, bad: NDArray[np.bool_]) -> str:
    row, column = (int(x) for x in np.argwhere(bad)[0])
    cell = frame[row, column]
    shown = repr(cell) if cell and cell.strip() else "an empty cell"
    return f"{shown} in row {row + 1} ({labels[row]}), column {frame.columns[column]!r}"
