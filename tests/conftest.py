"""What several test files share: the real data where it is at hand, and a home of its own for every tool."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from affectlake.lake import repository
from affectlake.process.environment import configure_process
from tests.support import services
from tests.support.lakes import ROOT, put

if TYPE_CHECKING:
    from tests.support.fault_server import FaultServer

# the same examples on every machine, however slow; `pytest --hypothesis-profile=explore` tries new ones
settings.register_profile("repeat", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeat")

RUN_COMMANDS = ("attacks", "cli", "flows", "lake", "pipelines", "report", "tests")
"""Folders with tests that run commands."""

LONGEST = (
    "test_page_media", "test_page_in_browsers",
    "test_browser", "test_remotes", "test_schedules", "test_join_histories", "test_prefect_home",
    "test_without_prefect", "test_dead_mlflow", "test_states", "test_build", "test_collect", "test_figures",
    "test_two_people", "test_edited_parameters", "test_history", "test_chat_lake", "test_query", "test_real_study",
    "test_failed_agent", "test_brain_selection", "test_brain_demo", "test_wheel", "test_damaged_files",
    "test_quarantine", "test_old_lakes",
)  # fmt: skip
"""Files that take longest, which begin first: otherwise a worker begins one when the others have nothing left."""

configure_process()
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `dvc repro` calls affectlake


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests homes of their own; for several workers, start what they share."""
    if services.FOLDER in os.environ:
        return  # a worker
    services.make_homes(Path(tempfile.mkdtemp(prefix="affectlake-tests-")))
    config.add_cleanup(services.stop)
    if getattr(config.option, "numprocesses", None) and "not slow" not in config.option.markexpr:
        services.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    order = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of published data files; tests that need it are skipped where it is not at hand."""
    folder = Path(os.environ.get("AFFECTLAKE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "cowen_keltner_2017").is_dir():
        pytest.skip(f"the published ratings are not in {folder}; point AFFECTLAKE_REAL_DATA at them")
    return folder


@pytest.fixture(scope="session")
def one_prefect_server() -> Iterator[str]:
    """A Prefect server for all runs of this session, as users name one by PREFECT_API_URL: a start takes 3 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", services.prefect_api())
        yield os.environ["PREFECT_API_URL"]


@pytest.fixture(scope="session")
def preloaded_commands(one_prefect_server: str) -> Iterator[None]:
    """Commands without the time of their imports, on one Prefect server (:mod:`tests.support.preloaded`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(services.programs()), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module", autouse=True)
def _commands(request: pytest.FixtureRequest) -> None:
    """Start the process for the commands of the first file that may run one."""
    fast = "not slow" in request.config.option.markexpr  # `make test-fast` runs none
    if request.path.parent.name in RUN_COMMANDS and not fast:
        services.start()
        request.getfixturevalue("preloaded_commands")


@pytest.fixture(scope="module")
def no_prefect_server(one_prefect_server: str) -> Iterator[None]:
    """Runs start a Prefect server of their own again, as they do where PREFECT_API_URL is not set."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL")
        with temporary_settings(restore_defaults={PREFECT_API_URL}):
            yield


@pytest.fixture(scope="session")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lakes to copy from: ``empty``, and ``published`` with 12 stimuli in v1 and 13 in v2."""
    folder = tmp_path_factory.mktemp("lakes")
    repository.init(folder / "empty", "study: tiny\n")
    shutil.copytree(folder / "empty", folder / "published")
    for n_stimuli in (12, 13):
        put(folder / "published", n_stimuli)
        assert repository.publish(folder / "published") is not None
    return {name: folder / name for name in ("empty", "published")}


@pytest.fixture
def lake(lakes: dict[str, Path], tmp_path: Path) -> Path:
    """A lake without tables."""
    return shutil.copytree(lakes["empty"], tmp_path / "lake")


@pytest.fixture
def published(lakes: dict[str, Path], tmp_path: Path) -> Path:
    """A lake with two versions: 12 stimuli in v1, 13 in v2."""
    return shutil.copytree(lakes["published"], tmp_path / "published")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A real HTTP server that serves the model of the agent ``tiny``."""
    from tests.support.fault_server import FaultServer

    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture(scope="session")
def parting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with two versions, to be cloned."""
    from tests.attacks.two_lakes import make

    return make(tmp_path_factory.mktemp("parting") / "lake")


@pytest.fixture
def pair(parting: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two clones that have the same two versions."""
    from tests.attacks.two_lakes import clone

    ours = shutil.copytree(parting, tmp_path / "ours", symlinks=True)
    return ours, clone(ours, tmp_path / "theirs")


@pytest.fixture
def shared(published: Path, tmp_path: Path) -> Path:
    """The published lake with a Git remote ``origin`` and a DVC remote, both folders; v1 to v3 are pushed."""
    from affectlake.lake.store.versions import list_versions
    from affectlake.lake.transfer import push
    from tests.attacks.asking_lakes import git

    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(published, "remote", "add", "origin", tmp_path / "origin.git")
    config = (published / ".dvc/config").read_text().replace("../storage/remote", str(tmp_path / "files"))
    (published / ".dvc/config").write_text(config)
    put(published, 14)
    repository.publish(published)
    push(published, list_versions(published))
    return published
