"""The server is killed ten times while twenty people give two thousand answers: none is lost, none is doubled."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.experiment.serving import ROOT, Served

PER = 99
PRACTICE = 2
CATCHES = PER // 9
N_ALL = PER + PRACTICE + CATCHES


def habits(seed: int) -> dict[str, object]:
    """Return the habits of a participant: some leave, some reload, some are offline for a while."""
    found: dict[str, object] = {"think_s": 0.12, "resend": 0.1, "drop": 0.1, "patience_s": 120}
    kind = seed % 5
    if kind == 1:
        found["reload"] = 0.05
    if kind == 2:
        found["offline"] = 0.05
    if kind == 3 and seed < 10:
        found["leave_after"] = 40
    return found


def test_kills(tmp_path: Path) -> None:
    wanted = {"offer": {"n": 40, "m": 4000}, "settings": {"per_participant": PER, "practice": 2, "catch_every": 10}}
    served = Served(tmp_path, **wanted)
    served.start()
    source = random.Random(5)
    clients = []
    for first in range(0, 20, 5):
        seeds = list(range(first, first + 5))
        given = {"url": served.url, "seeds": seeds, "habits": [habits(seed) for seed in seeds]}
        command = [sys.executable, "-m", "tests.experiment.participating", json.dumps(given)]
        clients.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
    n_kills = 0
    while n_kills < 10:
        time.sleep(0.3 + source.random() * 1.2)
        served.stop(signal.SIGKILL)
        n_kills += 1
        served.start()
    outcomes = []
    for client in clients:
        text, _ = client.communicate(timeout=200)
        assert client.returncode == 0
        outcomes += json.loads(text)
    served.stop(signal.SIGTERM)

    with closing(sqlite3.connect(served.store)) as database:
        stored = {
            (row[0], row[1]): row[2] for row in database.execute("SELECT participant, number, position FROM answers")
        }
        n_rows = database.execute("SELECT count(*) FROM answers").fetchone()[0]
        given_rows = database.execute("SELECT participant, number, kind, i, j, k, shown_1, shown_2, shown_3 FROM given")
        given = {(row[0], row[1]): row[2:] for row in given_rows}
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        people = dict(database.execute("SELECT participant, state FROM participants"))
    assert n_rows == len(stored) >= 2000
    acknowledged = {(one["participant"], number) for one in outcomes for number in one["acknowledged"]}
    assert acknowledged <= stored.keys()
    sent = {(one["participant"], int(number)): at for one in outcomes for number, at in one["sent"].items()}
    assert stored == sent  # first answers stay, and nothing that was not sent is there
    for one in outcomes:
        for number, shown in one["stimuli"].items():
            row = given[one["participant"], int(number)]
            assert list(row[4:]) == [int(key) for key in shown]
    finished = [one for one in outcomes if one["state"] == "done"]
    assert len(finished) == 18
    assert all(len(one["sent"]) == N_ALL for one in finished)
    assert sorted(people.values()) == ["done"] * 18 + ["running"] * 2  # nobody became two
    plan = [row[1:4] for row in given.values() if row[0] == "trial"]
    assert len(plan) == len(set(plan))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_in_order(tmp_path: Path, number: int) -> None:
    with Served(tmp_path, offer={"n": 12, "m": 20}) as served:
        served.stop(number)
        assert not Path(f"{served.store}-wal").exists()
