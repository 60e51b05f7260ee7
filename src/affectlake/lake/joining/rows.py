"""Unite collected outputs of two sides: rows that only the other side has are added after ours, as new parts.

Parts of the other side cannot be kept as they are: their rows have numbers, of shards or of rounds, that are taken
here. So the rows get the next numbers here, in their original order. Rows that both sides have are kept once. How
histories are joined and where parts come from do not belong here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.lake.files import layout
from affectlake.lake.files.atomic import md5_of
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import Listed, keep_file, keep_listing, read_listing
from affectlake.lake.store.forgotten import NOBODY, Forgotten
from affectlake.lake.store.versions import cached_object
from affectlake.lake.tables.contracts import Contract, contract
from affectlake.lake.tables.parts import scan_grown, write_parts
from affectlake.lake.tables.removing import names_people, participants_in, rewrite
from affectlake.lake.tables.writing import Staged, refuse_broken

SHARD, ROUND = "shard", "round"
"""Columns that number additions: each part, and each group of rows that belong together."""

_FAILED = "error_kind"


class Gained(NamedTuple):
    """Rows added to an output of ours, and how many of them are different answers to questions answered before."""

    n_rows: int
    n_repeats: int


class United(NamedTuple):
    """Outputs with the rows of both sides: the listing of each, and the rows added to those that changed."""

    digests: dict[Output, str]
    gained: dict[Output, Gained]


def unite(
    root: Path, ours: Mapping[Output, str], theirs: Sequence[Mapping[Output, str]], forgotten: Forgotten = NOBODY
) -> United:
    """Unite collected outputs, whose objects must be in the cache. Pointers and tables are not changed.

    Parameters
    ----------
    root : Path
        Root of the lake.
    ours : mapping of Output to str
        The listing (MD5) of each of our outputs.
    theirs : sequence of mappings of Output to str
        As `ours`, for each other side, in the order in which their rows are added.
    forgotten : Forgotten
        Participants whose rows are left out, of both sides.

    Raises
    ------
    ContractError
        If rows of theirs break their contract. They are then in quarantine with a report of what broke.
    """
    digests, gained = dict(ours), dict[Output, Gained]()
    for side in theirs:
        for output, digest in sorted(side.items()):
            one, came = _united(root, output, digests.get(output), digest)
            if one != digests.get(output):
                before = gained.get(output, Gained(0, 0))
                gained[output] = Gained(before.n_rows + came.n_rows, before.n_repeats + came.n_repeats)
            digests[output] = one
    return United(_forgotten(root, digests, forgotten), gained)


def _forgotten(root: Path, digests: Mapping[Output, str], forgotten: Forgotten) -> dict[Output, str]:
    """Return the listings of outputs without the rows of forgotten participants."""
    found = dict(digests)
    for output, digest in digests.items():
        if output.partition in forgotten.agents() and names_people(output.table):
            listed = read_listing(root, digest)
            known = participants_in([cached_object(root, one.md5) for one in listed])
            gone = forgotten.among(output.partition, known)
            if gone:
                found[output] = keep_listing(root, rewrite(root, output, listed, gone).listed)
    return found


def _united(root: Path, output: Output, ours: str | None, theirs: str) -> tuple[str, Gained]:
    existing = sorted(read_listing(root, ours)) if ours else []
    more = sorted(set(read_listing(root, theirs)) - set(existing))
    table = contract(output.table)
    if not more:
        return ours or theirs, Gained(0, 0)
    if len(existing) + len(more) == len(read_listing(root, theirs)):  # theirs only adds to ours
        n_rows = _scan(root, more, table).select(pl.len()).collect().item()
        return theirs, Gained(n_rows, 0)
    aside = layout.STAGING / "join" / output.path
    n_rows = n_repeats = 0
    for frame, n_again in _new(root, existing, more, table):
        shutil.rmtree(root / aside, ignore_errors=True)
        try:
            parts = write_parts(frame, table, root / aside, first=len(existing))
            earlier = _scan(root, existing, table) if existing else None
            refuse_broken(root, f"join-{output}".replace("/", "-"), [Staged(output, table, parts)], {}, earlier)
            listed = [Listed(path.name, md5_of(path)) for path in parts]
            for path, one in zip(parts, listed, strict=True):
                keep_file(root, path, one.md5)
        finally:
            shutil.rmtree(root / aside, ignore_errors=True)
        existing += listed
        n_rows, n_repeats = n_rows + frame.height, n_repeats + n_again
    return (keep_listing(root, existing) if n_rows else ours or theirs), Gained(n_rows, n_repeats)


def _new(root: Path, existing: list[Listed], more: list[Listed], table: Contract) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield the rows of `more` that `existing` lacks, with their new numbers, and the number of repeats in them.

    `existing` may grow during the iteration: added rows are not added again.
    """
    if ROUND in table.key:
        yield from _new_rounds(root, existing, more, table)
        return
    for one in more:
        rows, n_again = _new_rows(root, existing, _scan(root, [one], table).collect(), table)
        if not rows.is_empty():
            yield _numbered(rows, SHARD, len(existing)) if SHARD in table.key else rows, n_again


def _new_rows(root: Path, existing: list[Listed], rows: pl.DataFrame, table: Contract) -> tuple[pl.DataFrame, int]:
    """Return the rows that differ from all existing ones, and how many of them answer a question again."""
    if not existing:
        return rows, 0
    key = [name for name in table.key if name != SHARD]
    content = [column.name for column in table.columns if column.name != SHARD]
    # the rows of one part are few, so they make the hash table, and existing rows are streamed
    known = _scan(root, existing, table).select(content)
    met = known.join(rows.lazy().select(key), on=key, how="semi", nulls_equal=True).collect(engine="streaming")
    new = rows.join(met, on=content, how="anti", nulls_equal=True)
    answered = pl.col(_FAILED).is_null() if _FAILED in content else pl.lit(value=True)
    again = new.filter(answered).join(met.filter(answered), on=key, how="semi", nulls_equal=True)
    return new, again.height


def _new_rounds(
    root: Path, existing: list[Listed], more: list[Listed], table: Contract
) -> Iterator[tuple[pl.DataFrame, int]]:
    rounds = _scan(root, more, table).select(pl.col(ROUND).unique().sort()).collect()[ROUND]
    for number in rounds:
        frame = _round(root, more, table, number)
        heights: dict[int, int] = {}
        if existing:
            heights = dict(_scan(root, existing, table).group_by(ROUND).len().sort(ROUND).collect().iter_rows())
        alike = (mine for mine, height in heights.items() if height == frame.height)
        if not any(_round(root, existing, table, mine).equals(frame) for mine in alike):
            yield _numbered(frame, ROUND, max(heights, default=-1) + 1), 0


def _round(root: Path, listed: list[Listed], table: Contract, number: int) -> pl.DataFrame:
    """Return the rows of one round, without its number."""
    rows = _scan(root, listed, table).filter(pl.col(ROUND) == number).collect()
    return rows.sort(table.key).drop(ROUND)


def _numbered(rows: pl.DataFrame, column: str, number: int) -> pl.DataFrame:
    return rows.with_columns(pl.lit(number, dtype=pl.Int32).alias(column))


def _scan(root: Path, listed: list[Listed], table: Contract) -> pl.LazyFrame:
    return scan_grown([cached_object(root, one.md5) for one in listed], table.name)
