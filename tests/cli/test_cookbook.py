"""Every snippet of docs/cookbook.md, run on a small study with two versions, or on one with a chat agent."""

from __future__ import annotations

import os
import re
from pathlib import Path

import polars as pl
import pytest
import yaml

import affectlake
from affectlake.lake import repository
from affectlake.pipelines.collection.planning import keep_answers, plan_questions
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from tests.flows.test_positions import answer
from tests.support.builds import copy_of
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS, build_steps
from tests.support.demo_lakes import two_versions
from tests.support.lakes import ROOT

pytestmark = pytest.mark.slow

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/cookbook.md").read_text(encoding="utf-8"), re.DOTALL)
MAY_BE_EMPTY = "FROM exclusions"
OF_CHAT_AGENTS = "JOIN responses"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo study in which v2 has a sparser agent and one with fewer text features."""
    return copy_of(two_versions(), tmp_path_factory.mktemp("cookbook") / "lake")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose chat agent answers steadily in v1, and in v2's collection half the time with the third shown."""
    lake = tmp_path_factory.mktemp("asked") / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "tiny": ENTRY | {"l1": 0.004}}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    build_steps(lake, "ingest", "sample", "decode")
    for limit, share_third in ((200, 0.0), (235, 0.5)):
        plan = plan_questions(lake, load(lake), "tiny", "main", limit=limit)
        with repository.writing(lake, "test"):
            keep_answers(lake, plan.agent, [answer(question, share_third) for question in plan.questions()])
        build_steps(lake, "choose_by_chat")
        with repository.writing(lake, "test"):
            assert repository.publish(lake) is not None
    return lake


def test_there_are_twelve_questions_parameters_and_a_way_out() -> None:
    assert len(SNIPPETS) == 1 + 12 + 2 + 1


@pytest.fixture(scope="module")
def answers(study: Path, asked: Path) -> dict[str, pl.DataFrame]:
    """The answer of each snippet, run in its lake as a user would."""
    before = Path.cwd()
    found = {}
    try:
        for snippet in SNIPPETS[1:]:
            os.chdir(asked if OF_CHAT_AGENTS in snippet else study)
            names: dict[str, object] = {}
            exec(SNIPPETS[0], names)
            exec(snippet, names)
            found[snippet] = names.pop("answer")
    finally:
        os.chdir(before)
    return found


def test_every_question_has_an_answer(answers: dict[str, pl.DataFrame]) -> None:
    for snippet, rows in answers.items():
        assert rows.height > 0 or MAY_BE_EMPTY in snippet, snippet


def test_the_answers_are_about_what_was_changed(answers: dict[str, pl.DataFrame]) -> None:
    found = list(answers.values())
    assert found[0]["agent"].to_list() == ["caption-tfidf", "human-category", "human-dimension"]
    assert (found[0]["accuracy_low"] < found[0]["accuracy"]).all() and found[0]["n_test"].n_unique() == 1
    (agreement,) = found[1]["agreement"]
    assert 1 / 3 < agreement < 1
    changed = dict(found[2].select("agent", "changed").rows())
    assert changed["caption-tfidf"] > 0
    assert changed["human-category"] == changed["human-dimension"] == 0
    assert found[4]["disagreement"].is_between(0, 1).all()
    assert found[7]["r"].is_between(-1, 1).all()
    assert found[9]["r"].is_between(-1, 1.0001).all()
    shares = dict(found[10].group_by("version").agg(pl.col("share_above_threshold").mean()).rows())
    assert shares["v2"] < shares["v1"], "a greater λ left no more zeros"


def test_the_headline_is_of_each_agents_representative_fit(study: Path) -> None:
    lake = affectlake.open(study)
    fits, metrics = lake.table("fits").collect(), lake.table("metrics").collect()
    ask = "SELECT agent, seed, accuracy, accuracy_high, top1, n_dimensions, n_labelled FROM headline@v2 ORDER BY agent"
    rows = lake.sql(ask).pl().rows(named=True)
    assert {row["agent"] for row in rows} == set(fits["agent"])
    for row in rows:
        (seed,) = fits.filter(agent=row["agent"], representative=True)["seed"]
        own = metrics.filter(agent=row["agent"], seed=seed)
        held_out = own.filter(analysis="held_out", measure="accuracy")
        assert (row["seed"], row["accuracy"], row["accuracy_high"]) == (
            seed,
            *held_out.select("value", "ci_high").row(0),
        )
        assert row["top1"] == own.filter(analysis="nearest_centroid", measure="top1_accuracy")["value"].item()
        best = own.filter(analysis="rating_correlation").group_by("dimension").agg(pl.col("value").max())["value"]
        assert (row["n_dimensions"], row["n_labelled"]) == (len(best), (best > 0.95).sum())


def test_the_position_bias_of_the_second_collection_is_found(answers: dict[str, pl.DataFrame]) -> None:
    (found,) = (rows for snippet, rows in answers.items() if OF_CHAT_AGENTS in snippet)
    assert found["n"].to_list() == [200, 235]
    assert found["shard"].is_sorted() and found["agent"].unique().to_list() == ["tiny"]
    assert ((found["first"] + found["second"] + found["third"] - 1).abs() < 1e-12).all()
    steady, biased = found["third"]
    assert abs(steady - 1 / 3) < 0.1
    assert abs(biased - 2 / 3) < 0.1, "half of the answers name the third, a third of the rest too"
