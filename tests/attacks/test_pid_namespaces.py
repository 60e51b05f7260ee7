"""Processes of other PID namespaces, and of before a restart: only their silence ends what they hold."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectlake.errors import LeaseError
from affectlake.process import lease
from affectlake.process.identity import place, process_started
from affectlake.process.managed_server import stop_orphan
from affectlake.process.server_note import find_orphan, read_note

HOLDS = """
import sys
from pathlib import Path
from affectlake.process.lease import hold
with hold(Path(sys.argv[1]), "a"):
    print("held", flush=True)
    sys.stdin.read()
"""
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


def _refusal() -> str:
    """Return why no PID namespace can be made here; empty if one can."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    done = subprocess.run([*NAMESPACE, "--mount-proc", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


needs_namespaces = pytest.mark.skipif(bool(_refusal()), reason=f"no PID namespace can be made: {_refusal()}")


@pytest.fixture(params=["--mount-proc", "--mount"], ids=["own /proc", "the host's /proc"])
def contained(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The leases of a lake that a living process of another PID namespace collects for."""
    command = [*NAMESPACE, request.param, sys.executable, "-c", HOLDS, str(tmp_path / "leases")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield tmp_path / "leases"
        process.stdin.close()
        assert process.wait(60) == 0


def took(path: Path) -> bool:
    try:
        with lease.hold(path, "a"):
            return True
    except LeaseError:
        return False


@needs_namespaces
def test_a_living_holder_in_another_namespace_keeps_its_lease(contained: Path) -> None:
    with pytest.raises(LeaseError) as caught, lease.hold(contained, "a"):
        raise AssertionError("two hold it")
    assert "in a container, or before a restart" in str(caught.value)
    assert "`kill" not in str(caught.value)  # that number is another process here
    assert lease.holder(contained, "a") is not None


@needs_namespaces
def test_a_holder_out_here_is_respected_in_a_namespace(tmp_path: Path) -> None:
    with lease.hold(tmp_path / "leases", "a"):
        command = [*NAMESPACE, "--mount-proc", sys.executable, "-c", HOLDS, str(tmp_path / "leases")]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert "already being collected" in done.stderr


def written(path: Path, **changes: object) -> None:
    """Write a lease of this very process, with changes."""
    now = time.time()
    own = {"agent": "a", "token": "t", "host": socket.gethostname(), "pid": os.getpid()}
    own |= {"started": process_started(os.getpid()), "since_s": now, "beat_s": now, "expires_s": 60.0}
    row = own | changes
    with lease.hold(path, "another"), sqlite3.connect(path, timeout=30) as database:
        marks = ", ".join("?" for _ in row)
        database.execute(f"INSERT OR REPLACE INTO leases ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
    database.close()


@pytest.mark.parametrize("place", ["", "5f0e1f1e-0000-4000-8000-000000000000/4026531836", "another"])
def test_a_number_that_means_nothing_here_kills_no_holder(place: str, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    written(tmp_path / "leases", pid=gone.pid, place=place)
    assert not took(tmp_path / "leases")
    written(tmp_path / "leases", pid=gone.pid, place=place, beat_s=time.time() - 61)
    assert took(tmp_path / "leases")


def test_leases_of_an_older_version_are_read_and_respected(tmp_path: Path) -> None:
    path = tmp_path / "leases"
    now = time.time()
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE leases (agent TEXT PRIMARY KEY, token TEXT NOT NULL, host TEXT NOT NULL,"
            " pid INTEGER NOT NULL, started TEXT NOT NULL, since_s REAL NOT NULL, beat_s REAL NOT NULL,"
            " expires_s REAL NOT NULL)"
        )
        row = ("a", "t", socket.gethostname(), 1, "not the start of process 1", now, now, 60.0)
        database.execute("INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    database.close()
    assert not took(path)
    found = lease.holder(path, "a")
    assert found is not None
    assert found.pid == 1
    with sqlite3.connect(path) as database:  # as an older version says that it lives, and gives it back
        database.execute("UPDATE leases SET beat_s = ? WHERE agent = ? AND token = ?", (now - 61, "a", "t"))
    database.close()
    assert took(path)


def test_a_server_noted_elsewhere_is_not_ended(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    note = tmp_path / "note"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        noted = {"pid": bystander.pid, "started": process_started(bystander.pid), "starter": gone.pid}
        for where in ("another", None):
            note.write_text(json.dumps(noted | ({"place": where} if where else {})))
            assert read_note(note) is None
            assert find_orphan(note) is None
        stop_orphan(note, 5)
        assert bystander.poll() is None
        note.write_text(json.dumps(noted | {"place": place()}))
        assert find_orphan(note) == read_note(note) is not None
        bystander.kill()
