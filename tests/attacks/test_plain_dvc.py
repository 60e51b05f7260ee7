"""A colleague without affectlake: a lake is cloned by Git and its tables come by DVC, and both say that all is well."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectlake.lake.store.versions import list_versions
from affectlake.lake.transfer import push
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from tests.attacks.asking_lakes import called, change, git, make_asking_lake
from tests.support.chat_lakes import run
from tests.support.fault_server import FaultServer


def quiet(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, server: FaultServer) -> Path:
    """A lake with answers: v1 built, v2 with some answers collected, v3 with all, v4 built again."""
    folder = tmp_path_factory.mktemp("plain")
    lake = make_asking_lake(folder / "lake")
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", folder / "origin.git")
    git(lake, "remote", "add", "origin", folder / "origin.git")
    config = (lake / ".dvc/config").read_text().replace("../storage/remote", str(folder / "files"))
    (lake / ".dvc/config").write_text(config)
    change(lake, servers=[server.url])
    for limit in (50, None):
        collect_answers(lake, CollectionRequest("tiny", limit=limit), quiet)
    run(lake)
    push(lake, list_versions(lake))
    assert [v.name for v in list_versions(lake)] == ["v1", "v2", "v3", "v4"]
    return lake


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_what_was_cloned_by_git_is_pulled_by_dvc(lake: Path, tmp_path: Path, version: str) -> None:
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "--branch", f"lake/{version}", lake.parent / "origin.git", other)
    if version == "v1":  # its address of the remote was of the owner's machine alone
        shutil.copyfile(lake / ".dvc/config", other / ".dvc/config.local")
    done = called("dvc", "pull", cwd=other)
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("status", "checkout"):
        done = called("dvc", command, cwd=other)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "deleted" not in done.stdout + done.stderr
    assert [path.name for path in (other / "storage/tables/stimuli").iterdir()] == ["part-00000.parquet"]
    if version != "v1":
        assert list((other / "storage/tables/responses/tiny").iterdir())
    assert git(other, "status", "--porcelain") == ""


def test_the_latest_version_is_up_to_date_for_dvc(lake: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", lake.parent / "origin.git", tmp_path / "other")
    assert called("dvc", "pull", cwd=tmp_path / "other").returncode == 0
    done = called("dvc", "status", cwd=tmp_path / "other")
    assert (done.returncode, done.stdout.strip()) == (0, "Data and pipelines are up to date.")
