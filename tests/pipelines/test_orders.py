"""Trials asked in several orders, from a real server with a position bias to choices."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient

from affectlake.cli.main import cli
from affectlake.errors import UsageError
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import quality_of, statuses
from affectlake.pipelines.params.study import load
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer

STRONG, WEAK = (3.0, 0.0, -0.5), (1.0, 0.0, -0.5)
"""What the rater adds to the log-odds of the first, the second and the third stimulus shown."""

N_MAIN = 435


def score(caption: str) -> float:
    """How odd the rater finds a stimulus by its caption: a number from 0 to 2."""
    return sum(map(ord, caption)) % 21 / 10


def chances(body: bytes, bias: tuple[float, float, float] = STRONG) -> list[float]:
    content = json.loads(body)["messages"][0]["content"]
    shown = re.findall(r"\[Video_\d: ([^\]]*)\]", content)
    assert len(shown) == 3
    odds = [math.exp(score(caption) + more) for caption, more in zip(shown, bias, strict=True)]
    return [one / sum(odds) for one in odds]


def says(body: bytes, bias: tuple[float, float, float] = STRONG) -> str:
    found = chances(body, bias)
    number = found.index(max(found)) + 1
    one_token = "structured_outputs" in json.loads(body)
    return str(number) if one_token else f"Video {number} is noticeably different from the other two."


def with_logprobs(body: bytes, reply: dict[str, Any]) -> dict[str, Any]:
    if "structured_outputs" in json.loads(body):
        top = [{"token": str(n), "logprob": math.log(p)} for n, p in enumerate(chances(body), start=1)]
        chosen = max(top, key=lambda one: one["logprob"])
        reply["choices"][0]["logprobs"] = {"content": [chosen | {"top_logprobs": top}]}
    return reply


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("orders") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    return lake


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",), says=says, odd=with_logprobs).running() as running:
        yield running


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    change(lake, servers=[server.url], protocol="forced-choice", sampling={"max_tokens": 4})
    return lake


def change(lake: Path, **entry: object) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= entry
    raw["agents"]["tiny"] = {key: value for key, value in raw["agents"]["tiny"].items() if value is not ...}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def collected(lake: Path, limit: int | None = None) -> int:
    return collect_answers(lake, CollectionRequest("tiny", limit=limit, anyway=True), lambda _line: None).n_added


def rows(lake: Path, table: str) -> pl.DataFrame:
    return read_output(lake, Output(table, "tiny")).collect()


def agreement(lake: Path) -> float:
    """The share of choices, without ties, that an unbiased rater with the same scores would make."""
    text = read_output(lake, Output("captions")).select("stimulus_index", "caption_index", "caption").collect()
    scores = {(s, c): score(t) for s, c, t in text.iter_rows()}
    hits = []
    choices = {row[:3]: row[3:] for row in rows(lake, "choices").select("i", "j", "k", "odd", "tied").iter_rows()}
    seen = set()
    for row in rows(lake, "responses").iter_rows(named=True):
        key = (row["i"], row["j"], row["k"])
        found = {row[f"shown_{p}"]: scores[row[f"shown_{p}"], row[f"caption_{p}"]] for p in (1, 2, 3)}
        best = max(found.values())
        if key in choices and key not in seen and list(found.values()).count(best) == 1:
            seen.add(key)
            hits.append(found[choices[key][0]] == best)
    assert len(hits) > 300
    return sum(hits) / len(hits)


def test_three_orders_reuse_the_answers_in_one_and_recover_the_unbiased_choices(
    lake: Path, server: FaultServer
) -> None:
    assert collected(lake) == N_MAIN
    run(lake)
    before = rows(lake, "choices")
    one = agreement(lake)
    assert set(before["protocol"]) == {"forced-choice/caption/1"}
    change(lake, orders=3)
    (status,) = (one for one in statuses(lake, load(lake)) if one.trial_set == "main")
    assert (status.n_planned, status.n_answered) == (3 * N_MAIN, N_MAIN)
    assert collected(lake) == 2 * N_MAIN
    assert sum(server.asked.values()) == 3 * N_MAIN
    assert "choose_by_chat@tiny" in run(lake).ran
    choices, responses = rows(lake, "choices"), rows(lake, "responses")
    assert set(choices["protocol"]) == {"forced-choice/caption/1/orders-3"} and choices.height == N_MAIN
    assert set(responses["protocol"]) == {"forced-choice/caption/1"} and responses.height == 3 * N_MAIN
    assert agreement(lake) == 1.0 and one < 0.6
    effects = {row["measure"]: row for row in rows(lake, "order_effects").iter_rows(named=True)}
    assert effects["chosen_first"]["n"] == 3 * N_MAIN and effects["chosen_first"]["value"] > 0.8  # of the raw answers
    assert effects["flip_rate_other_order"]["n"] == N_MAIN
    change(lake, orders=...)  # one order again: nothing to ask
    run(lake)
    assert collected(lake) == 0
    assert set(rows(lake, "choices")["protocol"]) == {"forced-choice/caption/1"}


def test_incomplete_sets_are_not_used(lake: Path) -> None:
    change(lake, orders=3)
    assert collected(lake, 100) == 100  # 33 whole sets, and one answer
    said: list[str] = []
    run(lake, said.append)
    assert rows(lake, "choices").height == 33
    assert any("1 sets of orders are incomplete" in line for line in said)
    assert not (lake / "storage/tables/embeddings/tiny").exists()  # 34 trials are too few


def test_six_orders_by_majority_of_texts(lake: Path, server: FaultServer) -> None:
    server.says = lambda body: says(body, WEAK)
    change(lake, orders=6, protocol="describe-then-choose", sampling={"max_tokens": 64})
    assert collected(lake) == 6 * N_MAIN
    run(lake)
    choices = rows(lake, "choices")
    assert set(choices["protocol"]) == {"describe-then-choose/caption/1/orders-6"}
    assert choices.height == N_MAIN and 0 < choices["tied"].sum() < N_MAIN
    several = agreement(lake)
    change(lake, orders=1)
    run(lake)
    assert several > agreement(lake) + 0.1


def test_calibration_recovers_choices_without_further_questions(lake: Path, server: FaultServer) -> None:
    collected(lake)
    run(lake)
    one, n_asked = agreement(lake), sum(server.asked.values())
    change(lake, calibrate="positions")
    assert "choose_by_chat@tiny" in run(lake).ran
    assert sum(server.asked.values()) == n_asked
    assert set(rows(lake, "choices")["protocol"]) == {"forced-choice/caption/1/calibrated"}
    assert agreement(lake) > 0.9 > one + 0.3
    server.odd = lambda _body, reply: reply  # a server that stops sending log-probabilities
    change(lake, sampling={"max_tokens": 5})
    collected(lake, 20)
    run(lake)
    assert not rows(lake, "choices").height
    assert rows(lake, "unparsed")["unparsed_reason"].to_list() == ["no_log_probabilities"] * 20


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"orders": 2}, "orders must be one of 1, 3, 6"),
        ({"orders": 3, "calibrate": "positions"}, "calibrate has no effect with orders: 3"),
        ({"calibrate": "positions", "protocol": "naive-describe", "sampling": {"max_tokens": 9}}, "log-probabilities"),
        ({"calibrate": "orders"}, "calibrate must be null or positions"),
    ],
)
def test_settings_that_are_not_valid(lake: Path, entry: dict[str, object], says: str) -> None:
    change(lake, **entry)
    with pytest.raises(UsageError, match=says):
        load(lake)


def test_a_run_says_how_each_server_limits_answers_and_records_it(lake: Path, server: FaultServer) -> None:
    said: list[str] = []
    collect_answers(lake, CollectionRequest("tiny", limit=5, anyway=True), said.append)
    assert f"tiny: {server.url} limits answers to labels by structured_outputs" in said
    found = rows(lake, "responses")
    assert set(found["limited_by"]) == {"structured_outputs"}
    means = quality_of(lake, load(lake).agents["tiny"], "main").probabilities
    assert means == pytest.approx(found.select(pl.col("p1", "p2", "p3").mean()).row(0)) and sum(means) == pytest.approx(
        1
    )
    shown = CliRunner().invoke(cli, ["status", "--lake", str(lake)]).output
    assert f"mean probability   {', '.join(f'{one:.1%}' for one in means)}" in shown
    runs = MlflowClient(f"sqlite:///{lake}/storage/mlflow.db").search_runs(
        [one.experiment_id for one in MlflowClient(f"sqlite:///{lake}/storage/mlflow.db").search_experiments()]
    )
    assert "structured_outputs" in {run.data.params.get("server.0.limited_by") for run in runs}
