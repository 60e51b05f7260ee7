"""The Python twin of the command line: a lake as an object. It holds no state but the folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from affectlake.errors import VersionError, nearest
from affectlake.lake import repository
from affectlake.lake.diff import OutputDiff, diff
from affectlake.lake.parts import scan
from affectlake.lake.query import query
from affectlake.lake.versions import Manifest, Version, list_versions, resolve


@dataclass(frozen=True)
class Lake:
    """A lake, read at its versions.

    Parameters
    ----------
    root : pathlib.Path
        Root of the lake.
    """

    root: Path

    def versions(self) -> list[Version]:
        """Return the versions, oldest first."""
        return list_versions(self.root)

    def table(self, name: str, at: str = "") -> pl.LazyFrame:
        """Return a table of a version, opened through its contract and read where the cache keeps it.

        Parameters
        ----------
        name : str
            A table, such as ``"choices"``.
        at : str
            The version; the latest when empty.
        """
        version = resolve(self.root, at)
        manifest = Manifest(self.root, version.commit)
        tables = manifest.tables()
        if name not in tables:
            raise VersionError(
                f"{version.name} has no table {name!r}", allowed=", ".join(tables), todo=nearest(name, tables)
            )
        return scan([file.cached for output in tables[name] for file in manifest.files(output)], name)

    def diff(self, before: str, after: str, table: str = "") -> list[OutputDiff]:
        """Return how the outputs of two versions differ: rows added, removed and changed, by key."""
        return diff(self.root, resolve(self.root, before), resolve(self.root, after), table)

    def sql(self, sql: str, at: str = "") -> duckdb.DuckDBPyRelation:
        """Return the rows of one SELECT over a version's tables; ``table@version`` names another version's."""
        return query(self.root, sql, at)


def open_lake(path: str | Path = ".") -> Lake:
    """Return the lake that `path` is in."""
    return Lake(repository.find(Path(path)))
