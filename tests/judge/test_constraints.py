"""How answers are limited to labels: servers that obey different fields, several of them at once, or none.

The fields are those that the documents of the servers describe (vLLM, llama.cpp, SGLang, Ollama, LM Studio,
text-generation-inference, OpenAI). Real servers of llama.cpp and vLLM are asked in tests/model and tests/vllm.
"""

from __future__ import annotations

import json
import math
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from affectlake.errors import CollectionError
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.labels import label_in
from affectlake.judge.requests.answers import Answer, Constraint
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.constraints import FIRST_WAY, PROBE, WAYS, limited
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.responses.tables import response_rows
from affectlake.judge.trials.plan import make_plan
from affectlake.pipelines.collection.servers import target_of
from tests.support.chat import agent, materials, trials
from tests.support.fault_server import FaultServer

NUMBERS = ("1", "2", "3")
QUICK = Limits(concurrency=4, attempts=3, backoff_s=0.01, longest_backoff_s=0.02)

DOCUMENTED: dict[str, dict[str, Any]] = {
    "structured_outputs": {"structured_outputs": {"choice": ["1", "2", "3"]}},
    "grammar": {"grammar": 'root ::= "1" | "2" | "3"'},
    "regex": {"regex": "(1|2|3)"},
    "guided_choice": {"guided_choice": ["1", "2", "3"]},
    "regex_format": {"response_format": {"type": "regex", "value": "(1|2|3)"}},
}
"""What a request contains, by way, apart from JSON schemas."""


def forced(**changes: Any) -> ChatAgent:
    return agent(**{"protocol": "forced-choice", "sampling": {}} | changes)


def ask(who: ChatAgent, path: Path, *servers: FaultServer, n: int = 12, limits: Limits = QUICK) -> list[Answer]:
    plan = make_plan(who, trials(9), materials(9), root=5)
    with Journal(path / "answers.sqlite") as journal:
        collect(plan.questions(), journal, target_of(who, tuple(s.url for s in servers)), limits, most=n)
        shard = journal.seal(10**9)
        return [] if shard is None else [row for batch in journal.read(shard) for row in batch]


def tokens(*probabilities: float, first: str = "1") -> dict[str, Any]:
    """Log-probabilities of the labels and of other tokens, as a chat completion has them."""
    named = zip((*NUMBERS, "The", "I"), probabilities, strict=False)
    top = [{"token": token, "logprob": math.log(p)} for token, p in named]
    chosen = next((one for one in top if one["token"] == first), {"token": first, "logprob": -9.0})
    return {"content": [chosen | {"top_logprobs": top}]}


def server(*obeys: str, **more: Any) -> FaultServer:
    return FaultServer(models=("tiny-llama",), obeys=obeys, says=lambda _body: "2", counting=True, **more)


