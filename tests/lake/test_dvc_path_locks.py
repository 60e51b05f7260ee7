"""DVC's list of paths in use: cut off at any byte, it stops no run; whole, it is respected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import dvc_repository, is_current

WRITER = """
import sys
from pathlib import Path
from dvc.lock import make_lock
path = Path(sys.argv[1])
with make_lock(str(path.with_name("rwlock.lock")), tmp_dir=str(path.parent)):
    path.write_text(sys.argv[2][:20])
    print("half", flush=True)
    sys.stdin.read()
    path.write_text(sys.argv[2])
"""


@pytest.fixture
def paths_in_use(published: Path) -> Path:
    return published / ".dvc/tmp/rwlock"


def entry(lake: Path, pid: int) -> str:
    """Return the list when a process is writing a file that no stage has to do with."""
    return json.dumps({"write": {str(lake / "elsewhere"): {"pid": pid, "cmd": "dvc repro"}}, "read": {}})


def test_a_list_that_was_cut_off_at_any_byte_is_begun_anew(published: Path, paths_in_use: Path) -> None:
    whole = entry(published, 1)
    for length in range(0, len(whole), 9):
        paths_in_use.write_text(whole[:length])
        assert is_current(published, "tiny")
        json.loads(paths_in_use.read_text())


@pytest.mark.parametrize("text", ["", "null", "[]", '{"write": 3}', '{"write": {"a": {"pid": "x"}}}', "\0\0\0\0"])
def test_a_list_that_dvc_refuses_is_begun_anew(text: str, published: Path, paths_in_use: Path) -> None:
    paths_in_use.write_text(text)
    recover(published, lambda _line: None)
    assert is_current(published, "tiny")


def test_the_entries_of_a_living_process_stay(published: Path, paths_in_use: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as living:
        paths_in_use.write_text(entry(published, living.pid))
        assert is_current(published, "tiny")
        assert json.loads(paths_in_use.read_text())["write"] == json.loads(entry(published, living.pid))["write"]
        living.kill()


def test_a_list_that_is_being_written_is_waited_for(published: Path, paths_in_use: Path) -> None:
    whole = entry(published, os.getpid())
    command = [sys.executable, "-c", WRITER, str(paths_in_use), whole]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "half\n"
        Timer(0.3, writer.stdin.close).start()
        with dvc_repository(published):
            assert paths_in_use.read_text() == whole
        assert writer.wait(60) == 0
