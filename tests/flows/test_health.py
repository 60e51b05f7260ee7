"""The health of schedules for a monitor: what it says of recorded slots, the scheduler and the disk, and its status."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from affectlake.flows.schedules import health as checked
from affectlake.flows.schedules.heartbeat import DEAD_AFTER_S, Heartbeat, beat
from affectlake.flows.schedules.slots import ActionOutcome, SlotCounts, Slots, SlotState
from affectlake.lake.files import layout
from affectlake.pipelines.params.study import load
from tests.support.nights import affectlake, nightly_lake


@pytest.fixture
def nightly(tmp_path: Path) -> Path:
    """A lake whose nightly schedule has just been run, and whose scheduler is alive."""
    lake = nightly_lake(tmp_path / "lake", "http://127.0.0.1:9/v1")
    Slots(lake).record("nightly", last_night(), "done", "tiny · main: +60")
    beat(lake)
    return lake


def last_night() -> datetime:
    now = datetime.now(UTC)
    night = now.replace(hour=2, minute=0, second=0, microsecond=0)
    return night if night <= now - timedelta(minutes=5) else night - timedelta(days=1)


def of(lake: Path) -> tuple[str, str]:
    found = checked.health(lake, load(lake))
    return found.health, "; ".join(map(str, found.reasons))


def test_a_lake_that_runs_is_ok_and_plain_status_has_its_own_status(nightly: Path) -> None:
    done = affectlake("status", "--check", "--lake", nightly)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    Slots(nightly).record("nightly", last_night() + timedelta(seconds=1), "failed", "the servers fail too often")
    done = affectlake("status", "--check", "--lake", nightly)
    assert done.returncode == 1
    assert done.stdout.startswith("failing\nfailing: nightly: the last slot, ")
    assert "was failed: the servers fail too often" in done.stdout
    done = affectlake("status", "--check", "--json", "--lake", nightly)
    found = json.loads(done.stdout)
    assert (done.returncode, found["health"], found["reasons"][0]["schedule"]) == (1, "failing", "nightly")
    done = affectlake("status", "--json", "--lake", nightly)
    assert done.returncode == 0
    assert {row["health"]["health"] for row in json.loads(done.stdout)} == {"failing"}
    assert affectlake("status", "--lake", nightly).returncode == 0


@pytest.mark.parametrize(
    ("state", "health", "words"),
    [
        ("failed", "failing", "was failed: why"),
        ("missed", "failing", "was missed: why"),
        ("skipped", "degraded", "was skipped: why"),
        ("stopped", "degraded", "was stopped: why"),
        ("running", "ok", ""),
    ],
)
def test_the_last_slot_decides(nightly: Path, state: SlotState, health: str, words: str) -> None:
    Slots(nightly).record("nightly", last_night() + timedelta(seconds=1), state, "why")
    found, reasons = of(nightly)
    assert found == health
    assert words in reasons


def test_a_killed_run_and_missed_slots_are_failing(nightly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Slots(nightly).record("nightly", last_night() + timedelta(seconds=1), "running")
    monkeypatch.setattr(checked, "_STARTS_WITHIN_S", 0.0)
    time.sleep(0.01)
    assert "was killed" in of(nightly)[1]
    slots = nightly / layout.COLLECTING / "slots.sqlite"
    slots.unlink()
    assert of(nightly) == ("degraded", "degraded: nightly: no slot has run yet")
    Slots(nightly).record("nightly", last_night() - timedelta(days=3), "done")
    assert of(nightly)[0] == "failing"
    assert "3 slots have not been run since" in of(nightly)[1] or "2 slots have not" in of(nightly)[1]


@pytest.mark.parametrize(
    ("beaten", "health", "words"),
    [
        (None, "degraded", "was not started in this lake"),
        ({"beat_s": DEAD_AFTER_S + 5}, "failing", "the scheduler is dead: process 1 on node gave its last sign"),
        ({"beat_s": DEAD_AFTER_S - 60}, "ok", ""),
        ({"beat_s": 1e6, "is_stopped": True}, "degraded", "the scheduler was stopped at"),
    ],
)
def test_the_scheduler_gives_signs_of_life(
    nightly: Path, beaten: dict[str, Any] | None, health: str, words: str
) -> None:
    path = nightly / layout.COLLECTING / "scheduler.json"
    path.unlink()
    if beaten is not None:
        ago, stopped = float(beaten["beat_s"]), bool(beaten.get("is_stopped"))
        path.write_text(json.dumps(Heartbeat(1, "node", time.time() - ago, stopped)._asdict()))
    found, reasons = of(nightly)
    assert found == health
    assert words in reasons


def test_actions_shares_and_the_disk_count(nightly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(nightly)
    slots.record_action("nightly", last_night(), 0, ActionOutcome("run", "done", 0.0, ""))
    slots.record_action("nightly", last_night(), 1, ActionOutcome("push", "failed", 0.0, "no such host"))
    found, reasons = of(nightly)
    assert found == "failing"
    assert "nightly: push failed after the last slot" in reasons and "no such host" in reasons
    slots.forget_actions("nightly", last_night())
    assert of(nightly) == ("ok", "")
    for day in range(6):
        n = 1000 if day else 500
        slots.record_counts("nightly", last_night() - timedelta(days=day), SlotCounts(1000, 1000, n, 0, 0, "v2"))
    assert "fewer answers were parsed in the last slot" in of(nightly)[1]
    monkeypatch.setattr(checked, "LEAST_FREE_BYTES", 1 << 62)
    assert "GB are free on the disk" in of(nightly)[1]


def test_a_lake_without_schedules_is_ok(tmp_path: Path) -> None:
    lake = nightly_lake(tmp_path / "lake", "http://127.0.0.1:9/v1")
    text = (lake / "params.yaml").read_text().partition("schedules:")[0]
    (lake / "params.yaml").write_text(text)
    assert of(lake) == ("ok", "")
