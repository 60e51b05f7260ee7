"""Replies in every shape that servers send: nothing is misread, nothing is asked in vain, nothing is held in memory."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from affectlake.errors import CollectionError
from affectlake.judge.protocols.label_probabilities import weigh
from affectlake.judge.requests.answers import Answer
from affectlake.judge.requests.circuit_breaker import Threshold
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Account
from affectlake.judge.responses.tables import parsed_answer, read_choices, response_rows
from tests.support.chat import KEY_PHRASE, ONE_TOKEN, agent
from tests.support.fault_server import Fault, FaultServer
from tests.support.questions import make_questions

QUICK = Limits(start=1, concurrency=1, backoff_s=0.001, longest_backoff_s=0.002, threshold=Threshold(patience_s=600.0))
CHOICE = "Video 2 is noticeably different from the other two."
THOUGHT = "Is Video 1 noticeably different? Video 1 is noticeably different from the other two, I think."
Shape = Callable[[dict[str, Any]], Any]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(says=lambda _asked: CHOICE).running() as running:
        yield running


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "answers.sqlite") as opened:
        yield opened


def ask(server: FaultServer, journal: Journal, *shapes: Shape | None, limits: Limits = QUICK) -> Account:
    """Ask two questions: the first is answered in order, the second in these shapes, one a try, and then in order."""
    left: list[Shape | None] = [None, *shapes]
    server.odd = lambda _asked, ordinary: shape(ordinary) if left and (shape := left.pop(0)) else ordinary
    return collect(make_questions(2), journal, Target((server.url,), "tiny"), limits)


def second(journal: Journal) -> Answer:
    """Return the row of the second question."""
    wanted = list(make_questions(2))[1].key
    return journal.find([wanted])[wanted]


def row(answer: Answer) -> dict[str, Any]:
    """Return the row of ``responses`` that an answer makes, of a free protocol."""
    (found,) = response_rows(agent(), [answer]).iter_rows(named=True)
    return found


def reason(answer: Answer) -> str | None:
    """Return why an answer is not a choice; None if it is one."""
    read = read_choices(response_rows(agent(), [answer]), KEY_PHRASE)
    return None if read.choices.height else read.unparsed["unparsed_reason"].item()


def message(**fields: Any) -> Shape:
    """Change the message of a completion."""

    def change(ordinary: dict[str, Any]) -> dict[str, Any]:
        ordinary["choices"][0]["message"] |= fields
        return ordinary

    return change


def choice(**fields: Any) -> Shape:
    """Change the choice of a completion."""

    def change(ordinary: dict[str, Any]) -> dict[str, Any]:
        ordinary["choices"][0] |= fields
        return ordinary

    return change


def usage(**fields: Any) -> Shape:
    """Change what a completion says of tokens."""
    return lambda ordinary: ordinary | {"usage": ordinary["usage"] | fields}


def raw(text: str | bytes) -> Shape:
    """Put a text as it is in the place of the answer's."""
    text = text.encode() if isinstance(text, str) else text
    return lambda ordinary: json.dumps(ordinary).encode().replace(json.dumps(CHOICE).encode(), text)


# what is said, thought and declined


