"""Check the rules that need more than one row or table, with Polars and in bounded memory.

Unique keys, references, ``one_of``, ``different``, ``counts_up``, ``unique``, ``same_length`` and ``within``. Other
rules within one row are in :mod:`~affectlake.lake.tables.expectations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import polars as pl

from affectlake.lake.tables.contracts import Contract, Reference, Rule, Where
from affectlake.lake.tables.parts import sort_breaks
from affectlake.lake.tables.scanning import scan_files


@dataclass(frozen=True)
class Failure:
    """A rule that some rows break: where, which rule, how many rows, and examples."""

    table: str
    part: str
    columns: tuple[str, ...]
    rule: str
    n_failed: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = "; ".join(self.examples)
        return f"{self.table}/{self.part}: {', '.join(self.columns)}: {self.rule}: {self.n_failed:,} rows, e.g. {shown}"


def check(
    table: Contract, parts: list[Path], others: Mapping[str, pl.LazyFrame], earlier: pl.LazyFrame | None = None
) -> list[Failure]:
    """Check every rule of `table` that needs more than one row, part by part.

    Parameters
    ----------
    table : Contract
        The table's contract.
    parts : list of Path
        Its Parquet parts, in order.
    others : mapping of str to polars.LazyFrame
        The tables that it refers to.
    earlier : polars.LazyFrame, optional
        Existing rows to which `parts` are to be added: no key may occur twice.

    Returns
    -------
    list of Failure
        Empty if no rule is broken.
    """
    failures: list[Failure] = []
    last: pl.DataFrame | None = None
    n_before = 0 if earlier is None else earlier.select(pl.len()).collect().item()
    for path in parts:
        frame = scan_files([path]).collect()
        failures += _keys(table, path, frame, last)
        if earlier is not None:
            failures += _existing_keys(table, path, frame, earlier)
        for rule in table.rules:
            bad = _BROKEN[rule.kind](frame, rule, n_before) if rule.kind in _BROKEN else None
            bad = _outside(frame, rule, others[rule.table]) if rule.kind == "within" else bad
            if bad is not None and not bad.is_empty():
                columns = (rule.column,) if rule.table else tuple(filter(None, (rule.column, *rule.columns)))
                failures.append(_failure(table, path, columns, rule.kind, bad))
        for reference in table.references:
            failures += _reference(table, path, frame, reference, others)
        last = frame.select(table.key).tail(1)
        n_before += frame.height
    return failures


def matches(where: Where) -> pl.Expr:
    """Return whether a row is one of those of `where`; false if the column is null."""
    return (pl.col(where.column).cast(pl.String) == where.equals).fill_null(value=False)


def _keys(table: Contract, path: Path, frame: pl.DataFrame, last: pl.DataFrame | None) -> list[Failure]:
    keys = frame.select(table.key)
    joined = keys if last is None else pl.concat([last, keys])
    bad = joined.filter(sort_breaks(joined, table.key))
    return [] if bad.is_empty() else [_failure(table, path, table.key, "unique key, rows in its order", bad)]


def _existing_keys(table: Contract, path: Path, frame: pl.DataFrame, earlier: pl.LazyFrame) -> list[Failure]:
    key = list(table.key)
    # the new keys are few, so they make the hash table, and the earlier rows are streamed
    found = earlier.select(key).join(frame.lazy().select(key), on=key, how="semi", nulls_equal=True)
    bad = found.collect(engine="streaming")
    return [] if bad.is_empty() else [_failure(table, path, table.key, "unique key, against earlier parts", bad)]


def _one_of(frame: pl.DataFrame, rule: Rule, _n_before: int) -> pl.DataFrame:
    among = pl.any_horizontal([pl.col(rule.column) == pl.col(other) for other in rule.columns])
    return frame.filter(~among).select(rule.column, *rule.columns)


def _different(frame: pl.DataFrame, rule: Rule, _n_before: int) -> pl.DataFrame:
    equal = pl.any_horizontal([pl.col(one) == pl.col(other) for one, other in combinations(rule.columns, 2)])
    return frame.filter(equal).select(rule.columns)


def _increasing(frame: pl.DataFrame, rule: Rule, _n_before: int) -> pl.DataFrame:
    """Return the rows with equal neighbours that are not those of `equal_where`; the suite has checked the order."""
    if rule.equal_where is None:
        return frame.clear()
    equal = pl.any_horizontal([pl.col(low) == pl.col(high) for low, high in pairwise(rule.columns)])
    return frame.filter(equal & ~matches(rule.equal_where)).select(rule.columns)


def _counts_up(frame: pl.DataFrame, rule: Rule, n_before: int) -> pl.DataFrame:
    expected = pl.int_range(n_before, n_before + frame.height, dtype=pl.Int64, eager=True)
    return frame.filter(frame[rule.column].cast(pl.Int64) != expected).select(rule.column)


def _unique(frame: pl.DataFrame, rule: Rule, _n_before: int) -> pl.DataFrame:
    of_rule = frame.filter(matches(rule.where)) if rule.where else frame
    among = of_rule.select(rule.columns)
    return among.filter(among.is_duplicated())


def _same_length(frame: pl.DataFrame, rule: Rule, _n_before: int) -> pl.DataFrame:
    lengths = frame[rule.column].list.len()
    return frame.filter(lengths != lengths.first()).select(rule.column)


def _outside(frame: pl.DataFrame, rule: Rule, bounds: pl.LazyFrame) -> pl.DataFrame:
    low, high = rule.columns
    joined = frame.lazy().select(rule.of, rule.column).join(bounds.select(rule.of, low, high), on=rule.of)
    return joined.filter(~pl.col(rule.column).is_between(low, high)).collect()


# functions that find the rows that break a rule of one table
_BROKEN: dict[str, Callable[[pl.DataFrame, Rule, int], pl.DataFrame]] = {
    "one_of": _one_of,
    "different": _different,
    "increasing": _increasing,
    "counts_up": _counts_up,
    "unique": _unique,
    "same_length": _same_length,
}


def _reference(
    table: Contract, path: Path, frame: pl.DataFrame, reference: Reference, others: Mapping[str, pl.LazyFrame]
) -> list[Failure]:
    columns, to = list(reference.columns), list(reference.to)
    name = next(table for table in reference.tables if table in others or table == reference.table)
    wanted = others[name]
    if len(to) == 1:
        bad = frame.select(columns).filter(~pl.col(columns[0]).is_in(wanted.select(to).collect()[to[0]].implode()))
    else:
        # both sides are sorted by their key: only rows in this part's range can match
        pivot = next((c for c in to if frame.schema[c].is_integer()), to[0])
        low, high = frame[pivot].min(), frame[pivot].max()
        near = wanted.filter(pl.col(pivot).is_between(pl.lit(low), pl.lit(high))).select(to)
        bad = frame.lazy().select(columns).join(near, left_on=columns, right_on=to, how="anti").collect()
    return [] if bad.is_empty() else [_failure(table, path, reference.columns, f"reference to {name}", bad)]


def _failure(table: Contract, path: Path, columns: tuple[str, ...], rule: str, bad: pl.DataFrame) -> Failure:
    examples = tuple(", ".join(map(str, row)) for row in bad.head(5).iter_rows())
    return Failure(table.name, path.name, columns, rule, bad.height, examples)
