"""Compare two versions of a table, row by row. Parts with identical bytes are not opened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import UsageError, VersionError, nearest
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import File, Manifest, Version
from affectlake.lake.tables import contracts
from affectlake.lake.tables.scanning import scan_files, schema_of
from affectlake.lake.tables.uniting import POLARS, wider


class OutputDiff(NamedTuple):
    """Differences of one output: rows added, removed and changed, by the table's key, and changes of the schema."""

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
    """Compare two versions, output by output; identical outputs are left out.

    Parameters
    ----------
    root : Path
        Root of the lake.
    before, after : Version
        The versions.
    table : str
        Only this table; all tables if empty.
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
    """Return the rows of one output that were added, removed and changed, by the table's key.

    A column that one of the versions lacks, or that has types in them that cannot be compared, changes no row.

    Raises
    ------
    VersionError
        If the key is not in the files of both versions.
    """
    old, new = _files(root, before, output), _files(root, after, output)
    same = {file.md5 for file in old} & {file.md5 for file in new}
    then, now = _schemas(old, new)
    key = _key(output, then, now)
    common = {c: kind for c in now if (kind := _common(then.get(c), now[c]))}
    left, right = (
        scan_files([f.cached for f in files if f.md5 not in same], schema).cast({c: common[c] for c in key})
        for files, schema in ((old, then), (new, now))
    )
    values = [c for c in now if c not in key]
    before_of = {c: f"{c}_before" for c in values if c in then}
    joined = right.with_columns(_now=True).join(
        left.with_columns(_before=True), on=key, how="full", nulls_equal=True, suffix="_before", coalesce=True
    )
    is_added, is_removed = pl.col("_before").is_null(), pl.col("_now").is_null()
    differs = pl.any_horizontal(
        is_added, is_removed, *(pl.col(c).ne_missing(pl.col(was)) for c, was in before_of.items() if c in common)
    )
    found = joined.filter(differs).sort(key).collect(engine="streaming")
    old_values = [pl.col(before_of.get(c, c)).alias(c) for c in then if c not in key]
    pairs = [c for pair in before_of.items() for c in pair]
    return Rows(
        added=found.filter(is_added).select(list(now)),
        removed=found.filter(is_removed).select(*key, *old_values),
        changed=found.filter(~is_added & ~is_removed).select(*key, *pairs),
    )


def _files(root: Path, version: Version, output: str) -> list[File]:
    manifest = Manifest(root, version.commit)
    return whole_files(manifest, output) if output in manifest.digests else []


def _schemas(old: list[File], new: list[File]) -> tuple[pl.Schema, pl.Schema]:
    """Return the columns of both versions; if one has no files, those of the other."""
    then, now = schema_of(old or new), schema_of(new or old)
    return then, now


def _key(output: str, then: pl.Schema, now: pl.Schema) -> list[str]:
    """Return the columns that identify a row; they are in the contract, but not in the files."""
    table = output.partition("/")[0]
    known = contracts.contracts()
    missing = [c for c in known[table].key if not _common(then.get(c), now.get(c))] if table in known else [table]
    if missing:
        raise VersionError(
            f"the rows of {output} cannot be compared",
            wanted="a contract of the table, and its key in both versions with types that can be compared",
            found=f"not there, or not alike: {', '.join(missing)}",
            todo="ask for both with `affectlake query`, as TABLE@VERSION",
        )
    return list(known[table].key)


def _common(one: pl.DataType | None, other: pl.DataType | None) -> pl.DataType | None:
    """Return a type for the values of both; None if there is no such type, or a column is missing."""
    if one is None or other is None:
        return None
    kind = wider(str(one), str(other), POLARS)
    return next((known for known in (one, other, pl.Float64()) if str(known) == kind), None)


def _schema_change(root: Path, before: Version, after: Version, output: str) -> str:
    old, new = (_files(root, version, output) for version in (before, after))
    if not old or not new:
        return "" if old or new else "empty"
    was, now = _schemas(old, new)
    words = [f"column {c} added" for c in now if c not in was] + [f"column {c} removed" for c in was if c not in now]
    words += [f"column {c}: {was[c]} became {now[c]}" for c in now if c in was and was[c] != now[c]]
    return ", ".join(words)
