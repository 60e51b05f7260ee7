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
from typing import Any

import httpx
import pytest
import yaml


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
    "sources.n_stimuli=30",
    "sources.clips=false",
    "triplets.per_dyad=1",
    "triplets.prototypes_per_category=1",
    "triplets.thirds_per_pair=4",
    "triplets.noise_ceiling=10",
    "agents.caption-tfidf.encoder.n_components=10",
    "spose.dimensions=4",
    "spose.max_epochs=2",
    "spose.seeds=[0]",
    "geometry.permutations=5",
    "geometry.min_category_size=3",
    "geometry.perplexity=5.0",
    "brain=null",
)


def affectlake(server: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PREFECT_API_URL": server}
    done = subprocess.run(["affectlake", *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def origin(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that was built on the server."""
    lake = tmp_path_factory.mktemp("built") / "lake"
    affectlake(server, "init", str(lake), "--study", "demo", *(word for one in SMALL for word in ("--set", one)))
    params = yaml.safe_load((lake / "params.yaml").read_text())
    del params["agents"]["human-dimension"]
    (lake / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    affectlake(server, "run", "--no-report", "--lake", str(lake))
    return lake


def flow_runs(server: str) -> list[dict[str, Any]]:
    """The flow runs that the server knows, the earliest first."""
    found: list[dict[str, Any]] = httpx.post(f"{server}/flow_runs/filter", json={}).json()
    return sorted(found, key=lambda run: str(run["created"]))


def tasks_of(server: str, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The task runs of a flow run, by name."""
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    return {task["name"]: task for task in httpx.post(f"{server}/task_runs/filter", json=wanted).json()}


def test_a_build_is_seen_on_the_server(server: str, origin: Path) -> None:
    flow = flow_runs(server)[0]
    tasks = tasks_of(server, flow)
    assert (flow["name"], flow["state"]["type"]) == ("build-demo", "COMPLETED")
    assert {"ingest", "sample", "embed@human-category", "measure@caption-tfidf"} <= tasks.keys()
    assert {task["state"]["type"] for task in tasks.values()} == {"COMPLETED"}
    assert all(task["empirical_policy"]["retries"] == 2 for task in tasks.values())
    logs = httpx.post(f"{server}/logs/filter", json={"limit": 200}).json()
    assert any("done in" in line["message"] for line in logs)


def test_ctrl_c_ends_a_build_at_once_and_the_next_one_goes_on(server: str, origin: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(origin, tmp_path / "lake", symlinks=True)
    command = ["run", "--no-report", "--lake", str(lake)]
    endless = ["--set", "spose.max_epochs=1000000", "--set", "spose.convergence_epochs=1000000"]
    env = os.environ | {"PREFECT_API_URL": server}
    # a session of its own, all of which gets the signal, as a terminal does it
    running = subprocess.Popen(
        ["affectlake", *command, *endless], env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "embed@" in line and "to learn from" in line:
            break
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted; finished stages are kept" in said
    assert "Traceback" not in said
    assert flow_runs(server)[-1]["state"]["type"] == "CANCELLED"
    done = affectlake(server, *command, "--set", "spose.max_epochs=3")
    assert " stages to run, " in done.stderr
    assert "published v2" in done.stderr
    tasks = tasks_of(server, flow_runs(server)[-1])
    assert "embed@human-category" in tasks
    assert "ingest" not in tasks  # what was up to date is no task


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
