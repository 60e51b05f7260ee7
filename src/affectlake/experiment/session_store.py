"""The session store: the SQLite file that has every participant, every given trial and every answer.

It has a write-ahead log that is flushed to the disk at each commit, and survives a kill at any time. Times are those of
the server, in UTC. ``given.kind`` is practice, trial, catch, or repeat: a trial that a participant is asked a second
time. ``i``, ``j``, ``k``, ``shown_1`` to ``shown_3`` and ``right_answer`` (the odd stimulus) are numbers of the table
`stimuli`, to which stimuli are added and in which none changes; they are the stimulus indices of the lake for which the
file was made. `released` is 1 once a trial that was not answered may be given to somebody else.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import CollectionError
from affectlake.experiment.offer import Kind, Triplet
from affectlake.triplets import Triplets

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


class Participant(NamedTuple):
    """A row of `participants`."""

    participant: str
    secret_hash: str
    panel_hash: str | None
    language: str
    state: str
    joined_at: str
    consented_at: str | None
    ended_at: str | None
    last_at: str
    link_hash: str | None


class GivenRow(NamedTuple):
    """A row of `given`."""

    participant: str
    number: int
    kind: Kind
    i: int
    j: int
    k: int
    shown_1: int
    shown_2: int
    shown_3: int
    right_answer: int | None
    given_at: str
    expires_at: str
    released: int

    @property
    def shown(self) -> tuple[int, int, int]:
        """The stimuli in the order shown."""
        return self.shown_1, self.shown_2, self.shown_3


class AnswerRow(NamedTuple):
    """A row of `answers`, without its number."""

    participant: str
    number: int
    position: int | None
    reason: str | None
    detail: str | None
    response_ms: float | None
    received_at: str


class Counted(NamedTuple):
    """What the store has of each trial that was given.

    Attributes
    ----------
    trials : int32 (n, 3)
        The trials, by their numbers in the store.
    chosen, failed, open : int64 (n,)
        Answers with a choice; answers with a reason instead; given trials that are neither answered nor released.
    """

    trials: Triplets
    chosen: NDArray[np.int64]
    failed: NDArray[np.int64]
    open: NDArray[np.int64]


class Open(NamedTuple):
    """A trial that is given, not answered, and not released."""

    participant: str
    number: int
    expires_at: str
    i: int
    j: int
    k: int


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


def now() -> str:
    """Return the present time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def as_text(seconds: float) -> str:
    """Return the time that is `seconds` after 1970-01-01 as the store has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def as_seconds(text: str) -> float:
    """Return the seconds since 1970-01-01 of a time in the store."""
    return datetime.fromisoformat(text).timestamp()


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret of 256 random bits, in hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def study_token(database: sqlite3.Connection) -> str:
    """Return the token with which anyone can join; it is made at the first call and stays the same."""
    token = secrets.token_urlsafe(24)
    database.execute("INSERT OR IGNORE INTO meta VALUES ('study_token', ?)", (token,))
    return str(database.execute("SELECT value FROM meta WHERE key = 'study_token'").fetchone()[0])


def add_links(database: sqlite3.Connection, n: int) -> list[str]:
    """Add `n` links that each one participant can use, and return their tokens; the store has only their hashes."""
    tokens = [secrets.token_urlsafe(24) for _ in range(n)]
    database.executemany("INSERT INTO links VALUES (?, NULL)", [(digest(token),) for token in tokens])
    return tokens


def number_stimuli(database: sqlite3.Connection, stimulus_ids: Sequence[str]) -> list[int]:
    """Return the number in the store of each stimulus; those that it does not have are added."""
    known = dict(database.execute("SELECT stimulus_id, number FROM stimuli"))
    at = max(known.values(), default=-1) + 1
    new = [one for one in stimulus_ids if one not in known]
    added = {one: at + step for step, one in enumerate(new)}
    database.executemany("INSERT INTO stimuli VALUES (?, ?)", [(number, one) for one, number in added.items()])
    known |= added
    return [known[one] for one in stimulus_ids]


def add_participant(database: sqlite3.Connection, new: Participant) -> Participant | None:
    """Add a participant, unless there is one with its id, secret, panel id or link; return the one that there is.

    Returns
    -------
    Participant or None
        None if the link does not exist.
    """
    found = find_participant(database, new.participant, new.secret_hash, new.link_hash)
    if found is not None:
        return found
    if new.link_hash is not None:
        if database.execute("SELECT 1 FROM links WHERE link_hash = ?", (new.link_hash,)).fetchone() is None:
            return None
        database.execute("UPDATE links SET participant = ? WHERE link_hash = ?", (new.participant, new.link_hash))
    database.execute(f"INSERT INTO participants VALUES ({', '.join('?' * len(new))})", new)
    return new


def find_participant(
    database: sqlite3.Connection, participant: str, secret_hash: str | None = None, link_hash: str | None = None
) -> Participant | None:
    """Return the participant with an id, with a secret's hash, or with a link's hash, whichever is found first."""
    for name, value in (("participant", participant), ("secret_hash", secret_hash), ("link_hash", link_hash)):
        if value is not None:
            row = database.execute(f"SELECT * FROM participants WHERE {name} = ?", (value,)).fetchone()
            if row is not None:
                return Participant(*row)
    return None


def is_link_used(database: sqlite3.Connection, link_hash: str) -> bool | None:
    """Return whether a link was used; None if it does not exist."""
    row = database.execute("SELECT participant IS NOT NULL FROM links WHERE link_hash = ?", (link_hash,)).fetchone()
    return None if row is None else bool(row[0])


def given_of(database: sqlite3.Connection, participant: str) -> list[tuple[GivenRow, bool]]:
    """Return the trials that were given to a participant, by number, and whether each is answered."""
    rows = database.execute(
        "SELECT given.*, answers.id IS NOT NULL FROM given LEFT JOIN answers USING (participant, number)"
        " WHERE participant = ? ORDER BY number",
        (participant,),
    )
    return [(GivenRow(*row[:-1]), bool(row[-1])) for row in rows]


def add_given(
    database: sqlite3.Connection, participant: str, new: Sequence[GivenRow], again: Sequence[tuple[int, str]], at: str
) -> bool:
    """Add trials that are given to one participant; return False if the participant is unknown.

    Parameters
    ----------
    database : sqlite3.Connection
    participant : str
        The participant.
    new : sequence of GivenRow
        The trials.
    again : sequence of (int, str)
        Numbers of released trials that are given again, and the times at which they expire.
    at : str
        The present time.

    Raises
    ------
    sqlite3.IntegrityError
        If there is a trial with one of these numbers.
    """
    if not _touch(database, participant, at):
        return False
    database.executemany(f"INSERT INTO given VALUES ({', '.join('?' * len(GivenRow._fields))})", new)
    database.executemany(
        "UPDATE given SET expires_at = ?, released = 0 WHERE participant = ? AND number = ?",
        [(until, participant, number) for number, until in again],
    )
    return True


def add_answers(database: sqlite3.Connection, rows: Sequence[AnswerRow]) -> bool:
    """Add answers of one participant; the first one to a number stays. Return False if they withdrew or are unknown."""
    if not _touch(database, rows[0].participant, rows[0].received_at):
        return False
    database.executemany(
        "INSERT OR IGNORE INTO answers (participant, number, position, reason, detail, response_ms, received_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return True


def _touch(database: sqlite3.Connection, participant: str, last_at: str) -> bool:
    done = database.execute(
        "UPDATE participants SET last_at = ? WHERE participant = ? AND state != 'withdrawn'", (last_at, participant)
    )
    return done.rowcount > 0


def set_state(database: sqlite3.Connection, participant: str, state: str, at: str) -> bool:
    """Set the state of a participant; return False if it is unknown."""
    time = "consented_at" if state == "running" else "ended_at"
    done = database.execute(
        f"UPDATE participants SET state = ?, {time} = coalesce({time}, ?), last_at = ? WHERE participant = ?",
        (state, at, at, participant),
    )
    return done.rowcount > 0


def set_language(database: sqlite3.Connection, participant: str, language: str) -> None:
    """Set the language of a participant."""
    database.execute("UPDATE participants SET language = ? WHERE participant = ?", (language, participant))


def withdraw(database: sqlite3.Connection, participant: str, at: str) -> list[tuple[Triplet, bool]] | None:
    """Delete the answers of a participant who withdraws, and release the trials that were given to them.

    Returns
    -------
    list of ((int, int, int), bool) or None
        The trials of the plan that were answered, by their numbers in the store, and whether with a choice; None if the
        participant is unknown.
    """
    if not set_state(database, participant, "withdrawn", at):
        return None
    rows = database.execute(
        "SELECT i, j, k, position IS NOT NULL FROM given JOIN answers USING (participant, number)"
        " WHERE participant = ? AND kind = 'trial'",
        (participant,),
    ).fetchall()
    database.execute("DELETE FROM answers WHERE participant = ?", (participant,))
    database.execute("UPDATE given SET released = 1 WHERE participant = ?", (participant,))
    return [((i, j, k), bool(is_chosen)) for i, j, k, is_chosen in rows]


def release(database: sqlite3.Connection, which: Iterable[tuple[str, int]]) -> None:
    """Mark given trials, by participant and number, as ones that may be given to somebody else."""
    database.executemany("UPDATE given SET released = 1 WHERE participant = ? AND number = ?", list(which))


def counted(database: sqlite3.Connection, at: str) -> Counted:
    """Return what the store has of each trial of the plan; practice, catch and repeated trials are left out.

    Parameters
    ----------
    database : sqlite3.Connection
    at : str
        The present time. A trial that was not answered by `expires_at` is not open.
    """
    cursor = database.execute(
        "SELECT i, j, k, sum(a.position IS NOT NULL), sum(a.id IS NOT NULL AND a.position IS NULL),"
        " sum(a.id IS NULL AND NOT released AND expires_at > ?)"
        " FROM given LEFT JOIN answers a USING (participant, number) WHERE kind = 'trial' GROUP BY i, j, k",
        (at,),
    )
    parts = [np.empty((0, 6), dtype=np.int64)]
    while rows := cursor.fetchmany(100_000):
        parts.append(np.array(rows, dtype=np.int64))
    found = np.concatenate(parts)
    return Counted(found[:, :3].astype(np.int32), found[:, 3], found[:, 4], found[:, 5])


def open_trials(database: sqlite3.Connection, at: str) -> list[Open]:
    """Return the trials of the plan that are given, not answered and not released, the earliest to expire first."""
    rows = database.execute(
        "SELECT participant, number, expires_at, i, j, k FROM given LEFT JOIN answers a USING (participant, number)"
        " WHERE kind = 'trial' AND a.id IS NULL AND NOT released AND expires_at > ? ORDER BY expires_at",
        (at,),
    )
    return [Open(*row) for row in rows]
