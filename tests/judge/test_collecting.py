"""Collecting from a real HTTP server that fails on demand: every question answered or accounted for, once."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from affectlake.errors import AffectlakeError, CollectionError, UsageError
from affectlake.judge.requests.answers import ASKED, Answer
from affectlake.judge.requests.circuit_breaker import Threshold
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Account, Progress
from affectlake.judge.trials.questions import Question
from tests.support.fault_server import Fault, FaultServer, expected_text
from tests.support.questions import make_questions

QUICK = Limits(backoff_s=0.01, longest_backoff_s=0.05, timeout_s=5.0)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer().running() as running:
        yield running


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "answers.sqlite") as opened:
        yield opened


def ask(n: int, journal: Journal, *servers: FaultServer, limits: Limits = QUICK, **options: object) -> Account:
    urls = tuple(server.url for server in servers)
    return collect(make_questions(n), journal, Target(urls, "tiny"), limits, **options)  # type: ignore[arg-type]


def rows(journal: Journal) -> list[Answer]:
    shard = journal.seal(10**9)
    return [] if shard is None else [row for batch in journal.read(shard) for row in batch]


def check_answers(journal: Journal, n: int) -> None:
    """Check that each of the first `n` questions has exactly the row that its request makes the server say."""
    found = {row.key: row for row in rows(journal)}
    assert len(found) == n
    for question in make_questions(n):
        row = found[question.key]
        assert all(getattr(row, name) == getattr(question, name) for name in ASKED)
        assert row.text == expected_text(orjson.dumps(question.body))
        assert row.finish_reason == "stop"
        assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (10, 2, 4)
        assert row.error_kind is None


def test_every_question_is_answered_once(server: FaultServer, journal: Journal) -> None:
    account = ask(600, journal, server)
    assert account.ending == "complete"
    assert (account.n_answered, account.n_failed, account.n_held) == (600, 0, 0)
    assert (account.prompt_tokens, account.completion_tokens, account.cached_tokens) == (6_000, 1_200, 2_400)
    assert account.models == {"tiny": 600}
    assert account.servers[0].engine == "fault/1"
    assert set(server.asked.values()) == {1}
    check_answers(journal, 600)


def test_what_the_journal_holds_is_not_asked(server: FaultServer, journal: Journal) -> None:
    ask(100, journal, server)
    account = ask(250, journal, server)
    assert (account.n_answered, account.n_held) == (150, 100)
    assert set(server.asked.values()) == {1}
    again = ask(250, journal, server)
    assert (again.n_answered, again.n_held, again.ending) == (0, 250, "complete")
    check_answers(journal, 250)


def test_no_more_than_wanted_are_asked(server: FaultServer, journal: Journal) -> None:
    account = ask(500, journal, server, most=70)
    assert (account.ending, account.n_answered, server.asked.total()) == ("limit", 70, 70)
    assert ask(500, journal, server, most=10**9).n_answered == 430
    check_answers(journal, 500)


def test_a_question_that_comes_twice_is_asked_once(server: FaultServer, journal: Journal) -> None:
    twice = [q for q in make_questions(40) for _ in range(2)]
    account = collect(iter(twice), journal, Target((server.url,), "tiny"), QUICK)
    assert account.n_answered == 40
    assert account.n_repeated + account.n_held == 40
    assert set(server.asked.values()) == {1}


RETRYABLE: list[tuple[Fault, str]] = [
    ("429", "overloaded"),
    ("503", "overloaded"),
    ("500", "server_error"),
    ("reset", "reset"),
    ("truncated", "truncated"),
    ("cut JSON", "truncated"),
]


@pytest.mark.parametrize(("fault", "kind"), RETRYABLE)
def test_what_can_pass_is_asked_again(server: FaultServer, journal: Journal, fault: Fault, kind: str) -> None:
    server.script.extend([fault] * 5)
    account = ask(60, journal, server)
    assert (account.n_answered, account.n_failed) == (60, 0)
    assert account.retries == {kind: 5}
    assert sum(row.attempts for row in rows(journal)) == 65


def test_a_server_that_asks_for_a_pause_gets_it(server: FaultServer, journal: Journal) -> None:
    server.script.append("429 after 1")
    account = ask(40, journal, server, limits=Limits(start=1, concurrency=1))
    gap = server.asked_at_s[1] - server.asked_at_s[0]
    assert gap >= 1.0
    assert (account.n_answered, account.retries) == (40, {"overloaded": 1})
    check_answers(journal, 40)


def test_a_request_that_hangs_times_out_and_is_asked_again(server: FaultServer, journal: Journal) -> None:
    server.script.extend(["hang"] * 3)
    account = ask(30, journal, server, limits=Limits(timeout_s=0.4, backoff_s=0.01))
    assert account.retries == {"timed_out": 3}
    check_answers(journal, 30)


def test_a_slow_first_answer_is_waited_for(server: FaultServer, journal: Journal) -> None:
    server.script.append("slow")
    account = ask(30, journal, server)
    assert account.retries == {}
    check_answers(journal, 30)


@pytest.mark.parametrize(("fault", "text"), [("wrong choice", "Video 7"), ("empty text", ""), ("null text", "")])
def test_strange_answers_are_answers(server: FaultServer, journal: Journal, fault: Fault, text: str) -> None:
    server.script.append(fault)
    account = ask(1, journal, server)
    assert (account.n_answered, account.retries) == (1, {})
    assert [(row.text, row.error_kind) for row in rows(journal)] == [(text, None)]


@pytest.mark.parametrize(
    ("fault", "kind", "words"), [("400", "rejected", "takes no video"), ("no choices", "malformed", "")]
)
def test_what_fails_for_good_is_a_row(
    server: FaultServer, journal: Journal, fault: Fault, kind: str, words: str
) -> None:
    server.script.extend(["ok", fault, fault])
    account = ask(50, journal, server, limits=Limits(start=1))
    assert (account.n_answered, account.n_failed, account.errors) == (48, 2, {kind: 2})
    bad = [row for row in rows(journal) if row.error_kind]
    assert [(row.error_kind, row.text, row.attempts) for row in bad] == [(kind, None, 1)] * 2
    assert all(words in (row.error_words or "") for row in bad)


def test_a_question_is_given_up_after_its_attempts_and_asked_again_on_request(
    server: FaultServer, journal: Journal
) -> None:
    server.script.extend(["ok"] + ["500"] * 3)
    account = ask(2, journal, server, limits=Limits(start=1, attempts=3, backoff_s=0.001))
    assert (account.n_answered, account.errors) == (1, {"server_error": 1})
    assert ask(2, journal, server).n_held == 2
    retried = ask(2, journal, server, retry_failed=True)
    assert (retried.n_held, retried.n_answered) == (1, 1)
    check_answers_after = {row.key: row.attempts for row in rows(journal)}
    assert sorted(check_answers_after.values()) == [1, 4]


def test_thirty_in_a_hundred_failing_requests_end_complete_with_honest_counts(
    server: FaultServer, journal: Journal
) -> None:
    server.share, server.faults = 0.3, ("429", "500", "503", "reset", "truncated", "cut JSON")
    account = ask(1_500, journal, server)
    assert (account.ending, account.n_answered + account.n_failed) == ("complete", 1_500)
    met = server.met
    assert account.retries.get("overloaded", 0) == met["429"] + met["503"]
    assert account.servers[0].n_failed == sum(n for fault, n in met.items() if fault != "ok")
    assert account.servers[0].n_answered == met["ok"] == account.n_answered
    assert sum(account.retries.values()) + account.n_failed == account.servers[0].n_failed
    kept = rows(journal)
    assert len({row.key for row in kept}) == len(kept) == 1_500
    assert sum(row.attempts for row in kept) == sum(met.values())


def test_overload_lowers_the_concurrency(server: FaultServer, journal: Journal) -> None:
    server.seconds, server.most_at_once = 0.01, 6
    account = ask(400, journal, server, limits=Limits(concurrency=64, start=8, backoff_s=0.01))
    assert account.n_answered == 400
    assert account.servers[0].limit <= 16
    assert account.retries["overloaded"] < 200


# what stops a run


def stopped_by(server: FaultServer, journal: Journal, fault: Fault, n: int = 200, **limits: object) -> Account:
    server.share, server.faults = 1.0, (fault,)
    return ask(n, journal, server, limits=Limits(backoff_s=0.001, longest_backoff_s=0.01, **limits))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", "does not accept the API key"),
        ("402", "no credit left"),
        ("404", "does not serve this model"),
        ("other model", "another model answered"),
    ],
)
def test_what_every_question_would_meet_stops_at_once_and_leaves_no_row(
    server: FaultServer, journal: Journal, fault: Fault, words: str
) -> None:
    account = stopped_by(server, journal, fault)
    assert account.ending == "circuit"
    assert words in account.why
    assert server.asked.total() <= 16
    assert len(journal) == 0


def test_a_server_without_video_is_told_by_its_first_refusals(server: FaultServer, journal: Journal) -> None:
    server.share, server.faults = 1.0, ("400",)
    shown = [
        question._replace(body={**question.body, "messages": [{"role": "user", "content": [{"type": "video_url"}]}]})
        for question in make_questions(300)
    ]
    account = collect(iter(shown), journal, Target((server.url,), "tiny"), QUICK)
    assert account.ending == "circuit"
    assert "the server does not accept this video" in account.why
    assert "multimodal" in account.why
    assert len(journal) == 0
    server.share = 0.0
    assert collect(iter(shown), journal, Target((server.url,), "tiny"), QUICK).n_answered == 300


def test_few_questions_that_are_all_refused_are_rows(server: FaultServer, journal: Journal) -> None:
    account = stopped_by(server, journal, "400", n=3)
    assert (account.ending, account.n_failed, len(journal)) == ("complete", 3, 3)


def test_an_error_rate_that_stays_stops_the_run_and_says_why(server: FaultServer, journal: Journal) -> None:
    account = stopped_by(server, journal, "500", attempts=10**6, threshold=Threshold(patience_s=0.3))
    assert account.ending == "circuit"
    assert "the share of failures has been above 50%" in account.why
    assert "500: fault 500" in account.why


def test_a_stopped_run_keeps_what_was_under_way(server: FaultServer, journal: Journal) -> None:
    server.seconds = 0.02
    stop = threading.Event()

    def look(progress: Progress) -> None:
        if progress.n_answered >= 20:
            stop.set()

    account = ask(5_000, journal, server, stops=[threading.Event(), stop], progress=look, progress_every_s=0.02)
    assert account.ending == "stopped"
    assert 20 <= account.n_answered < 5_000
    assert len(journal) == account.n_answered == server.served.total()


def test_an_interrupt_stops_cleanly_and_the_rest_is_asked_later(server: FaultServer, journal: Journal) -> None:
    server.seconds = 0.02
    sent = []

    def look(progress: Progress) -> None:
        if progress.n_answered >= 20 and not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    account = ask(600, journal, server, progress=look, progress_every_s=0.02)
    assert account.ending == "stopped"
    assert signal.getsignal(signal.SIGINT) is before
    assert len(journal) == account.n_answered == server.served.total()
    assert ask(600, journal, server).n_answered == 600 - account.n_answered
    assert set(server.served.values()) == {1}


def test_a_second_interrupt_does_not_wait(server: FaultServer, journal: Journal) -> None:
    server.share, server.faults = 1.0, ("hang",)
    timers = [threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)) for delay in (0.4, 0.8)]
    for timer in timers:
        timer.start()
    started = time.monotonic()
    account = ask(50, journal, server, limits=Limits(timeout_s=60, grace_s=60))
    assert time.monotonic() - started < 20
    assert (account.ending, account.n_answered) == ("stopped", 0)


# several servers


def test_work_is_shared_and_neighbours_stay_together(journal: Journal) -> None:
    with FaultServer(seconds=0.005).running() as one, FaultServer(seconds=0.005).running() as other:
        account = ask(1_000, journal, one, other, limits=Limits(concurrency=8))
        assert account.n_answered == 1_000
        assert min(one.served.total(), other.served.total()) > 250
    check_answers(journal, 1_000)


def test_work_moves_off_a_server_that_dies_and_back_when_it_returns(journal: Journal) -> None:
    one, other = FaultServer(seconds=0.004), FaultServer(seconds=0.004)
    seen: list[bool] = []
    with other.running():
        first = one.running()
        first.__enter__()
        again = one.running()

        def weather(progress: Progress) -> None:
            done = progress.n_answered
            if done > 200 and not seen:
                first.__exit__(None, None, None)
                seen.append(progress.servers[0].up)
            elif len(seen) == 1 and not progress.servers[0].up and other.served.total() > 400:
                seen.append(progress.servers[0].up)
                one.now = 0
                one.served.clear()
                again.__enter__()

        limits = Limits(concurrency=4, backoff_s=0.01)
        account = ask(4_000, journal, one, other, limits=limits, progress=weather, progress_every_s=0.02)
        again.__exit__(None, None, None)
    assert seen == [True, False]
    assert (account.ending, account.n_answered, account.n_failed) == ("complete", 4_000, 0)
    assert account.retries.get("unreachable", 0) >= 1
    assert one.served.total() > 50  # after it came back
    assert account.servers[0].up
    check_answers(journal, 4_000)


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def test_one_dead_server_of_two_does_not_stop_a_run(server: FaultServer, journal: Journal) -> None:
    account = collect(make_questions(300), journal, Target((closed_port(), server.url), "tiny"), QUICK)
    assert (account.ending, account.n_answered) == ("complete", 300)
    assert [one.up for one in account.servers] == [False, True]


# what is wrong from the beginning


@pytest.mark.parametrize(
    ("break_it", "error", "words"),
    [
        (lambda _: Target((closed_port(),), "tiny"), CollectionError, "unreachable"),
        (lambda s: Target((s.url,), "tinny"), CollectionError, "does not serve 'tinny'"),
        (lambda s: Target((s.url.replace("/v1", "/v2"),), "tiny"), CollectionError, "cannot be used"),
        (lambda s: Target((s.url,), "tiny", "NO_SUCH_KEY"), UsageError, "NO_SUCH_KEY"),
        (lambda _: Target((), "tiny"), UsageError, "URL"),
    ],
)
def test_one_clear_message_and_nothing_asked(
    server: FaultServer,
    journal: Journal,
    break_it: Callable[[FaultServer], Target],
    error: type[AffectlakeError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        collect(make_questions(10), journal, break_it(server), QUICK)
    assert server.asked.total() == 0
    assert len(journal) == 0


def test_a_planner_that_fails_ends_the_run_and_keeps_the_answers(server: FaultServer, journal: Journal) -> None:
    def breaks() -> Iterator[Question]:
        yield from make_questions(600)
        raise ValueError("the plan is torn")

    with pytest.raises(ValueError, match="the plan is torn"):
        collect(breaks(), journal, Target((server.url,), "tiny"), QUICK)
    assert len(journal) == server.served.total() > 0


def test_a_request_that_cannot_be_written_ends_the_run(server: FaultServer, journal: Journal) -> None:
    planned = list(make_questions(100))
    planned[60] = planned[60]._replace(body={"model": "tiny", "messages": object()})
    with pytest.raises(TypeError):
        collect(planned, journal, Target((server.url,), "tiny"), QUICK)
    assert len(journal) == server.served.total() > 0


def test_a_progress_that_fails_ends_the_run_and_keeps_the_answers(server: FaultServer, journal: Journal) -> None:
    def breaks(progress: Progress) -> None:
        raise ValueError("nobody listens")

    server.seconds = 0.01
    with pytest.raises(ValueError, match="nobody listens"):
        ask(10_000, journal, server, progress=breaks, progress_every_s=0.1)
    assert len(journal) == server.served.total() > 0


def test_a_journal_that_cannot_be_written_ends_the_run(
    server: FaultServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(journal.path) as database:  # what a full disk looks like to SQLite
        pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.close()
    journal._database.execute(f"PRAGMA max_page_count = {pages + 12}")
    with pytest.raises(CollectionError, match="cannot be written"):
        ask(2_000, journal, server)
    journal._database.execute("PRAGMA max_page_count = 1000000")
    assert ask(2_000, journal, server).ending == "complete"
    check_answers(journal, 2_000)


def test_the_key_is_sent_and_appears_nowhere(
    server: FaultServer, journal: Journal, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "TOPSECRET-0123456789")
    server.script.extend(["ok", "echo key", "500", "reset"])
    told: list[Progress] = []
    target = Target((server.url,), "tiny", "JUDGE_KEY")
    account = collect(make_questions(50), journal, target, QUICK, progress=told.append, progress_every_s=0.01)
    assert "Authorization: Bearer TOPSECRET-0123456789" in server.headers[0]
    bad = [row for row in rows(journal) if row.error_kind]
    assert ["***" in (row.error_words or "") for row in bad] == [True]
    kept = b"".join(path.read_bytes() for path in journal.path.parent.iterdir())
    said = "".join(capfd.readouterr()) + repr(account) + repr(told)
    assert b"TOPSECRET" not in kept
    assert "TOPSECRET" not in said
    server.share, server.faults = 1.0, ("401",)
    account = collect(make_questions(90), journal, target, QUICK)
    assert account.ending == "circuit"
    assert "TOPSECRET" not in account.why


def test_a_wrong_key_is_told_before_anything_is_asked(
    server: FaultServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "RIGHT-0123456789"
    monkeypatch.setenv("JUDGE_KEY", "WRONG-0123456789")
    target = Target((server.url,), "tiny", "JUDGE_KEY")
    with pytest.raises(CollectionError, match="cannot be used: unauthorised") as caught:
        collect(make_questions(5), journal, target, QUICK)
    assert "WRONG" not in str(caught.value)
    assert "***" in str(caught.value)
    monkeypatch.setenv("JUDGE_KEY", "RIGHT-0123456789")
    assert collect(make_questions(5), journal, target, QUICK).n_answered == 5


def test_progress_adds_up(server: FaultServer, journal: Journal) -> None:
    ask(50, journal, server)
    told: list[Progress] = []
    server.seconds = 0.005
    ask(400, journal, server, progress=told.append, progress_every_s=0.02)
    assert (told[-1].n_held, told[-1].n_answered, told[-1].n_read) == (50, 350, 350)
    assert any(p.per_second > 0 for p in told)
    assert [p.n_answered for p in told] == sorted(p.n_answered for p in told)
