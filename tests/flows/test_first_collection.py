"""A collection in a new lake: it makes the questions, and leaves the rest of the study to the first run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import list_versions
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.engine.graph import stages, stages_for
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.pipelines.stored import stored
from tests.flows.test_judgments import affectlake
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS, build_steps
from tests.support.fault_server import FaultServer


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture
def lake(tmp_path: Path, server: FaultServer) -> Path:
    """A lake in which nothing has run."""
    lake = tmp_path / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    tiny = {**ENTRY, "protocol": "naive-least-similar", "servers": [server.url], "l1": 0.004}
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "tiny": tiny}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    return lake


def stages_of(lake: Path, version: str) -> list[str]:
    commit = next(one.commit for one in list_versions(lake) if one.name == version)
    text = subprocess.run(
        ["git", "-C", lake, "show", f"{commit}:dvc.yaml"], capture_output=True, text=True, check=True
    ).stdout
    return list(yaml.safe_load(text)["stages"])


def test_a_collection_in_a_new_lake_makes_only_the_questions(lake: Path, server: FaultServer, tmp_path: Path) -> None:
    said = affectlake("collect", "tiny", "--limit", "200", "--lake", lake)
    assert "making the questions: stimuli, captions, triplets" in said.stderr
    assert "tiny · main: +200 (200 of 435)" in said.stdout
    assert [one.name for one in list_versions(lake)] == ["v1", "v2"]
    assert set(stages_of(lake, "v2")) == {"ingest", "sample"}
    assert not (lake / "storage/tables/choices").exists()
    before = read_output(lake, Output("triplets")).collect()
    # others can use it as it is
    affectlake("push", "--lake", lake, ok=1)  # to its own folder, as there is no origin
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", lake, clone], check=True)
    subprocess.run(
        ["dvc", "remote", "modify", "--local", "storage", "url", lake / layout.REMOTE], cwd=clone, check=True
    )
    affectlake("pull", "--lake", clone)
    affectlake("checkout", "v2", "--lake", clone)
    assert read_output(clone, Output("responses", "tiny")).collect().height == 200
    affectlake("verify", "--lake", lake)
    assert "200" in affectlake("status", "--lake", lake).stdout
    # a second collection makes nothing, and the run makes everything else
    again = affectlake("collect", "tiny", "--lake", lake)
    assert "making the questions" not in again.stderr and server.asked.total() == 435
    affectlake("run", "--no-report", "--lake", lake)
    assert {"embed", "ingest", "sample", "choose_by_chat"} <= set(stages_of(lake, "v4"))
    assert read_output(lake, Output("triplets")).collect().equals(before)
    assert read_output(lake, Output("choices", "tiny")).collect().height == 435
    affectlake("checkout", "v2", "--lake", lake)
    assert not list((lake / "storage/tables/choices").rglob("*.parquet"))
    affectlake("restore", "--lake", lake)
    assert affectlake("run", "--no-report", "--lake", lake).returncode == 0
    assert len(list_versions(lake)) == 4


def test_a_collection_after_an_interrupted_run_can_be_pulled_with_dvc(lake: Path, tmp_path: Path) -> None:
    build_steps(lake, "ingest", "sample", "choose_by_ratings")
    said = affectlake("collect", "tiny", "--limit", "20", "--lake", lake)
    assert "making the questions" not in said.stderr
    assert set(stages_of(lake, list_versions(lake)[-1].name)) == {"ingest", "sample"}
    affectlake("push", "--lake", lake, ok=1)  # to its own folder, as there is no origin
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", lake, clone], check=True)
    remote = ["dvc", "remote", "modify", "--local", "storage", "url", lake / layout.REMOTE]
    subprocess.run(remote, cwd=clone, check=True)
    subprocess.run(["dvc", "pull"], cwd=clone, check=True, capture_output=True)
    assert read_output(clone, Output("responses", "tiny")).collect().height == 20


def test_an_estimate_in_a_new_lake_makes_the_questions_too(lake: Path, server: FaultServer) -> None:
    said = affectlake("collect", "tiny", "--dry-run", "--lake", lake)
    assert "435 requests remain" in said.stdout
    assert not server.asked


def test_a_mistake_in_params_is_reported_before_anything_is_made(lake: Path) -> None:
    assert "did you mean 'tiny'" in affectlake("collect", "tinny", "--lake", lake, ok=2).stderr
    assert not list_versions(lake)


def test_the_stages_for_a_table_are_those_before_it(lake: Path) -> None:
    graph = stages(load(lake), stored(lake))
    assert list(stages_for([Output("triplets")], graph)) == ["ingest", "sample"]
    assert list(stages_for([Output("frames")], graph)) == ["ingest", "frames"] or "frames" not in graph
    whole = stages_for([Output("embeddings", "human-category")], graph)
    assert {"ingest", "sample", "embed@human-category"} <= set(whole)
    assert list(whole) == [name for name in graph if name in whole]
