"""A server's life, with real processes: started, waited for, stopped with its children, or left alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from affectlake.errors import CollectionError
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.request_limits import Target
from affectlake.judge.requests.server_process import serve
from affectlake.judge.server_command import ServerCommand
from affectlake.process.identity import process_started
from affectlake.process.managed_server import is_healthy
from tests.support.fault_server import FaultServer
from tests.support.questions import make_questions

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command(*words: str, port: int = 0) -> ServerCommand:
    env = {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    return ServerCommand(command=(sys.executable, *words), port=port or free_port(), env=env, start_limit_s=60)


def fault_server(port: int) -> ServerCommand:
    return command("tests/support/fault_server.py", str(port), port=port)


def gone(pid: int) -> bool:
    until = time.monotonic() + 20
    while process_started(pid) != "gone" and time.monotonic() < until:
        pass
    return process_started(pid) == "gone"


def test_a_server_is_started_asked_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    server, log = fault_server(free_port()), tmp_path / "logs" / "server.log"
    with serve(server, log) as served, Journal(tmp_path / "a.sqlite") as journal:
        assert served.started_here
        assert collect(make_questions(20), journal, Target((served.url,), "tiny")).n_answered == 20
        pid = json.loads(log.with_name("server.log.pid").read_text())["pid"]
    assert gone(pid)
    assert not is_healthy(server.health_url)
    assert "ready" in log.read_text()
    assert not log.with_name("server.log.pid").exists()


def test_a_server_that_is_up_is_used_and_left_alone(tmp_path: Path) -> None:
    with FaultServer().running() as running:
        server = command("-c", "raise SystemExit(9)", port=running.port)
        with serve(server, tmp_path / "log") as served:
            assert not served.started_here
        assert is_healthy(server.health_url)
    assert not (tmp_path / "log").exists()


def test_a_server_that_ends_early_shows_its_last_words_without_secrets(tmp_path: Path) -> None:
    server = command("-c", "print('no GPU, key TOPSECRET-1'); raise SystemExit(3)")
    with (
        pytest.raises(CollectionError, match="ended with status 3") as caught,
        serve(server, tmp_path / "log", ["TOPSECRET-1"]),
    ):
        raise AssertionError("it never was ready")
    assert "no GPU, key ***" in str(caught.value)


def test_a_server_that_is_never_ready_is_stopped_with_its_children(tmp_path: Path) -> None:
    forks = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork(); print(os.getpid(), flush=True);"
    words = (sys.executable, "-c", forks + "time.sleep(600)")
    server = ServerCommand(command=words, port=free_port(), start_limit_s=2)
    with (
        pytest.raises(CollectionError, match="not ready within 2 s"),
        serve(server, tmp_path / "log", stop_limit_s=1),
    ):
        raise AssertionError("it never was ready")
    pids = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    server = ServerCommand(command=("no-such-server", "--api-key", "TOPSECRET-1"), port=free_port())
    with (
        pytest.raises(CollectionError, match="cannot be started") as caught,
        serve(server, tmp_path / "log", ["TOPSECRET-1"]),
    ):
        raise AssertionError("it cannot be")
    assert "TOPSECRET" not in str(caught.value)


def test_a_server_whose_starter_was_killed_is_taken_over_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    port, log = free_port(), tmp_path / "log"
    script = (
        "import os, pathlib\nfrom tests.judge.test_serving import fault_server\n"
        "from affectlake.judge.requests.server_process import serve\n"
        f"with serve(fault_server({port}), pathlib.Path({str(log)!r})):\n    os.kill(os.getpid(), 9)\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    subprocess.run([sys.executable, "-c", script], env=env, check=False)
    assert is_healthy(fault_server(port).health_url)
    pid = json.loads((tmp_path / "log.pid").read_text())["pid"]
    with serve(fault_server(port), log) as served:
        assert served.started_here
    assert gone(pid)
