"""Recurring collections on a real Prefect server: each slot once, never two at a time, and a failure is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from affectlake.errors import CollectionError, LakeError, LeaseError, UsageError
from affectlake.flows.prefect_server import prefect_server, running_server
from affectlake.flows.schedules import scheduler
from affectlake.flows.schedules.backfill import BackfillResult, backfill
from affectlake.flows.schedules.slots import Slots, slots_between
from affectlake.flows.schedules.webhook import FailedRun, notify
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.publishing import leases
from affectlake.pipelines.engine import dvcfile
from affectlake.pipelines.engine.graph import stages
from affectlake.pipelines.engine.runner import run_stage
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.pipelines.stored import NOTHING
from affectlake.process import lease
from affectlake.process.identity import process_started
from affectlake.process.server_note import find_orphan
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS
from tests.support.fault_server import FaultServer, expected_text
from tests.support.receiver import Receiver, receiving
from tests.support.stores import free_port

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("no_prefect_server")

KEY = "sk-a-secret-of-the-tests"


KILLED = """
import os, sys
from pathlib import Path
from affectlake.flows.prefect_server import prefect_server
with prefect_server(Path(sys.argv[1]), print):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server as `affectlake schedule run` starts one, and Prefect's settings pointing at it.

    Whoever started it was killed, as a machine short of memory does: it is taken over, not started a second time.
    """
    home, said = tmp_path_factory.mktemp("served"), list[str]()
    assert subprocess.run([sys.executable, "-c", KILLED, home], check=False).returncode == -9
    orphan = find_orphan(home / layout.COLLECTING / "prefect.json")
    assert orphan is not None
    with prefect_server(home, said.append) as server:
        assert said == ["taking over the Prefect server of a killed run"]
        assert server.started_here
        assert orphan.health_url == f"{server.api}/health"
        assert running_server(home) == server.api
        yield server.api
    assert running_server(home) == ""
    assert process_started(orphan.pid) == "gone"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.api}/health")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with stimuli, captions and trials, and no more."""
    lake = tmp_path_factory.mktemp("schedules") / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "tiny": ENTRY | {"l1": 0.004}}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    dvcfile.write(lake)
    params = load(lake)
    for name in ("ingest", "sample"):
        run_stage(lake, stages(params, NOTHING)[name], params, quiet)
        record_done(lake, name)
    repository.publish(lake)
    return lake


