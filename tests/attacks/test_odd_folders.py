"""A lake's folder may have any name: its path is never a pattern, and never says anything about its rows."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy
from polars.testing import assert_frame_equal

from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.diff import diff
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.open import open_lake
from affectlake.lake.query import query
from affectlake.lake.store.versions import resolve
from affectlake.lake.tables import appending, factory
from affectlake.lake.tables.memmaps import map_lists
from affectlake.lake.tables.parts import part_files, write_parts
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.engine.model_runs import tracking_uri

# each with the name of a folder beside it, that it fits as a pattern
NAMES = {
    "agent=x": "agent=y",
    "seed=1": "seed=2",
    "a[1]b": "a1b",
    "a[!2]b": "a1b",
    "st*r": "star",
    "**": "deep",
    "qu?k": "quik",
    "x{1,2}": "x1",
    'it\'s "so"': "its so",
    "ünï çödé": "uni code",
    "back\\slash": "backslash",
    "agent=a*[b]?": "agent=ab",
}


@pytest.fixture(params=NAMES)
def odd(request: pytest.FixtureRequest, lakes: dict[str, Path], tmp_path: Path) -> Path:
    """A lake in a folder of an odd name, beside the same lake in one that the name fits as a pattern."""
    shutil.copytree(lakes["published"], tmp_path / NAMES[request.param] / "lake")
    return shutil.copytree(lakes["published"], tmp_path / request.param / "lake")


def affectlake(*words: str | Path) -> str:
    done = subprocess.run(["affectlake", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_versions_have_their_own_rows_and_columns(odd: Path, lakes: dict[str, Path]) -> None:
    lake, plain = open_lake(odd), open_lake(lakes["published"])
    for table in ("stimuli", "triplets", "choices"):
        wanted = plain.table(table, "v1").collect()
        assert_frame_equal(lake.table(table, "v1").collect(), wanted)
        assert_frame_equal(lake.sql(f"SELECT * FROM {table}@v1").pl(), wanted)
    assert str(lake.diff("v1", "v2")) == str(plain.diff("v1", "v2"))
    rows = affectlake(
        "query", "SELECT count(*) AS n, min(agent) AS agent FROM choices", "--format", "jsonl", "--lake", odd
    )
    assert json.loads(rows) == {"n": plain.table("choices").collect().height, "agent": "tiny"}


def test_tables_grow_are_published_checked_and_checked_out(odd: Path) -> None:
    rows = factory.tiny_lake(13)["choices"].with_columns(agent=pl.lit("model"))
    others = {"triplets": read_output(odd, Output("triplets"))}
    appending.append(odd, Output("choices", "model"), rows[:100], others)
    appending.append(odd, Output("choices", "model"), rows[100:], others)
    version = repository.publish(odd)
    assert version is not None
    assert version.changes == f"choices/model: +{rows.height} rows ({rows.height})"
    assert_frame_equal(
        read_output(odd, Output("choices", "model")).collect(),
        rows.select(read_output(odd, Output("choices", "tiny")).collect().columns),
    )
    assert query(odd, "SELECT count(*), count(DISTINCT agent) FROM choices").fetchall() == [(2 * rows.height, 2)]
    assert [one.output for one in diff(odd, resolve(odd, "v2"), version)] == ["choices/model"]
    assert check(odd, version, repair=False, remote=None) == []
    checkout(odd, resolve(odd, "v1"))
    assert read_output(odd, Output("stimuli")).collect().height == 12
    affectlake("checkout", "latest", "--lake", odd)
    assert read_output(odd, Output("stimuli")).collect().height == 13


def test_patterns_are_mapped(odd: Path) -> None:
    from affectlake.lake.tables.contracts import contract

    rows = factory.tiny_lake(12)["betas"]
    write_parts(rows, contract("betas"), odd / Output("betas").folder)
    subject = rows["subject"][0]
    found = map_lists(odd, part_files(odd / Output("betas").folder), "pattern", "subject", subject)
    assert found.tolist() == rows.filter(subject=subject)["pattern"].to_list()


def test_model_runs_are_kept_in_the_lake(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    beside = sorted(odd.parent.parent.iterdir())
    engine = sqlalchemy.create_engine(tracking_uri(odd))  # as MLflow opens it
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE runs (name TEXT)"))
    engine.dispose()
    assert (odd / layout.MODEL_RUNS).stat().st_size > 0
    assert sorted(odd.parent.parent.iterdir()) == beside


@pytest.mark.parametrize("odd", ["seed=1", "a[1]b", "ünï çödé", "agent=a*[b]?"], indirect=True)
def test_versions_go_to_a_remote_and_come_back(odd: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", odd.parent / "origin.git"], check=True)
    subprocess.run(["git", "remote", "add", "origin", odd.parent / "origin.git"], cwd=odd, check=True)
    subprocess.run(["affectlake", "remote", "add", "store", "../remote", "--default"], cwd=odd, check=True)
    affectlake("push", "--lake", odd)
    affectlake("fsck", "--lake", odd)
    shutil.rmtree(odd / ".dvc" / "cache")
    affectlake("pull", "--lake", odd)
    assert query(odd, "SELECT count(*) FROM stimuli@v1").fetchall() == [(12,)]
