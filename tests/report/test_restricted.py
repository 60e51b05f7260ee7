"""Content that may not be republished is in no page, figure or file that is meant for others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

import affectlake as package
from affectlake.lake import repository
from affectlake.lake.store.versions import resolve
from affectlake.pipelines.outputs.restricted import restricted
from tests.support.demo_lakes import affectlake
from tests.support.disclosure import RATINGS, N, captions, disclosed, planted_copy, runs_of, scores, state
from tests.support.lakes import put

pytestmark = pytest.mark.slow

EVERY = {"captions", "ratings", "stimuli", "frames"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose sources may not be republished, which its `params.yaml` stated after v1 was published."""
    lake = planted_copy(tmp_path_factory.mktemp("restricted"))
    state(lake, False)
    return lake


def data_of(page: str) -> dict[str, dict[str, list[object]]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, dict[str, list[object]]] = json.loads(found[1])
    return data


def quoted(text: str) -> list[str]:
    """Return the captions of which any run of words is in a text."""
    return [caption for caption in captions() if any(run in text for run in runs_of(caption))]


def rated(text: str) -> list[str]:
    """Return the scores that are in a text as the file has them."""
    numbers = set(re.findall(r"(?<![\d.])0\.\d{7}(?!\d)", text))
    return [value for name in RATINGS for value in map(str, scores()[name].to_list()) if value in numbers]


PICTURE = '<img src="data:image/webp'
"""A frame of a stimulus; drawings of maps are images too."""


def hovers(text: str) -> list[str]:
    """Return the ratings of single stimuli that a tooltip would show."""
    return [f"{name} {value:.2f} ·" for name in RATINGS for value in scores()[name] if f"{name} {value:.2f} ·" in text]


def test_a_report_has_no_text_rating_or_picture_of_a_stimulus(lake: Path) -> None:
    page = Path(affectlake("report", "--figures", "--lake", lake).stdout.strip())
    assert page.name == "v1.html"
    for place in (page, page.with_name("v1-figures")):
        text = disclosed(place)
        assert quoted(text) == []
        assert rated(text) == []
        assert hovers(text) == []
        assert PICTURE not in text
        words = {word for caption in captions() for word in caption.split()} - {"someone"}
        assert [word for word in words if word in text] == []
    raw = page.read_text(encoding="utf-8")
    stimuli = data_of(raw)["stimuli"]
    assert len(stimuli["id"]) == N
    assert (set(stimuli["category"]), set(stimuli["caption"]), set(stimuli["rated"])) == ({-1}, {""}, {""})
    assert "Not on this page" in raw
    assert "For your own use" not in raw
    assert all(f"<li>{table}" in raw for table in EVERY)


def test_results_of_many_stimuli_remain(lake: Path) -> None:
    page = Path(affectlake("report", "--lake", lake).stdout.strip()).read_text(encoding="utf-8")
    for name in RATINGS:
        assert name in page  # labels and correlations of dimensions
    assert "clip001" in page
    assert "Held-out accuracy" in page
    assert "correlation" in page


def test_no_figure_file_joins_a_stimulus_with_its_category(lake: Path) -> None:
    affectlake("report", "--figures", "--lake", lake)
    for file in (lake / "storage/reports/v1-figures").glob("*.csv"):
        rows = pl.read_csv(file, infer_schema=False)
        for column in {"category", "score", "caption"} & set(rows.columns):
            assert rows[column].null_count() + (rows[column] == "").sum() == len(rows), file


def test_for_myself_shows_all_under_another_name_with_a_notice(lake: Path) -> None:
    path = Path(affectlake("report", "--for-myself", "--figures", "--lake", lake).stdout.strip())
    assert path.name == "v1-for-myself.html"
    assert (path.parent / "v1-for-myself-figures").is_dir()
    page, text = path.read_text(encoding="utf-8"), disclosed(path)
    assert "For your own use" in page
    assert len(quoted(text)) == N
    assert hovers(text)
    assert PICTURE in text
    assert set(data_of(page)["stimuli"]["caption"]) == set(captions())
    done = affectlake("report", "--for-myself", "--compare", "v1", "v1", "--lake", lake, ok=2)
    assert "--for-myself" in done.stderr


def test_the_report_of_run_follows_the_current_statement(tmp_path: Path) -> None:
    """The page of a version is written again as soon as its sources may not be republished, and no stage is stale."""
    lake = planted_copy(tmp_path)
    page = lake / "storage/reports/v1.html"
    assert len(quoted(disclosed(page))) == N
    state(lake, False)
    steps = json.loads(affectlake("steps", "--json", "--lake", lake).stdout)
    assert {row["state"] for row in steps} == {"up to date"}
    done = affectlake("run", "--lake", lake)
    assert "(0 stages run" in done.stderr
    assert "v2.html" in done.stdout
    assert quoted(disclosed(lake / "storage/reports/v2.html")) == []
    affectlake("report", "--at", "v1", "--lake", lake)
    assert quoted(disclosed(page)) == []
    state(lake, None)
    assert {row["state"] for row in json.loads(affectlake("steps", "--json", "--lake", lake).stdout)} == {"up to date"}


@pytest.mark.parametrize(
    ("stated", "tables"),
    [
        (False, EVERY),
        (True, set()),
        (None, set()),
        ({"captions": False}, {"captions"}),
        ({"ratings": False, "media": True}, {"ratings", "stimuli"}),
        ({"media": False}, {"frames"}),
        ({"stimuli": False}, {"stimuli"}),
    ],
    ids=["nothing", "everything", "unstated", "no captions", "no ratings", "no media", "no stimuli"],
)
def test_parts_are_restricted_one_by_one(tmp_path: Path, stated: object, tables: set[str]) -> None:
    lake = planted_copy(tmp_path)
    if stated is None:
        affectlake("run", "--lake", lake)
    state(lake, stated)
    assert set(restricted(lake, resolve(lake, "v1"))) == tables
    page = disclosed(Path(affectlake("report", "--lake", lake).stdout.strip()))
    assert bool(quoted(page)) == ("captions" not in tables)
    assert bool(hovers(page)) == ("ratings" not in tables)
    assert (PICTURE in page) == ("frames" not in tables)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("sources: {kind: emotion, ratings: null}", {"stimuli"}),
        ("sources: {kind: emotion}\nshareable: false", {"stimuli"}),
        ("sources: {kind: emotion}\nshareable: true", set()),
        ("sources: {kind: emotion}\nshareable: {captions: false}", {"stimuli"}),
        ("sources: {kind: films}", {"stimuli"}),
        ("sources: null", {"stimuli"}),
        ("sources: {kind: synthetic}", set()),
        ("sources: {kind: tables}", set()),
        ("sources: {kind: tables}\nshareable: 'no'", {"stimuli"}),
    ],
)
def test_lakes_of_earlier_releases_have_no_such_key(tmp_path: Path, settings: str, expected: set[str]) -> None:
    """The emotional videos, and sources of a kind that is not known, may not be republished; others may."""
    lake = tmp_path / "lake"
    repository.init(lake, f"study: old\n{settings}\n")
    put(lake)
    version = repository.publish(lake)
    assert version is not None
    assert set(restricted(lake, version)) == expected


def test_the_data_remain_readable_in_the_lake(lake: Path) -> None:
    found = package.open(lake)
    assert found.table("captions", "v1").collect()["caption"].to_list() == captions()
    assert "gallery" in package.figures.names()
    shown = package.figures.draw("gallery", found, "caption-tfidf")
    assert "someone" in str(shown.html)
