"""The page on studies of one's own, run from the first block to the last."""

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

PAGE = (ROOT / "docs/own-study.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh|text|yaml)\n(.*?)```", PAGE, re.DOTALL)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ)


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    said = ""
    for language, text in BLOCKS:
        if language == "python":
            done = run([sys.executable, "-c", text], tmp_path)
        elif language == "sh":
            done = run(["bash", "-ec", text], tmp_path)
        elif language == "text":
            assert text.strip() == said.strip()
            continue
        else:
            shown = yaml.safe_load(text)["sources"]
            assert shown == yaml.safe_load((tmp_path / "study/params.yaml").read_text())["sources"]
            continue
        assert done.returncode == 0, done.stderr
        said = done.stderr
    lake = affectlake.open(tmp_path / "study")
    labels = lake.sql("SELECT agent, dimension, family, r FROM labels WHERE label_rank = 1").pl()
    assert set(labels["agent"]) == {"caption-tfidf", "ratings-properties"}
    assert labels["family"].unique().to_list() == ["properties"]
    held_out = lake.sql("SELECT agent, min(value) AS value FROM metrics WHERE analysis = 'held_out' "
                          "AND measure = 'accuracy' GROUP BY agent").pl()  # fmt: skip
    assert held_out["value"].min() > 0.6
    assert lake.sql("SELECT count(*) AS n FROM triplets WHERE trial_set = 'main'").pl()["n"][0] == 3 * 60 * 59 // 2
    page = next((tmp_path / "study/storage/reports").glob("*.html")).read_text(encoding="utf-8")
    assert "How do the stimuli differ?" in page
    shown = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "ratings of the stimuli" in shown
    assert "emotion" not in shown.lower() and "affective" not in shown.lower()
