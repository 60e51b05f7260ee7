"""What decides under bad weather: the limit of requests, the circuit, the choice of a server, refusals."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from affectlake.errors import UsageError
from affectlake.judge.requests.adaptive_limit import AdaptiveLimit
from affectlake.judge.requests.answers import Failure
from affectlake.judge.requests.circuit_breaker import Circuit, Threshold
from affectlake.judge.requests.client import Scrubber, api_key
from affectlake.judge.requests.refusals import kind_of, retry_after
from affectlake.judge.requests.replies import read_reply
from affectlake.judge.requests.request_limits import Target, check_urls
from affectlake.judge.requests.server_pool import FAILURES_UNTIL_DOWN, Pool, Server, Task
from affectlake.judge.trials.questions import Question

# the limit of requests


def use_it_fully(limit: AdaptiveLimit) -> None:
    """Send as many requests as may be, and let all succeed."""
    n = limit.room
    for _ in range(n):
        limit.send()
    for _ in range(n):
        limit.succeeded()
    for _ in range(n):
        limit.done()


def test_slow_start_doubles_each_round() -> None:
    limit, seen = AdaptiveLimit(most=64, start=4), []
    for _ in range(5):
        seen.append(limit.limit)
        use_it_fully(limit)
    assert seen == [4, 8, 16, 32, 64]
    assert limit.limit == 64


def test_overload_halves_once_a_round_and_growth_is_then_slow() -> None:
    limit = AdaptiveLimit(most=64, start=64)
    sent_in = [limit.send() for _ in range(64)]
    for one in sent_in:
        limit.overloaded(one)
        limit.done()
    assert limit.limit == 32
    for _ in range(3):
        use_it_fully(limit)
    assert 34 <= limit.limit <= 35  # one more a round


def test_the_limit_never_falls_below_one_and_does_not_grow_unused() -> None:
    limit = AdaptiveLimit(most=8, start=2)
    for _ in range(10):
        limit.overloaded(limit.send())
        limit.done()
    assert limit.limit == 1
    idle = AdaptiveLimit(most=64, start=16)
    for _ in range(100):
        idle.send()
        idle.succeeded()
        idle.done()
    assert idle.limit == 16


# the circuit


def test_a_circuit_stops_after_lasting_trouble_and_says_why() -> None:
    circuit = Circuit(Threshold(error_rate=0.5, window=40, patience_s=10, at_least=10))
    for now in range(30):
        circuit.record(None, "", 0.1 * now)
    for now in range(100):
        circuit.record("server_error", "500: boom", 10 + 0.05 * now)
    assert circuit.error_rate == 1.0
    assert not circuit.why
    circuit.record("server_error", "500: boom", 22)
    assert "40 of the latest 40 attempts failed" in circuit.why
    assert "500: boom" in circuit.why


def test_thirty_in_a_hundred_failures_stop_nothing() -> None:
    circuit = Circuit(Threshold(patience_s=0))
    for now in range(10_000):
        circuit.record("reset" if now % 10 < 3 else None, "", now)
    assert not circuit.why


def test_trouble_that_passes_or_a_rest_that_was_asked_for_does_not_count() -> None:
    threshold = Threshold(error_rate=0.5, window=20, patience_s=10, at_least=10)
    passed = Circuit(threshold)
    for start in (0, 100, 200):
        for n in range(20):
            passed.record("reset", "", start + 0.1 * n)
        for n in range(20):
            passed.record(None, "", start + 5 + 0.1 * n)
    assert not passed.why
    rested = Circuit(threshold)
    for _ in range(20):
        rested.record("overloaded", "429", 0)
    rested.pause(60)
    rested.record("overloaded", "429", 61)
    assert not rested.why
    rested.record("overloaded", "429", 75)
    assert rested.why


# servers


def task(route: int) -> Task:
    return Task(Question(b"", "main", 0, 1, 2, 0, (1, 2, 3), None, route, {}))


def pool(n: int, most: int = 4) -> Pool:
    return Pool([Server(f"http://s{m}/v1", AdaptiveLimit(most, most)) for m in range(n)])


def test_stimuli_are_drawn_evenly_and_a_lost_server_moves_only_its_own() -> None:
    three, two = pool(3), pool(2)
    before = {route: three.draw(route)[0].url for route in range(3_000)}
    after = {route: two.draw(route)[0].url for route in range(3_000)}
    assert all(900 < n < 1_100 for n in Counter(before.values()).values())
    assert all(after[r] == before[r] for r in before if before[r] != "http://s2/v1")


def test_questions_that_begin_alike_go_to_one_server_while_it_has_room() -> None:
    servers = pool(2, most=100)
    for route in [1] * 5 + [2] * 5 + [3] * 5:
        servers.put(task(route))
    got: dict[int, set[str]] = {}
    queued = {id(t): s.url for s in servers.servers for t in s.queue}
    for server in servers.servers:
        for one in server.queue:
            got.setdefault(one.question.route, set()).add(server.url)
    assert all(len(urls) == 1 for urls in got.values())
    assert len(queued) == 15


def test_an_idle_server_takes_the_far_half_of_the_longest_queue() -> None:
    servers = pool(2, most=2)
    route = next(r for r in range(100) if servers.draw(r)[0] is servers.servers[0])
    tasks = [task(route) for _ in range(10)]
    for one in tasks:
        servers.put(one)
    sent = []
    for server, one in servers.take(0.0):
        server.limit.send()
        sent.append((server.url[-4], tasks.index(one)))
    assert sent == [("0", 0), ("0", 1), ("1", 6), ("1", 7)]
    assert [tasks.index(t) for t in servers.servers[1].queue] == [8, 9]


def test_a_server_that_is_down_or_rests_gets_nothing_and_loses_its_queue() -> None:
    servers = pool(2, most=100)
    for route in range(50):
        servers.put(task(route))
    servers.servers[0].failed("unreachable", 0, 0.0)
    sent = Counter[str]()
    for server, _ in servers.take(0.0):
        server.limit.send()
        sent[server.url] += 1
    assert sent == {"http://s1/v1": 50}
    resting = pool(1)
    resting.put(task(1))
    resting.servers[0].failed("overloaded", 0, paused_until_s=5.0)
    assert not list(resting.take(4.9))
    assert resting.servers[0].has_room(5.0)


def test_a_row_of_failures_takes_a_server_out_and_an_answer_breaks_the_row() -> None:
    server = pool(1).servers[0]
    for _ in range(FAILURES_UNTIL_DOWN - 1):
        server.failed("server_error", 0, 0.0)
    server.answered()
    for _ in range(FAILURES_UNTIL_DOWN - 1):
        server.failed("reset", 0, 0.0)
    assert server.up
    server.failed("rejected", 0, 0.0)  # a refusal shows that it lives
    server.failed("reset", 0, 0.0)
    assert server.up
    for _ in range(FAILURES_UNTIL_DOWN):
        server.failed("timed_out", 0, 0.0)
    assert not server.up


# refusals


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "", "rejected"),
        (401, "", "unauthorised"),
        (402, "", "out_of_credit"),
        (403, "", "rejected"),
        (404, "", "no_such_model"),
        (408, "", "timed_out"),
        (413, "", "rejected"),
        (422, "", "rejected"),
        (429, "", "overloaded"),
        (429, "rate_limit_exceeded", "overloaded"),
        (429, "insufficient_quota", "out_of_credit"),
        (500, "", "server_error"),
        (502, "", "server_error"),
        (503, "", "overloaded"),
        (504, "", "server_error"),
        (529, "", "overloaded"),
        (301, "", "rejected"),
    ],
)
def test_what_a_status_means(status: int, code: str, kind: str) -> None:
    assert kind_of(status, code) == kind


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0.0),
        ("", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0.0),
        ("soon", 0.0),
    ],
)
def test_how_long_a_server_asks_to_wait(value: str | None, seconds: float) -> None:
    assert retry_after(value, datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    "words",
    [
        "key TOPSECRET-42 is wrong",
        "Authorization: Bearer TOPSECRET-42",
        "Incorrect API key provided: sk-proj-abcdefgh12345678",
        "token hf_abcdefghijklmnop is not valid",
        "could not reach http://me:hunter22222@host:1/v1",
        "header Bearer eyJhbGciOi.J9.x-y",
    ],
)
def test_secrets_are_taken_out(words: str) -> None:
    clean = Scrubber(["TOPSECRET-42"])(words)
    for secret in ("TOPSECRET-42", "abcdefgh12345678", "abcdefghijklmnop", "hunter22222", "eyJhbGciOi"):
        assert secret not in clean
    assert "***" in clean


def test_ordinary_words_stay_and_long_ones_are_cut() -> None:
    words = "400: This model's maximum context length is 4096 tokens. task-specific risk-averse sk-8B"
    assert Scrubber([""])(words) == words
    assert len(Scrubber([])("word " * 1_000)) <= 500


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b'{"choices": [{"message": {"cont', "truncated"),
        (b"<html>Bad gateway</html>", "truncated"),
        (b'{"choices": []}', "malformed"),
        (b'{"error": "no"}', "server_error"),
        (b'{"choices": [{"message": null}]}', "malformed"),
        (b"[]", "malformed"),
    ],
)
def test_what_is_no_answer(payload: bytes, kind: str) -> None:
    with pytest.raises(Failure) as caught:
        read_reply(payload)
    assert caught.value.kind == kind


def test_an_answer_is_read_whole() -> None:
    reply = read_reply(
        b'{"model": "m", "choices": [{"message": {"content": " Video 2\\n"}, "finish_reason": "length",'
        b' "logprobs": {"content": [{"token": "2", "logprob": -0.5}]}}],'
        b' "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": null}}'
    )
    assert reply.text == " Video 2\n"
    assert reply.logprobs == '{"content":[{"token":"2","logprob":-0.5}]}'
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens, reply.model) == (9, 3, 0, "m")
    assert reply.finish_reason == "length"


# targets


def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(UsageError, match="JUDGE_KEY is not set"):
        api_key("JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", " k ")
    assert api_key("JUDGE_KEY") == "k"
    assert api_key("") == ""


@pytest.mark.parametrize("urls", [(), ("localhost:8000",), ("ftp://x/v1",), ("http://me:hunter2@host/v1",)])
def test_urls_that_cannot_be_asked(urls: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        check_urls(Target(urls, "m"))
    assert "hunter2" not in str(caught.value)
