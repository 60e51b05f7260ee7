"""The rows that decide about a part: a rule that a row breaks is broken by one of them, for all tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from affectlake.lake.tables import expectations, factory, parts
from affectlake.lake.tables.contracts import Contract, contract, contracts
from affectlake.lake.tables.rules import Failure
from affectlake.lake.tables.witnesses import witnesses


@pytest.fixture(scope="module")
def tiny() -> dict[str, pl.DataFrame]:
    return factory.tiny_lake()


def many(frame: pl.DataFrame, rows: int = 400) -> pl.DataFrame:
    """Repeat the rows of a table; keys repeat as well, which no rule about single rows forbids."""
    return pl.concat([frame] * -(-rows // frame.height))


def corrupted(frame: pl.DataFrame, table: Contract, rng: np.random.Generator) -> pl.DataFrame:
    """Put a value that may be wrong into one cell, or copy a cell from another column of the same type."""
    name = str(rng.choice(frame.columns))
    row, kind = int(rng.integers(frame.height)), frame.schema[name]
    legal = table.column(name)
    low, high = (0 if bound is None else bound for bound in (legal.minimum, legal.maximum))
    values: list[object] = [None]
    if kind.is_float():
        values += [float("nan"), float("inf"), -float("inf"), low - 1e-3, high + 1e-3, low, high]
    elif kind.is_integer():
        info = np.iinfo(np.dtype(str(kind).lower()))
        values += [int(np.clip(value, info.min, info.max)) for value in (low - 1, high + 1, low, high, -7, 10**9)]
    elif kind == pl.String:
        values += ["", " ", "no such word", "a\nb"]
    same = [other for other in frame.columns if other != name and frame.schema[other] == kind]
    if same and rng.random() < 0.3:
        values = [frame[str(rng.choice(same))][row]]
    value = values[int(rng.integers(len(values)))]
    column = frame[name].to_list()
    column[row] = value
    return frame.with_columns(pl.Series(name, column, dtype=kind))


def found(table: Contract, part: Path, monkeypatch: pytest.MonkeyPatch, above: float) -> list[Failure]:
    """Validate a part by witnesses if it has more rows than `above`."""
    with monkeypatch.context() as patch:
        patch.setattr(expectations, "_MANY", above)
        return expectations.validate(table, [part])


@pytest.mark.parametrize("draws", [2, pytest.param(30, marks=pytest.mark.soak)], ids=["some", "many"])
@pytest.mark.parametrize("name", list(contracts()))
def test_the_same_failures_are_found_by_witnesses(
    name: str, draws: int, tiny: dict[str, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, rng = contract(name), np.random.default_rng([3, *name.encode()])
    (valid,) = parts.write_parts(tiny[name], table, tmp_path / "valid")
    assert found(table, valid, monkeypatch, 0) == []
    broken, changed = tmp_path / "changed.parquet", []
    for _ in range(draws):
        frame = many(tiny[name])
        for _ in range(8):  # cells
            frame = corrupted(frame, table, rng)
        pq.write_table(frame.to_arrow().cast(pq.read_schema(valid)), broken)
        by_witnesses, by_all = (found(table, broken, monkeypatch, above) for above in (0, float("inf")))
        assert by_witnesses == by_all
        changed.append(bool(by_all))
    assert any(changed)


def test_a_large_part_has_few_witnesses_and_one_wrong_row_in_it_is_found(tmp_path: Path) -> None:
    table, part, n = contract("choices"), tmp_path / "part.parquet", 300_000
    i = pl.int_range(n, dtype=pl.Int32) % 1000
    rows = many(factory.tiny_lake()["choices"], n).head(n).with_columns(i=i, j=i + 1, k=i + 2)
    pq.write_table(rows.to_arrow(), part)
    assert len(witnesses(part, expectations.suite(table))) < 100
    assert expectations.validate(table, [part]) == []
    wrong = pl.when(pl.int_range(n) == 222_222).then(pl.lit(-1, pl.Int32)).otherwise("i")
    pq.write_table(rows.with_columns(i=wrong).to_arrow(), part)
    (failure,) = expectations.validate(table, [part])
    assert (failure.columns, failure.n_failed, failure.examples) == (("i",), 1, ("-1",))


def test_a_rule_that_nobody_has_thought_about_is_not_skipped(tmp_path: Path) -> None:
    part = tmp_path / "part.parquet"
    pq.write_table(pl.DataFrame({"a": [1, 1]}).to_arrow(), part)
    with pytest.raises(ValueError, match="expect_column_values_to_be_unique"):
        witnesses(part, [{"type": "expect_column_values_to_be_unique", "kwargs": {"column": "a"}}])
