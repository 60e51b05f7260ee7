"""Reading of records in JSON files of the user as a table of text cells."""

from __future__ import annotations

import json

import polars as pl

from affectlake.errors import SourceError
from affectlake.user_tables.table import UserFile, UserTable

RECORDS = (".json", ".jsonl")
"""Endings of files with records."""


def read_records(file: UserFile) -> UserTable:
    """Return the records of a JSON file: a list of objects, or a list of such lists; of ``.jsonl``, one in a line.

    An object in place of the list has the list under ``trials``, or is one record. Values other than texts are written
    as JSON; null is an empty cell.

    Raises
    ------
    SourceError
        If the file cannot be read, or has no such records.
    """
    try:
        text = file.path.read_text(encoding="utf-8-sig")
        lines = file.path.suffix.lower() == ".jsonl"
        found = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"the {file.name} cannot be read as JSON",
            wanted="a list of records",
            found=str(error)[:200],
            todo=file.another,
        ) from error
    if isinstance(found, dict):
        found = found.get("trials", [found])
    groups = found if isinstance(found, list) else [found]
    records = [one for group in groups for one in (group if isinstance(group, list) else [group])]
    if not records or not all(isinstance(one, dict) for one in records):
        raise SourceError(
            f"the {file.name} is not a list of records",
            wanted='a list such as [{"rt": …, "response": …}, …]',
            found=text[:60],
            todo=file.another,
        )
    names = list(dict.fromkeys(name for one in records for name in one))
    cells = {name: [_cell(one.get(name)) for one in records] for name in names}
    frame = pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String))
    return UserTable(file, frame, pl.Series("row", range(1, len(records) + 1), dtype=pl.Int64))


def _cell(value: object) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
