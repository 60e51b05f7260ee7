"""Editing params.yaml or a source file while something runs: what ran is what is recorded, of stages and versions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from affectlake.errors import SourceError
from affectlake.lake.files.git import git
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import Manifest, list_versions, resolve
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.engine.source_files import SourceFiles
from affectlake.pipelines.params.study import load
from affectlake.pipelines.stored import stored
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS, make_lake, run
from tests.support.fault_server import FaultServer


def quiet(_line: str) -> None:
    """Say nothing."""


def put(path: Path, text: str) -> None:
    """Write a file as an editor does."""
    path.write_text(text)


def run_with_edits(lake: Path, edits: dict[str, Callable[[], None]]) -> subprocess.CompletedProcess[str]:
    """Run `affectlake run`, making each edit when the line that names it has been printed."""
    command = ["affectlake", "run", "--no-report", "--lake", str(lake)]
    said, out = list[str](), list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        reader = threading.Thread(target=lambda: out.append(process.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        for line in process.stderr:
            said.append(line)
            for words in [words for words in edits if words in line]:
                edits.pop(words)()
        reader.join()
    assert not edits
    return subprocess.CompletedProcess(command, process.returncode, out[0], "".join(said))


def recorded(lake: Path, commit: str, stage: str) -> dict[str, object]:
    lock = yaml.safe_load(git(lake, "show", f"{commit}:./dvc.lock"))
    return dict(lock["stages"][stage]["params"]["params.yaml"])


def test_a_version_has_the_parameters_that_its_tables_were_made_with(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    settings = [word for one in (*SETTINGS, "agents.caption-tfidf.encoder.n_components=10") for word in ("--set", one)]
    subprocess.run(["affectlake", "init", lake, "--study", "demo", *settings], check=True, capture_output=True)
    path = lake / "params.yaml"
    before = path.read_text()
    after = re.sub(r"(?m)^  learning_rate: \S+", "  learning_rate: 0.05", before, count=1)
    assert after != before
    edits: dict[str, Callable[[], None]] = {
        "ingest: started": lambda: put(path, "seed: [half an edit"),
        "embed@human-category: started": lambda: put(path, after),
    }
    first = run_with_edits(lake, edits)
    assert first.returncode == 0, first.stderr
    assert "was changed during the run" in first.stderr
    v1 = resolve(lake, "v1")
    assert git(lake, "show", f"{v1.commit}:./params.yaml") == before
    assert path.read_text() == after
    rate = yaml.safe_load(before)["spose"]["learning_rate"]
    assert recorded(lake, v1.commit, "embed@human-category")["spose"]["learning_rate"] == rate  # type: ignore[index]

    second = run_with_edits(lake, {})
    assert second.returncode == 0, second.stderr
    v2 = resolve(lake, "v2")
    assert git(lake, "show", f"{v2.commit}:./params.yaml") == after
    assert recorded(lake, v2.commit, "embed@human-category")["spose"]["learning_rate"] == 0.05  # type: ignore[index]
    one, other = (Manifest(lake, v.commit).digests[Output("embeddings", "human-category")] for v in (v1, v2))
    assert one != other


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("edited") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    return lake


@pytest.fixture
def lake(origin: Path, tmp_path: Path, server: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    text = (lake / "params.yaml").read_text()
    (lake / "params.yaml").write_text(text.replace("http://127.0.0.1:8000/v1", server.url))
    run(lake)
    return lake


@pytest.mark.parametrize("edit", ["seed: 77", "seed: [half an edit"])
def test_collecting_publishes_its_answers_and_no_edit_of_somebodys(lake: Path, edit: str) -> None:
    published = (lake / "params.yaml").read_text()
    known = list_versions(lake)
    lines: list[str] = []

    def edit_it(_shown: object) -> None:
        (lake / "params.yaml").write_text(published.replace("seed: 2025\n", f"{edit}\n"))

    done = collect_answers(lake, CollectionRequest("tiny", limit=60), lines.append, edit_it)
    assert done.n_added == 60 and done.version is not None
    assert (lake / "params.yaml").read_text() != published
    assert git(lake, "show", f"{done.version.commit}:./params.yaml") == published
    pipelines = [git(lake, "show", f"{version.commit}:./dvc.yaml") for version in (known[-1], done.version)]
    assert pipelines[0] == pipelines[1]
    old, new = Manifest(lake, known[-1].commit), Manifest(lake, done.version.commit)
    assert new.made == old.made
    assert set(new.collected) - set(old.collected) == {Output("responses", "tiny")}
    assert "params.yaml" in git(lake, "status", "--porcelain")  # the edit is still there, as nobody's version
    assert any("params.yaml has unpublished changes" in line for line in lines)


def test_a_run_that_was_cut_off_is_not_published_by_a_collection(lake: Path) -> None:
    lock = (lake / "dvc.lock").read_text()
    half = yaml.safe_load(lock)
    half["stages"]["embed@human-category"]["params"]["params.yaml"]["seed"] = 12345
    (lake / "dvc.lock").write_text(yaml.safe_dump(half))
    done = collect_answers(lake, CollectionRequest("tiny", limit=5), quiet)
    assert done.version is not None
    assert git(lake, "show", f"{done.version.commit}:./dvc.lock") == lock


def test_source_files_that_change_under_a_stage_are_not_recorded(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    subprocess.run(
        ["affectlake", "init", lake, "--study", "emotion", "--set", "sources.ratings=../ratings.csv"],
        check=True,
        capture_output=True,
    )
    (tmp_path / "ratings.csv").write_text("a\n")
    params = load(lake)
    sources = SourceFiles(lake, stages(params, stored(lake))["ingest"], params)
    sources.refuse_changed()
    (tmp_path / "ratings.csv").write_text("a\nb\n")
    with pytest.raises(SourceError, match="changed while ingest was reading them"):
        sources.refuse_changed()


def test_dvc_repro_records_no_parameters_that_a_stage_did_not_run_with(lake: Path) -> None:
    """`dvc repro` hashes params.yaml when a stage has ended: the stage fails if they are others by then."""
    path = lake / "params.yaml"
    edit = f"sed -i 's/^seed: .*/seed: 4242/' {path}"
    hook = (
        "import sys, subprocess; from affectlake.cli import main as cli\n"
        "from affectlake.pipelines.engine import runner; given = runner.run_stage\n"
        "def edited(*arguments):\n"
        f"    done = given(*arguments); subprocess.run({edit!r}, shell=True, check=True); return done\n"
        "runner.run_stage = edited; cli.main(['step', 'sample', '--lake', sys.argv[1], '--step-version', sys.argv[2]])"
    )
    version = stages(load(lake), stored(lake))["sample"].step.version
    done = subprocess.run(
        [sys.executable, "-c", hook, str(lake), str(version)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "params.yaml was changed while sample ran" in done.stderr
