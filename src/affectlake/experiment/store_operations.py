"""What is read from the session store and written to it. Each function is a part of a transaction of the store."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np

from affectlake.experiment.offer import Triplet
from affectlake.experiment.store_rows import AnswerRow, Counted, GivenRow, Open, Participant


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
