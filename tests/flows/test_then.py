"""The commands after a scheduled collection: in order, each with a state, and never two at a time on one lake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from affectlake.errors import UsageError
from affectlake.flows.schedules.actions import actions_under_way
from affectlake.lake.files import layout
from affectlake.lake.store.versions import list_versions
from affectlake.pipelines.params.study import load
from affectlake.process.file_lock import file_lock
from tests.support.fault_server import FaultServer, expected_text
from tests.support.nights import affectlake, backfill, change, nightly_lake
from tests.support.preloaded import REAL


@pytest.fixture
def nightly(tmp_path: Path, server: FaultServer) -> Path:
    """A built lake whose schedule runs three commands after each collection."""
    server.says = lambda asked: f"{expected_text(asked)} is noticeably different from the other two."
    return nightly_lake(tmp_path / tmp_path.name, server.url, then=["run", "push", "report"])


def shared(lake: Path) -> Path:
    """Give a lake a Git remote and a DVC remote, from which clones can fetch; return the folder of its files."""
    origin, files = lake.with_name("origin.git"), lake.with_name("files")
    subprocess.run(["git", "init", "-q", "--bare", str(origin)], check=True)
    subprocess.run(["git", "remote", "add", "origin", str(origin)], cwd=lake, check=True)
    done = affectlake("remote", "add", "lab", files, "--default", "--lake", lake)
    assert done.returncode == 0, done.stderr
    return files


def then(lake: Path) -> list[dict[str, Any]]:
    """The commands after the latest slot, as `schedule list` shows them."""
    return list(listed(lake)["then"])


def listed(lake: Path) -> dict[str, Any]:
    return dict(json.loads(affectlake("schedule", "list", "--json", "--lake", lake).stdout)[0]["latest"][0])


def tasks(lake: Path) -> dict[str, tuple[str, str]]:
    """The states of the task runs of a lake's slots on the Prefect server, by name."""
    api = os.environ["PREFECT_API_URL"]
    runs = httpx.post(f"{api}/flow_runs/filter", json={}).json()
    own = [run["id"] for run in runs if run["parameters"].get("lake") == str(lake)]
    found = httpx.post(f"{api}/task_runs/filter", json={"flow_runs": {"id": {"any_": own}}}).json()
    return {run["name"]: (run["state"]["type"], run["state"]["name"]) for run in found}


@pytest.mark.slow
def test_the_commands_follow_a_collection_in_order(nightly: Path) -> None:
    n_before, files = len(list_versions(nightly)), shared(nightly)
    done = backfill(nightly, "01")
    assert done.returncode == 0, done.stderr
    versions = [version.name for version in list_versions(nightly)]
    assert len(versions) == n_before + 2  # the answers, and the results of `run`
    assert [(one["action"], one["state"]) for one in then(nightly)] == [
        ("run", "done"),
        ("push", "done"),
        ("report", "done"),
    ]
    run, push, report = (one["words"] for one in then(nightly))
    page = nightly / layout.REPORTS / f"{versions[-1]}.html"
    assert run == f"report: {page}"
    assert report == str(page)
    assert "files sent" in push
    assert any(files.rglob("*"))
    name = "nightly 2026-03-01 02:00 UTC"
    assert tasks(nightly) == {
        "ask-tiny-main": ("COMPLETED", "Completed"),
        **{f"{action} after {name}": ("COMPLETED", "Completed") for action in ("run", "push", "report")},
    }
    text = affectlake("schedule", "list", "--lake", nightly).stdout
    assert "        run      done     report: " in text
    assert "choices/tiny: +60 rows" in affectlake("versions", "show", versions[-1], "--lake", nightly).stdout


