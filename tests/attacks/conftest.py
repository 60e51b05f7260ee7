"""What several attacks begin with: a server that misbehaves, two clones of a lake, a lake that is shared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectlake.lake import repository
from affectlake.lake.sharing import push
from affectlake.lake.versions import list_versions
from tests.attacks.asking_lakes import git
from tests.attacks.two_lakes import clone, make
from tests.conftest import put
from tests.fault_server import FaultServer


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A real HTTP server that serves the model of the agent ``tiny``."""
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture(scope="session")
def parting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with two versions, to be cloned."""
    return make(tmp_path_factory.mktemp("parting") / "lake")


@pytest.fixture
def pair(parting: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two clones that have the same two versions."""
    ours = shutil.copytree(parting, tmp_path / "ours", symlinks=True)
    return ours, clone(ours, tmp_path / "theirs")


@pytest.fixture
def shared(published: Path, tmp_path: Path) -> Path:
    """The published lake with a Git remote ``origin`` and a DVC remote, both folders; v1 to v3 are pushed."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(published, "remote", "add", "origin", tmp_path / "origin.git")
    config = (published / ".dvc/config").read_text().replace("../storage/remote", str(tmp_path / "files"))
    (published / ".dvc/config").write_text(config)
    put(published, 14)
    repository.publish(published)
    push(published, list_versions(published))
    return published
