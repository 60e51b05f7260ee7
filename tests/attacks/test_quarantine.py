"""One answer that cannot be a row waits alone: the others are published, it is shown, and it comes in once it can."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from affectlake.judge.protocols.label_probabilities import Weighed
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Target
from affectlake.judge.responses import tables as judged
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables import appending, contracts, expectations
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.factory import tiny_lake
from affectlake.lake.tables.parts import write_parts
from affectlake.lake.tables.row_faults import row_faults
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.planning import keep_answers, plan_questions
from affectlake.pipelines.collection.publishing import open_journal, publish_waiting, waiting
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import Status, statuses
from affectlake.pipelines.params.study import load
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer
from tests.support.preloaded import script

N_MAIN = 435
PROCESS = Path(__file__).with_name("publishing_process.py")

FORMAT_1 = """
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE, trial_set TEXT NOT NULL, i INTEGER NOT NULL, j INTEGER NOT NULL, k INTEGER NOT NULL,
    repeat INTEGER NOT NULL, "order" TEXT NOT NULL, captions TEXT,
    text TEXT, finish_reason TEXT NOT NULL, logprobs TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    error_kind TEXT, error_words TEXT, attempts INTEGER NOT NULL, seconds REAL NOT NULL
) STRICT;
CREATE TABLE shards (
    number INTEGER PRIMARY KEY AUTOINCREMENT, first_id INTEGER NOT NULL, last_id INTEGER NOT NULL,
    n_answers INTEGER NOT NULL, published INTEGER NOT NULL DEFAULT 0
) STRICT;
PRAGMA user_version = 1;
"""
"""The tables of a journal of format 1, as the version before quarantine made them."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("quarantine") / "lake"
    make_lake(lake, ENTRY | {"protocol": "forced-choice", "sampling": {}})
    return lake


def logprobs(asked: bytes, ordinary: dict[str, Any]) -> dict[str, Any]:
    """Give the choice log-probabilities."""
    ordinary["choices"][0]["logprobs"] = {"content": [{"token": "2", "logprob": -0.1, "top_logprobs": []}]}
    return ordinary


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",), says=lambda _asked: "2", odd=logprobs).running() as running:
        yield running


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= {"servers": [server.url]}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return lake


def quiet(_line: str) -> None:
    """Say nothing."""


def rows(lake: Path) -> pl.DataFrame:
    return read_output(lake, Output("responses", "tiny")).collect()


def of_main(lake: Path) -> Status:
    return next(one for one in statuses(lake, load(lake)) if one.trial_set == "main")


def fill(lake: Path, server: FaultServer, n: int | None = None) -> Path:
    """Ask n questions, publish nothing; return the journal's file."""
    params = load(lake)
    plan = plan_questions(lake, params, "tiny", "main", limit=n)
    with open_journal(lake, params, plan.agent) as journal:
        collect(plan.questions(), journal, Target((server.url,), "tiny-llama"))
        return journal.path


