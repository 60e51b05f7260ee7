"""A contract as a Great Expectations suite, run part by part. The only module that imports great_expectations.

The suite has the rules that can be checked row by row: not null, bounds, closed sets, patterns, order within a row.
Rules that need other rows or tables are in :mod:`~affectlake.lake.tables.rules`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from affectlake.lake.tables.contracts import Contract
from affectlake.lake.tables.rules import Failure
from affectlake.lake.tables.witnesses import witnesses

if TYPE_CHECKING:
    import pandas as pd

_ONE_AT_A_TIME = threading.Lock()  # a Great Expectations context is process-wide state
_MANY = 10_000
"""Rows above which a part is validated by its witnesses first."""

_NO_BOUND = 1.7976931348623157e308  # with both bounds given, Great Expectations compares in one vectorised step


def suite(table: Contract) -> list[dict[str, Any]]:
    """Return the suite as plain records (``type``, ``kwargs``), in the form in which Great Expectations stores it."""
    found: list[dict[str, Any]] = []
    for column in table.columns:
        name: dict[str, Any] = {"column": column.name}
        if not column.nullable:
            found.append({"type": "expect_column_values_to_not_be_null", "kwargs": name})
        if column.minimum is not None or column.maximum is not None:
            bounds = _bounds(column.minimum, column.maximum)
            found.append({"type": "expect_column_values_to_be_between", "kwargs": name | bounds})
        if column.values:
            values = {"value_set": list(column.values)}
            found.append({"type": "expect_column_values_to_be_in_set", "kwargs": name | values})
        if column.pattern:
            regex = {"regex": column.pattern}
            found.append({"type": "expect_column_values_to_match_regex", "kwargs": name | regex})
    for rule in table.rules:
        if rule.kind == "increasing":
            for low, high in zip(rule.columns, rule.columns[1:], strict=False):
                pair: dict[str, Any] = {"column_A": high, "column_B": low}
                pair |= {"or_equal": True} if rule.equal_where else {}
                found.append({"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": pair})
    return found


def validate(table: Contract, parts: list[Path]) -> list[Failure]:
    """Run the suite over every part, one at a time, so that memory is bounded by the size of a part.

    Every rule runs on every part. In large parts it runs on the rows that decide whether it holds
    (:func:`~affectlake.lake.tables.witnesses.witnesses`), and on all rows if it does not.

    Returns
    -------
    list of Failure
        One per part and expectation that failed, with the count and examples; empty if all pass.
    """
    failures: list[Failure] = []
    for path in parts:
        many = pq.read_metadata(path).num_rows > _MANY
        read = witnesses(path, suite(table)) if many else _read(path, table)
        if not _run(table, read, "BOOLEAN_ONLY").success:
            result = _run(table, _read(path, table) if many else read, "SUMMARY")
            failures += [_failure(table, path, r) for r in result.results if not r.success]
    return failures


def data_docs(table: Contract, part: Path) -> str:
    """Return Great Expectations' Data Docs page (HTML) of the suite run over `part`."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    result = _run(table, _read(part, table), "SUMMARY")
    return str(DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result)))


def _run(table: Contract, rows: pa.Table, result_format: str) -> Any:
    import great_expectations as gx

    frame = _frame(rows)
    with _ONE_AT_A_TIME, _configurations_once():
        batch = _batches().get_batch(batch_parameters={"dataframe": frame})
        records = gx.ExpectationSuite(name=table.name, expectations=suite(table))
        return batch.validate(records, result_format=result_format)


@cache
def _batches() -> Any:
    """Return the batch definition for parts of tables, in a context that lasts as long as the process."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("lake").add_dataframe_asset("part")
    return asset.add_batch_definition_whole_dataframe("part")


@contextmanager
def _configurations_once() -> Iterator[None]:
    """Let each expectation build its configuration once, instead of some forty times.

    Great Expectations serialises an expectation whenever it reads one of its arguments, which takes a fifth of the time
    of a validation. The expectations of a run do not change, and nothing changes a configuration that it was given.
    """
    from great_expectations.expectations.expectation import Expectation

    built: dict[int, tuple[Any, Any]] = {}  # with the expectation, so that its number stays its own
    original = Expectation.configuration

    def configuration(self: Any) -> Any:
        if id(self) not in built:
            built[id(self)] = (self, original.fget(self))
        return built[id(self)][1]

    Expectation.configuration = property(configuration)
    try:
        yield
    finally:
        Expectation.configuration = original


def _bounds(minimum: float | None, maximum: float | None) -> dict[str, float]:
    return {
        "min_value": -_NO_BOUND if minimum is None else minimum,
        "max_value": _NO_BOUND if maximum is None else maximum,
    }


def _read(path: Path, table: Contract) -> pa.Table:
    """Read a part, with text as categories."""
    texts = [c.name for c in table.columns if c.type == "string"]
    return pq.read_table(path, read_dictionary=texts, partitioning=None)


def _frame(rows: pa.Table) -> pd.DataFrame:
    """Convert rows for Great Expectations: numbers as 64-bit (its fast path)."""
    wide = [
        column.cast(pa.float64() if pa.types.is_floating(column.type) else pa.int64())
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        else column
        for column in rows.columns
    ]
    frame: pd.DataFrame = pa.table(wide, names=rows.column_names).to_pandas()
    return frame


def _failure(table: Contract, path: Path, result: Any) -> Failure:
    kwargs = {k: v for k, v in result.expectation_config.kwargs.items() if k != "batch_id"}
    columns = [kwargs.pop(k) for k in ("column", "column_A", "column_B") if k in kwargs]
    detail = ", ".join(f"{k} {v}" for k, v in kwargs.items() if _worth_showing(v))
    caught = [info for info in [result.exception_info] if info and info.get("raised_exception")]
    return Failure(
        table=table.name,
        part=path.name,
        columns=tuple(columns),
        rule=result.expectation_config.type.removeprefix("expect_") + (f" ({detail})" if detail else ""),
        n_failed=int(result.result.get("unexpected_count", 0)),
        examples=tuple(str(v) for v in result.result.get("partial_unexpected_list", [])[:5])
        or tuple(str(info.get("exception_message")) for info in caught),
    )


def _worth_showing(value: object) -> bool:
    return not (isinstance(value, float) and abs(value) >= _NO_BOUND)
