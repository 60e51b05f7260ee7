"""New databases are copies of an empty one, and MLflow uses them like those that it makes itself."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from affectlake.pipelines.engine.model_runs import _place
from affectlake.process.empty_database import place_empty_database


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache folder with an empty database, which was made for a first lake beside it."""
    folder = tmp_path_factory.mktemp("cached")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        _place(folder / "first.db")
    return folder


@pytest.fixture
def cache(cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this cache folder, which is that of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(cached / "cache", tmp_path / "cache")


def schema(database: Path) -> list[tuple[str, ...]]:
    """Tables, indices and columns; MLflow's constraints come in any order."""
    columns = "SELECT m.type, m.name, c.name, c.type FROM sqlite_master m LEFT JOIN pragma_table_info(m.name) c"
    with closing(sqlite3.connect(database)) as opened:
        return sorted(tuple(map(str, row)) for row in opened.execute(columns))


def experiments(database: Path) -> list[str]:
    from mlflow import MlflowClient

    return sorted(one.name for one in MlflowClient(f"sqlite:///{database}").search_experiments())


def test_a_copy_has_the_tables_that_mlflow_makes(tmp_path: Path, cached: Path, cache: Path) -> None:
    assert experiments(tmp_path / "own.db") == ["Default"]
    _place(tmp_path / "second.db")
    for database in (cached / "first.db", tmp_path / "second.db"):
        assert schema(database) == schema(tmp_path / "own.db")
        assert experiments(database) == ["Default"]
    assert [path.name for path in cache.rglob("*.db")] == ["empty.db"]
    with closing(sqlite3.connect(next(cache.rglob("*.db")))) as empty:
        assert empty.execute("SELECT count(*) FROM experiments").fetchone() == (0,)


@pytest.mark.usefixtures("cache")
def test_an_existing_database_is_kept(tmp_path: Path) -> None:
    (tmp_path / "own.db").write_bytes(b"not empty")
    _place(tmp_path / "own.db")
    assert (tmp_path / "own.db").read_bytes() == b"not empty"


def test_a_damaged_empty_database_is_made_again(tmp_path: Path, cached: Path, cache: Path) -> None:
    empty = next(cache.rglob("*.db"))
    empty.write_bytes(empty.read_bytes()[:5000])
    _place(tmp_path / "second.db")
    assert schema(tmp_path / "second.db") == schema(cached / "first.db")


def test_an_empty_file_is_left_to_mlflow(tmp_path: Path, cache: Path) -> None:
    next(cache.rglob("*.db")).write_bytes(b"")
    _place(tmp_path / "second.db")
    assert experiments(tmp_path / "second.db") == ["Default"]


@pytest.mark.usefixtures("cache")
def test_of_several_at_once_each_gets_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_place, [tmp_path / "one.db"] * 8))
    assert experiments(tmp_path / "one.db") == ["Default"]
    assert [path.name for path in tmp_path.glob("*one.db*")] == ["one.db"]


@pytest.mark.usefixtures("cache")
def test_a_program_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(database: Path) -> None:
        database.write_bytes(b"half")
        raise RuntimeError("no migrations")

    place_empty_database(tmp_path / "one.db", "other-1.0", fail)
    assert not list(tmp_path.rglob("*other*/*"))
    assert not (tmp_path / "one.db").exists()
