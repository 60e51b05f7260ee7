"""Versions written under other contracts than today's are read as they were published, and what was collected stays."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from affectlake.errors import ContractError, VersionError
from affectlake.lake import repository
from affectlake.lake.diff import diff, diff_rows
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import open_lake
from affectlake.lake.query import query
from affectlake.lake.store.versions import resolve
from affectlake.lake.tables import appending, contracts, factory
from affectlake.lake.tables.contracts import Contract
from affectlake.lake.tables.writing import read_output
from tests.attacks.planting import plant, raise_contracts, with_thoughts

OUTPUT = Output("responses", "tiny")


def answers(shard: int) -> pl.DataFrame:
    rows = factory.tiny_lake(12)["responses"]
    return rows.with_columns(agent=pl.lit("tiny"), shard=pl.lit(shard, rows.schema["shard"]))


def test_every_table_of_a_version_is_read_whatever_the_contracts_of_today(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = open_lake(published)
    tables = ("stimuli", "triplets", "choices")
    before = {name: lake.table(name, "v1").collect() for name in tables}
    differences = str(lake.diff("v1", "v2"))

    def changed(known: Contract) -> Contract:
        """Another type, another nullability, a column less and one more."""
        first, *rest = known.columns
        more = replace(first, name="later", nullable=False)
        return replace(known, columns=(more, first, *(replace(c, nullable=True) for c in rest[:-1])))

    raise_contracts(monkeypatch, changed)
    for name, rows in before.items():
        assert_frame_equal(lake.table(name, "v1").collect(), rows)
        assert_frame_equal(lake.sql(f"SELECT * FROM {name}", "v1").pl(), rows)
    assert str(lake.diff("v1", "v2")) == differences


def test_parts_of_one_table_are_united_by_name(published: Path) -> None:
    rows = open_lake(published).table("choices", "v2").collect().to_arrow()
    n = rows.num_rows
    wide = rows.set_column(rows.column_names.index("i"), "i", rows["i"].cast(pa.int64()))
    more = wide.append_column("certainty", pa.array(np.linspace(0, 1, n), pa.float32()))
    fewer = rows.drop_columns(["repeat"]).append_column("certainty", pa.array([0.5] * n, pa.float64()))
    names = list(reversed(fewer.column_names))
    version = plant(published, {"choices/a": [rows, more], "choices/b": [fewer.select(names)]})
    lake = open_lake(published)
    found = lake.table("choices", version.name).collect()
    assert found.height == 4 * n  # with those of choices/tiny
    assert found.columns == more.column_names
    assert (found.schema["i"], found.schema["certainty"]) == (pl.Int64, pl.Float64)
    assert found["certainty"].null_count() == 2 * n
    assert found["repeat"].null_count() == n
    assert found["i"].to_list() == rows["i"].to_pylist() * 4
    assert_frame_equal(query(published, "SELECT * FROM choices", version.name).pl(), found)
    counted = query(published, "SELECT count(*), count(certainty), sum(i) FROM choices WHERE repeat IS NULL").fetchall()
    assert counted == [(n, n, sum(rows["i"].to_pylist()))]
    # the same parts in the other order, and what changed between the two
    again = plant(published, {"choices/a": [more, rows]})
    assert_frame_equal(lake.table("choices", again.name).collect(), found, check_row_order=False)


def test_columns_that_cannot_be_united_are_named_with_both_types_and_files(published: Path) -> None:
    rows = open_lake(published).table("choices", "v2").collect().to_arrow()
    text = rows.set_column(rows.column_names.index("odd"), "odd", rows["odd"].cast(pa.string()))
    version = plant(published, {"choices/a": [text]})
    lake = open_lake(published)
    for ask in (
        lambda: lake.table("choices", version.name),
        lambda: lake.sql("SELECT count(*) FROM choices", version.name),
        lambda: lake.sql(f"SELECT count(*) FROM choices@{version.name}", "v1"),
    ):
        with pytest.raises(VersionError, match="column odd has types that cannot be united") as refused:
            ask()
        assert "choices/a/part-00000.parquet" in refused.value.found
        assert "choices/tiny/part-00000.parquet" in refused.value.found
    assert lake.sql("SELECT count(*) FROM stimuli", version.name).fetchall() == [(13,)]  # the others are read
    words = ["affectlake", "query", "SELECT * FROM choices", "--lake", str(published)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "column odd has types that cannot be united" in done.stderr


def test_versions_with_other_columns_are_compared(published: Path) -> None:
    rows = open_lake(published).table("stimuli", "v2").collect().to_arrow()
    keyed = rows.column_names.index("stimulus_index")
    wide = rows.set_column(keyed, "stimulus_index", rows["stimulus_index"].cast(pa.int64()))
    wide = wide.append_column("mood", pa.array(["calm"] * rows.num_rows)).drop_columns(["n_captions"])
    version = plant(published, {"stimuli": [wide.slice(0, 5), wide.slice(5)]})
    before = resolve(published, "v2")
    (found,) = diff(published, before, version)
    assert (found.added, found.removed, found.changed) == (0, 0, 0)
    for words in ("column mood added", "column n_captions removed", "column stimulus_index: "):
        assert words in found.schema
    less = plant(published, {"stimuli": [wide.slice(0, 5), rows.slice(5, 6)]})
    removed = diff_rows(published, version, less, Output("stimuli")).removed
    assert removed["stimulus_index"].to_list() == [11, 12]
    assert removed["mood"].to_list() == ["calm", "calm"]
    renamed = rows.rename_columns(["identity" if c == "stimulus_index" else c for c in rows.column_names])
    other = plant(published, {"stimuli": [renamed]})
    (found,) = diff(published, before, other)
    assert (found.added, found.removed, found.changed) == (0, 0, 0)  # by the columns that both have
    assert "rows compared by all columns: stimulus_index of the key cannot be compared" in found.schema
    assert "column stimulus_index removed" in found.schema
    fewer = plant(published, {"stimuli": [renamed.slice(2)]})
    (found,) = diff(published, before, fewer)
    assert (found.added, found.removed, found.changed) == (0, 2, 0)
    assert diff_rows(published, before, fewer, Output("stimuli")).removed["stimulus_index"].to_list() == [0, 1]


def test_tables_without_a_contract_and_keys_that_no_longer_tell_rows_apart_are_compared(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = open_lake(published).table("choices", "v2").collect().to_arrow()
    first = plant(published, {"wagers/tiny": [rows, rows.slice(0, 4)]})
    second = plant(published, {"wagers/tiny": [rows.slice(1), rows.slice(0, 4)], "bets": [rows.slice(0, 3)]})
    found = {one.output: one for one in diff(published, first, second)}
    assert (found["wagers/tiny"].added, found["wagers/tiny"].removed) == (0, 1)
    assert (found["bets"].added, found["bets"].removed) == (3, 0)
    assert "no contract today" in found["bets"].schema
    assert [one.removed for one in diff(published, second, resolve(published, "v2"))] == [3, rows.num_rows + 3]
    # a key of fewer columns than the rows were told apart by
    raise_contracts(monkeypatch, lambda known: replace(known, key=known.key[:3]) if known.name == "choices" else known)
    found = {one.output: one for one in diff(published, resolve(published, "v1"), second)}
    before, after = (open_lake(published).table("choices", name).collect() for name in ("v1", second.name))
    assert "agent, protocol, trial_set is not unique" in found["choices/tiny"].schema
    assert found["choices/tiny"].added == after.join(before, on=after.columns, how="anti").height > 0
    assert found["choices/tiny"].removed == 0


def test_what_was_collected_stays_and_grows_under_a_contract_with_more_columns(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answers(0)
    appending.append(lake, OUTPUT, first, {})
    made = repository.publish(lake)
    assert made is not None
    raise_contracts(monkeypatch, with_thoughts)
    columns = [column.name for column in contracts.contract("responses").columns]
    assert read_output(lake, OUTPUT).collect().columns == columns
    second = answers(1).with_columns(musings=pl.lit("it differs"), n_thoughts=pl.lit(3, pl.Int32))
    appending.append(lake, OUTPUT, second, {})
    found = read_output(lake, OUTPUT).collect()
    assert found.columns == columns
    assert found["musings"].to_list() == [None] * first.height + ["it differs"] * first.height
    assert_frame_equal(found.head(first.height).select(first.columns), first)
    with pytest.raises(ContractError, match="unique key, against earlier parts"):
        appending.append(lake, OUTPUT, answers(0).with_columns(musings=None, n_thoughts=None), {})
    after = repository.publish(lake)
    assert after is not None
    assert_frame_equal(open_lake(lake).table("responses", after.name).collect(), found)
    assert_frame_equal(query(lake, "SELECT * FROM responses").pl(), found)
    assert_frame_equal(open_lake(lake).table("responses", made.name).collect(), first)
    (difference,) = diff(lake, made, after)
    assert (difference.added, difference.removed, difference.changed) == (first.height, 0, 0)


def test_a_contract_that_does_more_than_add_columns_is_refused(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    appending.append(lake, OUTPUT, answers(0), {})
    known = contracts.contract("responses")
    kept = known.columns
    changes = {
        "model: string is missing": replace(known, columns=tuple(c for c in kept if c.name != "model")),
        "repeat: ": replace(known, columns=tuple(replace(c, type="int64") if c.name == "repeat" else c for c in kept)),
        "later may not be null": replace(known, columns=(*kept, replace(kept[0], name="later"))),
    }
    for words, changed in changes.items():
        raise_contracts(monkeypatch, lambda one, changed=changed: changed if one.name == "responses" else one)
        with pytest.raises(ContractError, match=f"was written under version {known.version} of responses") as refused:
            read_output(lake, OUTPUT)
        assert words in refused.value.found
        assert "cannot be made again" in refused.value.todo
        monkeypatch.undo()
    older = replace(known, version=known.version - 1)
    monkeypatch.setattr(contracts, "contracts", lambda: {"responses": older})
    with pytest.raises(ContractError, match="newer than this affectlake"):
        read_output(lake, OUTPUT)


def test_tables_that_steps_make_stay_strict(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not (published / Output("stimuli").pointer).exists()
    raise_contracts(monkeypatch, lambda known: known)
    with pytest.raises(ContractError, match="not have the schema of stimuli, version 2"):
        read_output(published, Output("stimuli"))