@pytest.fixture
def model() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def lake(origin: Path, tmp_path: Path, model: FaultServer, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lake with the schedule ``nightly`` of 20 questions, whose agent has a secret key."""
    lake = shutil.copytree(origin, tmp_path / tmp_path.name, symlinks=True)  # its name is its name on the server
    monkeypatch.setenv("TINY_KEY", KEY)
    monkeypatch.setenv("HOOK", hook.url("http", "hook/s3cret"))
    model.key = KEY
    change(lake, cron="0 2 * * *")
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= {"servers": [model.url], "api_key_env": "TINY_KEY"}
    raw["notify"] = {"webhook_env": "HOOK"}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return lake


def change(lake: Path, **entry: object) -> None:
    """Change keys of the schedule."""
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    schedules = raw.setdefault("schedules", {"nightly": {"agent": "tiny", "limit": 20}})
    schedules["nightly"] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def quiet(_line: str) -> None:
    """Say nothing."""


def n_answers(lake: Path) -> int:
    return read_output(lake, Output("responses", "tiny")).collect().height


def fates(lake: Path) -> dict[str, str]:
    return {f"{fate.slot:%m-%d}": fate.state for fate in reversed(Slots(lake).latest("nightly", 10))}


def runs(api: str, lake: Path) -> dict[str, dict[str, Any]]:
    """The server's account of a lake's runs, by name."""
    found = httpx.post(f"{api}/flow_runs/filter", json={}).json()
    return {run["name"]: run for run in found if run["parameters"].get("lake") == str(lake)}


def fill(
    lake: Path, start: str, end: str, *, again: bool = False, say: Callable[[str], None] = quiet
) -> BackfillResult:
    return backfill(lake, "nightly", start, end, say, again=again)


def test_a_backfill_runs_each_slot_once(lake: Path, api: str, model: FaultServer) -> None:
    said: list[str] = []
    assert fill(lake, "2026-03-01", "2026-03-02", say=said.append) == (2, 0, False)
    assert n_answers(lake) == 40
    assert said == ["nightly: 2 slots from 2026-03-01 02:00 to 2026-03-02 02:00 UTC"]
    assert fill(lake, "2026-02-28", "2026-03-02", say=said.append) == (1, 2, False)
    assert "2 of them are done (--again runs them again)" in said[-1]
    assert fill(lake, "2026-03-01", "2026-03-01", again=True) == (1, 0, False)
    assert n_answers(lake) == sum(model.asked.values()) == 80
    assert fates(lake) == {"02-28": "done", "03-01": "done", "03-02": "done"}
    found = runs(api, lake)
    assert set(found) == {f"nightly 2026-{day} 02:00 UTC" for day in ("02-28", "03-01", "03-02")}
    first = found["nightly 2026-02-28 02:00 UTC"]["state"]
    assert (first["type"], first["message"]) == ("COMPLETED", "tiny · main: +20 (60 of 435)")


def test_a_schedule_proposes_and_asks_in_turn(lake: Path, api: str, model: FaultServer) -> None:
    change(lake, proposed=True, limit=40)
    model.says = lambda asked: f"{expected_text(asked)} is noticeably different from the other two."
    said: list[str] = []
    assert fill(lake, "2026-03-01", "2026-03-02", say=said.append) == (2, 0, False)
    asked = read_output(lake, Output("responses", "tiny")).select("i", "j", "k").sort("i", "j", "k").collect()
    rounds = read_output(lake, Output("proposals", "tiny")).collect()
    assert rounds["round"].value_counts().sort("round").rows() == [(0, 40), (1, 40)]
    assert asked.equals(rounds.select("i", "j", "k").sort("i", "j", "k"))
    change(lake, limit=30)
    model.script.extend(["400"] * 20)
    with pytest.raises(CollectionError):  # a round that is not asked to its end…
        fill(lake, "2026-03-03", "2026-03-03")
    n_failed = n_answers(lake) - 80
    assert fill(lake, "2026-03-03", "2026-03-03") == (1, 0, False)  # …is gone on with before another is proposed
    assert n_answers(lake) == 110
    assert 0 < n_failed < 30
    assert read_output(lake, Output("proposals", "tiny")).collect().height == 110
    change(lake, limit=1000)
    assert fill(lake, "2026-03-04", "2026-03-05") == (2, 0, False)  # the second finds nothing left, which is no failure
    assert n_answers(lake) == read_output(lake, Output("proposals", "tiny")).collect().height == 435
    assert fates(lake)["03-05"] == "done"


def test_a_failure_is_told_without_secrets_and_the_backfill_goes_on_from_there(
    lake: Path, api: str, model: FaultServer, hook: Receiver
) -> None:
    hook.script = [500]
    model.script.extend(["echo key"] * 20)
    with pytest.raises(CollectionError, match="the servers fail too often"):
        fill(lake, "2026-03-01", "2026-03-03")
    (told,) = hook.told
    assert {key: told[key] for key in ("lake", "schedule", "agent", "slot", "state")} == {
        "lake": str(lake),
        "schedule": "nightly",
        "agent": "tiny",
        "slot": "2026-03-01T02:00:00+00:00",
        "state": "Failed",
    }
    assert "the first 20 questions all failed for good" in told["error"]
    assert told["error"] in told["text"]
    assert KEY not in json.dumps(told)
    assert "s3cret" not in json.dumps(told)
    (run,) = runs(api, lake).values()
    assert (run["state"]["type"], run["id"]) == ("FAILED", told["run"])
    assert fates(lake) == {"03-01": "failed"}
    assert fill(lake, "2026-03-01", "2026-03-03") == (3, 0, False)
    assert len(hook.told) == 1


def test_a_second_run_of_an_agent_says_who_holds_it_and_ends(lake: Path, api: str, model: FaultServer) -> None:
    with (
        lease.hold(leases(lake), "tiny"),
        pytest.raises(LeaseError, match=f"already being collected by process {os.getpid()}"),
    ):
        fill(lake, "2026-03-01", "2026-03-01")
    assert not model.asked
    (run,) = runs(api, lake).values()
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Skipped")
    assert fates(lake) == {"03-01": "skipped"}
    assert fill(lake, "2026-03-01", "2026-03-01") == (1, 0, False)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2026-03-02T03:00", "2026-03-02T09:00", "no past slot"),
        ("2026-03-02", "2026-03-01", "no past slot"),
        ("2099-01-01", "2099-01-02", "no past slot"),
        ("2000-01-01", "2026-01-01", "too many slots"),
        ("monday", "2026-03-01", "not a date or time"),
    ],
)
def test_a_range_that_makes_no_sense_is_one_message(lake: Path, start: str, end: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fill(lake, start, end)


def test_an_unknown_schedule_is_one_message(lake: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'nightly'"):
        backfill(lake, "nightli", "2026-03-01", "2026-03-01", quiet, again=False)


FAILED = FailedRun("", "nightly", "tiny", "2026-03-01T02:00:00+00:00", "Crashed", f"it said {KEY}", "1")


@pytest.mark.parametrize(
    ("script", "n_left", "taken"), [([500, 429], 0, True), ([500, 502, 503, 500], 1, False), ([404, 500], 1, False)]
)
def test_a_webhook_is_tried_again_when_that_can_help(
    lake: Path, hook: Receiver, script: list[int], n_left: int, taken: bool
) -> None:
    hook.script, said = list(script), list[str]()
    assert notify(FAILED._replace(lake=str(lake)), [KEY], said.append, pause_s=0.01) is taken
    assert (len(hook.script), len(hook.told), len(said)) == (n_left, int(taken), 1)
    assert KEY not in json.dumps(hook.told)


def test_a_webhook_that_cannot_be_told_is_said(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    url = f"http://127.0.0.1:{free_port()}/s3cret"
    monkeypatch.setenv("HOOK", url)
    assert not notify(FAILED._replace(lake=str(lake)), [], said.append, pause_s=0.01)
    assert said[0].startswith("the webhook could not be notified of the failure: URLError")
    monkeypatch.delenv("HOOK")
    assert not notify(FAILED._replace(lake=str(lake)), [], said.append)
    assert "HOOK is not set" in said[1]
    (lake / "params.yaml").write_text("notify: [")
    assert not notify(FAILED._replace(lake=str(lake)), [], said.append)
    assert "is not YAML" in said[2]
    assert "s3cret" not in " ".join(said)


def test_what_is_done_stays_done(tmp_path: Path) -> None:
    slots, slot = Slots(tmp_path), datetime(2026, 1, 1, tzinfo=UTC)
    assert slots.outcome("nightly", slot) is None
    for state in ("running", "failed", "done", "missed", "skipped"):
        slots.record("nightly", slot, state, state)  # type: ignore[arg-type]
    found = slots.outcome("nightly", slot)
    assert found is not None
    assert (found.slot, found.state, found.words) == (slot, "done", "done")


class Serving:
    """`affectlake schedule run` as a process of its own, and what it says."""

    def __init__(self, lake: Path, api: str) -> None:
        quick = {"PREFECT_API_URL": api, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
        command = [sys.executable, "-m", "affectlake", "schedule", "run", "--lake", str(lake)]
        self.process = subprocess.Popen(
            command, env=os.environ | quick, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.said: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(line.strip() for line in self.process.stderr)

    def until(self, true: Callable[[], object], seconds: float = 90) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def says(self, words: str) -> None:
        self.until(lambda: any(words in line for line in self.said))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.close()
        return code

    def close(self) -> None:
        """Leave nothing of it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reading.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def served(lake: Path, api: str) -> Iterator[Callable[[], Serving]]:
    """Start the scheduler of the lake; it is stopped at the end of the test."""
    started: list[Serving] = []

    def start() -> Serving:
        started.append(Serving(lake, api))
        return started[-1]

    yield start
    for one in started:
        one.close()


def slot_just_passed(lake: Path) -> datetime:
    """Let the schedule's daily slot be one that has just passed, and the one three days before it the last known."""
    slot = (datetime.now(UTC) - timedelta(minutes=2)).replace(second=0, microsecond=0)
    change(lake, cron=f"{slot.minute} {slot.hour} * * *")
    Slots(lake).record("nightly", slot - timedelta(days=3), "done", "tiny · main: +20")
    return slot


def days(slot: datetime, *states: str) -> dict[str, str]:
    """What became of the slots of the days before `slot`, and of it."""
    return {f"{slot - timedelta(days=len(states) - 1 - at):%m-%d}": state for at, state in enumerate(states)}


def ask_for(api: str, lake: Path, at: datetime) -> str:
    """Schedule a run of the lake's deployment as if its slot were `at`; return its id."""
    name = f"{scheduler.FLOW}/{scheduler.deployment_name(lake, 'nightly')}"
    deployment = httpx.get(f"{api}/deployments/name/{name}").json()["id"]
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at.isoformat()}}
    body, until_s = {"state": state, "idempotency_key": f"asked for {at.isoformat()}"}, time.monotonic() + 60
    while True:  # the server's database may be locked for a moment
        found = httpx.post(f"{api}/deployments/{deployment}/create_flow_run", json=body, timeout=60)
        if found.is_success or time.monotonic() > until_s:
            return str(found.raise_for_status().json()["id"])
        time.sleep(0.2)