@pytest.mark.parametrize("way", WAYS)
def test_the_field_that_a_server_obeys_is_found_and_used(way: str, tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    who = forced()

    def seen(body: bytes, ordinary: dict[str, Any]) -> dict[str, Any]:
        sent.append(json.loads(body))
        return ordinary

    with server(way, odd=seen).running() as running:
        rows = ask(who, tmp_path, running)
    assert [row.limited_by for row in rows] == [way] * 12
    assert set(response_rows(who, rows)["limited_by"]) == {way}
    for body in sent:
        fields = WAYS[way](NUMBERS)
        assert {name: body[name] for name in fields} == fields
        others = {name for other in WAYS for name in WAYS[other](NUMBERS)} - set(fields) - {"top_logprobs"}
        assert not others & set(body)
        assert body["max_tokens"] == (44 if way.startswith("json") else 4)
        assert {name: body[name] for name in DOCUMENTED.get(way, {})} == DOCUMENTED.get(way, {})
    tried = list(WAYS)[: list(WAYS).index(way) + 1]
    assert len(running.tested) == len(tried)
    for asked in running.tested:
        assert asked["messages"] == [{"role": "user", "content": PROBE}]
        assert (asked["temperature"], asked["logprobs"]) == (0.0, True)


def test_json_schemas_are_those_that_the_documents_describe() -> None:
    value = WAYS["json_schema"](NUMBERS)["response_format"]
    assert value["type"] == "json_schema" and value["json_schema"]["strict"] is True
    assert value["json_schema"]["schema"] == {"type": "integer", "enum": [1, 2, 3]}
    words = WAYS["json_schema"](("left", "middle", "right"))["response_format"]["json_schema"]["schema"]
    assert words == {"type": "string", "enum": ["left", "middle", "right"]}
    padded = WAYS["json_schema"](("01", "02", "03"))["response_format"]["json_schema"]["schema"]
    assert padded == {"type": "string", "enum": ["01", "02", "03"]}
    whole = WAYS["json_object"](NUMBERS)["response_format"]["json_schema"]["schema"]
    assert whole["type"] == "object" and whole["required"] == list(whole["properties"]) == ["choice"]
    assert whole["additionalProperties"] is False  # OpenAI refuses a strict schema without it
    assert WAYS["grammar"](('a"b', "ä", "c"))["grammar"] == 'root ::= "a\\"b" | "ä" | "c"'
    assert WAYS["regex"](("a.", "b", "c"))["regex"] == "(a\\.|b|c)"


@pytest.mark.parametrize(
    ("answer", "label"),
    [("2", "2"), (" 2.\n", "2"), ('"3"', "3"), ('{"choice": 1}', "1"), ('{ "choice" : "3" }\n', "3"), ("4", None),
     ('{"choice": true}', None), ('{"answer": 1}', None), ('{"choice": 1', None), ("[1]", None), ("12", None),
     ('{"choice": {"choice": 1}}', None), ("", None), ("Video 1", None)],
)  # fmt: skip
def test_labels_are_read_as_text_and_as_json(answer: str, label: str | None) -> None:
    assert label_in(answer, NUMBERS) == label


def test_a_label_may_look_like_punctuation() -> None:
    assert label_in("A.", ("A.", "B.", "C.")) == "A."
    assert label_in('"B."', ("A", "B", "C")) == "B"


def test_a_server_that_obeys_nothing_is_refused_with_what_it_answered(tmp_path: Path) -> None:
    with server(refuses=("regex",)).running() as running, pytest.raises(CollectionError) as caught:
        ask(forced(), tmp_path, running)
    assert f"the server at {running.url} does not limit its answers to the labels 1, 2, 3" in str(caught.value)
    assert "grammar: answered 'Paris is the capital'; regex: refused: 400: unknown field: regex" in caught.value.found
    assert "describe-then-choose" in caught.value.todo and "constraint: none" in caught.value.todo
    assert running.asked.total() == 0
    assert len(running.tested) == len(WAYS)


def test_an_agent_may_be_asked_without_a_constraint(tmp_path: Path) -> None:
    with server().running() as running:
        rows = ask(forced(constraint="none"), tmp_path, running)
    assert [row.limited_by for row in rows] == [None] * 12 and not running.tested


def test_only_the_way_that_the_entry_names_is_tried(tmp_path: Path) -> None:
    with server("regex").running() as running:
        assert {row.limited_by for row in ask(forced(constraint="regex"), tmp_path, running)} == {"regex"}
        assert len(running.tested) == 1
        with pytest.raises(CollectionError, match="does not limit"):
            ask(forced(constraint="grammar"), tmp_path / "other", running)
        assert len(running.tested) == 2


def test_a_field_of_the_entry_is_used_in_place_of_ours(tmp_path: Path) -> None:
    own = {"grammar": 'root ::= "1" | "2" | "3"'}
    who = forced(sampling={"extra": own})
    with FaultServer(models=("tiny-llama",), says=lambda _b: "2").running() as running:
        with pytest.raises(CollectionError, match="does not limit"):
            ask(who, tmp_path, running)
        (asked,) = running.tested
        assert asked["grammar"] == own["grammar"] and FIRST_WAY not in asked


def test_each_of_two_servers_is_asked_in_its_own_way(tmp_path: Path) -> None:
    listed = {"masked": tokens(0.7, 0.2, 0.1), "open": tokens(1e-5, 1e-5, 1e-5, 0.9)}
    with ExitStack() as stack:
        one = stack.enter_context(server(lists=lambda *_: listed["masked"]).running())
        one.obeys = ("structured_outputs",)
        one.odd = lambda _b, found: with_logprobs(found, tokens(0.5, 0.3, 0.2, first="2"))
        two = stack.enter_context(server("grammar", lists=lambda *_: listed["open"]).running())
        two.odd = lambda _b, found: with_logprobs(found, tokens(0.05, 0.03, 0.02, 0.8, first="2"))
        who = forced()
        rows = response_rows(who, ask(who, tmp_path, one, two, n=84))
    assert set(rows["limited_by"]) == {"structured_outputs", "grammar"}
    for way, leftover in (("structured_outputs", None), ("grammar", pytest.approx(0.9))):
        some = rows.filter(limited_by=way)
        assert some.select("p1", "p2", "p3").unique().row(0) == pytest.approx((0.5, 0.3, 0.2))
        assert some["leftover"].to_list() == [leftover] * some.height


def with_logprobs(found: dict[str, Any], logprobs: dict[str, Any]) -> dict[str, Any]:
    found["choices"][0]["logprobs"] = logprobs
    return found


def test_a_server_without_log_probabilities_is_used(tmp_path: Path) -> None:
    who = forced()
    with server("regex").running() as running:
        rows = response_rows(who, ask(who, tmp_path, running))
    assert rows.select("p1", "leftover").unique().row(0) == (None, None)
    assert set(rows["answer"]) == {"2"}


def test_passing_failures_of_the_test_question_are_waited_out(tmp_path: Path) -> None:
    with server("structured_outputs", test_faults=deque(["503", "429"])).running() as running:
        assert len(ask(forced(), tmp_path, running)) == 12
    assert len(running.tested) == 3


@pytest.mark.parametrize(
    ("faults", "message"), [(["401"], "unauthorised"), (["503"] * 3, "overloaded"), (["500"] * 21, "server error")]
)
def test_lasting_failures_of_the_test_question_end_the_run(faults: list[Any], message: str, tmp_path: Path) -> None:
    running = server("structured_outputs", test_faults=deque(faults))
    with running.running(), pytest.raises(CollectionError, match=f"cannot be used: {message}") as caught:
        ask(forced(), tmp_path, running)
    assert "to do" in str(caught.value) and running.asked.total() == 0


def test_a_server_error_on_an_unknown_field_is_not_the_end(tmp_path: Path) -> None:
    with server("grammar", test_faults=deque(["500"])).running() as running:
        assert {row.limited_by for row in ask(forced(), tmp_path, running)} == {"grammar"}


def test_a_model_without_log_probabilities_is_named_as_such(tmp_path: Path) -> None:
    refusal = "logprobs is not supported by this model"
    running = server("grammar", refuses=(FIRST_WAY,), refusal=refusal)
    with running.running(), pytest.raises(CollectionError, match="one-token protocol") as caught:
        ask(forced(), tmp_path, running)
    assert "use another protocol" in caught.value.todo


def test_a_server_that_comes_back_is_tested_before_it_is_used(tmp_path: Path) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(server("structured_outputs", seconds=0.05).running())
        two = server("grammar", port=0)
        with two.running():
            pass  # its port is known, and closed
        who = forced()
        plan = make_plan(who, trials(9), materials(9), root=5)
        journal = stack.enter_context(Journal(tmp_path / "answers.sqlite"))
        started: list[object] = []

        def start(_now: object) -> None:
            if not started:
                started.append(stack.enter_context(two.running(two.port)))

        collect(
            plan.questions(), journal, target_of(who, (one.url, two.url)), QUICK, progress=start, progress_every_s=0.1
        )
        shard = journal.seal(10**9)
        assert shard is not None
        rows = [row for batch in journal.read(shard) for row in batch]
    assert {row.limited_by for row in rows} == {"structured_outputs", "grammar"}


def test_free_answers_are_not_tested(tmp_path: Path) -> None:
    with server().running() as running:
        rows = ask(agent(sampling={"max_tokens": 9}), tmp_path, running)
    assert not running.tested and {row.limited_by for row in rows} == {None}


def test_a_request_without_labels_is_not_changed() -> None:
    body = {"model": "m", "messages": []}
    assert limited(body, Constraint("grammar", masked=None)) is body
    assert limited({**body, FIRST_WAY: {"choice": [*NUMBERS]}}, None)[FIRST_WAY] == {"choice": [*NUMBERS]}


def test_the_key_of_a_question_does_not_depend_on_the_way() -> None:
    shown = materials(9)
    keys = [
        [question.key for question in make_plan(forced(constraint=way), trials(9), shown, root=5).questions()]
        for way in ("auto", "grammar", "none")
    ]
    assert keys[0] == keys[1] == keys[2]
    assert Target(("http://a",), "m").probe is None
