"""Environment variables that hold nonsense: one message before any work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from affectlake.errors import UsageError
from affectlake.pipelines.engine.runner import workers
from tests.support.chat import ENTRY
from tests.support.chat_lakes import build_steps, make_lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("environment") / "lake"
    make_lake(lake, ENTRY)
    return lake


def files(lake: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in lake.rglob("*") if path.is_file() and ".git" not in path.parts}


@pytest.mark.parametrize("given", ["two", "0", "-1", "1e9", "1000000000", "2.0", "٣", "2 3"])
def test_a_wrong_number_of_workers_is_refused_before_any_work(given: str, lake: Path) -> None:
    before = files(lake)
    for command in (["run", "--set", "spose.max_epochs=3"], ["step", "ingest", "--step-version", "1"]):
        done = subprocess.run(
            ["affectlake", *command, "--lake", str(lake)],
            env=os.environ | {"AFFECTLAKE_WORKERS": given},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        if "AFFECTLAKE_WORKERS" in done.stderr:
            assert done.returncode == 2
            assert done.stderr.startswith(f"affectlake: AFFECTLAKE_WORKERS={given} is not a number of workers")
        else:
            assert "dvc.yaml asks for version" in done.stderr
    assert files(lake) == before


def test_a_stage_refuses_it_as_well(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTLAKE_WORKERS", "many")
    (lake / "dvc.lock").rename(lake / "dvc.lock.aside")
    try:
        with pytest.raises(UsageError, match="AFFECTLAKE_WORKERS=many"):
            build_steps(lake, "ingest")
    finally:
        (lake / "dvc.lock.aside").rename(lake / "dvc.lock")


@pytest.mark.parametrize(("given", "expected"), [("", len(os.sched_getaffinity(0))), (" 3 ", 3), ("1024", 1024)])
def test_right_numbers_are_taken(given: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTLAKE_WORKERS", given)
    assert workers() == expected