def state_of(api: str, run: str) -> dict[str, Any]:
    return dict(httpx.get(f"{api}/flow_runs/{run}").json()["state"])


@pytest.mark.slow
def test_the_scheduler_runs_slots_when_due_and_reports_missed_ones(
    lake: Path, tmp_path: Path, api: str, model: FaultServer, served: Callable[[], Serving]
) -> None:
    slot = slot_just_passed(lake)
    now = served()
    now.says("tiny · main: +20 (20 of 435)")
    assert any("2 runs were missed while the scheduler was down and will not be repeated" in line for line in now.said)
    late = ask_for(api, lake, slot - timedelta(hours=5))
    now.until(lambda: state_of(api, late)["type"] == "COMPLETED")
    assert state_of(api, late)["name"] == "Skipped"
    assert state_of(api, late)["message"].startswith("missed: 5 h after its slot")
    # Prefect itself schedules the coming slots; if it does not, as under SQLAlchemy 2.1, the scheduler raises an error
    expected = slots_between(load(lake).schedules["nightly"], slot + timedelta(hours=1), slot + timedelta(days=2))
    now.until(lambda: _coming(api, lake) >= set(expected), 30)
    with pytest.raises(LakeError, match="are already running") as caught:
        scheduler.run_schedules(lake, quiet)
    assert f"process {now.process.pid} on" in caught.value.found
    other = shutil.copytree(lake, tmp_path / "other" / lake.name, symlinks=True)
    with pytest.raises(LakeError, match="as a schedule of another lake"):
        scheduler.run_schedules(other, quiet)
    assert now.end() == 0
    assert days(slot, "done", "missed", "missed", "done").items() <= fates(lake).items()
    assert n_answers(lake) == sum(model.asked.values()) == 20