@pytest.mark.parametrize(
    ("fields", "text", "thinking"),
    [
        ({"content": [{"type": "text", "text": CHOICE}]}, CHOICE, None),
        (
            {"content": [{"type": "output_text", "text": CHOICE[:9]}, {"type": "text", "text": CHOICE[9:]}]},
            CHOICE,
            None,
        ),
        ({"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": CHOICE}]}, CHOICE, THOUGHT),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                    {"type": "text", "text": CHOICE},
                ]
            },
            CHOICE,
            THOUGHT,
        ),
        ({"content": [{"type": "reasoning", "text": THOUGHT}, CHOICE]}, CHOICE, THOUGHT),
        ({"reasoning_content": THOUGHT}, CHOICE, THOUGHT),
        ({"reasoning": THOUGHT}, CHOICE, THOUGHT),
        ({"thinking": THOUGHT, "reasoning": THOUGHT}, CHOICE, THOUGHT),
        ({"reasoning_content": [{"type": "text", "text": THOUGHT}]}, CHOICE, THOUGHT),
        ({"reasoning_content": None, "reasoning": "", "thinking": []}, CHOICE, None),
        ({"content": {"type": "text", "text": CHOICE}}, CHOICE, None),
    ],
)
def test_what_is_thought_is_kept_apart_from_what_is_said(
    server: FaultServer, journal: Journal, fields: dict[str, Any], text: str, thinking: str | None
) -> None:
    ask(server, journal, message(**fields))
    found = second(journal)
    assert row(found)["answer"] == text
    assert row(found)["thinking"] == thinking
    assert read_choices(response_rows(agent(), [found]), KEY_PHRASE).choices["position"].to_list() == [2]


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_a_thought_alone_is_not_a_choice(server: FaultServer, journal: Journal, finish_reason: str) -> None:
    ask(
        server,
        journal,
        lambda ordinary: choice(finish_reason=finish_reason)(
            message(content=None, reasoning_content=THOUGHT)(ordinary)
        ),
    )
    found = second(journal)
    assert parsed_answer(KEY_PHRASE, found).position is None
    assert (row(found)["answer"], row(found)["thinking"]) == ("", THOUGHT)
    assert reason(found) == ("truncated" if finish_reason == "length" else "empty")


@pytest.mark.parametrize(
    "shape",
    [
        message(content=None, refusal="I will not say that Video 2 is noticeably different."),
        message(content=[{"type": "refusal", "refusal": "Video 2 is noticeably different, but I will not say it."}]),
        choice(finish_reason="content_filter"),
        choice(finish_reason="content_filter: PROHIBITED_CONTENT"),
        lambda ordinary: choice(finish_reason="content_filter")(message(content=None)(ordinary)),
    ],
)
def test_what_is_declined_is_an_answer_that_is_a_refusal(server: FaultServer, journal: Journal, shape: Shape) -> None:
    account = ask(server, journal, shape)
    assert (account.n_answered, account.n_failed, account.retries) == (2, 0, {})
    assert reason(second(journal)) == "refusal"


def test_the_words_of_a_refusal_are_kept_and_are_not_the_answer(server: FaultServer, journal: Journal) -> None:
    ask(server, journal, message(content=None, refusal="I won't. Video 2 is noticeably different."))
    found = row(second(journal))
    assert (found["answer"], found["refusal"]) == ("", "I won't. Video 2 is noticeably different.")


# failures that look like answers


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (choice(finish_reason="abort"), "server_error"),
        (choice(finish_reason="error"), "server_error"),
        (choice(finish_reason="cancelled"), "server_error"),
        (choice(finish_reason="insufficient_system_resource"), "overloaded"),
        (choice(finish_reason="stop", error={"code": 502, "message": "upstream"}), "server_error"),
        (lambda _: {"error": {"code": 429, "message": "slow down"}}, "overloaded"),
        (lambda _: {"error": {"code": "429", "message": "slow down"}}, "overloaded"),
        (lambda _: {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, "overloaded"),
        (lambda _: {"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow down"}}, "overloaded"),
        (lambda _: {"error": {"message": "busy", "status": 503}}, "overloaded"),
        (lambda _: {"error": "Rate limit exceeded"}, "overloaded"),
        (lambda _: {"error": "no"}, "server_error"),
        (lambda _: {"error": {"type": "overloaded_error", "message": "busy"}}, "overloaded"),
        (lambda ordinary: ordinary | {"error": {"code": 500, "message": "half an answer"}}, "server_error"),
        (lambda _: {"object": "error", "message": "boom", "code": 500}, "server_error"),
        (lambda _: {"status": 408, "detail": "too late"}, "timed_out"),
    ],
)
def test_a_failure_that_may_pass_is_asked_again(server: FaultServer, journal: Journal, shape: Shape, kind: str) -> None:
    account = ask(server, journal, shape)
    assert (account.n_answered, account.n_failed, account.retries) == (2, 0, {kind: 1})
    assert (second(journal).text, second(journal).attempts) == (CHOICE, 2)


