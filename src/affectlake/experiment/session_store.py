"""The session store: the SQLite file that has every participant, every given trial and every answer.

It has a write-ahead log that is flushed to the disk at each commit, and survives a kill at any time. Times are those of
the server, in UTC. ``given.kind`` is practice, trial, catch, or repeat: a trial that a participant is asked a second
time. ``i``, ``j``, ``k``, ``shown_1`` to ``shown_3`` and ``right_answer`` (the odd stimulus) are numbers of the table
`stimuli`, to which stimuli are added and in which none changes; they are the stimulus indices of the lake for which the
file was made. `released` is 1 once a trial that was not answered may be given to somebody else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from affectlake.errors import CollectionError

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], Any]

FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stimuli (number INTEGER PRIMARY KEY, stimulus_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS links (link_hash TEXT PRIMARY KEY, participant TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS participants (
    participant TEXT PRIMARY KEY, secret_hash TEXT NOT NULL UNIQUE, panel_hash TEXT UNIQUE, language TEXT NOT NULL,
    state TEXT NOT NULL, joined_at TEXT NOT NULL, consented_at TEXT, ended_at TEXT, last_at TEXT NOT NULL,
    link_hash TEXT UNIQUE
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS given (
    participant TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL,
    i INTEGER NOT NULL, j INTEGER NOT NULL, k INTEGER NOT NULL,
    shown_1 INTEGER NOT NULL, shown_2 INTEGER NOT NULL, shown_3 INTEGER NOT NULL, right_answer INTEGER,
    given_at TEXT NOT NULL, expires_at TEXT NOT NULL, released INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (participant, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, participant TEXT NOT NULL, number INTEGER NOT NULL, position INTEGER,
    reason TEXT, detail TEXT, response_ms REAL, received_at TEXT NOT NULL, UNIQUE (participant, number)
);
"""


class SessionStore:
    """The session store of one agent.

    The constructor and :meth:`transact` are called by one thread at a time. Other processes can read the file at any
    time.

    Parameters
    ----------
    path : Path
        The file. It is created, with its folder, if it does not exist, and only its owner can read it.

    Raises
    ------
    CollectionError
        If the file is not a session store, or has a format that this version of affectlake cannot read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)
        self._database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise CollectionError(
                f"{path} is not a store of sessions", found=str(error), todo="move it elsewhere, or restore it"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Answers are safe even if this is not called."""
        self._database.close()

    def _open(self) -> None:
        for line in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=1", "checkpoint_fullfsync=1"):
            self._database.execute(f"PRAGMA {line}")
        self._database.execute("PRAGMA secure_delete=ON")
        found = int(self._database.execute("PRAGMA user_version").fetchone()[0])
        if found not in (0, FORMAT):
            raise sqlite3.DatabaseError(f"format {found}; this version of affectlake reads format {FORMAT}")
        for statement in _SCHEMA.split(";\n"):
            self._database.execute(statement)
        self._database.execute(f"PRAGMA user_version={FORMAT}")

    def transact(self, operations: Sequence[Operation]) -> list[Any]:
        """Carry out operations in one transaction and return their results, or the exceptions that they raised.

        An operation that raises changes nothing; the others are carried out.

        Parameters
        ----------
        operations : sequence of callable
            Each takes the connection.

        Raises
        ------
        sqlite3.Error
            If the transaction cannot be written, as on a full disk; then nothing is changed.
        """
        results: list[Any] = []
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for operation in operations:
                self._database.execute("SAVEPOINT one")
                try:
                    results.append(operation(self._database))
                except Exception as error:
                    self._database.execute("ROLLBACK TO one")
                    results.append(error)
                self._database.execute("RELEASE one")
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        return results

    def do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out one operation; what it raises is raised."""
        result = self.transact([operation])[0]
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    def forget(self, participant: str) -> bool:
        """Delete everything of one participant, from the file and its log; return whether there was something.

        Parameters
        ----------
        participant : str
            The participant's id.
        """

        def delete(database: sqlite3.Connection) -> int:
            before = database.total_changes
            for table in ("answers", "given", "participants"):
                database.execute(f"DELETE FROM {table} WHERE participant = ?", (participant,))
            database.execute("UPDATE links SET participant = '' WHERE participant = ?", (participant,))
            return database.total_changes - before

        n = self.do(delete)
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.execute("VACUUM")
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return n > 0
