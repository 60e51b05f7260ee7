"""A lock on a file, between processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectlake.errors import LakeError
from affectlake.process.file_lock import file_lock

HOLDER = (
    "import sys; from pathlib import Path; from affectlake.process.file_lock import file_lock\n"
    "with file_lock(Path(sys.argv[1]), 'the first', busy='', todo=''):\n"
    "    print('in', flush=True); sys.stdin.readline()\n"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of `tmp_path / 'lock'` until it is told to end."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        yield process
        process.kill()


def test_who_comes_second_is_told_who_is_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(LakeError, match="somebody is here") as caught,
        file_lock(tmp_path / "lock", "the second", busy="somebody is here", todo="come back later"),
    ):
        pass
    assert caught.value.found == f"the first, process {holder.pid} on {socket.gethostname()}"
    assert caught.value.todo == "come back later"


def test_a_holder_that_dies_is_waited_for_no_longer(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        holder.kill()

    with file_lock(tmp_path / "lock", "the second", busy="", todo="", wait_s=60, log=hear):
        assert (tmp_path / "lock").read_text().startswith("the second, process ")
    assert [line.partition(",")[0] for line in said] == ["waiting for the first"]
    assert (tmp_path / "lock").read_text() == ""


def test_the_lock_is_free_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), file_lock(tmp_path / "lock", "one", busy="", todo=""):
        raise KeyError
    with file_lock(tmp_path / "lock", "two", busy="", todo=""):
        pass


def test_a_place_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(LakeError, match="cannot be written to"),
        file_lock(tmp_path / "file" / "lock", "one", busy="", todo=""),
    ):
        pass
