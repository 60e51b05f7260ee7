"""What differs between two versions of a table, row by row. Parts that are the same bytes are not opened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import UsageError, nearest
from affectlake.lake.contracts import contract
from affectlake.lake.versions import File, Manifest, Version


class OutputDiff(NamedTuple):
    """How one output differs: rows added, removed and changed, found by the table's key; schema changes in words."""

    output: str
    added: int
    removed: int
    changed: int
    schema: str

    def __str__(self) -> str:
        words = f"{self.output}: {self.added:,} added, {self.removed:,} removed, {self.changed:,} changed"
        return f"{words}; {self.schema}" if self.schema else words


class Rows(NamedTuple):
    """The rows behind an :class:`OutputDiff`. `changed` has each column as ``NAME`` (new) and ``NAME_before``."""

    added: pl.DataFrame
    removed: pl.DataFrame
    changed: pl.DataFrame


def diff(root: Path, before: Version, after: Version, table: str = "") -> list[OutputDiff]:
    """Compare two versions, output by output; those that are the same are left out.

    Parameters
    ----------
    root : Path
        Root of the lake.
    before, after : Version
        The versions.
    table : str
        Only this table; all when empty.
    """
    found = []
    for output in changed_outputs(root, before, after, table):
        rows = diff_rows(root, before, after, output)
        schema = _schema_change(root, before, after, output)
        found.append(OutputDiff(output, rows.added.height, rows.removed.height, rows.changed.height, schema))
    return found


def changed_outputs(root: Path, before: Version, after: Version, table: str = "") -> list[str]:
    """Return the outputs whose bytes differ between two versions.

    Raises
    ------
    UsageError
        If neither version has `table`.
    """
    old, new = Manifest(root, before.commit), Manifest(root, after.commit)
    known = sorted({*old.tables(), *new.tables()})
    if table and table not in known:
        raise UsageError(f"there is no table {table!r}", allowed=", ".join(known), todo=nearest(table, known))
    outputs = sorted({*old.digests, *new.digests})
    return [
        output
        for output in outputs
        if old.digests.get(output) != new.digests.get(output) and table in ("", output.partition("/")[0])
    ]


def diff_rows(root: Path, before: Version, after: Version, output: str) -> Rows:
    """Return the rows of one output that were added, removed and changed, by the table's key."""
    table = contract(output.partition("/")[0])
    old, new = _files(root, before, output), _files(root, after, output)
    same = {file.md5 for file in old} & {file.md5 for file in new}
    left, right = (_scan([f for f in files if f.md5 not in same], table.name) for files in (old, new))
    key = list(table.key)
    shared = [c for c in right.collect_schema().names() if c not in key and c in left.collect_schema().names()]
    before_of = {c: f"{c}_before" for c in shared}
    old_columns = [c for c in left.collect_schema().names() if c not in key]
    joined = right.with_columns(_now=True).join(
        left.with_columns(_before=True), on=key, how="full", nulls_equal=True, suffix="_before", coalesce=True
    )
    is_added, is_removed = pl.col("_before").is_null(), pl.col("_now").is_null()
    differs = pl.any_horizontal(
        is_added, is_removed, *(pl.col(now).ne_missing(pl.col(was)) for now, was in before_of.items())
    )
    found = joined.filter(differs).sort(key).collect(engine="streaming")
    return Rows(
        added=found.filter(is_added).select(right.collect_schema().names()),
        removed=found.filter(is_removed).select(*key, *(pl.col(before_of.get(c, c)).alias(c) for c in old_columns)),
        changed=found.filter(~is_added & ~is_removed).select(*key, *(c for pair in before_of.items() for c in pair)),
    )


def _files(root: Path, version: Version, output: str) -> list[File]:
    manifest = Manifest(root, version.commit)
    return manifest.files(output) if output in manifest.digests else []


def _scan(files: list[File], table: str) -> pl.LazyFrame:
    if not files:
        return pl.DataFrame(contract(table).schema.empty_table()).lazy()
    return pl.scan_parquet([file.cached for file in files])


def _schema_change(root: Path, before: Version, after: Version, output: str) -> str:
    old, new = (_files(root, version, output) for version in (before, after))
    if not old or not new:
        return "" if old or new else "empty"
    was, now = (dict(pl.read_parquet_schema(files[0].cached)) for files in (old, new))
    words = [f"column {c} added" for c in now if c not in was] + [f"column {c} removed" for c in was if c not in now]
    words += [f"column {c}: {was[c]} became {now[c]}" for c in now if c in was and was[c] != now[c]]
    return ", ".join(words)
