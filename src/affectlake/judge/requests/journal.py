"""The journal: the SQLite file to which every answer is written first. It survives a kill at any time.

It has a write-ahead log that is flushed to the disk at each commit. Answers move from the journal to Parquet parts in
shards: a shard is sealed (its rows no longer change), written to a part, and forgotten once a version contains it::

    for shard in journal.sealed() or journal.seal(100_000):
        write_part(journal.read(shard))        # after a crash, the same rows in the same order
        publish()
        journal.forget(shard)

An answer that cannot be published can be moved to quarantine and back. It stays in the file, and its question is not
asked again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from affectlake.errors import CollectionError
from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.journal_format import COLUMNS, FORMAT, OUTCOME, STATEMENTS

_KEYS_PER_LOOKUP = 500
_ROWS_PER_STEP = 5_000
_MARKS = ", ".join("?" * len(Answer._fields))


class Shard(NamedTuple):
    """Rows that no longer change.

    Attributes
    ----------
    number : int
        Its number, from 1. Numbers are not reused within a journal, so that a part can be named after one.
    first_id, last_id : int
        Range of rows in the journal, both ends included.
    """

    number: int
    first_id: int
    last_id: int


class Count(NamedTuple):
    """Number of rows of a trial set in the journal with one kind of failure (None: answered)."""

    trial_set: str
    error_kind: str | None
    n: int


class Quarantined(NamedTuple):
    """An answer that cannot be published, its row number `id`, and the reason."""

    id: int
    answer: Answer
    reason: str


class QuarantineCount(NamedTuple):
    """Number of rows of a trial set that are in quarantine for one reason."""

    trial_set: str
    reason: str
    n: int


class Journal:
    """The unpublished answers of one agent.

    A journal is thread-safe. A call that writes returns once the data is on disk.

    Parameters
    ----------
    path : Path
        The file. It is created, with its folder, if it does not exist.

    Raises
    ------
    CollectionError
        If the file is not a journal, or has a format that this version of affectlake cannot read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise CollectionError(
                f"{path} is not a journal of answers",
                found=str(error),
                todo="move it elsewhere and collect again; published answers are not asked for again",
            ) from error
        for row in self._all("SELECT number, first_id, last_id FROM shards WHERE published"):
            self._delete(Shard(*row))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Answers are safe even if this is not called."""
        with self._lock:
            self._database.close()

    def write(self, answers: Sequence[Answer]) -> int:
        """Store answers, all or none of them, and return the number of rows that were added or replaced.

        An answer is not replaced by another answer with its key. A failed question is, unless it is in a sealed shard;
        the attempts are added up.
        """
        rows = [_as_row(answer) for answer in answers]
        with self._lock, self._transaction():
            before = self._database.total_changes
            self._database.executemany(
                f"INSERT INTO answers ({COLUMNS}) VALUES ({_MARKS})"
                f" ON CONFLICT (key) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in OUTCOME)},"
                " attempts = attempts + excluded.attempts"
                " WHERE error_kind IS NOT NULL AND id > (SELECT coalesce(max(last_id), 0) FROM shards)",
                rows,
            )
            return self._database.total_changes - before

    def held(self, keys: Iterable[bytes], *, failed: bool = True) -> set[bytes]:
        """Return those of `keys` that are in the journal or in quarantine.

        If `failed` is false, failed questions that are not in quarantine are left out.
        """
        wanted, found = list(keys), set[bytes]()
        only = "" if failed else " AND error_kind IS NULL"
        for start in range(0, len(wanted), _KEYS_PER_LOOKUP):
            some = wanted[start : start + _KEYS_PER_LOOKUP]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT key FROM answers WHERE key IN ({marks}){only}"
            sql += f" UNION ALL SELECT key FROM quarantined WHERE key IN ({marks})"
            found.update(key for (key,) in self._all(sql, [*some, *some]))
        return found

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Answer]:
        """Return the rows in the journal by key. All rows found are held in memory."""
        wanted, found = list(keys), dict[bytes, Answer]()
        for start in range(0, len(wanted), _KEYS_PER_LOOKUP):
            some = wanted[start : start + _KEYS_PER_LOOKUP]
            marks = ", ".join("?" * len(some))
            rows = self._all(f"SELECT {COLUMNS} FROM answers WHERE key IN ({marks})", some)
            found.update((row[0], _as_answer(row)) for row in rows)
        return found

    def latest(self, trial_set: str, limit: int) -> list[Answer]:
        """Return the latest answers to a trial set, without failed questions, at most `limit`; the last one last."""
        rows = self._all(
            f"SELECT {COLUMNS} FROM answers WHERE trial_set = ? AND error_kind IS NULL ORDER BY id DESC LIMIT ?",
            (trial_set, limit),
        )
        return [_as_answer(row) for row in reversed(rows)]

    def counts(self) -> list[Count]:
        """Return the number of rows by trial set and kind of failure."""
        return [
            Count(*row)
            for row in self._all(
                "SELECT trial_set, error_kind, count(*) FROM answers GROUP BY trial_set, error_kind"
                " ORDER BY trial_set, error_kind"
            )
        ]

    def __len__(self) -> int:
        return int(self._all("SELECT count(*) FROM answers")[0][0])

    def seal(self, limit: int) -> Shard | None:
        """Make a shard of the oldest rows outside any shard, at most `limit`; return None if there are no such rows."""
        with self._lock, self._transaction():
            row = self._database.execute(
                "SELECT min(id), max(id), count(*) FROM (SELECT id FROM answers"
                " WHERE id > (SELECT coalesce(max(last_id), 0) FROM shards) ORDER BY id LIMIT ?)",
                (limit,),
            ).fetchone()
            if not row[2]:
                return None
            number = self._database.execute(
                "INSERT INTO shards (first_id, last_id, n_answers) VALUES (?, ?, ?)", row
            ).lastrowid
        assert number is not None
        return Shard(number, *row[:2])

    def sealed(self) -> list[Shard]:
        """Return the shards that are not forgotten, the oldest first, including those from before a crash."""
        return [
            Shard(*row)
            for row in self._all("SELECT number, first_id, last_id FROM shards WHERE NOT published ORDER BY number")
        ]

    def read(self, shard: Shard, batch: int = 10_000) -> Iterator[list[Answer]]:
        """Yield the answers of `shard` in the order of their arrival, at most `batch` at a time."""
        after = shard.first_id - 1
        while rows := self._all(
            f"SELECT id, {COLUMNS} FROM answers WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (after, shard.last_id, batch),
        ):
            after = rows[-1][0]
            yield [_as_answer(row[1:]) for row in rows]

    def set_aside(self, shard: Shard, reasons: Mapping[bytes, str]) -> None:
        """Move the answers of `shard` whose keys are in `reasons` to quarantine, all of them or none."""
        with self._lock, self._transaction():
            for key, reason in reasons.items():
                where = (key, shard.first_id, shard.last_id)
                self._database.execute(
                    f"INSERT INTO quarantined ({COLUMNS}, reason, shard) SELECT {COLUMNS}, ?, ? FROM answers"
                    " WHERE key = ? AND id BETWEEN ? AND ?",
                    (reason, shard.number, *where),
                )
                self._database.execute("DELETE FROM answers WHERE key = ? AND id BETWEEN ? AND ?", where)

    def review(self, verdicts: Mapping[int, str | None]) -> int:
        """Move rows out of quarantine or change their reasons, in one transaction.

        Parameters
        ----------
        verdicts : mapping of int to str or None
            The new reason by the row's `id`; None moves the row out of quarantine, to the answers outside any shard.

        Returns
        -------
        int
            Number of rows that were moved.
        """
        run, n = self._database.execute, 0
        with self._lock, self._transaction():
            for row, reason in verdicts.items():
                if reason is not None:
                    run("UPDATE quarantined SET reason = ? WHERE id = ?", (reason, row))
                    continue
                moved = run(  # a question that has been answered again stays until that answer is published
                    f"INSERT INTO answers ({COLUMNS}) SELECT {COLUMNS} FROM quarantined"
                    " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM answers WHERE answers.key = quarantined.key)",
                    (row,),
                ).rowcount
                if moved:
                    run("DELETE FROM quarantined WHERE id = ?", (row,))
                n += moved
        return n

    def quarantined(self, batch: int = 10_000) -> Iterator[list[Quarantined]]:
        """Yield the rows in quarantine in the order in which they were moved there, at most `batch` at a time."""
        after = 0
        sql = f"SELECT id, reason, {COLUMNS} FROM quarantined WHERE id > ? ORDER BY id LIMIT ?"
        while rows := self._all(sql, (after, batch)):
            after = rows[-1][0]
            yield [Quarantined(row[0], _as_answer(row[2:]), row[1]) for row in rows]

    def quarantine_counts(self) -> list[QuarantineCount]:
        """Return the number of rows in quarantine by trial set and reason."""
        return [
            QuarantineCount(*row)
            for row in self._all(
                "SELECT trial_set, reason, count(*) FROM quarantined"
                " GROUP BY trial_set, reason ORDER BY trial_set, count(*) DESC, reason"
            )
        ]

    def forget(self, shard: Shard) -> None:
        """Delete the rows of `shard`, which has been published.

        If this is interrupted, the shard is neither listed nor written again, and the rest of its rows are deleted when
        the journal is next opened.
        """
        with self._lock, self._transaction():
            self._database.execute("UPDATE shards SET published = 1 WHERE number = ?", (shard.number,))
        self._delete(shard)

    def _delete(self, shard: Shard) -> None:
        """Delete the rows of a published shard in small steps, so that memory and the log stay small."""
        for start in range(shard.first_id, shard.last_id + 1, _ROWS_PER_STEP):
            with self._lock, self._transaction():
                self._database.execute(
                    "DELETE FROM answers WHERE id >= ? AND id < ? AND id <= ?",
                    (start, start + _ROWS_PER_STEP, shard.last_id),
                )
        with self._lock:
            with self._transaction():
                self._database.execute("DELETE FROM shards WHERE number = ?", (shard.number,))
            self._database.execute("PRAGMA incremental_vacuum").fetchall()

    def _open(self) -> None:
        run = self._database.execute
        run("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file only
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA cache_size = -65536")  # 64 MiB
        if run("PRAGMA user_version").fetchone()[0] == FORMAT:
            return
        with self._transaction():
            found = run("PRAGMA user_version").fetchone()[0]  # another process may have been first
            if found > FORMAT:
                raise CollectionError(
                    f"{self.path} was written by another version of affectlake",
                    found=f"format {found}",
                    wanted=f"format {FORMAT}",
                    todo="publish its answers with the version that wrote it",
                )
            for statement in STATEMENTS.get(found, ()):
                run(statement)

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock:
            return self._database.execute(sql, values).fetchall()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    """A transaction that begins with ``BEGIN IMMEDIATE`` and ends with a commit, or a rollback after an exception."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


def _as_row(answer: Answer) -> tuple[object, ...]:
    """Return the values of an answer's columns; tuples are JSON."""
    captions = None if answer.captions is None else orjson.dumps(answer.captions).decode()
    return tuple((answer._asdict() | {"order": orjson.dumps(answer.order).decode(), "captions": captions}).values())


def _as_answer(row: Sequence[Any]) -> Answer:
    found = dict(zip(Answer._fields, row, strict=True))
    captions = None if found["captions"] is None else tuple(orjson.loads(found["captions"]))
    return Answer(**found | {"order": tuple(orjson.loads(found["order"])), "captions": captions})
