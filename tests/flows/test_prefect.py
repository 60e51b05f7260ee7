"""The build on a Prefect server of one's own: its flow run, task runs and logs are there to be seen."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server on a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("server")
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    log = (home / "log").open("wb")
    process = subprocess.Popen(command, env=os.environ | {"PREFECT_HOME": str(home)}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait_until_healthy(url, process, home / "log")
        yield url
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise AssertionError(log.read_text())


SMALL = (
    "sources.n_stimuli=60",
    "triplets.noise_ceiling=50",
    "triplets.thirds_per_pair=10",
    "agents.caption-tfidf.encoder.n_components=20",
    "geometry.permutations=10",
    "geometry.perplexity=10.0",
    "brain=null",
)


def new_lake(folder: Path, *settings: str) -> Path:
    words = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    subprocess.run(["affectlake", "init", folder, "--study", "demo", *words], check=True, capture_output=True)
    return folder


def test_a_build_is_seen_on_the_server(server: str, tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "lake", "spose.max_epochs=5")
    env = os.environ | {"PREFECT_API_URL": server}
    done = subprocess.run(["affectlake", "run", "--lake", lake], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (flow,) = httpx.post(f"{server}/flow_runs/filter", json={}).json()
    tasks = httpx.post(f"{server}/task_runs/filter", json={}).json()
    assert (flow["name"], flow["state"]["type"]) == ("build-demo", "COMPLETED")
    assert {"ingest", "sample", "embed@human-category", "measure@caption-tfidf"} <= {task["name"] for task in tasks}
    assert {task["state"]["type"] for task in tasks} == {"COMPLETED"}
    assert all(task["empirical_policy"]["retries"] == 2 for task in tasks)
    logs = httpx.post(f"{server}/logs/filter", json={"limit": 200}).json()
    assert any("done in" in line["message"] for line in logs)
    shutil.rmtree(lake)


def test_ctrl_c_ends_a_build_at_once_and_the_next_one_goes_on(server: str, tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "lake", "spose.max_epochs=1000000", "spose.min_delta=0.0", "spose.patience=1000000")
    command = ["affectlake", "run", "--lake", str(lake)]
    env = os.environ | {"PREFECT_API_URL": server}
    # a session of its own, all of which gets the signal, as a terminal does it
    running = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stderr is not None
    for line in running.stderr:
        if "embed@" in line and "to learn from" in line:
            break
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted; what had finished is kept" in said
    assert "Traceback" not in said
    latest = {"sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    (flow,) = httpx.post(f"{server}/flow_runs/filter", json=latest).json()
    assert flow["state"]["type"] == "CANCELLED"
    sets = ["--set", "spose.max_epochs=5"]
    done = subprocess.run([*command, *sets], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ingest: up to date" in done.stderr
    assert "published v1" in done.stderr


def test_the_gpu_tag_has_one_slot_for_each_gpu(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from affectlake.flows.build import one_at_a_time_per_gpu

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with temporary_settings({PREFECT_API_URL: server}):
        one_at_a_time_per_gpu()
        one_at_a_time_per_gpu()
    limits = httpx.post(f"{server}/concurrency_limits/filter", json={}).json()
    assert [(limit["tag"], limit["concurrency_limit"]) for limit in limits] == [("gpu", 2)]
