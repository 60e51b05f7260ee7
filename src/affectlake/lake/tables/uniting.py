"""One schema for files of one table that were written under different contracts: columns are matched by name.

Types are names in the engine that reads the files. No file is opened here, and the module is quick to import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from affectlake.errors import VersionError


class Widths(NamedTuple):
    """An engine's types for integers and for floating-point numbers, from narrow to wide."""

    whole: tuple[str, ...]
    floating: tuple[str, ...]


POLARS = Widths(("Int8", "Int16", "Int32", "Int64"), ("Float32", "Float64"))
DUCKDB = Widths(("TINYINT", "SMALLINT", "INTEGER", "BIGINT"), ("FLOAT", "DOUBLE"))


def wider(one: str, other: str, widths: Widths) -> str | None:
    """Return a type that can hold every value of both types; None if there is no such type."""
    if one == other:
        return one
    # a floating-point number has 24 or 53 binary digits: it can hold 16 or 32 bits exactly
    mixed = ((*widths.whole[:2], *widths.floating), (*widths.whole[:3], widths.floating[-1]))
    fitting = [line for line in (*widths, *mixed) if one in line and other in line]
    return max(one, other, key=fitting[0].index) if fitting else None


def unite(schemas: Sequence[tuple[str, Mapping[str, str]]], widths: Widths) -> dict[str, str]:
    """Return columns for the rows of all files, in the order of the file with the most columns.

    Parameters
    ----------
    schemas : sequence of (str, mapping of str to str)
        Each file's name in messages, and its types by column.
    widths : Widths
        The engine's types for numbers.

    Raises
    ------
    VersionError
        If a column has types in two files that have no common type.
    """
    found: dict[str, tuple[str, str]] = {}
    for file, types in sorted(schemas, key=lambda one: -len(one[1])):
        for column, kind in types.items():
            known, first = found.setdefault(column, (kind, file))
            both = wider(known, kind, widths)
            if both is None:
                raise VersionError(
                    f"column {column} has types that cannot be united",
                    found=f"{known} in {first}, {kind} in {file}",
                    todo="read the version that has only one of these files: `affectlake versions` lists them",
                )
            found[column] = both, first
    return {column: kind for column, (kind, _) in found.items()}
