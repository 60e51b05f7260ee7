"""Every snippet of docs/cookbook.md, run on a small study with two versions."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT
from test_build import SMALL, sets

pytestmark = pytest.mark.slow

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/cookbook.md").read_text(encoding="utf-8"), re.DOTALL)
MAY_BE_EMPTY = "FROM exclusions"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo study in which v2 has a sparser agent and one with fewer text features."""
    lake = tmp_path_factory.mktemp("cookbook") / "lake"
    changed = sets("agents.human-category.l1=0.02", "agents.caption-tfidf.encoder.n_components=5")
    commands = (["init", lake, "--study", "demo", *sets(*SMALL)], ["run"], ["run", *changed])
    for words in commands:
        place = [] if words[0] == "init" else ["--lake", lake]
        subprocess.run(["affectlake", *words, *place], check=True, capture_output=True)
    return lake


def test_there_are_ten_questions_and_a_way_out() -> None:
    assert len(SNIPPETS) == 1 + 10 + 1


@pytest.fixture(scope="module")
def answers(study: Path) -> dict[str, pl.DataFrame]:
    """The answer of each snippet, run in the lake as a user would."""
    names: dict[str, object] = {}
    before = Path.cwd()
    os.chdir(study)
    try:
        exec(SNIPPETS[0], names)
        found = {}
        for snippet in SNIPPETS[1:]:
            exec(snippet, names)
            found[snippet] = names.pop("answer")
    finally:
        os.chdir(before)
    return found


def test_every_question_has_an_answer(answers: dict[str, pl.DataFrame]) -> None:
    for snippet, answer in answers.items():
        assert answer.height > 0 or MAY_BE_EMPTY in snippet, snippet


def test_the_answers_are_about_what_was_changed(answers: dict[str, pl.DataFrame]) -> None:
    found = list(answers.values())
    (agreement,) = found[0]["agreement"]
    assert 1 / 3 < agreement < 1
    changed = dict(found[1].select("agent", "changed").rows())
    assert changed["caption-tfidf"] > 0
    assert changed["human-category"] == changed["human-dimension"] == 0
    assert found[3]["disagreement"].is_between(0, 1).all()
    assert found[6]["r"].is_between(-1, 1).all()
    assert found[8]["r"].is_between(-1, 1.0001).all()
    shares = dict(found[9].group_by("version").agg(pl.col("share_above_threshold").mean()).rows())
    assert shares["v2"] < shares["v1"], "a greater λ left no more zeros"
