"""Where nothing is to run or to ask, no Prefect: it is not imported, and no server is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from affectlake.flows.schedules.backfill import moment
from affectlake.flows.schedules.slots import Slots
from affectlake.pipelines.collection.request import CollectionRequest
from affectlake.pipelines.collection.run import collect_answers
from tests.support.chat import ENTRY
from tests.support.chat_lakes import forget_stage, make_lake, run
from tests.support.fault_server import FaultServer

pytestmark = pytest.mark.usefixtures("no_prefect_server")

SPY = """
import json, os, sys
def _note(event, arguments):
    if event == "import" and arguments[0].partition(".")[0] in ("prefect", "uvicorn"):
        told = {"import": arguments[0]}
    elif event == "subprocess.Popen":
        told = {"start": [str(word) for word in arguments[1]]}
    else:
        return
    with open(os.environ["SPY_FILE"], "a") as file:
        file.write(json.dumps(told) + chr(10))
sys.addaudithook(_note)
_note("subprocess.Popen", ("", ["the spy is there"]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(models=("tiny-llama",)).running() as running:
        yield running


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, server: FaultServer) -> Path:
    """A lake that is up to date, and whose validation set is answered; its one schedule has run."""
    lake = tmp_path_factory.mktemp("without") / "lake"
    make_lake(lake, ENTRY | {"servers": [server.url]})
    collect_answers(lake, CollectionRequest("tiny", "validation"), lambda _: None)
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["schedules"] = {"nightly": {"agent": "tiny", "cron": "0 2 * * *", "limit": 10}}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    Slots(lake).record("nightly", moment("--from", "2026-03-01T02:00", "UTC", end_of_day=False), "done")
    run(lake)
    return lake


@pytest.fixture
def lake(origin: Path, tmp_path: Path) -> Path:
    return shutil.copytree(origin, tmp_path / "lake", symlinks=True)


class Seen:
    """What a command imported of Prefect and which programs it started, as an audit hook of its process saw it.

    Attributes
    ----------
    imports : list of str
        Modules of Prefect and of its server.
    servers : list of list of str
        Commands that start a server.
    done : subprocess.CompletedProcess
        The command.
    """

    def __init__(self, folder: Path, lake: Path, *arguments: str) -> None:
        (folder / "sitecustomize.py").write_text(SPY)
        log = folder / "seen"
        log.write_text("")
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        self.done = subprocess.run(
            ["affectlake", *arguments, "--lake", str(lake)],
            env=os.environ | {"PYTHONPATH": path, "SPY_FILE": str(log)},
            capture_output=True,
            text=True,
            check=False,
        )
        told = [json.loads(line) for line in log.read_text().splitlines()]
        assert {"start": ["the spy is there"]} in told
        self.imports = [one["import"] for one in told if "import" in one]
        self.servers = [
            one["start"] for one in told if "uvicorn" in one.get("start", []) or "prefect" in one.get("start", [])
        ]


def test_a_run_of_a_stage_is_seen_to_start_prefect(lake: Path, tmp_path: Path) -> None:
    forget_stage(lake)
    seen = Seen(tmp_path, lake, "run")
    assert seen.done.returncode == 0, seen.done.stderr
    assert "(1 stages run" in seen.done.stderr
    assert "prefect" in seen.imports
    assert len([command for command in seen.servers if "uvicorn" in command]) == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run", "(0 stages run"),
        ("publish", "nothing changed since the last version"),
        ("steps", "up to date"),
        ("collect tiny --trial-set validation", "tiny · validation: +0 ("),
        ("collect tiny --trial-set validation --retry-failed", "tiny · validation: +0 ("),
        ("collect tiny --trial-set validation --dry-run", "tiny · validation: 0 requests remain"),
        ("collection status", "tiny · validation: "),
    ],
)
def test_nothing_to_do_is_done_without_prefect(command: str, said: str, lake: Path, tmp_path: Path) -> None:
    seen = Seen(tmp_path, lake, *command.split())
    assert seen.done.returncode == 0, seen.done.stderr
    assert said in seen.done.stdout + seen.done.stderr
    assert seen.imports == []
    assert seen.servers == []


def test_a_backfill_of_slots_that_are_done_starts_no_server(lake: Path, tmp_path: Path) -> None:
    seen = Seen(tmp_path, lake, "serve", "--backfill", "nightly", "--from", "2026-03-01", "--to", "2026-03-01")
    assert seen.done.returncode == 0, seen.done.stderr
    assert seen.done.stdout == "nightly: 0 slots run, 1 done before\n"
    assert seen.servers == []


def test_a_report_that_is_there_is_not_written_again(lake: Path, tmp_path: Path) -> None:
    path = lake / "storage/reports/v1.html"

    def reported() -> bytes:
        done = subprocess.run(["affectlake", "run", "--lake", str(lake)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = Path(done.stdout.rpartition("report: ")[2].strip())
        assert found.parent == path.parent
        return found.read_bytes()

    first = reported()
    (page,) = path.parent.glob("v*.html")
    os.utime(page, (1, 1))
    assert reported() == first
    assert page.stat().st_mtime == 1  # not touched
    page.write_text("edited")
    assert reported() == first
    page.unlink()
    assert reported() == first
    (note,) = (lake / "storage/scratch/reports").glob("*.json")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"code": "that of another release"}))
    os.utime(page, (1, 1))
    assert reported() == first
    assert page.stat().st_mtime > 1
