"""One agent whose fits keep no dimension does not stop a study: the others are published, and it is named."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.writing import read_output
from tests.support.builds import copy_of
from tests.support.demo_lakes import affectlake, one_version, sets

BAD = "human-dimension"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Return a lake with an agent whose sparsity now removes every weight, and what the run printed."""
    lake = copy_of(one_version(), tmp_path_factory.mktemp("failed") / "lake")
    done = affectlake("run", "--lake", lake, *sets(f"agents.{BAD}.l1=50.0"))
    return lake, done.stdout, done.stderr


def table(lake: Path, name: str, agent: str) -> pl.DataFrame:
    return read_output(lake, Output(name, agent)).collect()


def test_the_rest_is_published(built: tuple[Path, str, str]) -> None:
    lake, out, told = built
    assert "published v2" in told
    assert "human-category: held-out accuracy" in out
    assert f"{BAD}: no embedding: " in out
    assert table(lake, "embeddings", "human-category").height > 0
    assert table(lake, "encoding_maps", "human-category").height > 0


def test_the_failed_agent_is_a_row_with_the_reason(built: tuple[Path, str, str]) -> None:
    lake, _, _ = built
    fits = table(lake, "fits", BAD)
    assert fits["n_dimensions"].to_list() == [0, 0, 0]
    assert fits["note"].null_count() == 0
    assert table(lake, "embeddings", BAD).is_empty()
    metrics = table(lake, "metrics", BAD).drop_nulls("seed")
    assert set(metrics["note"]) == set(fits["note"])


def test_its_fits_are_recorded_and_the_report_says_why(built: tuple[Path, str, str]) -> None:
    lake, _, told = built
    assert "not recorded" not in told
    page = lake / "report.html"
    affectlake("report", "--lake", lake, "--output", page)
    assert "No dimension of the fit survived pruning." in page.read_text(encoding="utf-8")