@pytest.mark.parametrize(
    ("error", "ending", "kind"),
    [
        ({"code": 400, "message": "too long"}, "complete", "rejected"),
        ({"code": "context_length_exceeded", "message": "too long"}, "complete", "rejected"),
        ({"code": 401, "message": "who are you"}, "circuit", None),
        ({"code": "insufficient_quota", "message": "pay"}, "circuit", None),
        ({"code": "model_not_found", "message": "what"}, "circuit", None),
    ],
)
def test_an_error_in_an_answer_is_what_its_status_would_be(
    server: FaultServer, journal: Journal, error: dict[str, Any], ending: str, kind: str | None
) -> None:
    account = ask(server, journal, lambda _: {"error": error})
    assert account.ending == ending
    if kind:
        assert (second(journal).error_kind, second(journal).attempts) == (kind, 1)
    else:
        assert error["message"] in account.why
        assert len(journal) == 1


@pytest.mark.parametrize("where", ["header", "body"])
def test_an_error_in_an_answer_may_ask_for_a_pause(server: FaultServer, journal: Journal, where: str) -> None:
    server.more_headers = "retry-after: 1\r\n" if where == "header" else ""
    body = {"code": 429, "message": "slow down"} | ({"retry_after": 1} if where == "body" else {})
    ask(server, journal, lambda _: {"error": body})
    gap = server.asked_at_s[2] - server.asked_at_s[1]
    assert gap >= 1.0


def test_an_answer_that_is_given_up_each_time_is_a_failure_with_words(server: FaultServer, journal: Journal) -> None:
    ask(server, journal, *[choice(finish_reason="abort")] * 6)
    found = second(journal)
    assert (found.error_kind, found.text, found.attempts) == ("server_error", None, 6)
    assert "the server stopped after" in (found.error_words or "")
    assert "abort" in (found.error_words or "")


# JSON that is none


@pytest.mark.parametrize(
    ("shape", "text", "odd"),
    [
        (raw('"' + CHOICE + ' \\ud83d"'), CHOICE + " �", "surrogate"),
        (raw('"' + CHOICE + ' \\ude00\\ud83d"'), CHOICE + " ��", "surrogate"),
        (raw('"' + CHOICE + ' \\ud83d\\ude00"'), CHOICE + " 😀", None),
        (raw('"' + CHOICE + ' \\u0000 end"'), CHOICE + " \0 end", None),
        (raw(b'"' + CHOICE.encode() + b' \xff"'), CHOICE + " �", "UTF-8"),
        (raw('"' + CHOICE + ' \n\t"'), CHOICE + " \n\t", None),
        (lambda o: b"\xef\xbb\xbf" + json.dumps(o).encode(), CHOICE, None),
        (lambda o: json.dumps(o | {"score": math.nan}).encode(), CHOICE, "NaN"),
        (lambda o: json.dumps(o | {"score": -math.inf}).encode(), CHOICE, "-Infinity"),
        (lambda o: json.dumps(o).encode().replace(b'"index": 0', b'"index": 1e999'), CHOICE, "1e999"),
    ],
)
def test_json_that_is_almost_json_is_read_at_once(
    server: FaultServer, journal: Journal, shape: Shape, text: str, odd: str | None
) -> None:
    account = ask(server, journal, shape)
    assert (account.n_answered, account.retries) == (2, {})
    found = row(second(journal))
    assert found["answer"] == text
    assert odd in found["oddities"] if odd else found["oddities"] is None
    assert reason(second(journal)) is None


@pytest.mark.parametrize(
    "broken", [b'{"choices": [{"mess', b"", b"<html>", b'{"a": NaNa}', b"[" * 100_000 + b"]" * 100_000, b"{}" + b"{}"]
)
def test_what_is_not_json_stays_a_failure(server: FaultServer, journal: Journal, broken: bytes) -> None:
    account = ask(server, journal, lambda _: broken)
    assert (account.n_answered, account.retries) == (2, {"truncated": 1})


# numbers


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (12, 12),
        (0, 0),
        (2**31 - 1, 2**31 - 1),
        (None, 0),
        (-1, None),
        (2**31, None),
        (3_000_000_000, None),
        (10**30, None),
        (1.5, None),
        ("12", None),
        (True, None),
        ([3], None),
        ({"n": 3}, None),
    ],
)
def test_a_count_that_is_none_is_0_and_said(
    server: FaultServer, journal: Journal, count: object, kept: int | None
) -> None:
    account = ask(server, journal, usage(prompt_tokens=count, completion_tokens=7))
    assert account.n_answered == 2
    found = row(second(journal))
    assert (found["prompt_tokens"], found["completion_tokens"], found["cached_tokens"]) == (kept or 0, 7, 4)
    if kept is None:
        assert "prompt_tokens was" in found["oddities"]
        assert "\n" not in found["oddities"]
    else:
        assert found["oddities"] is None


