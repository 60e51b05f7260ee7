"""Reading of tables in files of the user; all cells are text, so that messages can quote them."""

from __future__ import annotations

import csv
import io

import polars as pl

from affectlake.errors import SourceError, nearest
from affectlake.user_tables.records import RECORDS, read_records
from affectlake.user_tables.table import UserFile, UserTable, clean

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
EXCEL = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
PARQUET = (".parquet", ".pq")
_SPARE = 64  # further columns that are read, so that rows longer than the header can be found


def read_table(file: UserFile) -> UserTable:
    """Read a table: CSV or TSV (UTF-8, or UTF-16 with a byte-order mark), Parquet, JSON, or the first sheet of Excel.

    Cells of text files are separated by commas, semicolons or tabs, whichever the header has most of. Byte-order marks,
    Windows line ends, empty rows, and columns without a name and without cells are accepted. Names of columns are
    stripped and normalised (Unicode NFC); cells are verbatim.

    Parameters
    ----------
    file : UserFile

    Returns
    -------
    UserTable

    Raises
    ------
    SourceError
        If the file is missing, empty or not such a table, has no rows, a row has more cells than the header, or a
        column has cells but no name.
    """
    _check_there(file)
    suffix = file.path.suffix.lower()
    if suffix in RECORDS:
        return read_records(file)
    if suffix in PARQUET:
        return _named(file, *_parquet(file), separator="")
    if suffix in EXCEL:
        cells, notes = _excel(file)
    else:
        cells, notes, separator = _text(file)
        return _from_cells(file, cells, notes, separator)
    return _from_cells(file, cells, notes, "")


def _check_there(file: UserFile) -> None:
    path, what = file.path, file.what
    if not path.exists():
        folder = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SourceError(
            f"there is no {what} at {path}",
            found=nearest(path.name, folder) if path.parent.is_dir() else f"no folder {path.parent}",
            todo=f"set {file.setting} to the path of the file",
        )
    if not path.is_file():
        raise SourceError(f"the {what} {path} is a folder, not a file", todo=f"set {file.setting} to the file")
    if path.stat().st_size == 0:
        raise SourceError(f"the {what} {path} is empty", wanted="a table with a header", todo=file.another)


def _unreadable(file: UserFile, form: str, wanted: str, error: object) -> SourceError:
    lines = str(error).strip().splitlines()
    return SourceError(
        f"the {file.name} cannot be read as {form}",
        wanted=wanted,
        found=lines[0] if lines else type(error).__name__,
        todo=file.another,
    )


def _text(file: UserFile) -> tuple[pl.DataFrame, list[str], str]:
    content, notes = _decoded(file)
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")  # line ends of old Macintosh programs
    try:
        header_text = content[:1_000_000].decode("utf-8", errors="ignore").lstrip("\n\r")
        separator = _separator(header_text)
        width = len(next(csv.reader(io.StringIO(header_text, newline=""), delimiter=separator), []))
        cells = pl.read_csv(
            content,
            has_header=False,
            schema={f"column_{at}": pl.String for at in range(width + _SPARE)},
            separator=separator,
            infer_schema=False,
            missing_columns="insert",
        )
    except (pl.exceptions.PolarsError, csv.Error, ValueError) as error:
        raise _unreadable(
            file, "CSV", "text with one header line, and cells separated by commas, semicolons or tabs", error
        ) from error
    if separator != ",":
        notes.append(f"read with {SEPARATORS[separator]} between cells")
    return cells, notes, separator


def _decoded(file: UserFile) -> tuple[bytes, list[str]]:
    """Return the content as UTF-8 without a byte-order mark."""
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise _unreadable(file, "text", "a readable file", error) from error
    if content.startswith(b"\xef\xbb\xbf"):
        return content[3:], []
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return content.decode("utf-16").encode(), ["decoded from UTF-16"]
        except UnicodeError as error:
            raise _unreadable(file, "UTF-16 text", "UTF-8 text", error) from error
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SourceError(
            f"the {file.name} is not UTF-8 text",
            wanted="CSV or TSV saved as UTF-8, Excel or Parquet",
            found=f"the byte 0x{content[error.start]:02x} in line {line}",
            todo=f"save it as 'CSV UTF-8', or set {file.setting} to another file",
        ) from error
    return content, []


