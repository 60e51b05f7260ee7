"""A collector that is killed at any instant: nothing lost, nothing twice, and hardly anything asked again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from affectlake.judge.requests.journal import Journal
from tests.support.collecting_process import CONCURRENCY, published
from tests.support.fault_server import FaultServer, expected_text
from tests.support.questions import make_questions

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "support" / "collecting_process.py"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(seconds=0.01, share=0.05, faults=("reset", "500", "429", "truncated")).running() as running:
        yield running


def start(folder: Path, server: FaultServer, n: int, *more: str) -> subprocess.Popen[str]:
    """Start a collector and wait until it has its lease, or has ended."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), server.url, str(n), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def end(process: subprocess.Popen[str], wanted: int) -> tuple[str, str]:
    """Wait for a collector; return what it said."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == wanted, err
    return out, err


def kill_again_and_again(folder: Path, server: FaultServer, n: int, n_kills: int, seed: int) -> str:
    """Kill collectors at random instants, let the last one end; return an account, having checked every row."""
    rng, n_open, n_sealed = random.Random(seed), 0, 0
    for _ in range(n_kills):
        process = start(folder, server, n)
        try:
            process.wait(rng.uniform(0.0, 0.35))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed: ask more questions"
        with Journal(folder / "answers.sqlite") as journal:
            n_open += len(journal) > 0
            n_sealed += len(journal.sealed()) > 0
    end(start(folder, server, n, str(n)), 0)
    rows = published(folder)
    wanted = {q.key.hex(): [expected_text(orjson.dumps(q.body))] for q in make_questions(n)}
    assert rows == wanted
    with Journal(folder / "answers.sqlite") as journal:
        assert len(journal) == 0
    twice = server.served.total() - n
    assert 0 <= twice <= n_kills * 3 * CONCURRENCY
    return (
        f"{n_kills} kills, {n_open} with answers in the journal, {n_sealed} with a sealed shard; {n:,} questions:"
        f" 0 lost, 0 doubled, {twice} asked again ({twice / n_kills:.1f} a kill, {CONCURRENCY} under way at most)"
    )


def test_ten_kills(tmp_path: Path, server: FaultServer) -> None:
    print("\n" + kill_again_and_again(tmp_path, server, 3_500, 10, seed=1))


@pytest.mark.soak
def test_two_hundred_kills(tmp_path: Path, server: FaultServer) -> None:
    print("\n" + kill_again_and_again(tmp_path, server, 60_000, 200, seed=2))


def test_the_second_of_two_collectors_says_who_is_first(tmp_path: Path, server: FaultServer) -> None:
    first = start(tmp_path, server, 800)
    second = start(tmp_path, server, 800)
    _, said = end(second, 1)
    assert f"process {first.pid} on" in said
    assert "are already being collected" in said
    end(first, 0)
    assert all(len(texts) == 1 for texts in published(tmp_path).values())
    assert len(published(tmp_path)) == 800


def test_a_collector_that_is_terminated_ends_cleanly(tmp_path: Path, server: FaultServer) -> None:
    first = start(tmp_path, server, 5_000, "5000")
    while server.served.total() < 50:
        assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    end(first, 0)
    with Journal(tmp_path / "answers.sqlite") as journal:
        n_sealed = sum(shard.last_id - shard.first_id + 1 for shard in journal.sealed())
        assert 50 <= n_sealed == len(journal) == server.served.total() < 5_000
