"""A tracking server that refuses, hangs, errs or is none: nothing fails for it, and it is waited for once."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from mlflow import MlflowClient

from affectlake.lake.files import layout
from affectlake.lake.store.versions import list_versions
from affectlake.pipelines.collection.cost import estimate_cost
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import statuses
from affectlake.pipelines.engine.model_runs import collection_pace
from affectlake.pipelines.params.study import load
from affectlake.process.environment import SETTINGS
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake, run
from tests.support.fault_server import FaultServer
from tests.support.stores import free_port


class Silent:
    """A server that takes connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.uri = f"http://me:hunter2@127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


class _Erring(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=["refuses", "hangs", "errs", "is not an address", "is a database nobody can open"])
def dead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that does not work."""
    for name, value in (("MLFLOW_HTTP_REQUEST_TIMEOUT", "1"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")):
        monkeypatch.setenv(name, value)
    silent = Silent()
    erring = ThreadingHTTPServer(("127.0.0.1", 0), _Erring)
    Thread(target=erring.serve_forever, daemon=True).start()
    uris = {
        "refuses": f"http://me:hunter2@127.0.0.1:{free_port()}",
        "hangs": silent.uri,
        "errs": f"http://me:hunter2@127.0.0.1:{erring.server_port}",
        "is not an address": f"ht!tp:/x{free_port()}",
        "is a database nobody can open": f"unknown+driver://me:hunter2@127.0.0.1:{free_port()}/db",
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uris[request.param])
    yield uris[request.param]
    erring.shutdown()
    erring.server_close()
    silent.close()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("tracked") / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    return lake


@pytest.fixture
def model() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture
def lake(origin: Path, tmp_path: Path, model: FaultServer) -> Path:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    change(lake, "tiny", servers=[model.url])
    return lake


def change(lake: Path, agent: str, **entry: object) -> None:
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"][agent] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def recorded(lake: Path, experiment: str) -> int:
    """Return how many runs the lake's own database has."""
    client = MlflowClient(f"sqlite:///{lake / layout.MODEL_RUNS}")
    return len(client.search_runs([one.experiment_id for one in client.search_experiments() if one.name == experiment]))


def test_fits_are_published_and_recorded_in_the_lake(dead: str, lake: Path) -> None:
    n_before = recorded(lake, "demo")
    change(lake, "human-category", l1=0.01)
    said: list[str] = []
    built = run(lake, said.append)
    assert built.version is not None
    (line,) = [line for line in said if "MLflow" in line]
    assert "the fits of human-category are recorded in storage/mlflow.db instead" in line
    assert recorded(lake, "demo") == n_before + 1


def test_answers_are_published_and_a_dead_server_is_waited_for_once(
    dead: str, lake: Path, model: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affectlake.pipelines.collection.run.PER_VERSION", 20)
    said: list[str] = []
    done = collect_answers(lake, CollectionRequest("tiny", limit=60), said.append)
    assert (done.n_added, done.ending) == (60, "limit")
    lines = [line for line in said if "MLflow" in line]
    assert len(lines) == 3
    assert recorded(lake, "demo collection") == 3
    before = time.monotonic()
    assert not collection_pace(lake, "demo", "tiny", "main").is_known
    assert time.monotonic() - before < 0.5  # it has failed before
    (status,) = [one for one in statuses(lake, load(lake)) if one.trial_set == "main"]
    assert status.n_answered == 60
    n_asked = sum(model.asked.values())
    found = estimate_cost(lake, CollectionRequest("tiny"), said.append, lambda _: None)
    assert (found.n_left, found.per_second, found.measured_on) == (375, 0.0, "MLflow does not answer")
    assert sum(model.asked.values()) == n_asked  # nothing is asked, and paid, only because nobody knows the rate


def test_a_lake_whose_own_database_is_broken_says_so(lake: Path, model: FaultServer) -> None:
    (lake / layout.MODEL_RUNS).unlink()
    (lake / layout.MODEL_RUNS).mkdir()
    said: list[str] = []
    assert collect_answers(lake, CollectionRequest("tiny", limit=20), said.append).n_added == 20
    (line,) = [line for line in said if "MLflow" in line]
    assert "are not recorded" in line


def test_with_the_limits_that_a_command_sets_it_ends_soon(lake: Path) -> None:
    silent = Silent()
    env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_HTTP")}
    command = ["affectlake", "collect", "tiny", "--limit", "30", "--lake", str(lake)]
    done = subprocess.run(
        command, env=env | {"MLFLOW_TRACKING_URI": silent.uri}, capture_output=True, text=True, check=False, timeout=100
    )
    silent.close()
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "the rounds of asking tiny are recorded in storage/mlflow.db instead" in done.stderr
    assert len(list_versions(lake)) == 2


def test_the_limits_are_short_and_the_user_s_own_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from affectlake.process.environment import configure_process

    assert float(SETTINGS["MLFLOW_HTTP_REQUEST_TIMEOUT"]) * (1 + int(SETTINGS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])) < 20
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    configure_process()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
