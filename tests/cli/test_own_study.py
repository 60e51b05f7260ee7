"""The pages on studies of one's own and on people and models, run from the first block to the last."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import affectlake
from tests.support.lakes import ROOT

pytestmark = pytest.mark.slow


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ)


def run_page(name: str, folder: Path) -> None:
    """Run the blocks of a page; blocks of text and YAML must be what was printed or written."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    said = ""
    for language, text in re.findall(r"```(python|sh|text|yaml)\n(.*?)```", page, re.DOTALL):
        if language == "python":
            done = run([sys.executable, "-c", text], folder)
        elif language == "sh":
            done = run(["bash", "-ec", text], folder)
        elif language == "text":
            assert text.strip() == said.strip()
            continue
        else:
            shown = yaml.safe_load(text)["sources"]
            assert shown == yaml.safe_load((folder / "study/params.yaml").read_text())["sources"]
            continue
        assert done.returncode == 0, done.stderr
        said = done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page on studies of one's own was run."""
    folder = tmp_path_factory.mktemp("own-study")
    run_page("own-study.md", folder)
    return folder


def test_the_page_runs_as_it_stands(folder: Path) -> None:
    lake = affectlake.open(folder / "study")
    labels = lake.sql("SELECT agent, dimension, family, r FROM labels WHERE label_rank = 1", at="v1").pl()
    assert set(labels["agent"]) == {"caption-tfidf", "ratings-properties"}
    assert labels["family"].unique().to_list() == ["properties"]
    held_out = lake.sql("SELECT agent, min(value) AS value FROM metrics WHERE analysis = 'held_out' "
                          "AND measure = 'accuracy' GROUP BY agent", at="v1").pl()  # fmt: skip
    assert held_out["value"].min() > 0.6
    (n,) = lake.sql("SELECT count(*) AS n FROM triplets WHERE trial_set = 'main'", at="v1").pl()["n"]
    assert n == 3 * 60 * 59 // 2
    page = (folder / "study/storage/reports/v1.html").read_text(encoding="utf-8")
    assert "How do the stimuli differ?" in page
    shown = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "ratings of the stimuli" in shown
    assert "emotion" not in shown.lower() and "affective" not in shown.lower()


def test_people_and_models_are_compared_on_the_same_triplets(folder: Path) -> None:
    run_page("people-and-models.md", folder)
    lake = affectlake.open(folder / "study")
    excluded = lake.sql("SELECT participant, excluded_by FROM participants WHERE excluded_by IS NOT NULL").pl()
    assert excluded.rows() == [("P11", "failed_catch")]
    kappa = lake.sql("SELECT against, n, value, ci_low FROM comparisons "
                       "WHERE measure = 'kappa' AND agent = 'people' AND against <> agent").pl()  # fmt: skip
    assert sorted(kappa["against"]) == ["caption-tfidf", "ratings-properties"]
    assert kappa["n"].to_list() == [600, 600]
    assert [round(value, 2) for value in kappa["value"]] == [0.51, 0.51]  # as the page says
    (between,) = lake.sql("SELECT value FROM reliability WHERE measure = 'between_participants'").pl()["value"]
    assert round(between, 2) == 0.67
    used = lake.sql("SELECT count(*) AS n FROM choices WHERE agent = 'people'").pl()["n"][0]
    assert used == 11 * 150
    assert lake.sql("SELECT min(value) AS n FROM metrics WHERE agent = 'people' AND analysis = 'held_out' "
                      "AND measure = 'accuracy'").pl()["n"][0] > 0.55  # fmt: skip
