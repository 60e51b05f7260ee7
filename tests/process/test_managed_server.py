"""A server's life, with real processes: no stranger is ever killed, and nothing that was started is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from affectlake.process.identity import place, process_started
from affectlake.process.managed_server import (
    ServerLaunch,
    ServerStartError,
    is_healthy,
    managed_server,
    stop_orphan,
)
from affectlake.process.process_tree import ProcessTree
from affectlake.process.server_note import find_orphan, read_note, write_note
from tests.support.stores import free_port

HEALTHY = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass
print("ready", os.getpid(), flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""
STARTER = """
import json, os, sys
from pathlib import Path
from affectlake.process.managed_server import ServerLaunch, managed_server
command, health_url, log, note = json.loads(sys.argv[1])
with managed_server(ServerLaunch(tuple(command), health_url, Path(log), Path(note))):
    print("up", flush=True)
    {then}
"""


def make_launch(
    folder: Path, program: str = HEALTHY, *, start_limit_s: float = 60, stop_limit_s: float = 5
) -> ServerLaunch:
    port = free_port()
    return ServerLaunch(
        (sys.executable, "-c", program, str(port)),
        f"http://127.0.0.1:{port}/health",
        folder / "log",
        folder / "note",
        {},
        start_limit_s,
        stop_limit_s,
    )


def started_by_another(launch: ServerLaunch, then: str) -> subprocess.Popen[str]:
    """Let another process start a server and do something then; return it when the server is ready."""
    given = json.dumps([launch.command, launch.health_url, str(launch.log), str(launch.note)])
    command = [sys.executable, "-c", STARTER.format(then=then), given]
    starter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert starter.stdout.readline() == "up\n"
    return starter


def end(starter: subprocess.Popen[str]) -> None:
    assert starter.stdin is not None
    assert starter.stdout is not None
    starter.stdin.close()
    starter.wait(60)
    starter.stdout.close()


def make_orphan(launch: ServerLaunch) -> int:
    """Let a process that is killed at once start a server; return the server's number."""
    end(started_by_another(launch, "os.kill(os.getpid(), 9)"))
    orphan = find_orphan(launch.note)
    assert orphan is not None
    assert is_healthy(launch.health_url)
    return orphan.pid


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while process_started(pid) != "gone" and time.monotonic() < deadline:
        time.sleep(0.01)
    return process_started(pid) == "gone"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with it, at the head of a group of its own, as a server is."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_server_lives_as_long_as_the_block(tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    waits: list[float] = []
    with managed_server(launch, waits.append) as running:
        assert is_healthy(launch.health_url)
        noted = read_note(launch.note)
        assert noted is not None
        assert (noted.pid, noted.starter, noted.place) == (running.pid, os.getpid(), place())
        assert (noted.started, noted.health_url) == (process_started(running.pid), launch.health_url)
        assert os.getpgid(running.pid) == running.pid != os.getpgid(0)  # Ctrl-C does not reach it
        assert not running.taken_over
    assert waits == sorted(waits)
    assert waits
    assert is_gone(running.pid)
    assert not launch.note.exists()
    assert launch.log.read_text() == f"ready {running.pid}\n"


