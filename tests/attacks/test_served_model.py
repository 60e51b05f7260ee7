"""The model that answers is the one that was asked, or the run stops; and the tables say which it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from affectlake.errors import CollectionError
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.responses.tables import response_rows
from tests.support.chat import agent
from tests.support.fault_server import FaultServer
from tests.support.questions import make_questions

ONE = Limits(start=1, concurrency=1)

SAME = [
    ("gpt-4o-mini", "gpt-4o-mini"),
    ("gpt-4o", "gpt-4o-2024-08-06"),
    ("gpt-4o-2024-08-06", "gpt-4o"),
    ("claude-3-5-sonnet", "claude-3-5-sonnet-20240620"),
    ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
    ("claude-3-5-sonnet", "claude-3-5-sonnet@20240620"),
    ("gpt-4", "gpt-4-0613"),
    ("mistral-large-latest", "mistral-large-2411"),
    ("deepseek-r1", "deepseek-r1-0528"),
    ("doubao-1-5-pro-32k", "doubao-1-5-pro-32k-250115"),
    ("gpt-4o", "openai/gpt-4o-2024-08-06"),
    ("openai/gpt-4o", "gpt-4o"),
    ("gemini-2.0-flash", "models/gemini-2.0-flash"),
    ("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl-7b-instruct"),
    ("Qwen2-VL-7B-Instruct", "/data/models/Qwen/Qwen2-VL-7B-Instruct/"),
    ("llama3.2", "llama3.2:latest"),
    ("llama3.2:3b", "llama3.2:3b"),
]
OTHER = [
    ("gpt-4o-mini", "gpt-4o"),
    ("gpt-4o", "gpt-4o-mini"),
    ("gpt-4o-mini", "gpt-4o-2024-08-06"),
    ("gpt-4o", "gpt-4o-mini-2024-07-18"),
    ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
    ("gpt-4-0613", "gpt-4-1106"),
    ("gpt-4", "gpt-4-9999"),
    ("X", "X-AWQ"),
    ("Qwen/Qwen2-VL-7B-Instruct", "Qwen/Qwen2-VL-7B-Instruct-AWQ"),
    ("Qwen/Qwen2-VL-7B", "Qwen/Qwen2-VL-7B-Instruct"),
    ("Qwen/Qwen2-VL-7B-Instruct", "unsloth/Qwen2-VL-7B-Instruct"),
    ("llama3.2", "llama3.2:1b"),
    ("llama3.2:3b", "llama3.2:latest"),
    ("gpt-4o", "4o"),
    ("gpt-4o", "o"),
    ("m", "/"),
]


def ask(server: FaultServer, path: Path, asked: str, served: str) -> tuple[list[str | None], str]:
    """Ask three questions of `asked`, let `served` answer; return what the rows hold and why the run stopped."""
    server.odd = lambda _asked, ordinary: ordinary | {"model": served}
    with Journal(path / "answers.sqlite") as journal:
        account = collect(make_questions(3, asked), journal, Target((server.url,), asked), ONE)
        shard = journal.seal(10)
        answers = [] if shard is None else [one for batch in journal.read(shard) for one in batch]
    return response_rows(agent(model=asked), answers)["served_model"].to_list(), account.why


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer().running() as running:
        yield running


@pytest.mark.parametrize(("asked", "served"), SAME)
def test_names_of_one_model(server: FaultServer, tmp_path: Path, asked: str, served: str) -> None:
    server.models = (asked,)
    assert ask(server, tmp_path, asked, served) == ([served] * 3, "")


@pytest.mark.parametrize(("asked", "served"), OTHER)
def test_another_model_stops_the_run_at_its_first_answer(
    server: FaultServer, tmp_path: Path, asked: str, served: str
) -> None:
    server.models = (asked,)
    kept, why = ask(server, tmp_path, asked, served)
    assert kept == []
    assert "another model answered" in why
    assert repr(served) in why
    assert sum(server.asked.values()) == 1


def test_a_server_that_does_not_say_is_believed(server: FaultServer, tmp_path: Path) -> None:
    assert ask(server, tmp_path, "tiny", "") == ([None] * 3, "")


@pytest.mark.parametrize(("asked", "listed"), [("gpt-4o-mini", "gpt-4o"), ("X", "X-AWQ"), ("gpt-4o", "gpt-4o-mini")])
def test_a_list_of_other_models_is_refused_before_anything_is_asked(
    server: FaultServer, tmp_path: Path, asked: str, listed: str
) -> None:
    server.models = (listed,)
    with pytest.raises(CollectionError, match="does not serve"):
        ask(server, tmp_path, asked, asked)
    assert not server.asked


def test_a_list_may_name_the_model_as_an_answer_may(server: FaultServer, tmp_path: Path) -> None:
    server.models = ("another", "openai/gpt-4o-2024-08-06")
    assert ask(server, tmp_path, "gpt-4o", "gpt-4o-2024-08-06")[1] == ""
