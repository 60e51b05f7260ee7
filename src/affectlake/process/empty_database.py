"""New SQLite databases of other programs, copied from an empty one.

MLflow makes a database by running all migrations since its first release, which takes seconds. An empty database of
each version is therefore kept in the user's cache folder and copied to where a new one is needed.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from affectlake.process.user_cache import user_cache

_EMPTY = "empty.db"


def place_empty_database(database: Path, program: str, make: Callable[[Path], None]) -> None:
    """Copy an empty database to `database`, unless it exists.

    If that is not possible, nothing is done, because the program makes a database at its first use.

    Parameters
    ----------
    database : Path
        The file; its folder exists.
    program : str
        Name and version of the program, such as ``mlflow-3.17.2``.
    make : callable
        Makes an empty database at a path, which does not exist yet; called once for each version and user.
    """
    if database.exists():
        return
    try:
        folder = user_cache(program)
        if folder is not None:
            _copy(_kept(folder, make), database)
    except Exception:  # programs have errors of their own, and none of them matters here
        return


def _kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return the empty database in `folder`; it is made if it does not exist or is damaged."""
    empty = folder / _EMPTY
    if not _is_sound(empty):
        empty.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            make(Path(scratch) / _EMPTY)
            _copy(Path(scratch) / _EMPTY, empty)
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
    if not source.exists():
        raise FileNotFoundError(source)
    aside = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(aside)) as new:
            old.backup(new)
        os.link(aside, target)
    except FileExistsError:
        return
    finally:
        aside.unlink(missing_ok=True)