def change(path: Path, sql: str, *values: object) -> None:
    """Write to a journal by hand."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(sql, values)


def status(lake: Path, *options: str) -> str:
    command = ["affectlake", "status", "--lake", str(lake), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_one_bad_answer_of_435_waits_alone_until_the_parser_is_mended(
    lake: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_odd = []

    def one_is_odd(asked: bytes, ordinary: dict[str, Any]) -> dict[str, Any]:
        if not n_odd:
            n_odd.append(asked)
            ordinary["choices"][0]["logprobs"] = {"content": "unheard of"}
            return ordinary
        return logprobs(asked, ordinary)

    def broken(text: str | None, labels: Sequence[str], *, masked: bool) -> Weighed:
        said = {"unheard of": 1 / 0}[text] if "unheard of" in (text or "") else text
        return weigh(said, labels, masked=masked)

    weigh = judged.weigh
    server.odd = one_is_odd
    monkeypatch.setattr(judged, "weigh", broken)
    said: list[str] = []
    done = collect_answers(lake, CollectionRequest("tiny", anyway=True), said.append)
    assert str(done) == "tiny · main: +434 (434 of 435); 1 in quarantine"
    assert any("1 answers cannot be published and are kept in quarantine" in line for line in said)
    assert rows(lake).height == rows(lake)["request_key"].n_unique() == 434
    reason = "it cannot be converted to a row: ZeroDivisionError: division by zero"
    assert of_main(lake).quarantined == {reason: 1}
    assert (of_main(lake).n_answered, of_main(lake).n_waiting) == (434, 0)

    told = status(lake)
    assert "in quarantine      1; each `affectlake collect tiny` tries to publish them again" in told
    assert f"1: {reason}" in told
    main = next(one for one in json.loads(status(lake, "--json")) if one["trial_set"] == "main")
    assert main["quarantined"] == {reason: 1}

    versions = list_versions(lake)
    again = collect_answers(lake, CollectionRequest("tiny", anyway=True), quiet)
    assert (str(again), list_versions(lake)) == ("tiny · main: +0 (434 of 435)", versions)
    assert sum(server.asked.values()) == N_MAIN, "a question in quarantine was asked again"

    monkeypatch.undo()
    said.clear()
    mended = collect_answers(lake, CollectionRequest("tiny", anyway=True), said.append)
    assert str(mended) == "tiny · main: +0 (435 of 435)"
    assert said[0] == "tiny: 1 rows in quarantine can now be published"
    found = rows(lake)
    assert found.height == found["request_key"].n_unique() == N_MAIN
    assert found.filter(pl.col("shard") == 1)["oddities"].str.contains("do not have the form").all()
    assert of_main(lake).quarantined == {}
    assert sum(server.asked.values()) == N_MAIN
    run(lake)
    assert read_output(lake, Output("choices", "tiny")).collect().height == N_MAIN


def test_odd_numbers_are_published_with_what_was_odd(lake: Path, server: FaultServer) -> None:
    nothing = {"content": [{"token": "2", "logprob": None, "top_logprobs": []}]}
    odd: list[dict[str, Any]] = [
        {"usage": {"prompt_tokens": -1}},
        {"usage": {"completion_tokens": 3_000_000_000}},
        {"choices": [{"message": {"content": "2"}, "finish_reason": "stop", "logprobs": nothing}]},
    ]
    server.odd = lambda asked, ordinary: ordinary | odd.pop() if odd else logprobs(asked, ordinary)
    done = collect_answers(lake, CollectionRequest("tiny", limit=40), quiet)
    assert str(done) == "tiny · main: +40 (40 of 435)"
    said = rows(lake)["oddities"].drop_nulls().sort().to_list()
    assert said == [
        "completion_tokens was 3000000000, read as 0",
        "prompt_tokens was -1, read as 0",
        "the log-probability of 2 was None, p1 to p3 are null",
    ]


BROKEN = {
    "attempts = 0": "attempts is 0, wanted at least 1",
    "attempts = 40000": "it cannot be converted to a row: ComputeError",
    "j = i": "i, j, k do not rise",
    "i = -1": "i is -1, wanted at least 0",
    "k = 3000000000": "it cannot be converted to a row: ComputeError",
    "trial_set = 'mian'": "trial_set is mian, wanted one of easy, main, noise_ceiling, validation",
    "\"order\" = '[1,2,9]'": "it cannot be converted to a row: IndexError",
    "error_kind = 'Bad Kind'": "error_kind is Bad Kind, wanted a text like",
}


def test_whatever_breaks_breaks_its_own_row(lake: Path, server: FaultServer) -> None:
    path = fill(lake, server, 40)
    for at, sql in enumerate(BROKEN, start=3):
        change(path, f"UPDATE answers SET {sql} WHERE id = ?", at)
    done = publish_waiting(lake, "tiny", quiet)
    assert (done.n_added, rows(lake).height) == (40 - len(BROKEN),) * 2
    with Journal(path) as journal:
        found = {one.id: one.reason for batch in journal.quarantined() for one in batch}
        assert len(found) == len(BROKEN)
        for reason, wanted in zip(found.values(), BROKEN.values(), strict=True):
            assert reason.startswith(wanted), reason
            assert "\n" not in reason
    change(path, "UPDATE quarantined SET attempts = 1 WHERE attempts IN (0, 40000)")
    again = publish_waiting(lake, "tiny", quiet)
    assert (again.n_added, again.n_taken_back) == (2, 2)
    assert rows(lake)["request_key"].n_unique() == rows(lake).height == 40 - len(BROKEN) + 2


POINTS = [
    ("affectlake.judge.requests.journal", "Journal", "review", "before"),
    ("affectlake.judge.requests.journal", "Journal", "review", "after"),
    ("affectlake.judge.requests.journal", "Journal", "set_aside", "before"),
    ("affectlake.judge.requests.journal", "Journal", "set_aside", "after"),
    ("affectlake.pipelines.collection.publishing", "-", "keep_answers", "after"),
    ("affectlake.lake.repository", "-", "publish_collected", "after"),
    ("affectlake.judge.requests.journal", "Journal", "forget", "after"),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point[3]} {point[2]}")
def test_a_kill_between_two_steps_loses_and_doubles_nothing(
    lake: Path, server: FaultServer, point: tuple[str, str, str, str]
) -> None:
    path = fill(lake, server, 12)
    change(path, "UPDATE answers SET attempts = 0 WHERE id IN (2, 3)")
    publish_waiting(lake, "tiny", quiet)
    fill(lake, server, 20)
    change(path, "UPDATE quarantined SET attempts = 1 WHERE id = 1")  # it comes in, the other one stays
    change(path, "UPDATE answers SET attempts = 0 WHERE id = (SELECT max(id) FROM answers)")
    killed = subprocess.run(script(PROCESS, lake, *point), check=False)
    assert killed.returncode == -signal.SIGKILL
    publish_waiting(lake, "tiny", quiet)
    n_asked = sum(server.asked.values())
    with Journal(path) as journal:
        held = [one.answer.key for batch in journal.quarantined() for one in batch]
        assert (len(held), len(journal)) == (2, 0)
    published = rows(lake)["request_key"].to_list()
    assert len(published) == n_asked - 2
    assert len({*published, *held}) == n_asked
    assert list_versions(lake)[-1].changes


def test_a_journal_of_the_format_before_is_opened_goes_on_and_is_published(lake: Path, server: FaultServer) -> None:
    path = fill(lake, server, 30)
    with closing(sqlite3.connect(path)) as new:
        columns = [row[1] for row in new.execute("PRAGMA table_info(answers)")][:19]
        names = ", ".join(f'"{name}"' for name in columns)
        kept = new.execute(f"SELECT {names} FROM answers").fetchall()
    path.unlink()
    with closing(sqlite3.connect(path)) as old:
        old.executescript(FORMAT_1)
        old.executemany(f"INSERT INTO answers ({names}) VALUES ({', '.join('?' * 19)})", kept)
        old.execute("INSERT INTO shards (first_id, last_id, n_answers) VALUES (1, 10, 10)")
        old.execute("UPDATE answers SET prompt_tokens = -1 WHERE id = 2")
        old.execute("UPDATE answers SET completion_tokens = 3000000000 WHERE id = 3")
        nothing = json.dumps({"content": [{"token": "2", "logprob": None}]})
        old.execute("UPDATE answers SET logprobs = ? WHERE id = 4", (nothing,))
        old.commit()
    assert sum(count.n for count in waiting(lake, "tiny")) == 30
    done = collect_answers(lake, CollectionRequest("tiny", limit=20), quiet)
    assert done.n_done == 50
    found = rows(lake)
    assert found.height == found["request_key"].n_unique() == 50 == sum(server.asked.values())
    assert found["oddities"].null_count() == 47
    assert found["served_model"].null_count() == 30
    assert dict(found["served_model"].drop_nulls().value_counts().iter_rows()) == {"tiny-llama": 20}
    assert of_main(lake).quarantined == {}


def test_parts_of_the_contract_before_and_of_today_are_one_table(
    lake: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, server, 20)
    new = ("served_model", "thinking", "refusal", "oddities")
    today = contract("responses")
    columns = tuple(column for column in today.columns if column.name not in new)
    before = dict(contracts.contracts()) | {"responses": replace(today, version=1, columns=columns)}
    with monkeypatch.context() as patch:
        patch.setattr(contracts, "contracts", lambda: before)
        patch.setattr(judged, "response_rows", judged.response_rows)
        patch.setattr(
            "affectlake.pipelines.collection.planning.response_rows",
            lambda *given: judged.response_rows(*given).drop(new),
        )
        assert publish_waiting(lake, "tiny", quiet).n_added == 20
        assert "thinking" not in rows(lake).columns
    collect_answers(lake, CollectionRequest("tiny", anyway=True), quiet)
    found = rows(lake)
    assert (found.height, found["served_model"].null_count()) == (N_MAIN, 20)
    assert found.columns == [column.name for column in today.columns]
    assert of_main(lake).n_answered == N_MAIN
    run(lake)
    assert read_output(lake, Output("choices", "tiny")).collect().height == N_MAIN


def test_what_is_said_of_the_agent_in_every_row_is_not_the_answers_fault(
    lake: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill(lake, server, 5)
    monkeypatch.setattr("affectlake.judge.chat.ChatAgent.protocol", property(lambda _agent: "Not A Protocol"))
    with pytest.raises(Exception, match="protocol"):
        publish_waiting(lake, "tiny", quiet)
    with Journal(path) as journal:
        assert (len(journal), journal.quarantine_counts()) == (5, [])


# the rules that single rows out are those that refuse a part


@pytest.mark.parametrize("table", ["responses", "videos", "learning_curves"])
def test_rows_are_at_fault_where_a_part_is_refused(tmp_path: Path, table: str) -> None:
    """Spoil one value in each row, and let the suite of Great Expectations and the rows' check say what they find."""
    wanted, good = contract(table), tiny_lake(12)[table]
    spoilt = [(name, value) for name, value in _spoilt(table) if value is not None or not wanted.column(name).nullable]
    bad = pl.concat(good.head(1).with_columns(pl.lit(value, good.schema[name]).alias(name)) for name, value in spoilt)
    assert all(row_faults(bad, wanted))
    assert row_faults(good, wanted) == [None] * good.height
    (part,) = write_parts(bad, wanted, tmp_path / "new")
    singled = Counter(name for fault in row_faults(pl.read_parquet(part), wanted) for name in _blamed(fault))
    refused = Counter[str]()
    for failure in expectations.validate(wanted, [part]):
        if len(failure.columns) == 1:  # pairs that do not rise are told once here, and by each pair there
            refused[failure.columns[0]] += failure.n_failed
    assert singled == refused
    assert sum(refused.values()) >= len(spoilt)


