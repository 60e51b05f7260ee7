"""Tables as text, against rich's own."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from affectlake.process.text_table import text_table

CELL = st.text(st.sampled_from("ab1 .,[]{}°…é日本語ü😀─"), max_size=8).map(str.strip)


def by_rich(heads: list[str], rows: list[list[str]], right: list[int]) -> str:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for at, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if at in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=1000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


@pytest.mark.reference
@given(st.data(), st.integers(1, 4))
def test_columns_are_rich_s(data: st.DataObject, n: int) -> None:
    rows = data.draw(st.lists(st.lists(CELL, min_size=n, max_size=n), max_size=5))
    heads = [f"column {at}" for at in range(n)]
    right = data.draw(st.lists(st.integers(0, n - 1)))
    assert text_table([heads], rows, right) == by_rich(heads, rows, right)


def test_wide_characters_take_two_places() -> None:
    lines = text_table([["name", "n"], ["VARCHAR", "INTEGER"]], [["喜び", "5"], ["joy", "12"]], [1], rule=True)
    assert lines.splitlines() == [
        "name           n",
        "VARCHAR  INTEGER",
        "───────  ───────",
        "喜び           5",
        "joy           12",
    ]
    assert {cell_len(line) for line in lines.splitlines()} == {16}


def test_a_table_without_rows_has_its_heads() -> None:
    assert text_table([["a", "bb"]], []) == "a  bb"
