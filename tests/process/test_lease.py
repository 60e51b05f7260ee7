"""The lease: one holder, known by name, and none when the holder is dead."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from affectlake.errors import LeaseError
from affectlake.process.lease import Holder, hold, holder, place, process_started


def put(path: Path, **changes: object) -> None:
    """Write a lease as another process would have."""
    now = time.time()
    mine = Holder("a", "t", socket.gethostname(), os.getpid(), process_started(os.getpid()), now, now, 60.0, place())
    other = mine._replace(**changes)
    with hold(path, "nobody"), sqlite3.connect(path, timeout=30) as database:
        database.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", other)
    database.close()


def test_one_at_a_time_and_then_the_next(tmp_path: Path) -> None:
    path = tmp_path / "new" / "leases.sqlite"
    assert holder(path, "a") is None
    with hold(path, "a") as lease:
        assert holder(path, "a") == lease.holder
        with pytest.raises(LeaseError, match="already being collected") as caught, hold(path, "a"):
            raise AssertionError("two hold it")
        assert f"process {os.getpid()} on {socket.gethostname()}, since 20" in str(caught.value)
        with hold(path, "another agent"):
            pass
    assert holder(path, "a") is None
    with hold(path, "a"):
        pass


def test_a_failure_inside_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), hold(tmp_path / "l", "a"):
        raise ValueError("inside")
    assert holder(tmp_path / "l", "a") is None


def test_a_dead_process_of_this_machine_is_noticed_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    put(tmp_path / "l", pid=gone.pid)
    with hold(tmp_path / "l", "a"):
        pass


def test_a_later_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    put(tmp_path / "l", started="1")
    with hold(tmp_path / "l", "a"):
        pass


def test_another_machine_is_believed_until_it_has_been_silent(tmp_path: Path) -> None:
    put(tmp_path / "l", host="elsewhere", place="another", pid=1)
    with pytest.raises(LeaseError, match="process 1 on elsewhere"), hold(tmp_path / "l", "a"):
        raise AssertionError("two hold it")
    put(tmp_path / "l", host="elsewhere", place="another", pid=1, beat_s=time.time() - 61)
    with hold(tmp_path / "l", "a"):
        pass


def test_the_holder_says_that_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with hold(path, "a", expires_s=0.2) as lease:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            now = holder(path, "a")
            if now is not None and now.beat_s > lease.holder.beat_s:
                break
        assert now is not None
        assert now.beat_s > now.since_s
        assert not lease.lost.is_set()


def test_a_holder_that_was_replaced_learns_it(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with hold(path, "a", expires_s=0.2) as lease:
        put(path, token="other", host="elsewhere", place="another")
        assert lease.lost.wait(20)
    found = holder(path, "a")
    assert found is not None
    assert found.token == "other"  # and does not give back what is another's


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    got: list[bool] = []
    ready, done = threading.Barrier(8), threading.Barrier(8)

    def attempt() -> None:
        ready.wait()
        try:
            with hold(tmp_path / "l", "a"):
                got.append(True)
                done.wait(30)
        except LeaseError:
            got.append(False)
            done.wait(30)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]
