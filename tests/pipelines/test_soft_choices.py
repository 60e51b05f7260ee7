"""Agents that learn from probabilities: from a real server's log-probabilities to the loss of the fit."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.judge.agents import parse_agent
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.params.study import load
from affectlake.pipelines.steps.arrays import judged, judged_softly
from affectlake.pipelines.stored import stored
from affectlake.seeds import generator
from affectlake.spose.data import TrainingData
from affectlake.spose.fitting import fit
from tests.pipelines.test_orders import N_MAIN, change, collected, rows, says, with_logprobs
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer

IDENTITY = ("trial_set", "i", "j", "k", "repeat")
SOFT = Output("soft_choices", "tiny")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with answers in one order."""
    lake = tmp_path_factory.mktemp("soft") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    with FaultServer(models=("tiny-llama",), says=says, odd=with_logprobs).running() as server:
        change(lake, servers=[server.url], protocol="forced-choice", sampling={"max_tokens": 4})
        assert collected(lake) == N_MAIN
    run(lake)
    return lake


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",), says=says, odd=with_logprobs).running() as running:
        yield running


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    change(lake, servers=[server.url])
    run(lake)
    return lake


def by_hand(lake: Path) -> dict[tuple[Any, ...], dict[int, float]]:
    """The probability of each stimulus in the one answer to each trial."""
    found = {}
    for row in rows(lake, "responses").iter_rows(named=True):
        found[tuple(row[name] for name in IDENTITY)] = {row[f"shown_{p}"]: row[f"p{p}"] for p in (1, 2, 3)}
    return found


def odds_of(table: pl.DataFrame) -> dict[tuple[Any, ...], dict[int, float]]:
    return {
        tuple(row[name] for name in IDENTITY): {row[member]: row[f"q_{member}"] for member in "ijk"}
        for row in table.iter_rows(named=True)
    }


def graph_of(lake: Path) -> dict[str, Any]:
    return dict(stages(load(lake), stored(lake)))


def test_the_embedding_learns_from_the_probabilities_that_the_server_sent(lake: Path) -> None:
    before = rows(lake, "embeddings"), rows(lake, "learning_curves"), rows(lake, "choices")
    assert "weigh_choices@tiny" not in graph_of(lake) and SOFT not in graph_of(lake)["embed@tiny"].reads
    change(lake, learn_from="probabilities")
    ran = set(run(lake).ran)
    assert {"weigh_choices@tiny", "embed@tiny"} <= ran
    assert not {"choose_by_chat@tiny", "embed@human-category"} & ran
    assert {name for name in graph_of(lake) if name.startswith("weigh_choices")} == {"weigh_choices@tiny"}
    assert SOFT in graph_of(lake)["embed@tiny"].reads and SOFT in graph_of(lake)["sweep@tiny"].reads
    assert not any("soft_choices" in str(one) for one in graph_of(lake)["embed@human-category"].reads)

    found, answered = odds_of(rows(lake, "soft_choices")), by_hand(lake)
    assert found.keys() == answered.keys() and len(found) == N_MAIN
    for key, odds in found.items():
        assert odds == pytest.approx(answered[key], rel=1e-6, abs=1e-5)
    assert set(rows(lake, "soft_choices")["protocol"]) == {"forced-choice/caption/1"}
    assert rows(lake, "choices").equals(before[2])

    curve = rows(lake, "learning_curves").sort("epoch")
    losses = expected_losses(lake, answered)
    assert curve["train_loss"].drop_nulls().to_list() == pytest.approx(losses, rel=1e-6)
    hard = before[1].sort("epoch")["train_loss"].drop_nulls().to_list()
    assert losses != pytest.approx(hard, rel=3e-5)

    change(lake, learn_from=...)
    again = set(run(lake).ran)
    assert "embed@tiny" in again and "choose_by_chat@tiny" not in again
    assert rows(lake, "embeddings").equals(before[0]) and rows(lake, "learning_curves").equals(before[1])


def expected_losses(lake: Path, answered: dict[tuple[Any, ...], dict[int, float]]) -> list[float]:
    """The training losses of a fit whose rows and probabilities are put together here, one by one."""
    params = load(lake)
    split = {
        row[:4]: row[4] for row in read_output(lake, Output("triplets")).select(*IDENTITY[:4], "split").collect().rows()
    }
    sets: dict[str, list[list[int]]] = {"train": [], "validation": [], "test": []}
    odds = []
    for row in rows(lake, "choices").iter_rows(named=True):
        key = tuple(row[name] for name in IDENTITY)
        others = [row[name] for name in "ijk" if row[name] != row["odd"]]
        if row["trial_set"] == "main":
            sets[split[key[:4]]].append([*others, row["odd"]])
            if split[key[:4]] == "train":
                odds.append([answered[key][stimulus] for stimulus in (*others, row["odd"])])
    train, validation = (np.array(sets[name], np.int32) for name in ("train", "validation"))
    order = generator(params.seed, "spose", "tiny", "order").permutation(len(train))
    targets = np.array(odds, np.float32)[order]
    data = TrainingData(train[order], validation, 30, targets=targets)
    found = fit(data, params.settings("tiny"), generator(params.seed, "spose", "tiny", 0))
    return [row.train_loss for row in found.curve if row.train_loss is not None]


