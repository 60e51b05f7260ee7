"""Easy trials of a collection: asked first, scored at once, and in no table that an embedding learns from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.judge.trials.shares import Share
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import statuses
from affectlake.pipelines.outputs.report import gather, write_report
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.steps.easy_trials import choose_easy_trials
from tests.flows.test_collect import change, responses
from tests.flows.test_judgments import affectlake
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS, make_lake, run
from tests.support.fault_server import FaultServer, expected_text

N = 20
SHOWN = re.compile(r"\[Video_1: (.*?)\], \[Video_2: (.*?)\], \[Video_3: (.*?)\]\n", re.DOTALL)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("easy") / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    tiny = {**ENTRY, "protocol": "naive-least-similar", "l1": 0.004}
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "tiny": tiny}
    raw["easy_trials"] = {"n": N, "ratings": "category"}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    run(lake)
    return lake


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    change(lake, servers=[server.url])
    return lake


def knows(lake: Path) -> Callable[[bytes], str]:
    """A respondent that knows the odd one out of every easy trial, from the captions that it is shown."""
    captions = read_output(lake, Output("captions")).collect()
    of: dict[str, set[int]] = {}
    for stimulus, caption in captions.select("stimulus_index", "caption").iter_rows():
        of.setdefault(caption, set()).add(stimulus)
    easy = read_output(lake, Output("easy_trials")).select("i", "j", "k", "odd").collect()
    known = {frozenset(row[:3]): row[3] for row in easy.iter_rows()}

    def answer(body: bytes) -> str:
        shown = SHOWN.search(json.loads(body)["messages"][-1]["content"])
        assert shown is not None
        first, second, third = (of[one] for one in shown.groups())
        fitting = [(a, b, c) for a in first for b in second for c in third if frozenset((a, b, c)) in known]
        return f"Video {fitting[0].index(known[frozenset(fitting[0])]) + 1}" if fitting else expected_text(body)

    return answer


def test_an_agent_that_knows_is_told_to_be_right_before_anything_else_is_asked(lake: Path, server: FaultServer) -> None:
    server.says = knows(lake)
    said = affectlake("collect", "tiny", "--limit", "50", "--lake", lake)
    assert f"tiny: {N} requests of easy trials first" in said.stderr
    assert f"right in {N} of {N} easy trials (100.0 %, 95 % interval 83.9 to 100.0 %; chance 33.3 %)" in said.stderr
    assert "tiny · main: +50 (50 of 435)" in said.stdout and "verdict" not in said.stderr
    sets = responses(lake)["trial_set"].to_list()
    assert sets == ["easy"] * N + ["main"] * 50
    assert responses(lake).filter(pl.col("trial_set") == "easy").select("i", "j", "k").n_unique() == N
    # the next run has none to ask
    n_before = server.asked.total()
    again = affectlake("collect", "tiny", "--limit", "10", "--lake", lake)
    assert "first" not in again.stderr and server.asked.total() == n_before + 10
    # status, for people and for programs
    assert f"tiny · easy: {N} of {N} answered (100.0%)" in affectlake("status", "--lake", lake).stdout
    found = {one["trial_set"]: one for one in json.loads(affectlake("status", "--json", "--lake", lake).stdout)}
    assert found["easy"]["easy"]["n_right"] == found["easy"]["easy"]["n"] == N
    assert found["main"]["easy"] is None and found["main"]["n_answered"] == 60
    # the tables: a score, and no easy trial among the choices
    run(lake)
    score = read_output(lake, Output("easy_scores", "tiny")).collect().row(0, named=True)
    assert (score["value"], score["n"], score["note"]) == (1.0, N, None)
    assert read_output(lake, Output("choices", "tiny")).collect()["trial_set"].unique().to_list() == ["main"]
    assert "easy" not in read_output(lake, Output("triplets")).collect()["trial_set"]
    assert "tiny" not in gather(lake, list_versions(lake)[-1]).verdicts
    page = write_report(lake).read_text()
    assert "Easy trials (known from ratings) that were right" in page


def test_a_constant_agent_is_told_to_be_at_chance_and_its_collection_goes_on(lake: Path, server: FaultServer) -> None:
    server.says = lambda _body: "Video 2"
    said: list[str] = []
    done = collect_answers(lake, CollectionRequest("tiny", limit=120), said.append)
    assert (done.n_added, done.n_planned) == (120, 435)
    assert any(line.startswith("warning: tiny is not shown to be better than chance") for line in said)
    easy = next(one for one in statuses(lake, load(lake)) if one.trial_set == "easy")
    assert easy.easy is not None and easy.easy.n == N
    odd = dict(zip(*responses_by_shown(lake), strict=True))
    known = read_output(lake, Output("easy_trials")).select("i", "j", "k", "odd").collect()
    assert easy.easy.n_right == sum(odd[row[:3]] == row[3] for row in known.iter_rows())
    assert 3 <= easy.easy.n_right <= 10  # the orders are balanced
    printed = affectlake("status", "--lake", lake).stdout
    assert f"right              {easy.easy}\n" in printed
    assert "verdict            not shown to be better than chance in easy trials" in printed
    run(lake)
    verdict = gather(lake, list_versions(lake)[-1]).verdicts["tiny"]
    assert "chose position 2 in 100.0%" in verdict and "; it was right in" in verdict
    assert "not shown to be better than chance" in write_report(lake).read_text()


def responses_by_shown(lake: Path) -> tuple[list[tuple[int, ...]], list[int]]:
    """The easy triplets, and the stimulus that was shown second in each."""
    rows = responses(lake).filter(pl.col("trial_set") == "easy")
    return rows.select("i", "j", "k").rows(), rows["shown_2"].to_list()


def test_samples_proposals_and_repeats_of_failures_ask_no_easy_trials(lake: Path, server: FaultServer) -> None:
    collect_answers(lake, CollectionRequest("tiny", sample=10), lambda _: None)
    assert server.asked.total() == 10 and set(responses(lake)["trial_set"]) == {"main"}
    collect_answers(lake, CollectionRequest("tiny", retry_failed=True), lambda _: None)
    assert server.asked.total() == 10


def test_they_can_be_asked_alone_in_shares_and_in_several_orders(lake: Path, server: FaultServer) -> None:
    change(lake, orders=3)
    done = [
        collect_answers(lake, CollectionRequest("tiny", "easy", share=Share(one, 2)), lambda _: None) for one in (1, 2)
    ]
    assert sum(one.n_added for one in done) == 3 * N == server.asked.total()
    assert set(responses(lake)["trial_set"]) == {"easy"}
    easy = next(one for one in statuses(lake, load(lake)) if one.trial_set == "easy")
    assert (easy.n_planned, easy.n_answered) == (3 * N, 3 * N)
    assert easy.easy is not None and easy.easy.n == N  # one choice from three orders


def test_a_server_that_fails_during_them_is_one_message_and_loses_nothing(lake: Path, server: FaultServer) -> None:
    server.faults, server.share = ("401",), 1.0
    with pytest.raises(Exception, match="key"):
        collect_answers(lake, CollectionRequest("tiny"), lambda _: None)
    server.share = 0.0
    done = collect_answers(lake, CollectionRequest("tiny", limit=5), lambda _: None)
    assert done.n_added == 5 and responses(lake)["trial_set"].to_list().count("easy") == N


def test_a_study_without_the_section_asks_none(lake: Path, server: FaultServer) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    del raw["easy_trials"]
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    collect_answers(lake, CollectionRequest("tiny", limit=5), lambda _: None)
    assert server.asked.total() == 5
    assert [one.trial_set for one in statuses(lake, load(lake))] == ["main", "noise_ceiling", "validation"]
    with pytest.raises(UsageError) as told:
        collect_answers(lake, CollectionRequest("tiny", "easy"), lambda _: None)
    assert "easy_trials: {n: 60" in str(told.value)


def test_a_section_that_was_added_needs_a_run(tmp_path: Path, server: FaultServer) -> None:
    lake = tmp_path / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"]["servers"] = [server.url]
    raw["easy_trials"] = {"n": N, "ratings": "category"}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    said: list[str] = []
    collect_answers(lake, CollectionRequest("tiny", limit=5), said.append)
    assert "no easy trials are asked first: `affectlake run` makes them" in said and server.asked.total() == 5


def test_an_estimate_counts_them(lake: Path, server: FaultServer) -> None:
    said = affectlake("collect", "tiny", "--dry-run", "--lake", lake).stdout
    assert "435 requests remain" in said and f"{N} requests of easy trials come first" in said
    assert not server.asked.total()


def test_they_follow_the_ratings_and_not_the_number_of_other_trials(origin: Path) -> None:
    found = read_output(origin, Output("easy_trials")).collect()
    ratings = read_output(origin, Output("ratings")).filter(pl.col("family") == "category").collect()
    vectors = ratings.pivot("rating", index="stimulus_index", values="score").sort("stimulus_index")
    scores = vectors.drop("stimulus_index").to_numpy()
    for i, j, k, odd, margin in found.iter_rows():
        a, b = (scores[one] for one in (i, j, k) if one != odd)
        others = [scores[odd] @ one / np.linalg.norm(scores[odd]) / np.linalg.norm(one) for one in (a, b)]
        near = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert margin == pytest.approx(near - max(others)) and margin > 0


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"n": 60, "ratings": "categories"}, "there are no 'categories' ratings"),
        ({"n": 5, "ratings": "category"}, "easy_trials.n"),
        ({"n": 60}, "easy_trials.ratings"),
        ({"n": 60, "ratings": "category", "odd": 1}, "easy_trials.odd"),
    ],
)
def test_mistakes_in_the_section_are_named(lake: Path, section: dict[str, object], words: str) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["easy_trials"] = section
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(UsageError) as told:
        load(lake)
    assert words in str(told.value)


def test_ratings_that_tell_nothing_apart_give_no_easy_trial(origin: Path) -> None:
    tables = {name: read_output(origin, Output(name)) for name in ("stimuli", "families", "ratings")}
    said: list[str] = []
    context = StepContext("", origin, origin, 1, said.append, lambda _: None)
    equal = {**tables, "ratings": tables["ratings"].with_columns(score=pl.lit(0.5))}
    (found,) = choose_easy_trials(equal, load(origin), context).values()
    assert found.is_empty() and said == [f"0 easy trials of {N}: the ratings tell too few triplets apart"]
    (found,) = choose_easy_trials(tables, load(origin), context).values()
    assert found.height == N and said[-1].startswith(f"{N} easy trials; margins of cosine similarity from 0.")