def test_an_error_within_the_block_stops_it_too(tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    with pytest.raises(KeyboardInterrupt), managed_server(launch) as running:
        raise KeyboardInterrupt
    assert is_gone(running.pid)


def test_the_orphan_of_a_killed_run_is_taken_over_and_stopped(tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    pid = make_orphan(launch)
    with managed_server(launch) as running:
        assert (running.pid, running.taken_over) == (pid, True)
        noted = read_note(launch.note)
        assert noted is not None
        assert noted.starter == os.getpid()
        assert find_orphan(launch.note) is None  # it has a starter again
    assert is_gone(pid)


@pytest.mark.parametrize("changed", ["command", "env"])
def test_the_orphan_of_another_command_is_stopped_first(changed: str, tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    pid = make_orphan(launch)
    other = {"command": (*launch.command, "another model")} if changed == "command" else {"env": {"MODEL": "another"}}
    with managed_server(replace(launch, **other)) as running:  # type: ignore[arg-type]
        assert is_gone(pid)
        assert not running.taken_over
        assert is_healthy(launch.health_url)
    assert is_gone(running.pid)


def test_the_server_of_a_living_run_is_left_alone(tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    starter = started_by_another(launch, "sys.stdin.read()")
    noted = read_note(launch.note)
    assert noted is not None
    assert find_orphan(launch.note) is None
    stop_orphan(launch.note, 5)
    assert launch.note.exists()
    assert is_healthy(launch.health_url)
    end(starter)
    assert is_gone(noted.pid)
    assert not launch.note.exists()


def test_an_orphan_can_be_stopped_without_another_start(tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    pid = make_orphan(launch)
    stop_orphan(launch.note, 5)
    assert is_gone(pid)
    assert not launch.note.exists()


def test_a_starter_whose_number_another_process_has_is_gone(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    launch = make_launch(tmp_path)
    pid = make_orphan(launch)
    noted = json.loads(launch.note.read_text())
    launch.note.write_text(json.dumps(noted | {"starter": bystander.pid, "starter_started": "1"}))
    with managed_server(launch) as running:
        assert (running.pid, running.taken_over) == (pid, True)
    assert is_gone(pid)
    assert bystander.poll() is None


@pytest.mark.parametrize("started", ["1", "", "gone"])
def test_a_process_that_has_the_number_of_a_server_is_not_killed(
    started: str, tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    launch = make_launch(tmp_path)
    pid = make_orphan(launch)
    noted = json.loads(launch.note.read_text())
    stop_orphan(launch.note, 5)
    assert is_gone(pid)
    launch.note.write_text(json.dumps(noted | {"pid": bystander.pid, "started": started}))
    with managed_server(launch) as running:
        assert running.pid != bystander.pid
    assert bystander.poll() is None


def test_a_number_that_changed_hands_since_it_was_taken_over_is_not_killed(bystander: subprocess.Popen[bytes]) -> None:
    ProcessTree(bystander.pid, "1", None).stop(1)
    assert bystander.poll() is None
    ProcessTree(bystander.pid, process_started(bystander.pid), None).stop(1)
    assert bystander.wait(20) == -15


def test_an_orphan_that_ends_while_it_is_used_is_no_trouble(tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    pid = make_orphan(launch)
    with managed_server(launch) as running:
        assert running.taken_over
        os.kill(pid, 9)
        assert is_gone(pid)
    assert not launch.note.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x"}', '{"pid": 0}', '{"pid": -1}', '{"pid": 99999999999999999999}'],
)
def test_a_note_that_says_nothing_is_no_reason_to_stop(text: str, tmp_path: Path) -> None:
    note, rest = tmp_path / "note", {"started": "1", "starter": 1, "place": place()}
    found = json.loads(text) if text.startswith('{"') else None
    note.write_text(json.dumps(rest | found) if found else text)
    assert read_note(note) is None
    stop_orphan(note, 1)
    assert not note.exists()


def test_everything_that_a_server_has_started_is_stopped(tmp_path: Path) -> None:
    deaf = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); "
    alone = deaf + "time.sleep(600)"
    two = deaf + "os.fork(); print(os.getpid(), flush=True); time.sleep(600)"
    program = (
        f"import subprocess, sys\n{deaf}\n"
        f"subprocess.Popen([sys.executable, '-c', {alone!r}])\n"
        f"subprocess.Popen([sys.executable, '-c', {two!r}], start_new_session=True)\n"
        "time.sleep(600)"
    )
    launch = make_launch(tmp_path, program, start_limit_s=3, stop_limit_s=0.5)
    with pytest.raises(ServerStartError) as caught, managed_server(launch):
        raise AssertionError("it never was ready")
    assert caught.value.reason == "too slow"
    assert caught.value.how == "was not ready within 3 s"
    pids = {int(line) for line in launch.log.read_text().split()}
    assert len(pids) == 4
    assert all(is_gone(pid) for pid in pids)
    assert not launch.note.exists()


def test_what_a_server_that_ended_left_behind_is_stopped(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\npid = os.fork()\n"
        "if not pid: time.sleep(600)\nprint(pid, 'no GPU', flush=True)\nos._exit(3)"
    )
    launch = make_launch(tmp_path, program)
    launch.log.write_text("words of an earlier start\n")
    with pytest.raises(ServerStartError) as caught, managed_server(launch):
        raise AssertionError("it never was ready")
    assert (caught.value.reason, caught.value.how) == ("ended", "ended with status 3 before it was ready")
    (line,) = caught.value.last_lines  # none of an earlier start
    assert line.endswith("no GPU")
    assert is_gone(int(line.split()[0]))
    assert launch.log.read_text().startswith("words of an earlier start\n")  # the log is kept


def test_a_signal_that_ended_a_server_is_named(tmp_path: Path) -> None:
    launch = make_launch(tmp_path, "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ServerStartError, match="ended with status -11"), managed_server(launch):
        raise AssertionError("it never was ready")


def test_an_answer_of_another_server_is_not_taken_for_its_own(tmp_path: Path) -> None:
    launch = make_launch(tmp_path)
    with managed_server(launch) as running:
        second = replace(launch, note=tmp_path / "second", log=tmp_path / "second.log")
        with pytest.raises(ServerStartError, match="another server answers at http") as caught, managed_server(second):
            raise AssertionError("the port is taken")
        assert caught.value.reason == "address taken"
        assert not second.note.exists()
        assert process_started(running.pid) != "gone"


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    launch = replace(make_launch(tmp_path), command=("no-such-program",))
    with pytest.raises(ServerStartError, match="cannot be started: No such file") as caught, managed_server(launch):
        raise AssertionError("it cannot be")
    assert caught.value.reason == "not started"
    assert not launch.note.exists()


def test_a_note_names_its_server_until_it_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        write_note(tmp_path / "note", process.pid, "it", "http://127.0.0.1:9/health")
        noted = read_note(tmp_path / "note")
        assert noted is not None
        assert (noted.pid, noted.fingerprint) == (process.pid, "it")
        process.kill()
        process.wait()
    assert read_note(tmp_path / "note") is None
