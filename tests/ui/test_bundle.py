"""The bundle: every link leads to a file of it, and nothing that may not be republished is in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import polars as pl
import pytest

from affectlake.ui.bundle import write_bundle
from tests.support.planted import N_STIMULI, jpeg

LINK = re.compile(r'(?:href|src)="([^"#]+)"')


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() + path.name.encode() for path in sorted(folder.rglob("*")) if path.is_file())


def test_every_link_of_the_bundle_leads_to_a_file(planted: Path, tmp_path: Path) -> None:
    done = write_bundle(planted, tmp_path / "site", n_sampled=20, all_judgments=True)
    pages = list(done.folder.rglob("*.html"))
    assert len(pages) > 40 and not done.withheld
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text and 'http-equiv="Content-Security-Policy"' in text
        for link in map(unescape, LINK.findall(text)):
            if link != "data:,":
                assert "?" not in link and (page.parent / link).is_file(), (page, link)
    assert len(list((done.folder / "judgment").iterdir())) == 40
    lines = [json.loads(line) for line in (done.folder / "data/stimuli.jsonl").read_text().splitlines()]
    assert len(lines) == N_STIMULI and lines[3]["captions"][0].startswith("planted-caption-3")
    choices = pl.concat(pl.read_parquet(path) for path in (done.folder / "data").glob("choices-*.parquet"))
    assert choices["agent"].unique().sort().to_list() == ["other", "tiny"]


@pytest.mark.parametrize("shareable", ["false", "{captions: false, media: false, ratings: false}"])
def test_what_may_not_be_republished_is_not_in_the_bundle(planted: Path, tmp_path: Path, shareable: str) -> None:
    lake = shutil.copytree(planted, tmp_path / "lake", symlinks=True)
    (lake / "params.yaml").write_text(f"study: planted\nshareable: {shareable}\nsources: {{kind: tables}}\n")
    command = [
        "affectlake",
        "bundle",
        str(tmp_path / "site"),
        "--lake",
        str(lake),
        "--all-judgments",
        "--sample",
        "300",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "not written: captions" in run.stderr and "not written: frames" in run.stderr
    site = tmp_path / "site"
    content = everything(site)
    assert b"planted-caption" not in content and b"document.title" not in content and jpeg() not in content
    assert not (site / "frame").exists() and not list(site.rglob("*.jpg"))
    (line, *_) = map(json.loads, (site / "data/stimuli.jsonl").read_text().splitlines())
    assert line["captions"] == [] and line["ratings"] == {} and line["category"] is None
    assert b"tiny-0003" in content  # ids are not restricted


def test_the_bundle_of_the_same_lake_would_show_the_planted_texts(planted: Path, tmp_path: Path) -> None:
    content = everything(write_bundle(planted, tmp_path / "site", n_sampled=300).folder)
    assert all(f"planted-caption-{at}".encode() in content for at in range(N_STIMULI))
    assert b"<script>document" not in content.replace(b"\\u003c", b"<").split(b'"stimulus_index"')[0]


def test_a_bundle_of_an_old_version_of_another_sparsity(old: Path, tmp_path: Path) -> None:
    done = write_bundle(old, tmp_path / "site", "v1", n_sampled=5)
    assert "v1 of demo" in (done.folder / "index.html").read_text() and (done.folder / "frame/0.jpg").is_file()


def test_a_folder_with_files_is_left_alone(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    done = subprocess.run(
        ["affectlake", "bundle", str(tmp_path), "--lake", str(planted)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
