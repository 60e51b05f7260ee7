"""The file with every participant, given trial and answer: formats, transactions, and forgetting."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from affectlake.errors import CollectionError
from affectlake.experiment import store_operations as operations
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.store_rows import AnswerRow, GivenRow, Participant
from affectlake.experiment.writer import Writer

AT = "2026-01-01T00:00:00.000+00:00"


def participant(name: str) -> Participant:
    return Participant(name, operations.digest(name), f"panel-{name}", "en", "running", AT, AT, None, AT, None)


def filled(path: Path, *names: str) -> SessionStore:
    """Return a store in which each participant has two given trials and two answers."""
    store = SessionStore(path)
    for name in names:
        rows = [GivenRow(name, n, "trial", 0, 1, n + 2, 0, 1, n + 2, None, AT, AT, 0) for n in (1, 2)]
        answers = [AnswerRow(name, n, 1, None, f"detail of {name}", 500.0, AT) for n in (1, 2)]
        store.do(lambda database, name=name: operations.add_participant(database, participant(name)))
        assert store.do(lambda database, name=name, rows=rows: operations.add_given(database, name, rows, [], AT))
        assert store.do(lambda database, answers=answers: operations.add_answers(database, answers))
    return store


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with filled(tmp_path / "deep" / "x.sqlite", "a"):
            for path in (tmp_path / "deep").iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    finally:
        os.umask(previous)


def test_every_commit_is_flushed(tmp_path: Path) -> None:
    with SessionStore(tmp_path / "x.sqlite") as store:
        read = {
            name: store.do(lambda database, name=name: database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert read == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at" * 100, None])
def test_a_file_that_is_not_a_store(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.sqlite"
    if content is None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version=99")
    else:
        path.write_bytes(content)
    with pytest.raises(CollectionError, match="is not a store of sessions") as caught:
        SessionStore(path)
    assert caught.value.todo and ("99" in caught.value.found) == (content is None)


def test_an_operation_that_raises_changes_nothing_and_the_others_are_carried_out(tmp_path: Path) -> None:
    with filled(tmp_path / "x.sqlite", "a") as store:

        def half(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM answers")
            raise ValueError("no")

        found = store.transact([half, operations.study_token, half])
        assert isinstance(found[0], ValueError) and isinstance(found[1], str) and isinstance(found[2], ValueError)
        assert store.do(lambda database: database.execute("SELECT count(*) FROM answers").fetchone()[0]) == 2
        assert store.do(operations.study_token) == found[1]


def test_answers_and_trials_of_one_who_was_forgotten_are_not_added(tmp_path: Path) -> None:
    with filled(tmp_path / "x.sqlite", "a", "b") as store:
        assert store.forget("a") and not store.forget("a")
        assert not store.do(
            lambda database: operations.add_answers(database, [AnswerRow("a", 3, 1, None, None, 1, AT)])
        )
        rows = [GivenRow("a", 3, "trial", 0, 1, 2, 0, 1, 2, None, AT, AT, 0)]
        assert not store.do(lambda database: operations.add_given(database, "a", rows, [], AT))
        assert not store.do(lambda database: operations.set_state(database, "a", "left", AT))
        for table in ("participants", "given", "answers"):
            query = f"SELECT DISTINCT participant FROM {table}"
            assert store.do(lambda database, query=query: database.execute(query).fetchall()) == [("b",)]


def test_nothing_of_a_forgotten_participant_is_left_in_the_files(tmp_path: Path) -> None:
    name = "zq7forgetme4"
    with filled(tmp_path / "x.sqlite", *(f"other{n}" for n in range(50)), name, "last") as store:
        before = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert name.encode() in before and operations.digest(name).encode() in before
        store.forget(name)
        after = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert name.encode() not in after and operations.digest(name).encode() not in after
        assert b"other7" in after and b"detail of last" in after
    assert name.encode() not in (tmp_path / "x.sqlite").read_bytes()


def test_the_number_of_an_answer_is_not_used_again(tmp_path: Path) -> None:
    with filled(tmp_path / "x.sqlite", "a", "b") as store:
        store.forget("b")
        store.do(lambda database: operations.add_answers(database, [AnswerRow("a", 3, 1, None, None, 1, AT)]))
        assert store.do(lambda database: database.execute("SELECT max(id) FROM answers").fetchone()[0]) == 5


def test_the_same_number_cannot_be_given_twice(tmp_path: Path) -> None:
    with filled(tmp_path / "x.sqlite", "a") as store:
        row = GivenRow("a", 2, "trial", 5, 6, 7, 5, 6, 7, None, AT, AT, 0)
        with pytest.raises(sqlite3.IntegrityError):
            store.do(lambda database: operations.add_given(database, "a", [row], [], AT))


def test_links(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with SessionStore(path) as store:
        tokens = store.do(lambda database: operations.add_links(database, 3))
        assert len(set(tokens)) == 3
        content = path.read_bytes() + Path(f"{path}-wal").read_bytes()
        assert all(token.encode() not in content for token in tokens)


def test_the_numbers_of_stimuli_stay(tmp_path: Path) -> None:
    with SessionStore(tmp_path / "x.sqlite") as store:

        def numbers(*ids: str) -> list[int]:
            return store.do(lambda database: operations.number_stimuli(database, ids))

        assert numbers("a", "b") == [0, 1]
        assert numbers("new", "b", "a", "newer") == [2, 1, 0, 3]


def test_requests_that_come_while_the_disk_is_busy_share_a_transaction(tmp_path: Path) -> None:
    async def test(store: SessionStore) -> tuple[list[Any], int]:
        batches = []
        transact = store.transact

        def counted(operations: Any) -> list[Any]:
            batches.append(len(operations))
            return transact(operations)

        store.transact = counted  # type: ignore[method-assign]
        writer = Writer(store)
        writer.start()
        rows = [[AnswerRow("a", n, 1, None, None, 1, AT)] for n in range(3, 103)]
        cancelled = asyncio.ensure_future(writer.do(operations.study_token))
        cancelled.cancel()
        done = await asyncio.gather(*(writer.do(lambda d, one=one: operations.add_answers(d, one)) for one in rows))
        with pytest.raises(ZeroDivisionError):
            await writer.do(lambda _: 1 // 0)
        await writer.stop()
        return done, len(batches)

    with filled(tmp_path / "x.sqlite", "a") as store:
        done, n_transactions = asyncio.run(test(store))
        assert done == [True] * 100 and n_transactions < 10
        assert store.do(lambda database: database.execute("SELECT count(*) FROM answers").fetchone()[0]) == 102


def test_nothing_is_acknowledged_before_it_is_on_the_disk(tmp_path: Path) -> None:
    async def test(store: SessionStore) -> None:
        gate, transact = threading.Event(), store.transact

        def slow(operations: Any) -> list[Any]:
            gate.wait(30)
            return transact(operations)

        store.transact = slow  # type: ignore[method-assign]
        writer = Writer(store)
        writer.start()
        rows = [AnswerRow("a", 3, 1, None, None, 1, AT)]
        waiting = asyncio.ensure_future(writer.do(lambda database: operations.add_answers(database, rows)))
        await asyncio.sleep(0.2)
        with closing(sqlite3.connect(store.path)) as database:
            query = "SELECT count(*) FROM answers"
            assert not waiting.done() and database.execute(query).fetchone() == (2,)
            gate.set()
            assert await waiting
            assert database.execute(query).fetchone() == (3,)
        await writer.stop()

    with filled(tmp_path / "x.sqlite", "a") as store:
        asyncio.run(test(store))