def _blamed(fault: str | None) -> set[str]:
    """Return the columns that a fault names, but for rules across columns."""
    words = [one for one in (fault or "").split("; ") if "do not rise" not in one and "is not one of" not in one]
    return {one.split()[0] for one in words}


def _spoilt(table: str) -> Iterator[tuple[str, object]]:
    for column in contract(table).columns:
        yield column.name, None
        if column.minimum is not None:
            yield column.name, column.minimum - 1
        if column.maximum is not None:
            yield column.name, int(column.maximum) + 2
        if column.values or column.pattern:
            yield column.name, " "


def test_a_row_that_was_in_quarantine_and_was_answered_meanwhile_waits(lake: Path, server: FaultServer) -> None:
    path = fill(lake, server, 5)
    change(path, "UPDATE answers SET attempts = 0 WHERE id = 2")
    publish_waiting(lake, "tiny", quiet)
    with Journal(path) as journal:
        (held,) = next(journal.quarantined())
        assert journal.held([held.answer.key], failed=False) == {held.answer.key}
        journal.write([held.answer._replace(attempts=1)])  # as no collector does
        assert journal.review({held.id: None}) == 0
        assert len(list(journal.quarantined())) == 1


def test_answers_handed_over_at_once_are_still_refused_as_a_whole(lake: Path, server: FaultServer) -> None:
    """Only publishing from a journal sets rows aside; who hands over answers is told, as before."""
    path = fill(lake, server, 5)
    with Journal(path) as journal:
        shard = journal.seal(10)
        assert shard is not None
        (answers,) = journal.read(shard)
    agent = plan_questions(lake, load(lake), "tiny", "main").agent
    with pytest.raises(Exception, match="attempts"), repository.writing(lake, "test"):
        keep_answers(lake, agent, [one._replace(attempts=0) for one in answers])
    assert appending.next_part(lake, Output("responses", "tiny")) == 0
    assert list((lake / layout.QUARANTINE).iterdir())
