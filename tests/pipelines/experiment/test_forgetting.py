"""Forgetting a participant of an experiment: no byte of the id is left in the folder of the server's file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from affectlake.experiment.session_store import SessionStore
from affectlake.pipelines.experiment.entry import store_path
from affectlake.pipelines.experiment.forgetting import forget_session

AT = "2026-01-01T09:00:00.000+00:00"


def join(database: sqlite3.Connection, who: str, n: int) -> None:
    people = (
        "INSERT INTO participants (participant, secret_hash, language, state, joined_at, last_at) VALUES (?,?,?,?,?,?)"
    )
    database.execute(people, (who, f"hash of {who}"[::-1], "en", "running", AT, AT))
    for number in range(n):
        given = (who, number, "trial", 0, 1, 2, 0, 1, 2, AT, AT)
        database.execute(
            "INSERT INTO given (participant, number, kind, i, j, k, shown_1, shown_2, shown_3, given_at, expires_at)"
            f" VALUES ({', '.join('?' * len(given))})",
            given,
        )
        database.execute(
            "INSERT INTO answers (participant, number, position, response_ms, received_at) VALUES (?,?,?,?,?)",
            (who, number, 1, 900.0, AT),
        )


def test_a_session_is_deleted_without_a_trace(tmp_path: Path) -> None:
    who, other, path = "qx7RmZ2pLw9TbK4c", "Zk3vNn8sYd1HfW5e", store_path(tmp_path, "people")
    with SessionStore(path) as store:
        for one in (who, other):
            store.do(lambda database, one=one: join(database, one, 500))
        store.do(lambda database: database.execute("INSERT INTO links VALUES ('link', ?)", (who,)))
        assert forget_session(tmp_path, "people", who)  # beside a server that has the file open
        assert not forget_session(tmp_path, "people", who)
        kept = store.do(lambda database: database.execute("SELECT DISTINCT participant FROM answers").fetchall())
        assert kept == [(other,)]
        assert store.do(lambda database: database.execute("SELECT count(*) FROM given").fetchone()) == (500,)
        for file in path.parent.iterdir():
            assert who.encode() not in file.read_bytes(), file.name
    for file in path.parent.iterdir():
        assert who.encode() not in file.read_bytes(), file.name


def test_an_agent_without_a_server_has_no_session(tmp_path: Path) -> None:
    assert not forget_session(tmp_path, "people", "nobody")
    assert not store_path(tmp_path, "people").exists()
