"""A file of the user, and the cells of a table in it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import SourceError, nearest


class UserFile(NamedTuple):
    """A file of the user.

    Attributes
    ----------
    path : pathlib.Path
        Path of the file.
    what : str
        Its name in messages, such as ``ratings file``.
    setting : str
        What names the file: a key of ``params.yaml``, such as ``sources.ratings``, or an argument of a command.
    """

    path: Path
    what: str
    setting: str

    @property
    def name(self) -> str:
        """Its name and path for messages."""
        return f"{self.what} {self.path}"

    @property
    def another(self) -> str:
        """What to do if the file cannot be used."""
        return f"correct the file, or set {self.setting} to another one"


@dataclass(frozen=True)
class UserTable:
    """The cells of a file.

    Parameters
    ----------
    file : UserFile
    frame : polars.DataFrame
        One text column for each named column of the file; an empty cell is null. Rows without any cell are left out.
    rows : polars.Series
        Number of each row in the file: the first row after the header is 1.
    notes : tuple of str
        What was done beyond plain reading, such as ``read with semicolons between cells``.
    repeated : frozenset of str
        Names that several columns have; `frame` has the first of them.
    separator : str
        What separates the cells; empty for Parquet and Excel.
    """

    file: UserFile
    frame: pl.DataFrame
    rows: pl.Series
    notes: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()
    separator: str = ""

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the order of the file."""
        return self.frame.columns

    def require(self, columns: Sequence[str], *, first_of_repeated: bool = False) -> pl.DataFrame:
        """Return `columns`, in this order.

        Parameters
        ----------
        columns : sequence of str
            Names of columns.
        first_of_repeated : bool, default=False
            Whether to use the first of several columns of a name, rather than to refuse them.

        Raises
        ------
        SourceError
            If the file lacks a column, or has several of a name.
        """
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise self._missing(missing, [name for name in self.columns if name not in columns])
        twice = [] if first_of_repeated else [name for name in columns if name in self.repeated]
        if twice:
            raise SourceError(
                f"the {self.file.name} has several columns of the same name",
                wanted="one column for each name",
                found=", ".join(map(repr, twice)),
                todo="rename or remove the further columns",
            )
        return self.frame.select(columns)

    def _missing(self, missing: list[str], others: list[str]) -> SourceError:
        close = [f"{name}: {hint}" for name in missing[:5] if (hint := nearest(name, others))]
        shown = ", ".join(repr(name[:30]) for name in others[:12]) + (", …" if len(others) > 12 else "")
        return SourceError(
            f"the {self.file.name} lacks {len(missing)} column{'s' if len(missing) > 1 else ''}",
            wanted=", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""),
            found="; ".join(close) or (f"columns {shown}" if others else "no other columns"),
            todo=f"rename the columns in the file, or correct {self.file.setting}",
        )


def clean(text: str) -> str:
    """Return a name or id without surrounding white space, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text.strip().strip("\ufeff"))
