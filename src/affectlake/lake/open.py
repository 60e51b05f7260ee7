"""The Python interface to a lake, with the functions of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TypeVar
from zipfile import is_zipfile

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import VersionError, nearest
from affectlake.extras import require_package
from affectlake.lake.browsing import (
    ColumnFacts,
    StimulusFacts,
    TableFacts,
    columns_of,
    embedding_of,
    rsm_of,
    stimulus_of,
    table_of,
    tables_of,
)
from affectlake.lake.diff import OutputDiff, diff
from affectlake.lake.files.outputs import Output
from affectlake.lake.query import Params, frame, query
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.root import find
from affectlake.lake.store.versions import Manifest, Version, list_versions, resolve
from affectlake.lake.tables.memmaps import map_lists
from affectlake.process.text_table import text_table

T = TypeVar("T")
_PARTS_SHOWN = 2


class Listing(list[T]):
    """Rows of one kind, shown as a table: what :meth:`Lake.versions` and :meth:`Lake.diff` return.

    Parameters
    ----------
    rows : sequence
        The rows, named tuples.
    columns : tuple of str
        Which of their fields are shown.
    """

    def __init__(self, rows: Sequence[T], columns: tuple[str, ...]) -> None:
        super().__init__(rows)
        self.columns = columns

    def _cells(self) -> list[list[str]]:
        return [[_cell(getattr(row, column)) for column in self.columns] for row in self]

    def __repr__(self) -> str:
        return text_table([self.columns], self._cells())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in self._cells())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    parts = str(value).split("; ")  # of a version's changes, as many as fit on a line; `changes` has all
    more = [f"and {len(parts) - _PARTS_SHOWN} more"] if len(parts) > _PARTS_SHOWN else []
    return "; ".join(parts[:_PARTS_SHOWN] + more)


@dataclass(frozen=True, repr=False)
class Lake:
    """A lake, and read access to its versions.

    Parameters
    ----------
    root : pathlib.Path
        Root of the lake.
    """

    root: Path

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r})\n{self.versions()!r}"

    def _repr_html_(self) -> str:
        return f"<p>Lake <code>{escape(str(self.root))}</code></p>{self.versions()._repr_html_()}"

    def versions(self) -> Listing[Version]:
        """Return the versions, oldest first."""
        return Listing(list_versions(self.root), ("name", "created", "author", "changes"))

    def table(self, name: str, at: str | Version = "") -> pl.LazyFrame:
        """Return a table of a version, read where the cache keeps it, as it was published.

        Today's contract is not checked. Columns that only some of its files have are null in the rows of the others.

        Parameters
        ----------
        name : str
            A table, such as ``"choices"``.
        at : str or Version
            The version; the latest if empty.
        """
        return table_of(self.root, resolve(self.root, at), name)

    def tables(self, at: str | Version = "") -> Listing[TableFacts]:
        """Return the tables of a version: rows, partitions, and what a row is."""
        return Listing(tables_of(self.root, resolve(self.root, at)), TableFacts._fields)

    def describe(self, table: str, at: str | Version = "") -> Listing[ColumnFacts]:
        """Return the columns of a table of a version: type, unit and meaning."""
        return Listing(columns_of(self.root, resolve(self.root, at), table), ColumnFacts._fields)

    def embedding(self, agent: str, at: str | Version = "", seed: int | None = None) -> NDArray[np.float32]:
        """Return an agent's embedding.

        Parameters
        ----------
        agent : str
            The agent.
        at : str or Version
            The version; the latest if empty.
        seed : int, optional
            Seed of the fit; by default, the representative fit.

        Returns
        -------
        float32 (n_stimuli, n_dimensions)
            Rows in the order of ``stimulus_index``, dimensions by decreasing sum of weights.
        """
        return embedding_of(self.root, resolve(self.root, at), agent, seed)

    def rsm(self, agent: str, at: str | Version = "", seed: int | None = None) -> NDArray[np.float64]:
        """Return Pearson's correlation of the embeddings of every pair of stimuli, (n_stimuli, n_stimuli).

        Parameters as for :meth:`embedding`. The row and the column of a stimulus whose weights are all equal are NaN.
        """
        return rsm_of(self.root, resolve(self.root, at), agent, seed)

    def stimulus(self, stimulus: str | int, at: str | Version = "") -> StimulusFacts:
        """Return a stimulus's category, captions and ratings, by its id or its ``stimulus_index``."""
        return stimulus_of(self.root, resolve(self.root, at), stimulus)

    def patterns(self, subject: str, at: str = "") -> NDArray[np.float32]:
        """Return a subject's brain patterns of a version as a memory-mapped array.

        Parameters
        ----------
        subject : str
            A subject in the tables ``voxels`` and ``betas``.
        at : str
            The version; the latest if empty.

        Returns
        -------
        float32 (n_stimuli, n_voxels)
            Read-only. Rows are the subject's rows of ``betas`` in order of ``stimulus_index``, columns its rows of
            ``voxels`` in order of ``voxel_index``.

        Raises
        ------
        ExtraError
            If pyarrow, of the extra `study`, is not installed.
        """
        require_package("pyarrow", "lake.patterns")
        version = resolve(self.root, at)
        manifest, betas = Manifest(self.root, version.commit), Output("betas")
        table = self.table("betas", version)
        columns = table.collect_schema().names()
        missing = [name for name in ("subject", "pattern") if name not in columns]
        if missing:
            raise VersionError(
                f"the table betas of {version.name} has no column {missing[0]!r}",
                found=", ".join(columns),
                todo=f"read the table with lake.table('betas', '{version.name}')",
            )
        known = table.select(pl.col("subject").unique().sort()).collect()["subject"].to_list()
        if subject not in known:
            raise VersionError(
                f"{version.name} has no subject {subject!r}", allowed=", ".join(known), todo=nearest(subject, known)
            )
        parts = [file.cached for file in whole_files(manifest, betas)]
        return map_lists(self.root, parts, "pattern", "subject", subject, manifest.digests[betas])

    def diff(self, before: str, after: str, table: str = "") -> Listing[OutputDiff]:
        """Return how the outputs of two versions differ: rows added, removed and changed, by key."""
        found = diff(self.root, resolve(self.root, before), resolve(self.root, after), table)
        return Listing(found, OutputDiff._fields)

    def sql(self, sql: str, at: str = "", params: Params = None) -> duckdb.DuckDBPyRelation:
        """Return the rows of one SELECT over a version's tables; ``table@version`` names another version's.

        Parameters
        ----------
        sql : str
            The SELECT.
        at : str
            The version of tables without ``@version``; the latest if empty.
        params : dict or sequence, optional
            Values of the parameters in it: by name, for ``$name``, or in order, for ``?``.

        Returns
        -------
        duckdb.DuckDBPyRelation
            The rows, not computed yet: ``.fetchall()`` makes a list of them, and, if pyarrow is installed (with the
            extra `study`), ``.pl()`` a Polars frame, ``.df()`` a pandas frame, ``.arrow()`` an Arrow table.
            :meth:`frame` needs no extra.
        """
        return query(self.root, sql, at, params=params)

    def frame(self, sql: str, at: str = "", params: Params = None) -> pl.DataFrame:
        """Return the rows of one SELECT, as :meth:`sql` does, as a Polars frame."""
        return frame(query(self.root, sql, at, params=params))


def open_lake(path: str | Path = ".") -> Lake:
    """Return the lake that `path` is in; for a file of ``affectlake archive``, a temporary lake with its version."""
    place = Path(path)
    if place.is_file() and is_zipfile(place):
        from affectlake.lake.archived import temporary_lake  # late: it makes a lake, which reading one does not need

        return Lake(temporary_lake(place))
    return Lake(find(place))
