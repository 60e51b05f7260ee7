"""What is sent of the sampling: the newer names where an entry says so, and nothing where it says null."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affectlake.errors import UsageError
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.trials.plan import make_plan
from affectlake.judge.trials.request_keys import canonical
from tests.support.chat import agent, materials, trials
from tests.support.fault_server import FaultServer

REFUSES = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
    "temperature": "Unsupported value: 'temperature' does not support 0.0 with this model.",
    "top_p": "Unsupported parameter: 'top_p' is not supported with this model.",
    "logprobs": "You are not allowed to request logprobs from this model.",
}
"""What GPT-5 and the o-series say of fields that they do not take."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        running.odd = lambda asked, ordinary: _refused(json.loads(asked)) or ordinary
        yield running


def _refused(body: dict[str, Any]) -> tuple[int, Any] | None:
    words = next((words for name, words in REFUSES.items() if name in body), None)
    return None if words is None else (400, {"error": {"message": words, "type": "invalid_request_error"}})


def ask(server: FaultServer, path: Path, **entry: Any) -> tuple[int, str, dict[str, Any]]:
    """Ask 25 questions; return how many were answered, why the run stopped, and the last body but its words."""
    who = agent(**entry)
    plan = make_plan(who, trials(20), materials(20), 1)
    seen: dict[str, Any] = {}
    odd = server.odd

    def look(asked: bytes, ordinary: dict[str, Any]) -> Any:
        seen.update(json.loads(asked))
        return odd(asked, ordinary)

    server.odd = look
    with Journal(path / "answers.sqlite") as journal:
        account = collect(plan.questions(), journal, Target((server.url,), who.model), Limits(), most=25)
    return account.n_answered, account.why, {key: seen[key] for key in seen if key not in ("messages", "model")}


def test_a_reasoning_model_can_be_asked(server: FaultServer, tmp_path: Path) -> None:
    sampling = {"max_completion_tokens": 4000, "temperature": None, "top_p": None}
    n, why, sent = ask(server, tmp_path, sampling=sampling)
    assert (n, why) == (25, "")
    assert sent == {"max_completion_tokens": 4000}


def test_nothing_need_be_sent_at_all(server: FaultServer, tmp_path: Path) -> None:
    sampling = {"max_tokens": None, "temperature": None, "top_p": None}
    assert ask(server, tmp_path, sampling=sampling) == (25, "", {})


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ({"sampling": {"max_tokens": 64}}, "max_completion_tokens: N"),
        ({"sampling": {"max_completion_tokens": 64}}, "temperature: null"),
        ({"sampling": {"max_completion_tokens": 64, "temperature": None}}, "top_p: null"),
        (
            {
                "protocol": "forced-choice",
                "sampling": {"max_completion_tokens": 64, "temperature": None, "top_p": None},
            },
            "use another protocol",
        ),
    ],
)
def test_what_such_a_model_refuses_is_said_with_its_remedy(
    server: FaultServer, tmp_path: Path, entry: dict[str, Any], advice: str
) -> None:
    n, why, _ = ask(server, tmp_path, **entry)
    assert n == 0
    assert advice in why


def test_each_remedy_leads_to_the_next_and_the_last_to_answers(server: FaultServer, tmp_path: Path) -> None:
    sampling: dict[str, Any] = {"max_tokens": 64, "seed": 3}
    met = []
    for _ in range(4):
        n, why, _sent = ask(server, tmp_path, sampling=sampling)
        if n:
            break
        if "max_completion_tokens: N" in why:
            met.append("length")
            sampling["max_completion_tokens"] = sampling.pop("max_tokens")
        for name in ("temperature", "top_p"):
            if f"{name}: null" in why:
                met.append(name)
                sampling[name] = None
    assert (n, met) == (25, ["length", "temperature", "top_p"])


@pytest.mark.parametrize(
    ("sampling", "sent"),
    [
        ({}, 4),
        ({"max_tokens": 16}, 16),
        ({"max_tokens": None}, None),
        ({"max_completion_tokens": 2000}, None),
        ({"max_tokens": None, "max_completion_tokens": 2000}, None),
    ],
)
def test_a_one_token_protocol_takes_another_limit(sampling: dict[str, Any], sent: int | None) -> None:
    who = agent(protocol="forced-choice", sampling=sampling)
    fields = who.sampling.as_fields()
    assert fields.get("max_tokens") == sent
    assert fields.get("max_completion_tokens") == sampling.get("max_completion_tokens")


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"max_tokens": 9, "max_completion_tokens": 9}, "both max_tokens and max_completion_tokens"),
        ({"max_completion_tokens": 0}, "1 or more"),
        ({"max_completion_tokens": "many"}, "must be null or an integer, 1 or more"),
        ({"max_completion_tokens": None}, "max_tokens is missing"),
        ({"max_completion_tokens": 9, "extra": {"max_completion_tokens": 8}}, "may not set max_completion_tokens"),
    ],
)
def test_entries_that_contradict_themselves(sampling: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        agent(sampling=sampling)


def test_what_was_asked_before_keeps_its_key() -> None:
    """Identities and a key of entries that other versions asked under, written down here."""
    old = {
        "free": ({"max_tokens": 64, "temperature": 0.7, "seed": 11}, "describe-then-choose"),
        "forced": ({}, "forced-choice"),
        "extra": ({"max_tokens": 9, "extra": {"max_completion_tokens": 5}}, "describe-then-choose"),
    }
    found = {
        name: hashlib.sha256(canonical(agent(sampling=s, protocol=p).identity()).encode()).hexdigest()[:16]
        for name, (s, p) in old.items()
    }
    assert found == {"free": "e57dcb4573aeb3dd", "forced": "168bec6df4f6ee12", "extra": "c2141f7351222805"}
    question = next(make_plan(agent(), trials(20), materials(20), 1).questions())
    assert question.key.hex()[:16] == "77c0fa7bd8236392"
