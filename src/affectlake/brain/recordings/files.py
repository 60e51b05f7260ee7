"""Files of a data set: whether their content is present, text in any Unicode encoding, and tables of BIDS.

A clone made by DataLad, git-annex or Git LFS lists files whose content has not been fetched; such a file is named, with
the command that fetches it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affectlake.errors import SourceError

MISSING = ("", "n/a", "N/A", "NaN", "nan")
"""Texts of a cell without a value; BIDS writes ``n/a``."""

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_POINTERS = ((b"/annex/objects/", "datalad get"), (b"version https://git-lfs", "git lfs pull --include"))


def present(path: Path, what: str) -> Path:
    """Return `path` if its content is here.

    Parameters
    ----------
    path : Path
    what : str
        What the file is, for the message: "image" or "events file", for example.

    Raises
    ------
    SourceError
        If there is no such file, or only its name is in this clone.
    """
    if path.is_symlink() and not path.exists():
        raise SourceError(
            f"the content of the {what} {path} is not in this clone",
            found=f"a link to {path.readlink()}, which does not exist",
            todo=f"fetch it: `datalad get {path}`",
        )
    if not path.is_file():
        raise SourceError(f"there is no {what} {path}")
    with path.open("rb") as file:
        start = file.read(32)
    for mark, command in _POINTERS:
        if start.startswith(mark):
            raise SourceError(
                f"the content of the {what} {path} is not in this clone",
                found="a pointer of git-annex or Git LFS",
                todo=f"fetch it: `{command} {path}`",
            )
    return path


def read_text(path: Path, what: str) -> str:
    """Return a text file's content: UTF-8, with or without a byte-order mark, or UTF-16 with one.

    Raises
    ------
    SourceError
        If the file is missing or in another encoding.
    """
    content = present(path, what).read_bytes()
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\0" in content:
        raise SourceError(
            f"the {what} {path} is not UTF-8 text",
            found="zero bytes, as in UTF-16 or binary files",
            todo="save it as UTF-8",
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"the {what} {path} is not UTF-8 text",
            found=f"byte {error.start:,}: {error.reason}",
            todo="save it as UTF-8",
        ) from error


def read_table(path: Path, columns: Sequence[str], what: str = "file") -> list[dict[str, str]]:
    """Return the rows of a tab-separated file with a header; missing cells of a short row are empty.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        Columns that the file must have.
    what : str
        What the file is, for messages.

    Raises
    ------
    SourceError
        If the file is missing, is not text, lacks a column or has a column twice, or a row has more cells than the
        header.
    """
    try:
        lines = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(read_text(path, what)), delimiter="\t")
        ]
    except csv.Error as error:
        raise SourceError(f"the {what} {path} is not a tab-separated table", found=str(error)) from error
    names, *rows = [row for row in lines if any(row)] or [[]]
    lacking = [name for name in columns if name not in names]
    if lacking:
        raise SourceError(f"{path} lacks columns", wanted=", ".join(lacking), found=", ".join(names) or "nothing")
    twice = [name for name in columns if names.count(name) > 1]
    if twice:
        raise SourceError(f"{path} has a column twice", found=", ".join(twice))
    for number, row in enumerate(rows, start=1):
        if any(row[len(names) :]):
            raise SourceError(
                f"row {number:,} of {path} has more cells than the header",
                wanted=f"{len(names)} cells, separated by tabs",
                found=f"{len(row)}",
            )
    return [dict(zip(names, [*row, *[""] * len(names)], strict=False)) for row in rows]


def number(text: str) -> float | None:
    """Return the number in a cell; None if the cell has no value.

    Raises
    ------
    ValueError
        If the text is not a number.
    """
    return None if text in MISSING else float(text)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a sidecar, a JSON object.

    Raises
    ------
    SourceError
        If the file is missing or is not a JSON object.
    """
    try:
        found = json.loads(read_text(path, "sidecar"))
    except json.JSONDecodeError as error:
        raise SourceError(f"the sidecar {path} is not JSON", found=str(error)) from error
    if not isinstance(found, dict):
        raise SourceError(f"the sidecar {path} is not a JSON object", found=type(found).__name__)
    return found
