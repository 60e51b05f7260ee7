"""Views of a version's tables in a DuckDB file, for DuckDB's own programs, DBeaver and R. The file has no rows.

Its views read the cache of the lake, by absolute paths: write it again after the lake was moved, or for a newer
version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from affectlake.errors import LakeError, UsageError
from affectlake.lake.files.git import git_path
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import Manifest, Version
from affectlake.lake.tables.contracts import contracts
from affectlake.lake.tables.views import in_quotes, pattern_of, quoted_texts, unite_sql

FILE = "lake.duckdb"


def write_views(root: Path, version: Version, target: Path | None = None) -> Path:
    """Write a DuckDB file with a view of each table of a version, and return its path.

    Parameters
    ----------
    root : Path
        Root of the lake.
    version : Version
        The version.
    target : Path, optional
        Path of the file, which ends in ``.duckdb``; by default ``lake.duckdb`` in the lake, which Git then ignores. A
        file that this function wrote before is replaced.

    Raises
    ------
    UsageError
        If the path does not end in ``.duckdb``, or has a file with tables of its own.
    LakeError
        If the file is open in another program.
    """
    path = target or root / FILE
    if path.suffix != ".duckdb":
        raise UsageError(f"{path.name} does not end in .duckdb", todo=f"name it {path.stem or 'lake'}.duckdb")
    if path.exists():
        _refuse_own_tables(path)
    manifest, known = Manifest(root, version.commit), contracts()
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}-") as folder:
        aside = Path(folder) / path.name
        with duckdb.connect(str(aside)) as connection:
            for table, outputs in manifest.tables().items():
                files = whole_files(manifest, *outputs)
                name = in_quotes(table)
                connection.execute(f"CREATE VIEW {name} AS {unite_sql(connection, files)}")
                grain = f": {known[table].grain}" if table in known else ""
                connection.execute(f"COMMENT ON VIEW {name} IS {_text(f'{version.name} of the lake{grain}')}")
        aside.replace(path)
    if target is None:
        _ignore(root)
    return path


def view_sql(tables: Mapping[str, Sequence[str]]) -> str:
    """Return statements that make a view of each table of its Parquet files, by relative paths."""
    return "".join(
        f"CREATE OR REPLACE VIEW {in_quotes(table)} AS SELECT * FROM read_parquet("
        f"{quoted_texts([pattern_of(path) for path in paths])}, union_by_name=true, hive_partitioning=false);\n"
        for table, paths in tables.items()
    )


def _refuse_own_tables(path: Path) -> None:
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            own = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall()
    except duckdb.Error as error:
        raise LakeError(
            f"{path} cannot be replaced",
            found=str(error).splitlines()[0],
            todo="close the program that has it open, or choose another path with --output",
        ) from error
    if own:
        raise UsageError(f"{path} has tables of its own", found=own[0][0], todo="choose another path with --output")


def _ignore(root: Path) -> None:
    """Let Git ignore the file in this clone; ``.gitignore`` belongs to versions, and is not changed."""
    path = git_path(root, "info/exclude")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if FILE not in lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, FILE]) + "\n", encoding="utf-8")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