@pytest.mark.parametrize("what", [{"usage": None}, {"usage": [1]}, {"usage": "none"}, {"usage": {}}])
def test_usage_of_any_shape_does_no_harm(server: FaultServer, journal: Journal, what: dict[str, Any]) -> None:
    ask(server, journal, lambda ordinary: ordinary | what)
    assert (second(journal).text, second(journal).prompt_tokens) == (CHOICE, 0)


def place(token: object = "2", logprob: object = -0.1, **top: object) -> dict[str, Any]:
    listed = [{"token": name.strip("_"), "logprob": value} for name, value in top.items()]
    return {"content": [{"token": token, "logprob": logprob, "top_logprobs": listed}]}


@pytest.mark.parametrize(
    ("logprobs", "odd"),
    [
        (place(logprob=None), "the log-probability of 2 was None"),
        (place(_2=None), "the log-probability of 2 was None"),
        (place(_2=-0.5, _1=None), "the log-probability of 1 was None"),
        (place(_2=3.0), "the log-probability of 2 was 3.0"),
        (place(_2="-0.5"), "the log-probability of 2 was '-0.5'"),
        (place(_2=True), "the log-probability of 2 was True"),
        (place(_2=math.nan), "the log-probability of 2 was None"),
        (place(_2=1e308), "the log-probability of 2 was"),
        (place(_1=-0.1, _2=-0.1, _3=-0.1), "sum to 2.7"),
        (place(token=None), "do not have the form"),
        ({"content": [None]}, "do not have the form"),
        ({"content": [{"token": "2"}]}, "the log-probability of 2 was None"),
        ({"content": "2"}, "do not have the form"),
        ({"content": 2}, "do not have the form"),
        ([1], "do not have the form"),
        ("odd", "do not have the form"),
        (place(_2=-0.5, Video=None), None),
        (place(_2=-0.5, _1=-99999.0), None),
    ],
)
def test_log_probabilities_that_are_none_are_null_and_said(
    server: FaultServer, journal: Journal, logprobs: object, odd: str | None
) -> None:
    server.says = lambda _asked: "2"
    account = ask(server, journal, choice(logprobs=logprobs))
    assert (account.n_answered, account.retries) == (2, {})
    who = agent(protocol="forced-choice", sampling={})
    (found,) = response_rows(who, [second(journal)]).iter_rows(named=True)
    if odd is None:
        assert found["p2"] > 0.99
        assert found["oddities"] is None
    else:
        assert [found[name] for name in ("p1", "p2", "p3", "leftover")] == [None] * 4
        assert odd in found["oddities"]
    assert read_choices(response_rows(who, [second(journal)]), ONE_TOKEN).choices["position"].to_list() == [2]


def test_probabilities_of_anything_are_none_or_sum_to_one() -> None:
    for text in ("", "{", "null", "0", '"x"', "[[]]", '{"content": [[]]}', '{"content": [{"token": "1"}]}'):
        assert weigh(text).probabilities is None


# length


@pytest.mark.parametrize("fault", ["endless", "bomb"])
def test_an_answer_without_end_is_given_up_and_never_held(server: FaultServer, journal: Journal, fault: Fault) -> None:
    server.script.extend(["ok", fault])
    tracemalloc.start()
    try:
        account = ask(server, journal)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (account.n_answered, account.n_failed) == (1, 1)
    found = second(journal)
    assert (found.error_kind, found.attempts) == ("too_long", 1)
    assert "16,777,216 bytes" in (found.error_words or "")
    assert peak < 100e6
    assert server.n_endless < 100e6


def test_an_endless_list_of_models_is_one_message(server: FaultServer, journal: Journal) -> None:
    server.models = ("x" * 17 * 2**20,)
    with pytest.raises(CollectionError, match="16,777,216 bytes"):
        ask(server, journal)
