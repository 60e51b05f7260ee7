"""The journal: each answer once, shards that do not change, nothing lost when it is closed the hard way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from affectlake.errors import CollectionError
from affectlake.judge.requests.answers import Answer, Failure, Reply, answered, failed
from affectlake.judge.requests.journal import Count, Journal, Shard
from tests.support.questions import make_questions

REPLY = Reply("Video 2", "stop", '{"content":[]}', 10, 2, 4, "tiny")


def rows(n: int, start: int = 0) -> list[Answer]:
    return [answered(q, REPLY, 1, 0.25) for q in list(make_questions(start + n))[start:]]


def failures(n: int) -> list[Answer]:
    return [failed(q, Failure("rejected", "400: no"), 2, 0.5) for q in make_questions(n)]


def everything(journal: Journal) -> list[Answer]:
    """Seal and read all that is in no shard."""
    shard = journal.seal(10**9)
    return [] if shard is None else [row for batch in journal.read(shard) for row in batch]


def test_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    wanted = [*rows(20), rows(1, 20)[0]._replace(captions=None, text="", logprobs=None), failures(22)[21]]
    with Journal(tmp_path / "new" / "a.sqlite") as journal:
        assert journal.write(wanted) == 22
        assert everything(journal) == wanted


def test_rows_are_found_by_their_keys_sealed_or_not(tmp_path: Path) -> None:
    wanted = [*rows(1200), failures(1201)[1200]]
    with Journal(tmp_path / "a.sqlite") as journal:
        journal.write(wanted)
        journal.seal(100)
        asked = [row.key for row in wanted[50:]] + [b"unknown"]
        assert journal.find(asked) == {row.key: row for row in wanted[50:]}
        assert journal.find([]) == {}


def test_a_key_is_answered_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as journal:
        assert journal.write(rows(3)) == 3
        assert journal.write([row._replace(text="another answer") for row in rows(5)]) == 2
        assert len(journal) == 5
        assert [row.text for row in everything(journal)] == ["Video 2"] * 3 + ["another answer"] * 2


def test_an_answer_replaces_a_failure_and_counts_all_attempts(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as journal:
        journal.write(failures(1))
        journal.write(rows(1))
        journal.write(failures(1))
        assert everything(journal) == [rows(1)[0]._replace(attempts=3)]


def test_a_sealed_failure_stays_as_it_is(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as journal:
        journal.write(failures(1))
        shard = journal.seal(10)
        assert journal.write(rows(1)) == 0
        assert shard is not None
        assert list(journal.read(shard)) == [failures(1)]


def test_what_is_held(tmp_path: Path) -> None:
    keys = [q.key for q in make_questions(1_500)]
    with Journal(tmp_path / "a.sqlite") as journal:
        journal.write([*failures(2), *rows(998, 2)])
        assert journal.held(keys) == set(keys[:1_000])
        assert journal.held(keys, failed=False) == set(keys[2:1_000])
        assert journal.counts() == [Count("main", None, 998), Count("main", "rejected", 2)]


def test_shards_part_the_answers_in_the_order_they_came(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as journal:
        journal.write(rows(25))
        shards = []
        while shard := journal.seal(10):
            shards.append(shard)
        assert shards == [Shard(1, 1, 10), Shard(2, 11, 20), Shard(3, 21, 25)]
        assert journal.sealed() == shards
        assert [row for s in shards for batch in journal.read(s, batch=3) for row in batch] == rows(25)


def test_a_shard_is_the_same_after_a_crash_until_it_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.sqlite")
    journal.write(rows(10))
    shard = journal.seal(6)
    assert shard is not None
    again = Journal(tmp_path / "a.sqlite")  # the first is never closed, as after a kill
    again.write(rows(20))
    assert again.sealed() == [shard]
    assert [row for batch in again.read(shard) for row in batch] == rows(6)
    again.forget(shard)
    assert again.sealed() == []
    assert len(again) == 14
    assert everything(again) == rows(14, 6)
    again.close()
    journal.close()


def test_numbers_of_shards_are_never_given_twice(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        with Journal(tmp_path / "a.sqlite") as journal:
            journal.write(rows(5, 5 * number))
            shard = journal.seal(5)
            assert shard is not None
            assert shard.number == number
            journal.forget(shard)
            assert len(journal) == 0


def test_forgetting_that_was_cut_short_is_ended_on_opening(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as journal:
        journal.write(rows(10))
        shard = journal.seal(6)
        assert shard is not None
    with sqlite3.connect(tmp_path / "a.sqlite") as database:  # as forget() begins, and is killed while deleting
        database.execute("UPDATE shards SET published = 1")
        database.execute("DELETE FROM answers WHERE id <= 2")
    database.close()
    with Journal(tmp_path / "a.sqlite") as journal:
        assert journal.sealed() == []
        assert everything(journal) == rows(4, 6)


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    bad = rows(1, 5)[0]._replace(attempts=None)  # type: ignore[arg-type]
    with Journal(tmp_path / "a.sqlite") as journal:
        with pytest.raises(sqlite3.IntegrityError):
            journal.write([*rows(5), bad])
        assert len(journal) == 0
        assert journal.write(rows(5)) == 5


def test_a_value_of_another_type_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as journal:
        with pytest.raises(sqlite3.IntegrityError):
            journal.write([rows(1)[0]._replace(i=np.int32(5))])  # SQLite alone would keep its bytes
        assert len(journal) == 0


def test_commits_reach_the_disk(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as journal:
        settings = {name: journal._all(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous")}
    assert settings == {"journal_mode": "wal", "synchronous": 2}


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"these are not the answers" * 100)
    with pytest.raises(CollectionError, match="is not a journal of answers"):
        Journal(tmp_path / "a.sqlite")
    with sqlite3.connect(tmp_path / "b.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(CollectionError, match="another version"):
        Journal(tmp_path / "b.sqlite")


def test_a_journal_of_the_format_before_gets_the_new_columns(tmp_path: Path) -> None:
    path, new = tmp_path / "a.sqlite", ("limited_by", "masked")
    with Journal(path) as journal:
        journal.write(rows(3))
    with sqlite3.connect(path) as database:  # as format 2 was
        for table in ("answers", "quarantined"):
            for column in new:
                database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 2")
    later = [row._replace(limited_by="grammar", masked=0) for row in rows(2, 3)]
    with Journal(path) as journal:
        journal.write(later)
        assert everything(journal) == [*rows(3), *later]
        columns = {row[1] for row in journal._all("PRAGMA table_info(quarantined)")}
    assert set(new) <= columns
