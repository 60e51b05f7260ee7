"""Contracts of tables, read from ``schemas/``: columns, key, references and rules. No data is opened here.

A contract is the single definition from which the Arrow schema, the Great Expectations suite
(:mod:`~affectlake.lake.tables.expectations`), the cross-row rules (:mod:`~affectlake.lake.tables.rules`), the data
dictionary and the tiny valid tables of the tests are derived.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import yaml

from affectlake.errors import ContractError, UsageError, nearest

if TYPE_CHECKING:  # imported late: reading a lake does without it
    import pyarrow as pa

RuleKind = Literal["unique", "counts_up", "within", "same_length", "increasing", "one_of", "different"]

TYPES = ("string", "bool", "binary", "int8", "int16", "int32", "int64", "float32", "float64", "list<float32>")
"""Names of the types of columns, as Arrow writes them."""


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, unit, meaning and legal values."""

    name: str
    type: str
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    pattern: str = ""
    nullable: bool = False

    @property
    def arrow_type(self) -> pa.DataType:
        import pyarrow as pa

        if self.type == "list<float32>":
            return pa.list_(pa.float32())
        return pa.type_for_alias(self.type)


@dataclass(frozen=True)
class Where:
    """Some rows of a table: those in which `column` equals `equals`."""

    column: str
    equals: str


@dataclass(frozen=True)
class Rule:
    """A rule beyond one column's type and bounds.

    ``unique``: no two rows (of `where`, if given) agree on `columns`. ``counts_up``: `column` is 0, 1, 2, ….
    ``within``: `column` lies between the two `columns` in the row of `table` with the same `of`. ``same_length``: the
    lists in `column` are equally long.
    ``increasing``: `columns` rise strictly within a row; neighbours may be equal in the rows of `equal_where`.
    ``one_of``: `column` equals one of `columns` in its row. ``different``: no two of `columns` are equal in a row.
    """

    kind: RuleKind
    column: str = ""
    columns: tuple[str, ...] = ()
    where: Where | None = None
    of: str = ""
    table: str = ""
    equal_where: Where | None = None


@dataclass(frozen=True)
class Reference:
    """A foreign key: every value of `columns` is in the columns `to` of `table`.

    A partition that has a table `instead` refers to that one in place of `table`.
    """

    columns: tuple[str, ...]
    table: str
    to: tuple[str, ...]
    instead: str = ""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of which one is referred to, the one that takes precedence first."""
        return (self.instead, self.table) if self.instead else (self.table,)


@dataclass(frozen=True)
class Contract:
    """One table: what a row is, its columns in order, the key that identifies a row, and its rules."""

    name: str
    version: int
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partition: str = ""
    references: tuple[Reference, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; its metadata names the table and the contract's version."""
        import pyarrow as pa

        fields = [pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in self.columns]
        return pa.schema(fields, metadata={"affectlake.table": self.name, "affectlake.version": str(self.version)})

    def column(self, name: str) -> Column:
        """Return the column called `name`."""
        return next(c for c in self.columns if c.name == name)


@cache
def contracts() -> dict[str, Contract]:
    """Return every table's contract by name, sorted by name."""
    fields = _parsed("fields.yaml")
    folder = files("affectlake.schemas").joinpath("tables")
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    found = {name: _contract(name, _parsed(f"tables/{name}.yaml"), fields) for name in names}
    for contract in found.values():
        for reference in contract.references:
            for name in reference.tables:
                if name not in found:
                    raise ContractError(f"{contract.name} refers to {name!r}, which is not a table")
    return found


def contract(table: str) -> Contract:
    """Return the contract of `table`; raise :class:`UsageError` with the nearest name if it is unknown."""
    known = contracts()
    if table not in known:
        raise UsageError(
            f"there is no table {table!r}", found=table, allowed=", ".join(known), todo=nearest(table, known)
        )
    return known[table]


def _parsed(path: str) -> dict[str, Any]:
    text = files("affectlake.schemas").joinpath(path).read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)  # the loader in Python takes half a second
    return found


def _contract(name: str, raw: dict[str, Any], fields: dict[str, Any]) -> Contract:
    unknown = set(raw) - {"version", "grain", "key", "columns", "nullable", "partition", "references", "rules"}
    undefined = [c for c in raw["columns"] if c not in fields]
    if unknown or undefined:
        raise ContractError(
            f"schemas/tables/{name}.yaml cannot be read", found=", ".join([*sorted(unknown), *undefined])
        )
    nullable = set(raw.get("nullable", ()))
    return Contract(
        name=name,
        version=int(raw["version"]),
        grain=raw["grain"],
        key=tuple(raw["key"]),
        columns=tuple(_column(c, fields[c], nullable=c in nullable) for c in raw["columns"]),
        partition=raw.get("partition", ""),
        references=tuple(_reference(r) for r in raw.get("references", ())),
        rules=tuple(_rule(r) for r in raw.get("rules", ())),
    )


def _column(name: str, raw: dict[str, Any], *, nullable: bool) -> Column:
    if raw["type"] not in TYPES:
        raise ContractError(f"schemas/fields.yaml: {name} has no Arrow type {raw['type']!r}", allowed=", ".join(TYPES))
    pattern = raw.get("pattern", "")
    re.compile(pattern)
    return Column(
        name=name,
        type=raw["type"],
        meaning=raw["meaning"],
        unit=raw.get("unit", ""),
        minimum=raw.get("min"),
        maximum=raw.get("max"),
        values=tuple(raw.get("values", ())),
        pattern=pattern,
        nullable=nullable,
    )


def _reference(raw: dict[str, Any]) -> Reference:
    to = raw.get("to", raw["columns"])
    return Reference(
        tuple(raw["columns"]), raw["table"], (to,) if isinstance(to, str) else tuple(to), raw.get("or", "")
    )


def _rule(raw: dict[str, Any]) -> Rule:
    where, equal_where = (Where(**raw[key]) if key in raw else None for key in ("where", "equal_where"))
    return Rule(
        kind=raw["kind"],
        column=raw.get("column", ""),
        columns=tuple(raw.get("columns", ())),
        where=where,
        of=raw.get("of", ""),
        table=raw.get("table", ""),
        equal_where=equal_where,
    )
