"""Contracts: every table is defined once, the dictionary is current, tiny tables are valid, broken ones are caught."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from affectlake.errors import ContractError, UsageError
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables import dictionary, expectations, factory, parts, rules, writing
from affectlake.lake.tables.contracts import contract, contracts
from affectlake.lake.tables.row_faults import row_faults
from tests.support.lakes import ROOT


@pytest.fixture(scope="module")
def tiny() -> dict[str, pl.DataFrame]:
    return factory.tiny_lake()


def lazy(tables: dict[str, pl.DataFrame]) -> dict[str, pl.LazyFrame]:
    return {name: frame.lazy() for name, frame in tables.items()}


def broken_by(table: str, frame: pl.DataFrame, tiny: dict[str, pl.DataFrame], folder: Path) -> list[rules.Failure]:
    paths = parts.write_parts(frame, contract(table), folder / "new")
    return expectations.validate(contract(table), paths) + rules.check(contract(table), paths, lazy(tiny))


def test_every_table_has_a_factory() -> None:
    assert set(factory.tiny_lake()) == set(contracts()), "add rows to src/affectlake/lake/tables/factory.py"


def test_no_field_is_defined_twice() -> None:
    """YAML would take the second definition for both tables."""
    lines = (ROOT / "schemas/fields.yaml").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[0] for line in lines if line[:1].isalpha()]
    assert sorted(names) == sorted(set(names))


def test_every_field_is_used() -> None:
    import yaml

    used = {column.name for table in contracts().values() for column in table.columns}
    assert set(yaml.safe_load((ROOT / "schemas/fields.yaml").read_text())) == used


def test_dictionary_is_current() -> None:
    assert (ROOT / "docs/tables.md").read_text(encoding="utf-8") == dictionary.render(), "stale: run `make docs`"


@pytest.mark.parametrize("table", list(contracts()))
def test_tiny_tables_are_valid(table: str, tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    assert broken_by(table, tiny[table], tiny, tmp_path) == []


@pytest.mark.parametrize("table", list(contracts()))
def test_round_trip_and_same_bytes_twice(table: str, tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    shuffled = tiny[table].sample(fraction=1.0, shuffle=True, seed=3)
    first = parts.write_parts(tiny[table], contract(table), tmp_path / "a")
    second = parts.write_parts(shuffled, contract(table), tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert parts.scan(first, table).collect().equals(tiny[table])
    assert pq.read_schema(first[0]).metadata[b"affectlake.table"] == table.encode()


def test_parts_are_bounded_and_ordered(
    monkeypatch: pytest.MonkeyPatch, tiny: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "ROWS_PER_PART", 50)
    paths = parts.write_parts(tiny["choices"], contract("choices"), tmp_path / "choices")
    assert [pq.read_metadata(p).num_rows for p in paths] == [50, 50, 50, 50, 20]
    assert rules.check(contract("choices"), paths, lazy(tiny)) == []
    assert pl.concat([pl.read_parquet(p) for p in paths]).equals(tiny["choices"])


def test_a_key_that_repeats_across_parts_is_found(
    monkeypatch: pytest.MonkeyPatch, tiny: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "ROWS_PER_PART", 50)
    twice = pl.concat([tiny["choices"], tiny["choices"].slice(49, 1)]).sort(contract("choices").key)
    failures = broken_by("choices", twice, tiny, tmp_path)
    assert [(f.part, f.n_failed) for f in failures] == [("part-00001.parquet", 1)]
    assert "unique key" in failures[0].rule


BROKEN = {
    "null": ("stimuli", pl.lit(None).alias("stimulus_id"), "not_be_null"),
    "bound": ("choices", (pl.col("repeat") - 1).alias("repeat"), "between"),
    "set": ("triplets", pl.lit("practice").alias("split"), "in_set"),
    "pattern": ("stimuli", pl.lit(" ").alias("stimulus_id"), "regex"),
    "order in a row": ("triplets", pl.col("i").alias("j"), "greater_than"),
    "bounds of another table": ("ratings", pl.lit(9.5).alias("score"), "within"),
    "odd one of three": ("choices", pl.lit(11).cast(pl.Int32).alias("odd"), "one_of"),
    "winner that is the head": ("anchored_choices", pl.col("head").alias("winner"), "different"),
    "winner of another triplet": ("anchored_choices", pl.lit(11).cast(pl.Int32).alias("winner"), "one_of"),
    "a stimulus twice": ("responses", pl.col("j").alias("i"), "increasing"),
    "falling order in a catch trial": (
        "responses",
        [pl.lit(value=True).alias("is_catch"), pl.lit(2).cast(pl.Int32).alias("i"), pl.lit(None).alias("shown_1")],
        "greater_than",
    ),
    "triplet not in triplets": ("unparsed", pl.lit("validation").alias("trial_set"), "reference to triplets"),
    "stimulus not in stimuli": (
        "captions",
        (pl.col("stimulus_index") + 5).alias("stimulus_index"),
        "reference to stimuli",
    ),
    "duplicate id": ("stimuli", pl.lit("same").alias("stimulus_id"), "unique"),
    "gap in the index": ("stimuli", (pl.col("stimulus_index") * 2).alias("stimulus_index"), "counts_up"),
    "answered twice": ("choices", pl.lit(0).cast(pl.Int32).alias("i"), "unique key"),
    "ragged vectors": (
        "features",
        pl.when(pl.col("stimulus_index") == 1).then(pl.col("vector").list.head(1)).otherwise("vector").alias("vector"),
        "same_length",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_rule_is_named(case: str, tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    table, change, rule = BROKEN[case]
    failures = broken_by(table, tiny[table].with_columns(change), tiny, tmp_path)
    assert any(rule in failure.rule for failure in failures), [str(f) for f in failures]
    assert all(failure.n_failed > 0 for failure in failures)


def test_a_catch_trial_may_show_a_stimulus_twice(tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    twice = tiny["responses"].with_columns(
        j=pl.col("i"), is_catch=pl.lit(value=True), shown_1="i", shown_2="i", shown_3="k"
    )
    assert broken_by("responses", twice, tiny, tmp_path) == []
    assert row_faults(twice, contract("responses")) == [None] * 3
    assert row_faults(twice.with_columns(is_catch=None), contract("responses")) == ["i, j, k do not rise"] * 3


@pytest.mark.parametrize("has_own", [True, False])
def test_choices_refer_to_the_agent_s_own_trials_or_to_those_of_the_study(
    has_own: bool, tiny: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    some = tiny["trials"].head(3)
    known = tiny | {"trials": some} if has_own else {name: frame for name, frame in tiny.items() if name != "trials"}
    failures = broken_by("choices", tiny["choices"], known, tmp_path)
    if has_own:
        (failure,) = failures
        assert (failure.rule, failure.n_failed) == ("reference to trials", tiny["choices"].height - 3)
    else:
        assert failures == []
        failures = broken_by(
            "choices", tiny["choices"].with_columns(trial_set=pl.lit("validation")), known, tmp_path / "other"
        )
        assert [failure.rule for failure in failures] == ["reference to triplets"]


def test_one_fit_stands_for_an_agent(tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    two = pl.concat([tiny["fits"].with_columns(seed=pl.lit(seed, pl.Int32)) for seed in (0, 1)])
    one = two.with_columns(representative=pl.col("seed") == 1)
    assert broken_by("fits", one, tiny, tmp_path / "one") == []
    (failure,) = broken_by("fits", two, tiny, tmp_path / "two")
    assert (failure.rule, failure.columns, failure.n_failed) == ("unique", ("agent",), 2)


def test_configurations_that_are_built_once_change_no_result(
    tiny: dict[str, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of broken tables are those of Great Expectations as it is."""
    broken = {
        "ratings": tiny["ratings"].with_columns(stimulus_index=pl.lit(-9, pl.Int32)),
        "triplets": tiny["triplets"].with_columns(i=pl.lit(None, pl.Int32), j=pl.lit(-7, pl.Int32)),
    }
    for name, frame in broken.items():
        (part,) = parts.write_parts(frame, contract(name), tmp_path / name)
        read = expectations._read(part, contract(name))
        results = [expectations._run(contract(name), read, "SUMMARY").to_json_dict() for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(expectations, "_configurations_once", nullcontext)
            results.append(expectations._run(contract(name), read, "SUMMARY").to_json_dict())
        for one in results:
            del one["meta"]  # the time
        assert results[0] == results[1] == results[2]
        assert not results[0]["success"]


def test_what_fails_goes_to_quarantine(tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    good = {Output("choices", "tiny"): tiny["choices"]}
    writing.write_outputs(tmp_path, "choose", good, lazy(tiny))
    before = (tmp_path / "storage/tables/choices/tiny/part-00000.parquet").read_bytes()
    bad = {Output("choices", "tiny"): tiny["choices"].with_columns(odd=pl.lit(99).cast(pl.Int32))}
    with pytest.raises(ContractError, match="choices breaks its contract") as caught:
        writing.write_outputs(tmp_path, "choose", bad, lazy(tiny))
    assert (tmp_path / "storage/tables/choices/tiny/part-00000.parquet").read_bytes() == before
    (place,) = (tmp_path / "storage/quarantine").iterdir()
    assert str(place.relative_to(tmp_path)) in str(caught.value)
    account = (place / "account.md").read_text()
    assert "one_of" in account and "220" in account and "99" in account
    assert "expect" in (place / "data-docs-choices.html").read_text().lower()
    assert pl.read_parquet(place / "choices/tiny/part-00000.parquet").height == 220
    assert not (tmp_path / "storage/staging/choose").exists()


def test_one_bad_output_keeps_all_of_a_step_back(tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    captions = tiny["captions"].with_columns(caption=pl.lit(" "))
    both = {Output("stimuli"): tiny["stimuli"], Output("captions"): captions}
    with pytest.raises(ContractError):
        writing.write_outputs(tmp_path, "ingest", both, {})
    assert not (tmp_path / "storage/tables").exists()


def test_a_truncated_part_is_one_message(tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    (path,) = parts.write_parts(tiny["triplets"], contract("triplets"), tmp_path / "t")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ContractError, match="not a complete Parquet file"):
        parts.scan([path], "triplets")


def test_a_part_of_another_table_is_refused(tiny: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    paths = parts.write_parts(tiny["stimuli"], contract("stimuli"), tmp_path / "s")
    with pytest.raises(ContractError, match="not have the schema of captions"):
        parts.scan(paths, "captions")


def test_missing_and_unknown_columns_are_named(tiny: dict[str, pl.DataFrame]) -> None:
    with pytest.raises(ContractError, match="the columns of its contract"):
        parts.as_arrow(tiny["stimuli"].drop("category"), contract("stimuli"))


def test_an_unknown_table_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="choices"):
        contract("choises")
