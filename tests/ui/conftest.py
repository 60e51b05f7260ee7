"""Lakes whose pages are tested: one with planted captions, and one of older code with five versions."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.support.builds import built_once, copy_of
from tests.support.planted import planted_lake

OLD = Path(__file__).parents[1] / "fixtures" / "lake_b629e22.tar.xz"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for indexes, the same for all tests of a worker."""
    folder = tmp_path_factory.getbasetemp() / "ui-cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("AFFECTLAKE_UI_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake with planted captions, answers and frames."""
    return copy_of(built_once("planted-pages", planted_lake), tmp_path_factory.mktemp("planted") / "lake")


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of older code, without working tables."""
    folder = tmp_path_factory.mktemp("old-pages")
    with tarfile.open(OLD) as archive:
        archive.extractall(folder, filter="tar")
    return folder / "lake"
