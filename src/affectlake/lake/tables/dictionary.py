"""The data dictionary, ``docs/tables.md``, generated from the contracts."""

from __future__ import annotations

from collections.abc import Sequence

from affectlake.lake.tables.contracts import Column, Contract, Rule, contracts
from affectlake.lake.tables.derived import DERIVED


def render() -> str:
    """Return the data dictionary of every table and view as Markdown."""
    lines = [
        "# Tables",
        "",
        "Generated from `schemas/` by `make docs`; edit those files, not this page.",
        "",
    ]
    for table in contracts().values():
        lines += _table(table)
    lines += [
        "# Views",
        "",
        "Queries may also use these. They are computed from the tables of the same version and are not stored.",
        "",
    ]
    for name, view in DERIVED.items():
        lines += [f"## {name}", "", f"{view.grain[0].upper()}{view.grain[1:]}. Of {' and '.join(view.tables)}.", ""]
        lines += ["| column | meaning |", "|---|---|"]
        lines += [*(f"| `{column}` | {meaning} |" for column, meaning in view.columns.items()), ""]
    return "\n".join(lines)


def render_tables(names: Sequence[str]) -> str:
    """Return the data dictionary of these tables as Markdown, for readers without this repository."""
    lines = ["# Data dictionary", ""]
    for name in names:
        lines += _table(contracts()[name])
    return "\n".join(lines)


def _table(table: Contract) -> list[str]:
    lines = [f"## {table.name}", "", f"{table.grain[0].upper()}{table.grain[1:]}. Contract version {table.version}."]
    lines += ["", f"Key: `{'`, `'.join(table.key)}`."]
    if table.partition:
        lines += ["", f"One folder of parts per `{table.partition}`."]
    lines += ["", "| column | type | unit | values | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{c.name}` | {c.type}{', may be null' if c.nullable else ''} | {c.unit} | {_values(c)} | {c.meaning} |"
        for c in table.columns
    ]
    held = [
        f"- `{'`, `'.join(r.columns)}` must exist in `{'`, or else in `'.join(r.tables)}`" for r in table.references
    ]
    held += [f"- {_rule(rule)}" for rule in table.rules]
    return [*lines, "", *(["Rules:", "", *held, ""] if held else [])]


def _values(column: Column) -> str:
    if column.values:
        return ", ".join(f"`{v}`" for v in column.values)
    if column.pattern:
        return f"`{column.pattern}`".replace("|", "\\|")
    low = "" if column.minimum is None else f"≥ {column.minimum:g}"
    high = "" if column.maximum is None else f"≤ {column.maximum:g}"
    return ", ".join(filter(None, (low, high)))


def _rule(rule: Rule) -> str:
    columns = ", ".join(f"`{c}`" for c in rule.columns)
    where = f" where `{rule.where.column}` is `{rule.where.equals}`" if rule.where else ""
    equal = rule.equal_where
    but = f"; where `{equal.column}` is `{equal.equals}`, neighbours may be equal" if equal else ""
    return {
        "unique": f"{columns} {'is' if len(rule.columns) == 1 else 'together are'} unique{where}",
        "counts_up": f"`{rule.column}` counts 0, 1, 2, …",
        "within": f"`{rule.column}` is between {' and '.join(f'`{c}`' for c in rule.columns)} of its `{rule.of}` in "
        f"`{rule.table}`",
        "same_length": f"the lists in `{rule.column}` have equal lengths",
        "increasing": f"{columns} increase strictly within a row{but}",
        "one_of": f"`{rule.column}` is equal to one of {columns} in its row",
        "different": f"{columns} are different in each row",
    }[rule.kind]