def test_dvc_takes_the_agents_for_what_they_read(lake: Path) -> None:
    change(lake, learn_from="probabilities")
    run(lake)
    body = yaml.safe_load((lake / "dvc.yaml").read_text())["stages"]
    assert body["weigh_choices"]["foreach"] == ["tiny"]
    assert body["embed"]["foreach"]["tiny"]["soft_choices"] == "soft_choices/tiny"
    assert body["embed"]["foreach"]["human-category"]["soft_choices"] == "stimuli"
    for stage in ("embed@tiny", "embed@human-category", "sweep@human-category", "weigh_choices@tiny"):
        done = subprocess.run(["dvc", "status", stage], cwd=lake, capture_output=True, text=True, check=True)
        assert "up to date" in done.stdout, done.stdout
    change(lake, learn_from="choices")
    assert "embed@tiny" in run(lake).ran
    assert "weigh_choices" not in yaml.safe_load((lake / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("entry", [{"orders": 3}, {"calibrate": "positions"}])
def test_the_most_probable_stimulus_is_the_choice(lake: Path, entry: dict[str, object]) -> None:
    change(lake, learn_from="probabilities", **entry)
    collected(lake)
    assert "weigh_choices@tiny" in run(lake).ran
    choices, soft = rows(lake, "choices"), rows(lake, "soft_choices")
    assert soft.height == choices.height == N_MAIN
    assert set(soft["protocol"]) == set(choices["protocol"]) != {"forced-choice/caption/1"}
    odds, single = odds_of(soft), by_hand(lake)
    untied = choices.filter(~pl.col("tied")).iter_rows(named=True)
    tops = [max(odds[key], key=odds[key].__getitem__) == row["odd"] for row in untied if (key := key_of(row))]
    assert all(tops) and len(tops) > 300
    assert all(sum(one.values()) == pytest.approx(1) for one in odds.values())
    moved = [abs(odds[key][s] - single[key][s]) for key in odds for s in odds[key]]
    assert np.mean(moved) > 0.1


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in IDENTITY)


def test_answers_without_log_probabilities_are_learned_as_choices(lake: Path, server: FaultServer) -> None:
    def sometimes(body: bytes, reply: dict[str, Any]) -> dict[str, Any]:
        return with_logprobs(body, reply) if sum(json.dumps(json.loads(body)).encode()) % 2 else reply

    server.odd = sometimes
    change(lake, learn_from="probabilities", sampling={"max_tokens": 5})
    assert collected(lake) == N_MAIN
    run(lake)
    choices, soft = rows(lake, "choices"), rows(lake, "soft_choices")
    assert choices.height == N_MAIN and 100 < soft.height < N_MAIN - 100
    known = odds_of(soft)
    tables = {"choices": choices.lazy(), "soft_choices": soft.lazy(), "triplets": read_output(lake, Output("triplets"))}
    pairs, targets = judged(tables, "train"), judged_softly(tables, "train")
    assert targets is not None and targets.shape == pairs.shape
    n_certain = 0
    for row, target in zip(pairs.tolist(), targets.tolist(), strict=True):
        odds = known.get(("main", *sorted(row), 0), {row[2]: 1.0})
        n_certain += len(odds) == 1
        assert target == pytest.approx([odds.get(stimulus, 0.0) for stimulus in row], abs=1e-6)
    assert 50 < n_certain < len(pairs) - 50
    assert judged_softly({name: tables[name] for name in ("choices", "triplets")}, "train") is None


def test_without_responses_there_are_no_rows(lake: Path) -> None:
    from affectlake.pipelines.catalogue import STEPS
    from affectlake.pipelines.step import StepContext

    change(lake, learn_from="probabilities")
    names = ("stimuli", "captions", "frames", "triplets")
    tables = {name: read_output(lake, Output(name)) for name in names}
    tables["responses"] = rows(lake, "responses").head(0).lazy()
    for orders in (1, 3):
        change(lake, orders=orders)
        context = StepContext("tiny", lake, lake, 1, lambda _: None, lambda _: None)
        found = STEPS["weigh_choices"](tables, load(lake), context)["soft_choices"]
        assert found.is_empty() and found.columns == [one.name for one in contract("soft_choices").columns]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"learn_from": "probabilities"}, "learn_from needs log-probabilities"),
        ({"learn_from": "odds", "protocol": "forced-choice"}, "learn_from must be one of choices, probabilities"),
        ({"learn_from": None, "protocol": "forced-choice"}, "learn_from"),
    ],
)
def test_settings_that_are_not_valid(entry: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_agent("tiny", ENTRY | entry)


def test_only_agents_of_one_token_can_learn_from_probabilities() -> None:
    one_token = ENTRY | {"protocol": "forced-choice", "sampling": {}}
    assert parse_agent("tiny", one_token | {"learn_from": "probabilities"}).learns_probabilities
    for entry in (one_token, one_token | {"learn_from": "choices"}, {"kind": "ratings", "ratings": "category"}):
        assert not parse_agent("tiny", entry).learns_probabilities
