"""`collect --share K/N`: clones divide a plan without talk, whatever each has answered already."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from affectlake.errors import UsageError
from affectlake.judge.trials.plan import Plan, make_plan
from affectlake.judge.trials.shares import Share, parse_share
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.cost import estimate_cost
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from tests.support.chat import ENTRY, agent, answered, materials, trials
from tests.support.chat_lakes import make_lake
from tests.support.fault_server import FaultServer

N = 20


def keys(plan: Plan) -> set[bytes]:
    return {question.key for question in plan.questions()}


@given(of=st.integers(1, 7), repeats=st.integers(1, 3), n_known=st.lists(st.integers(0, 190), min_size=7, max_size=7))
def test_shares_are_disjoint_and_together_the_plan_whatever_each_clone_has(
    of: int, repeats: int, n_known: list[int]
) -> None:
    wanted, shown = trials(N, repeats=repeats), materials(N)
    whole = make_plan(agent(), wanted, shown, 1)
    asked: list[bytes] = []
    for number in range(1, of + 1):
        known = [answered(whole, n_known[number - 1])] if n_known[number - 1] else []
        has = {key for frame in known for key in frame["request_key"].to_list()}
        plan = make_plan(agent(), wanted, shown, 1, known, share=Share(number, of))
        mine = keys(make_plan(agent(), wanted, shown, 1, share=Share(number, of)))
        assert keys(plan) == mine - has
        assert plan.n_planned == len(mine)
        assert plan.n_planned == plan.n_unaskable + plan.n_answered + plan.n_open
        asked += mine
    assert len(asked) == len(set(asked))
    assert set(asked) == keys(whole)


def test_shares_are_about_equal() -> None:
    plan = make_plan(agent(), trials(60, repeats=2), materials(60), 1)
    sizes = [make_plan(agent(), plan.trials, plan.materials, 1, share=Share(k, 4)).n_left for k in range(1, 5)]
    assert sum(sizes) == plan.n_left
    assert max(abs(size - plan.n_left / 4) for size in sizes) < 4 * np.sqrt(plan.n_left * 3 / 16)


def test_a_limit_and_what_failed_are_of_the_share() -> None:
    wanted, shown, share = trials(N), materials(N), Share(2, 3)
    mine = keys(make_plan(agent(), wanted, shown, 1, share=share))
    limited = make_plan(agent(), wanted, shown, 1, limit=11, share=share)
    assert len(keys(limited)) == 11
    assert keys(limited) < mine
    failed = answered(make_plan(agent(), wanted, shown, 1), 100)
    again = make_plan(agent(), wanted, shown, 1, (), among=[failed], share=share)
    assert keys(again) == mine & set(failed["request_key"].to_list())


@pytest.mark.parametrize("text", ["0/2", "3/2", "x", "", "1", "1/0", "1/2/3", "-1/2", "1.0/2", "1/1000000", "１/２"])
def test_what_is_not_a_share_is_one_clear_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a share"):
        parse_share(text)
    command = ["affectlake", "collect", "tiny", "--share", text, "--lake", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"affectlake: --share {text} is not a share\n  wanted: K/N")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("share") / "lake"
    make_lake(made, ENTRY | {"protocol": "naive-least-similar"})
    return made


@pytest.fixture
def server(lake: Path) -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        raw = yaml.safe_load((lake / "params.yaml").read_text())
        raw["agents"]["tiny"]["servers"] = [running.url]
        (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        yield running


def test_a_run_counts_its_share_and_says_which(lake: Path, server: FaultServer) -> None:
    said: list[str] = []
    first = CollectionRequest("tiny", share=Share(1, 2))
    begun = collect_answers(lake, CollectionRequest("tiny", limit=20, share=Share(1, 2)), said.append)
    n = begun.n_planned
    assert str(begun) == f"tiny · main · share 1 of 2: +20 (20 of {n})"
    assert estimate_cost(lake, first, said.append, lambda _: None).n_left == n - 20
    done = collect_answers(lake, first, said.append)
    assert (str(done), done.ending) == (f"tiny · main · share 1 of 2: +{n - 20} ({n} of {n})", "complete")
    assert sum(server.asked.values()) == n
    rest = collect_answers(lake, CollectionRequest("tiny"), said.append)
    assert str(rest) == f"tiny · main: +{435 - n} (435 of 435)"
    assert collect_answers(lake, CollectionRequest("tiny", share=Share(2, 2)), said.append).n_asked == 0
    rows = read_output(lake, Output("responses", "tiny")).select(pl.col("request_key").n_unique(), n=pl.len()).collect()
    assert rows.row(0) == (435, 435)
