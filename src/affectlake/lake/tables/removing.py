"""Rows of forgotten participants: leave them out of new rows, and rewrite the parts of collected outputs without them.

A part keeps its name, and its rows keep their numbers, so that parts of the output that has no such rows stay the same
files.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.lake.files import layout
from affectlake.lake.files.atomic import md5_of
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import Listed, keep_file
from affectlake.lake.store.forgotten import Forgotten, read_forgotten
from affectlake.lake.store.versions import cached_object
from affectlake.lake.tables.contracts import contract, contracts
from affectlake.lake.tables.parts import scan_grown, write_parts
from affectlake.lake.tables.scanning import scan_files

PARTICIPANT = "participant"
"""The column, of any table, with the id of a participant."""


class Rewritten(NamedTuple):
    """The parts of an output without some rows: all of them, those that changed, and the number of rows removed."""

    listed: list[Listed]
    changed: list[Listed]
    n_removed: int


def names_people(table: str) -> bool:
    """Return whether a table of this release has a column with the ids of participants."""
    known = contracts().get(table)
    return known is not None and PARTICIPANT in {column.name for column in known.columns}


def without(root: Path, output: Output, frame: pl.DataFrame, forgotten: Forgotten | None = None) -> pl.DataFrame:
    """Return the rows of `frame` without those of participants who are forgotten under the output's agent."""
    forgotten = read_forgotten(root) if forgotten is None else forgotten
    if PARTICIPANT not in frame.columns or output.partition not in forgotten.agents():
        return frame
    gone = forgotten.among(output.partition, frame[PARTICIPANT].unique().to_list())
    return frame.filter(~pl.col(PARTICIPANT).is_in(gone).fill_null(value=False)) if gone else frame


def participants_in(paths: Sequence[Path]) -> list[str]:
    """Return the participants whom parts of a table name, in order; those without the column name none."""
    found: set[str] = set()
    for path in paths:
        rows = scan_files([path])
        if PARTICIPANT in rows.collect_schema().names():
            found |= set(rows.select(pl.col(PARTICIPANT).drop_nulls().unique()).collect()[PARTICIPANT].to_list())
    return sorted(found)


def rewrite(root: Path, output: Output, listed: Sequence[Listed], gone: Sequence[str]) -> Rewritten:
    """Return parts, which are in the cache, without the rows of participants; new ones are added to the cache.

    Parameters
    ----------
    root : Path
        Root of the lake.
    output : Output
        A collected output whose table has a column of participants.
    listed : sequence of Listed
        Its parts.
    gone : sequence of str
        The participants.
    """
    table, kept, changed, n_removed = contract(output.table), list[Listed](), list[Listed](), 0
    aside = root / layout.STAGING / "forget" / output.path
    is_gone = pl.col(PARTICIPANT).is_in(list(gone)).fill_null(value=False)
    for one in sorted(listed):
        rows = scan_grown([cached_object(root, one.md5)], output.table)
        n_here = rows.select(is_gone.sum()).collect().item()
        if not n_here:
            kept.append(one)
            continue
        shutil.rmtree(aside, ignore_errors=True)
        try:
            number = int(Path(one.relpath).stem.removeprefix("part-"))
            (path,) = write_parts(rows.filter(~is_gone).collect(), table, aside, first=number)
            new = Listed(one.relpath, md5_of(path))
            keep_file(root, path, new.md5)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        kept.append(new)
        changed.append(new)
        n_removed += int(n_here)
    return Rewritten(kept, changed, n_removed)
