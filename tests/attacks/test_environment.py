"""Environment variables that hold nonsense: one message before any work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from affectlake.errors import UsageError
from affectlake.pipelines.engine.runner import workers
from affectlake.pipelines.engine.tracking_server import answer_limit_s
from affectlake.process.environment import configure_process
from tests.support.chat import ENTRY
from tests.support.chat_lakes import build_steps, make_lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("environment") / "lake"
    make_lake(lake, ENTRY)
    return lake


def files(lake: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in lake.rglob("*") if path.is_file() and ".git" not in path.parts}


@pytest.mark.parametrize("given", ["two", "1000000000"])  # others: test_variables.py
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


@pytest.mark.parametrize(
    ("name", "given", "meaning", "allowed"),
    [
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon", "a time limit in seconds", "1 to 86,400"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "-1", "a number of retries", "0 to 1,000"),
    ],
)
def test_wrong_limits_of_a_tracking_server_are_refused_before_any_work(
    name: str, given: str, meaning: str, allowed: str, lake: Path
) -> None:
    before = files(lake)
    for command in (["run", "--set", "spose.max_epochs=3"], ["collect", "tiny"]):
        done = subprocess.run(
            ["affectlake", *command, "--lake", str(lake)],
            env=os.environ | {name: given},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"affectlake: {name}={given} is not {meaning}\n")
        assert f"allowed: {allowed}\n" in done.stderr
        assert f"set the environment variable {name}" in done.stderr
    assert files(lake) == before


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", " ")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "")
    monkeypatch.setenv("PREFECT_HOME", os.environ["PREFECT_HOME"])
    configure_process()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "8"  # MLflow would end with an error
    assert answer_limit_s() == 2 * (8 + 3)


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