def _coming(api: str, lake: Path) -> set[datetime]:
    """The moments for which runs of a lake are scheduled."""
    found = httpx.post(f"{api}/flow_runs/filter", json={}).json()
    return {
        datetime.fromisoformat(run["expected_start_time"])
        for run in found
        if run["parameters"].get("lake") == str(lake) and run["state"]["type"] == "SCHEDULED"
    }


@pytest.mark.slow
def test_a_killed_run_is_told_and_a_stopped_one_keeps_its_answers(
    lake: Path, api: str, model: FaultServer, hook: Receiver, served: Callable[[], Serving]
) -> None:
    import psutil

    slot = slot_just_passed(lake)
    model.script.extend(["hang"] * 20)
    now = served()
    now.until(lambda: model.met["hang"])
    (run,) = [p for p in psutil.Process(now.process.pid).children(recursive=True) if "prefect.engine" in p.cmdline()]
    run.kill()
    now.until(lambda: hook.told)
    assert (hook.told[0]["state"], hook.told[0]["slot"]) == ("Crashed", slot.isoformat())
    assert fates(lake)[f"{slot:%m-%d}"] == "failed"
    model.script.clear()
    model.script.extend(["ok"] * 7)
    model.faults, model.share, model.slow_s = ("slow",), 1.0, 3.0
    change(lake, limit=200)
    second = ask_for(api, lake, datetime.now(UTC))
    n_before = sum(model.served.values())
    now.until(lambda: sum(model.served.values()) >= n_before + 7)
    assert now.end() == 0
    assert state_of(api, second)["type"] == "CANCELLED"
    assert 7 <= n_answers(lake) == sum(model.served.values()) < 200
    assert "stopped" in fates(lake).values()
    assert len(hook.told) == 1


@pytest.mark.slow
def test_a_worker_runs_what_prefect_yaml_deploys(
    lake: Path, api: str, model: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LAKE": str(lake), "SCHEDULE": "nightly"}.items():
        monkeypatch.setenv(f"AFFECTLAKE_{name}", value)
    monkeypatch.setenv("PREFECT_API_URL", api)
    httpx.post(f"{api}/work_pools/", json={"name": "affectlake", "type": "process"}).raise_for_status()

    def prefect(*words: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "collect-slot/nightly" in prefect("deploy", "--all")
    deployment = httpx.get(f"{api}/deployments/name/collect-slot/nightly").json()
    assert [one["schedule"]["cron"] for one in deployment["schedules"]] == ["0 2 * * *"]
    run = httpx.post(f"{api}/deployments/{deployment['id']}/create_flow_run", json={}).json()["id"]
    prefect("worker", "start", "--pool", "affectlake", "--run-once")
    assert state_of(api, run)["message"] == "tiny · main: +20 (20 of 435)"
    assert n_answers(lake) == 20
