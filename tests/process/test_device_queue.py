"""Servers that share a device of this machine: one at a time, in order, and a killed holder leaves nothing on it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from affectlake.errors import CollectionError, UsageError
from affectlake.judge.server_command import ServerCommand
from affectlake.process.device_queue import FOLDER, device_state, hold_device
from affectlake.process.managed_server import is_healthy
from affectlake.validation import check
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake
from tests.support.lakes import ROOT
from tests.support.preloaded import REAL
from tests.support.stores import free_port


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path / "devices"))
    return tmp_path / "devices"


def until(true: object, seconds: float = 300) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_those_who_wait_have_it_in_order_and_at_most_until_their_limit(tmp_path: Path) -> None:
    order: list[int] = []
    log: list[str] = []

    def wait(number: int) -> None:
        with hold_device("gpu0", f"agent {number}", tmp_path / str(number), limit_s=math.inf, log=log.append):
            order.append(number)
            assert device_state("gpu0").startswith(f"held by agent {number}, process ")
            time.sleep(0.05)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(4)]
    with hold_device("gpu0", "agent x", tmp_path / "x", limit_s=0):
        with hold_device("gpu1", "agent y", tmp_path / "y", limit_s=0):
            assert device_state("gpu1").startswith("held by agent y")
        for n, thread in enumerate(threads, 1):
            thread.start()
            until(lambda n=n: device_state("gpu0").endswith(f"; {n} waiting"))
        with pytest.raises(CollectionError, match=r"device gpu0 was not free within 0.3 s") as caught:
            wait_briefly(tmp_path)
        assert caught.value.found.startswith("held by agent x, process ")
        assert "UTC; 5 waiting" in caught.value.found
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3]
    assert device_state("gpu0") == "free"
    assert log[0].startswith("waiting for device gpu0, held by agent x, process ")
    assert not list((tmp_path / "devices/gpu0.queue").iterdir())


def wait_briefly(tmp_path: Path) -> None:
    with hold_device("gpu0", "agent z", tmp_path / "z", limit_s=0.3):
        pass


HOLDS = """
import sys, time
from pathlib import Path
from affectlake.judge.requests.server_process import note_of, serve
from affectlake.judge.server_command import ServerCommand
from affectlake.process.device_queue import hold_device
log, port = Path(sys.argv[1]), int(sys.argv[2])
server = ServerCommand(command=(sys.executable, "tests/support/fault_server.py", str(port)), port=port)
with hold_device("gpu0", "the killed one", note_of(log), limit_s=0), serve(server, log):
    print("serving", flush=True)
    time.sleep(600)
"""


def test_a_killed_holder_frees_the_device_and_its_server_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-c", HOLDS, str(tmp_path / "killed" / "server.log"), str(port)]
    holder = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "serving\n"
    health = f"http://127.0.0.1:{port}/health"
    assert is_healthy(health)
    waiting = subprocess.Popen([*words[:3], str(tmp_path / "other" / "server.log"), str(port)], cwd=ROOT)
    assert waiting.wait(60) != 0  # it does not wait, and starts nothing
    assert not (tmp_path / "other").exists()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert is_healthy(health)  # the server outlives it, and occupies the device
    assert device_state("gpu0") == "free"
    log: list[str] = []
    with hold_device("gpu0", "the next one", tmp_path / "next" / "note", limit_s=10, log=log.append):
        assert log == ["stopping the server that the killed one left on device gpu0 when it was killed"]
        until(lambda: not is_healthy(health))


@pytest.mark.slow
def test_agents_of_two_lakes_have_their_servers_in_turn(tmp_path: Path) -> None:
    lakes = [tmp_path / name for name in ("first", "second")]
    for lake in lakes:
        make_lake(lake, ENTRY)
        port = free_port()
        command = [sys.executable, str(ROOT / "tests/support/fault_server.py"), str(port), "tiny-llama"]
        raw = yaml.safe_load((lake / "params.yaml").read_text())
        raw["agents"]["tiny"] |= {
            "servers": [f"http://127.0.0.1:{port}/v1"],
            "server": {"command": command, "port": port, "device": "gpu0"},
        }
        (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    running: list[subprocess.Popen[str]] = []
    with hold_device("gpu0", "the test", tmp_path / "note", limit_s=0):
        for n, lake in enumerate(lakes, 1):
            words = [str(REAL), "collect", "tiny", "--limit", "30", "--lake", str(lake)]
            running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            until(lambda n=n: device_state("gpu0").endswith(f"; {n} waiting"), 120)
        shown = subprocess.run(
            ["affectlake", "status", "--json", "--lake", lakes[0]], capture_output=True, text=True, check=True
        )
        assert json.loads(shown.stdout)[0]["device"].startswith("gpu0, held by the test, process ")
    outputs = [one.communicate(timeout=180) for one in running]
    assert [one.returncode for one in running] == [0, 0], outputs
    for lake, (out, err) in zip(lakes, outputs, strict=True):
        assert "tiny · main: +30 (30 of 435)" in out
        assert "tiny: waiting for device gpu0, held by the test, process " in err
        assert not list((lake / "storage/collecting/tiny").glob("*.pid"))
    assert f"waiting for device gpu0, held by tiny of {lakes[0]}, process {running[0].pid} on" in outputs[1][1]
    assert "held by tiny of" not in outputs[0][1]
    assert device_state("gpu0") == "free"


def test_a_limit_needs_a_device() -> None:
    entry = {"command": ["x"], "port": 1}
    assert check(ServerCommand, entry).device == ""
    with pytest.raises(UsageError, match="device_limit_s without device"):
        check(ServerCommand, entry | {"device_limit_s": 5.0})
    with pytest.raises(UsageError, match="device must be a text"):
        check(ServerCommand, entry | {"device": "../x"})
