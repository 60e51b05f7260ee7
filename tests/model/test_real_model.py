"""Asking a real model, SmolLM2-135M-Instruct, served by llama.cpp, by every protocol with captions.

Run with ``make test-model``; it takes some minutes. The model is too small for the task: what is tested is that answers
are collected, read and judged as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from affectlake.errors import CollectionError
from affectlake.judge.requests.client import Client
from affectlake.judge.requests.constraints import WAYS, find_constraint
from affectlake.judge.requests.server_process import serve
from affectlake.judge.server_command import ServerCommand
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.servers import target_of
from affectlake.pipelines.collection.status import statuses
from affectlake.pipelines.params.study import load
from tests.model.first_model import PAGE, run_page
from tests.support.chat import ENTRY, agent
from tests.support.chat_lakes import make_lake, run

pytestmark = pytest.mark.model

OBEYED = {"grammar", "json_schema", "json_object"}
"""The ways in which llama.cpp limits answers to labels."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of llama.cpp, started as the page on a first model does."""
    if "AFFECTLAKE_MODEL_PYTHON" not in os.environ:
        pytest.skip("needs llama.cpp and a model: run `make test-model`")
    folder = tmp_path_factory.mktemp("server")
    (text,) = re.findall(r"cat > serve.py <<'END'\n(.*?)\nEND\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    assert "8123" in text
    (folder / "serve.py").write_text(text.replace("8123", str(port)))
    command = (os.environ["AFFECTLAKE_MODEL_PYTHON"], str(folder / "serve.py"))
    with serve(ServerCommand(command=command, port=port, start_limit_s=120), folder / "server.log") as served:
        print(f"ready after {served.seconds:.1f} s")
        yield served.url


@pytest.fixture
def lake(tmp_path: Path, url: str) -> Path:
    """A lake of 30 stimuli whose agent ``tiny`` is the model."""
    lake = tmp_path / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    change(lake, model="smollm2", servers=[url], in_flight=4)
    return lake


def change(lake: Path, **entry: object) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def ask(lake: Path, n: int, **entry: object) -> pl.DataFrame:
    """Ask `n` questions under a changed entry, and return the answers to them."""
    change(lake, **entry)
    before = rows(lake)
    done = collect_answers(lake, CollectionRequest("tiny", limit=n, anyway=True), lambda _line: None)
    assert done.n_added == n and done.n_failed == 0
    return rows(lake).join(before, on=["request_key", "shard"], how="anti")


def rows(lake: Path) -> pl.DataFrame:
    if not list((lake / "storage/tables/responses/tiny").glob("*.parquet")):
        return pl.DataFrame(schema={"request_key": pl.Binary, "shard": pl.Int32})
    return read_output(lake, Output("responses", "tiny")).collect()


@pytest.mark.parametrize("way", ["auto", *WAYS])
def test_each_way_is_obeyed_or_not_as_the_test_question_says(url: str, way: str) -> None:
    who = agent(protocol="forced-choice", model="smollm2", sampling={})
    probe = target_of(who, (url,)).probe
    assert probe is not None

    async def found() -> object:
        async with Client() as client:
            return await find_constraint(client, url, probe, way)  # type: ignore[arg-type]

    if way == "auto" or way in OBEYED:
        constraint = asyncio.run(found())
        assert constraint == ("grammar" if way == "auto" else way, False)
        return
    with pytest.raises(CollectionError, match="does not limit its answers") as caught:
        asyncio.run(found())
    assert "The capital" in caught.value.found or "refused" in caught.value.found


@pytest.mark.parametrize("protocol", ["forced-choice", "question-first"])
def test_one_token_answers_are_all_read_and_weighed(lake: Path, protocol: str) -> None:
    found = ask(lake, 60, protocol=protocol, sampling={})
    assert set(found["limited_by"]) == {"grammar"}
    assert set(found["answer"]) <= {"1", "2", "3"}
    assert found["served_model"].unique().to_list() == ["smollm2"]
    sums = found.select(pl.sum_horizontal("p1", "p2", "p3")).to_series()
    assert sums.is_between(1 - 1e-9, 1 + 1e-9).all()
    assert (found.select(pl.min_horizontal("p1", "p2", "p3")).to_series() > 0).all()  # each label is listed
    assert found["leftover"].is_between(0.5, 1).all()  # listed before the grammar excludes other tokens
    for row in found.select("answer", "logprobs").iter_rows():
        assert json.loads(row[1])["content"][0]["token"] == row[0]
    # the prefix that requests share is read once
    shared = found["cached_tokens"].sum() / found["prompt_tokens"].sum()
    print(f"{protocol}: {shared:.0%} of the tokens were cached")
    assert shared > (0.4 if protocol == "question-first" else 0.1)


def test_a_greedy_answer_is_the_same_again(lake: Path, tmp_path: Path) -> None:
    first = ask(lake, 20, protocol="forced-choice", sampling={})
    other = tmp_path / "other"
    make_lake(other, ENTRY | {"protocol": "naive-least-similar"})
    change(other, model="smollm2", servers=load(lake).raw["agents"]["tiny"]["servers"])
    second = ask(other, 20, protocol="forced-choice", sampling={})
    both = first.join(second, on="request_key", suffix="_again")
    assert both.height == 20
    assert (both["answer"] == both["answer_again"]).all()
    assert ((both["p1"] - both["p1_again"]).abs() < 0.05).all()  # batches and cached prefixes round differently


def test_a_model_that_always_says_one_is_called_so(lake: Path) -> None:
    ask(lake, 120, protocol="question-first", sampling={})
    status = next(one for one in statuses(lake, load(lake)) if one.trial_set == "main")
    assert status.share_parsed == 1.0
    assert "these answers do not depend on the stimuli" in status.verdict
    assert "chose position 1 in 100.0% of 120 answers" in status.verdict


def test_orders_and_calibration_weigh_the_probabilities(lake: Path) -> None:
    ask(lake, 120, protocol="question-first", sampling={}, calibrate="positions")
    run(lake)
    calibrated = read_output(lake, Output("choices", "tiny")).collect()
    assert set(calibrated["protocol"]) == {"question-first/caption/1/calibrated"}
    assert calibrated.height == 120
    # the answers are all "1", but after calibration no position has two thirds of the choices
    both = calibrated.join(rows(lake), on=["trial_set", "i", "j", "k", "repeat"])
    assert set(both["answer"]) == {"1"}
    assert max((both["odd"] == both[f"shown_{at}"]).sum() for at in (1, 2, 3)) < 80
    ask(lake, 240, orders=3, calibrate=None)
    run(lake)
    combined = read_output(lake, Output("choices", "tiny")).collect()
    assert set(combined["protocol"]) == {"question-first/caption/1/orders-3"}
    assert combined.height >= 119  # a limit leaves at most one set of orders open


def test_free_answers_are_stored_and_read_with_reasons(lake: Path) -> None:
    found = ask(lake, 12, protocol="describe-then-choose", sampling={"max_tokens": 96, "temperature": 0.7, "seed": 1})
    assert found["answer"].str.len_chars().min() > 0 and set(found["limited_by"]) == {None}
    status = next(one for one in statuses(lake, load(lake)) if one.trial_set == "main")
    assert sum(status.unread.values()) == round((1 - status.share_parsed) * 12)
    run(lake)
    unparsed = read_output(lake, Output("unparsed", "tiny")).collect()
    assert unparsed.height == sum(status.unread.values())
    assert unparsed["unparsed_reason"].null_count() == 0


def test_the_page_on_a_first_model_runs_as_it_stands(url: str, tmp_path: Path) -> None:
    said = "\n".join(run_page(tmp_path))
    assert "the server at http://127.0.0.1:8123/v1 started" in said
    assert "positions chosen   100.0%, 0.0%, 0.0%" in said
    assert "verdict            chose position 1 in 100.0% of 160 answers" in said
    assert "smollm2: 60 requests of easy trials first" in said and " of 60 easy trials (" in said
    assert "smollm2: no embedding: the fit learned nothing" in said
    (kappa,) = re.findall(r"kappa +(\S+) +(\S+) +(\S+)", said)
    assert abs(float(kappa[0])) < 0.25  # four standard errors
    assert "mean probability" in said
