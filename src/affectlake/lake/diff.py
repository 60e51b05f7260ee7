"""Compare two versions of a table, row by row. Parts with identical bytes are not opened.

Rows are matched by the key of today's contract. Versions may be older than the contract: where the key is missing or
not unique in one of them, rows are compared by all of their columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import UsageError, nearest
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import File, Manifest, Version
from affectlake.lake.tables import contracts
from affectlake.lake.tables.scanning import contract_version_of, scan_files, schema_of
from affectlake.lake.tables.uniting import POLARS, wider


class OutputDiff(NamedTuple):
    """Differences of one output: rows added, removed and changed, by the table's key, and changes of the schema.

    If rows could not be matched by a key, `changed` is 0, and `schema` gives the reason.
    """

    output: str
    added: int
    removed: int
    changed: int
    schema: str

    def __str__(self) -> str:
        words = f"{self.output}: {self.added:,} added, {self.removed:,} removed, {self.changed:,} changed"
        return f"{words}; {self.schema}" if self.schema else words


class Rows(NamedTuple):
    """The rows behind an :class:`OutputDiff`. `changed` has each column as ``NAME`` (new) and ``NAME_before``.

    `unmatched` is the reason why rows were compared by all columns; empty if they were matched by a key.
    """

    added: pl.DataFrame
    removed: pl.DataFrame
    changed: pl.DataFrame
    unmatched: str = ""


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
        words = ", ".join(filter(None, (_schema_change(root, before, after, output), rows.unmatched)))
        found.append(OutputDiff(str(output), rows.added.height, rows.removed.height, rows.changed.height, words))
    return found


def changed_outputs(root: Path, before: Version, after: Version, table: str = "") -> list[Output]:
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
        if old.digests.get(output) != new.digests.get(output) and table in ("", output.table)
    ]


def diff_rows(root: Path, before: Version, after: Version, output: Output) -> Rows:
    """Return the rows of one output that were added, removed and changed, by the table's key.

    A column that one version lacks, or whose types cannot be compared, does not make a row changed. Without a key,
    rows that the other version does not have as often, by the columns of both, count as added or removed.
    """
    return compare_files(output, _files(root, before, output), _files(root, after, output))


def compare_files(output: Output, old: Sequence[File], new: Sequence[File]) -> Rows:
    """Return the rows that were added, removed and changed between two sets of parts of one output.

    Parameters
    ----------
    output : Output
        The output, whose contract has the key.
    old, new : sequence of File
        The parts before and after. Parts with the same MD5 are not opened.
    """
    same = {file.md5 for file in old} & {file.md5 for file in new}
    then, now = _schemas(old, new)
    common = {c: kind for c in now if (kind := _common(then.get(c), now[c]))}
    left, right = (
        scan_files([f.cached for f in files if f.md5 not in same], schema).cast(
            {c: kind for c, kind in common.items() if c in schema}
        )
        for files, schema in ((old, then), (new, now))
    )
    key, unmatched = _key(output, common, (left, right), [*old, *new])
    if unmatched:
        return _whole_rows(left, right, list(common), unmatched)
    return _matched(left, right, then, now, key, common)


def _matched(
    left: pl.LazyFrame,
    right: pl.LazyFrame,
    then: pl.Schema,
    now: pl.Schema,
    key: list[str],
    common: Mapping[str, pl.DataType],
) -> Rows:
    """Return the rows that differ; rows of both versions with the same key are paired."""
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


def _files(root: Path, version: Version, output: Output) -> list[File]:
    manifest = Manifest(root, version.commit)
    return whole_files(manifest, output) if output in manifest.digests else []


def _schemas(old: Sequence[File], new: Sequence[File]) -> tuple[pl.Schema, pl.Schema]:
    """Return the columns of both versions; if one has no files, those of the other."""
    then, now = schema_of(old or new), schema_of(new or old)
    return then, now


def _key(
    output: Output, common: Mapping[str, pl.DataType], sides: tuple[pl.LazyFrame, pl.LazyFrame], files: list[File]
) -> tuple[list[str], str]:
    """Return the columns that identify a row, from today's contract (not in the files), or why there are none."""
    table = output.table
    known = contracts.contracts().get(table)
    if known is None:
        return [], "rows compared by all columns: the table has no contract today"
    missing = [c for c in known.key if c not in common]
    if missing:
        return [], f"rows compared by all columns: {', '.join(missing)} of the key cannot be compared"
    key = list(known.key)
    todays = all(contract_version_of(file.cached) == str(known.version) for file in files)
    if not todays and any(side.select(pl.struct(key).is_duplicated().any()).collect().item() for side in sides):
        return [], f"rows compared by all columns: {', '.join(key)} is not unique"
    return key, ""


def _whole_rows(left: pl.LazyFrame, right: pl.LazyFrame, columns: list[str], why: str) -> Rows:
    """Return the rows that one side has and the other lacks, or has less often."""

    def only(these: pl.LazyFrame, those: pl.LazyFrame) -> pl.DataFrame:
        if not columns:
            return these.collect(engine="streaming")
        nth = pl.int_range(pl.len()).over(columns)
        mine, others = these.with_columns(_nth=nth), those.select(columns).with_columns(_nth=nth)
        found = mine.join(others, on=[*columns, "_nth"], how="anti", nulls_equal=True)
        return found.drop("_nth").sort(columns).collect(engine="streaming")

    return Rows(only(right, left), only(left, right), pl.DataFrame(), why)


def _common(one: pl.DataType | None, other: pl.DataType | None) -> pl.DataType | None:
    """Return a type for the values of both; None if there is no such type, or a column is missing."""
    if one is None or other is None:
        return None
    kind = wider(str(one), str(other), POLARS)
    return next((known for known in (one, other, pl.Float64()) if str(known) == kind), None)


def _schema_change(root: Path, before: Version, after: Version, output: Output) -> str:
    old, new = (_files(root, version, output) for version in (before, after))
    if not old or not new:
        return "" if old or new else "empty"
    return ", ".join(column_changes(old, new))


def column_changes(old: Sequence[File], new: Sequence[File]) -> list[str]:
    """Return the columns that were added, removed or have another type, one phrase each."""
    was, now = _schemas(old, new)
    words = [f"column {c} added" for c in now if c not in was] + [f"column {c} removed" for c in was if c not in now]
    return words + [f"column {c}: {was[c]} became {now[c]}" for c in now if c in was and was[c] != now[c]]