@pytest.mark.slow
def test_what_follows_a_failed_run_is_skipped_and_the_answers_stay(
    nightly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTLAKE_WORKERS", "none")  # `run` refuses this; a collection does not read it
    done = backfill(nightly, "01", "02")
    assert done.returncode == 1
    assert "run failed after the collection, whose answers are published (tiny · main: +60 (60 of 435))" in done.stderr
    assert "AFFECTLAKE_WORKERS=none is not a number of workers" in done.stderr
    assert "skipped: push, report" in done.stderr
    assert [(one["action"], one["state"], one["words"]) for one in then(nightly)][1:] == [
        ("push", "skipped", "run failed"),
        ("report", "skipped", "run failed"),
    ]
    assert (listed(nightly)["state"], listed(nightly)["words"]) == ("done", "tiny · main: +60 (60 of 435)")
    states = tasks(nightly)
    assert states["run after nightly 2026-03-01 02:00 UTC"] == ("FAILED", "Failed")
    assert states["push after nightly 2026-03-01 02:00 UTC"] == ("COMPLETED", "Skipped")
    change(nightly, then=["push", "report"])
    shutil.rmtree(nightly / layout.REMOTE, ignore_errors=True)
    (nightly / layout.REMOTE).write_text("not a folder")
    done = backfill(nightly, "01", "02")  # a failed push does not keep the report from being written
    assert done.returncode == 1
    assert "push failed after the collection" in done.stderr
    assert [(one["action"], one["state"]) for one in then(nightly)] == [("push", "failed"), ("report", "done")]
    assert "2026-03-02" in listed(nightly)["slot"]


def test_the_commands_of_two_slots_wait_for_one_another(nightly: Path) -> None:
    change(nightly, then=["report"])
    lock = nightly / layout.COLLECTING / "then.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    words = [REAL, "schedule", "backfill", "nightly", "--from", "2026-03-01", "--to", "2026-03-01", "--lake", nightly]
    with file_lock(lock, "run after weekly 2026-03-01", busy="", todo=""):
        assert actions_under_way(nightly)
        waiting = subprocess.Popen([*map(str, words)], stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        lines = iter(waiting.stderr)
        assert any("waiting for run after weekly 2026-03-01, process" in line for line in lines)
        assert listed(nightly)["state"] == "done"  # the answers do not wait
        time.sleep(0.5)
        assert then(nightly) == []
    rest = "".join(lines)
    assert waiting.wait(120) == 0, rest
    waiting.stderr.close()
    assert [one["state"] for one in then(nightly)] == ["done"]
    assert not actions_under_way(nightly)


STOPPED = """
import sys
from datetime import UTC, datetime
from affectlake.process.environment import configure_process
configure_process()
from affectlake.flows.schedules.slot_flow import collect_slot
state = collect_slot(sys.argv[1], "nightly", datetime(2026, 3, 1, 2, tzinfo=UTC), return_state=True)
print(state.type.value, state.message)
"""


@pytest.mark.slow
def test_a_signal_stops_the_commands_and_not_the_result(nightly: Path) -> None:
    words = [sys.executable, "-c", STOPPED, str(nightly)]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    lines = iter(running.stderr)
    assert any("run: [" in line and "started" in line for line in lines)  # a stage of `run` is running
    running.send_signal(signal.SIGTERM)  # as the scheduler does when it is stopped
    rest = "".join(lines)
    assert running.stdout is not None
    assert running.stdout.read() == "CANCELLED stopped after the collection; tiny · main: +60 (60 of 435)\n", rest
    running.wait(60)
    for stream in (running.stdout, running.stderr):
        stream.close()
    assert [(one["action"], one["state"]) for one in then(nightly)] == [("run", "stopped")]
    assert (listed(nightly)["state"], listed(nightly)["words"]) == ("done", "tiny · main: +60 (60 of 435)")


def test_the_commands_also_follow_a_slot_that_finds_nothing_to_ask(nightly: Path) -> None:
    change(nightly, limit=None, then=["report"])
    assert backfill(nightly, "01", "02").returncode == 0  # the second slot finds nothing to ask
    assert (listed(nightly)["words"], [one["state"] for one in then(nightly)]) == (
        "tiny · main: +0 (435 of 435)",
        ["done"],
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["run", "pussh"], "then[1] must be one of run, push, report"),
        (["run", "run"], "contains 'run' twice"),
        ("run", "must be a list"),
    ],
)
def test_a_command_that_does_not_exist_is_refused(nightly: Path, value: object, words: str) -> None:
    change(nightly, then=value)
    with pytest.raises(UsageError) as caught:
        load(nightly)
    assert words in str(caught.value)
    assert "pussh" not in str(value) or "did you mean 'push'?" in str(caught.value)
