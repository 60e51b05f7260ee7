"""Where every answer goes first: a file on disk that holds each answer once and survives a kill at any instant.

SQLite with a write-ahead log, flushed to the disk at each commit. From here answers go in shards to Parquet parts: a
shard is sealed (its rows no longer change), written elsewhere, and forgotten once the version that holds it exists::

    for shard in journal.sealed() or journal.seal(100_000):
        write_part(journal.read(shard))        # again after a crash: the same rows in the same order
        publish()
        journal.forget(shard)

An answer that cannot be published can be put into quarantine, and be taken back: it stays in the file, and its question
is not asked again.

What is asked, and of whom, does not belong here, nor why an answer cannot be published.
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
from affectlake.judge.requests.journal_format import COLUMNS, FORMAT, OUTCOME, TO_TODAY

_KEYS_PER_LOOKUP = 500
_ROWS_PER_STEP = 5_000
_MARKS = ", ".join("?" * len(Answer._fields))


class Shard(NamedTuple):
    """Rows that no longer change.

    Attributes
    ----------
    number : int
        From 1; never given twice in one journal, so it may name a part.
    first_id, last_id : int
        Which rows of the journal, both included.
    """

    number: int
    first_id: int
    last_id: int


class Count(NamedTuple):
    """How many rows of a trial set the journal holds, by failure (None: answered)."""

    trial_set: str
    error_kind: str | None
    n: int


class Quarantined(NamedTuple):
    """An answer that cannot be published, and why; `id` is its row."""

    id: int
    answer: Answer
    reason: str


class QuarantineCount(NamedTuple):
    """How many rows of a trial set are in quarantine, by the reason."""

    trial_set: str
    reason: str
    n: int


class Journal:
    """The answers of one agent that are in no version yet.

    It may be used from several threads; a call that writes returns when the disk has it.

    Parameters
    ----------
    path : Path
        The file; made, with its folder, if it is not there.

    Raises
    ------
    CollectionError
        If the file is no journal, or is of a format this version does not know.
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
                f"{path} is no journal of answers",
                found=str(error),
                todo="move it away and collect again; what is in a version is not asked again",
            ) from error
        for row in self._all("SELECT number, first_id, last_id FROM shards WHERE published"):
            self._delete(Shard(*row))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Nothing is lost by not calling this."""
        with self._lock:
            self._database.close()

    def write(self, answers: Sequence[Answer]) -> int:
        """Keep answers, all or none of them; return how many were new.

        A key that is already answered keeps its answer. One that failed takes the new row, with the attempts of both,
        unless it is in a sealed shard.
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
        """Return those of `keys` that the journal holds; without failed questions if `failed` is false.

        What is in quarantine is held, whatever it is.
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
        """Return the rows of those of `keys` that the journal holds; few keys: the rows are held in memory."""
        wanted, found = list(keys), dict[bytes, Answer]()
        for start in range(0, len(wanted), _KEYS_PER_LOOKUP):
            some = wanted[start : start + _KEYS_PER_LOOKUP]
            marks = ", ".join("?" * len(some))
            rows = self._all(f"SELECT {COLUMNS} FROM answers WHERE key IN ({marks})", some)
            found.update((row[0], _as_answer(row)) for row in rows)
        return found

    def counts(self) -> list[Count]:
        """Return how many rows there are by trial set and failure."""
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
        """Make the oldest rows that are in no shard, at most `limit`, a new shard; None if there are none."""
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
        """Return the shards that are not forgotten, the oldest first: those a crash left are there again."""
        return [
            Shard(*row)
            for row in self._all("SELECT number, first_id, last_id FROM shards WHERE NOT published ORDER BY number")
        ]

    def read(self, shard: Shard, batch: int = 10_000) -> Iterator[list[Answer]]:
        """Yield the answers of `shard` in the order they came, at most `batch` at a time."""
        after = shard.first_id - 1
        while rows := self._all(
            f"SELECT id, {COLUMNS} FROM answers WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (after, shard.last_id, batch),
        ):
            after = rows[-1][0]
            yield [_as_answer(row[1:]) for row in rows]

    def set_aside(self, shard: Shard, reasons: Mapping[bytes, str]) -> None:
        """Put the answers of `shard` whose keys `reasons` has into quarantine: all of them or none."""
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
        """Let rows in quarantine be answers again, in no shard, or give them another reason: all of this or nothing.

        Returns how many are answers again.

        Parameters
        ----------
        verdicts : mapping of int to str or None
            The reason by the row's `id`; None lets it go.
        """
        run, n = self._database.execute, 0
        with self._lock, self._transaction():
            for row, reason in verdicts.items():
                if reason is not None:
                    run("UPDATE quarantined SET reason = ? WHERE id = ?", (reason, row))
                    continue
                moved = run(  # one that was answered again meanwhile stays until that answer is published
                    f"INSERT INTO answers ({COLUMNS}) SELECT {COLUMNS} FROM quarantined"
                    " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM answers WHERE answers.key = quarantined.key)",
                    (row,),
                ).rowcount
                if moved:
                    run("DELETE FROM quarantined WHERE id = ?", (row,))
                n += moved
        return n

    def quarantined(self, batch: int = 10_000) -> Iterator[list[Quarantined]]:
        """Yield what is in quarantine in the order it came there, at most `batch` at a time."""
        after = 0
        sql = f"SELECT id, reason, {COLUMNS} FROM quarantined WHERE id > ? ORDER BY id LIMIT ?"
        while rows := self._all(sql, (after, batch)):
            after = rows[-1][0]
            yield [Quarantined(row[0], _as_answer(row[2:]), row[1]) for row in rows]

    def quarantine_counts(self) -> list[QuarantineCount]:
        """Return how many rows are in quarantine by trial set and reason."""
        return [
            QuarantineCount(*row)
            for row in self._all(
                "SELECT trial_set, reason, count(*) FROM quarantined"
                " GROUP BY trial_set, reason ORDER BY trial_set, count(*) DESC, reason"
            )
        ]

    def forget(self, shard: Shard) -> None:
        """Drop the rows of `shard`, which a published version now holds.

        A crash in the middle leaves the shard neither listed nor written again; opening the journal ends the work.
        """
        with self._lock, self._transaction():
            self._database.execute("UPDATE shards SET published = 1 WHERE number = ?", (shard.number,))
        self._delete(shard)

    def _delete(self, shard: Shard) -> None:
        """Drop the rows of a published shard in small steps, so that neither memory nor the log grows with it."""
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
                    todo="publish it with the version that wrote it",
                )
            for statement in TO_TODAY if found < FORMAT else ():
                run(statement)

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock:
            return self._database.execute(sql, values).fetchall()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    """``BEGIN IMMEDIATE``, and at the end a commit that the disk has, or nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


def _as_row(answer: Answer) -> tuple[object, ...]:
    """Return the answer as SQLite takes it: tuples as JSON."""
    captions = None if answer.captions is None else orjson.dumps(answer.captions).decode()
    return tuple((answer._asdict() | {"order": orjson.dumps(answer.order).decode(), "captions": captions}).values())


def _as_answer(row: Sequence[Any]) -> Answer:
    found = dict(zip(Answer._fields, row, strict=True))
    captions = None if found["captions"] is None else tuple(orjson.loads(found["captions"]))
    return Answer(**found | {"order": tuple(orjson.loads(found["order"])), "captions": captions})
