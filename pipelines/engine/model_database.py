"""New databases of model runs: copies of an empty one.

MLflow makes a database by running all migrations since its first release, which takes two seconds. An empty database is
therefore kept in the user's cache folder, for each version of MLflow, and copied into new lakes.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from affectlake.process.user_cache import user_cache

_EMPTY = "empty.db"


def place(database: Path) -> None:
    """Copy an empty database to `database`; if that is not possible, MLflow makes one at its first use."""
    try:
        empty = _empty()
        if empty is not None:
            _copy(empty, database)
    except (OSError, sqlite3.Error):
        return


def _empty() -> Path | None:
    """Return the empty database of this version of MLflow; None if it cannot be kept."""
    from mlflow import MlflowClient
    from mlflow.version import VERSION

    folder = user_cache(f"mlflow-{VERSION}")
    if folder is None:
        return None
    empty = folder / _EMPTY
    if not _is_sound(empty):
        empty.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / _EMPTY
            MlflowClient(f"sqlite:///{made}").search_experiments()
            with closing(sqlite3.connect(made)) as opened, opened:
                opened.execute("DELETE FROM experiments")  # it has the folder of this process; MLflow makes it again
            _copy(made, empty)
    return empty


def _is_sound(database: Path) -> bool:
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as opened:
            return bool(opened.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def _copy(source: Path, target: Path) -> None:
    """Copy a database as a whole; an existing target is kept."""
    aside = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(aside)) as new:
            old.backup(new)
        os.link(aside, target)
    except FileExistsError:
        return
    finally:
        aside.unlink(missing_ok=True)