def _separator(text: str) -> str:
    """Return the separator with which the first line has most cells; a comma if it has one cell with each."""
    counts = {
        separator: len(next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), []))
        for separator in SEPARATORS
    }
    return max(counts, key=lambda separator: counts[separator])


def _excel(file: UserFile) -> tuple[pl.DataFrame, list[str]]:
    import fastexcel  # late: only Excel files need it

    try:
        book = fastexcel.read_excel(file.path)
        cells = book.load_sheet(0, header_row=None, dtypes="string").to_polars()
    except Exception as error:  # fastexcel and calamine raise errors of many kinds
        raise _unreadable(file, "Excel", "a file of Excel or LibreOffice with a header", error) from error
    notes = []
    if len(book.sheet_names) > 1:
        others = ", ".join(map(repr, book.sheet_names[1:5]))
        notes.append(f"read the first sheet, {book.sheet_names[0]!r}, and not {others}")
    return cells.cast(pl.String), notes


def _parquet(file: UserFile) -> tuple[pl.DataFrame, list[str]]:
    try:
        frame = pl.read_parquet(file.path)
        nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
        cells = frame.drop(nested).cast(pl.String)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, "Parquet", "a table of texts and numbers", error) from error
    return cells, [f"left out the nested column {name!r}" for name in nested]


def _from_cells(file: UserFile, cells: pl.DataFrame, notes: list[str], separator: str) -> UserTable:
    """Return the table whose header is the first row that has cells."""
    cells = cells.with_columns(pl.when(pl.all() == "").then(None).otherwise(pl.all()).name.keep())
    filled = cells.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    if not filled.any():
        raise SourceError(f"the {file.name} is empty", wanted="a table with a header", todo=file.another)
    first = int(filled.arg_true()[0])
    header = [clean(name or "") for name in cells.row(first)]
    body = cells.slice(first + 1)
    nameless = [at for at, name in enumerate(header) if not name]
    used = [at for at in nameless if body.to_series(at).null_count() < body.height]
    if used:
        at = used[0]
        row = int(body.to_series(at).is_not_null().arg_true()[0])
        more_than_header = at >= max((place + 1 for place, name in enumerate(header) if name), default=0)
        what = "has rows with more cells than the header" if more_than_header else f"has no name for column {at + 1}"
        raise SourceError(
            f"the {file.name} {what}",
            wanted=f"a name in the header for each column with cells; {SEPARATORS[separator]} between cells"
            if separator
            else "a name in the header for each column with cells",
            found=f"{body.to_series(at)[row][:60]!r} in row {row + 1}, cell {at + 1}",
            todo="name the column, put quotes around texts that contain the separator, or remove the cells",
        )
    dropped = len([at for at in nameless if separator == "" or at < cells.width - _SPARE])
    if dropped:
        notes = [*notes, f"left out {dropped} empty column{'s' if dropped > 1 else ''} without a name"]
    named = body.select(
        body.to_series(at).alias(f"{at}") for at, name in enumerate(header) if name and name not in header[:at]
    )
    named.columns = list(dict.fromkeys(name for name in header if name))
    return _named(file, named, notes, separator, frozenset(name for name in header if name and header.count(name) > 1))


def _named(
    file: UserFile, frame: pl.DataFrame, notes: list[str], separator: str, repeated: frozenset[str] = frozenset()
) -> UserTable:
    """Return the table of named columns without its empty rows."""
    rows = pl.Series("row", range(1, frame.height + 1), dtype=pl.Int64)
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series() if frame.width else rows < 0
    if not filled.any():
        raise SourceError(f"the {file.name} has a header but no rows", todo=file.another)
    last = int(filled.arg_true()[-1])
    inside = int((~filled[: last + 1]).sum())
    if inside:
        notes = [*notes, f"left out {inside} empty row{'s' if inside > 1 else ''}"]
    return UserTable(file, frame.filter(filled), rows.filter(filled), tuple(notes), repeated, separator)
