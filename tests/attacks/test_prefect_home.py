"""The temporary Prefect server's own home: the user's ~/.prefect is neither written nor a reason to stop."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from affectlake.errors import LakeError
from affectlake.flows import prefect_server
from affectlake.flows.prefect_settings import START_LIMIT
from affectlake.process.managed_server import ServerLaunch
from tests.support.chat import ENTRY
from tests.support.chat_lakes import forget_stage, make_lake

PREFECTS = ("PREFECT_HOME", "PREFECT_PROFILES_PATH", "PREFECT_API_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
LIMIT = START_LIMIT
NEWER = "27d8f4e1a6c9"  # a migration that the Prefect installed here does not know
PROFILES = """active = "mine"

[profiles.mine]
PREFECT_LOGGING_LEVEL = "INFO"
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that is up to date but for one stage, so that a run of it starts Prefect and has little to do."""
    lake = tmp_path_factory.mktemp("home-of") / "lake"
    make_lake(lake, ENTRY)
    forget_stage(lake)
    return lake


@pytest.fixture
def lake(origin: Path, tmp_path: Path) -> Path:
    return shutil.copytree(origin, tmp_path / "lake", symlinks=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose Prefect database a newer Prefect has migrated."""
    folder = tmp_path / "home" / ".prefect"
    folder.mkdir(parents=True)
    (folder / "profiles.toml").write_text(PROFILES)
    with sqlite3.connect(folder / "prefect.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (NEWER,))
        database.execute("CREATE TABLE flow_run (id TEXT)")
    database.close()
    return folder.parent


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return what a process of the user has: this home, and nothing of the tests' own."""
    env = {name: value for name, value in os.environ.items() if name not in PREFECTS and name != "XDG_STATE_HOME"}
    return env | {"HOME": str(home)} | more


def run(lake: Path, env: dict[str, str], ok: int = 0) -> str:
    command = ["affectlake", "run", "--no-report", "--lake", str(lake)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == ok, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_newer_database_in_the_user_s_home_stays_as_it_is(lake: Path, home: Path) -> None:
    before = files(home / ".prefect")
    assert "(1 stages run, " in run(lake, environment(home))
    assert files(home / ".prefect") == before
    (state,) = (home / ".local/state/affectlake").iterdir()
    assert state.name.startswith("prefect-3.")
    assert (state / "prefect.db").is_file()
    assert not list(state.glob("*.log"))


def test_two_runs_at_once_in_a_home_that_the_user_names(lake: Path, home: Path, tmp_path: Path) -> None:
    other = shutil.copytree(lake, tmp_path / "other", symlinks=True)
    (home / ".prefect").rename(home / "mine")
    before = files(home / "mine")
    env = environment(home, PREFECT_HOME=str(home / "mine"))
    commands = [["affectlake", "run", "--no-report", "--lake", str(one)] for one in (lake, other)]
    running = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [one.communicate(timeout=300)[1] for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    after = files(home / "mine")
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("affectlake/prefect-3.") for name in after.keys() - before.keys())
    assert not (home / ".prefect").exists()
    assert not (home / ".local").exists()


def settings_of(env: dict[str, str]) -> tuple[str, str, str, str]:
    """Return Prefect's API, key, level of logging and database in a process of this tool."""
    program = (
        "from affectlake.process.environment import configure_process as c; c()\n"
        "from prefect.settings import get_current_settings\n"
        "s = get_current_settings()\n"
        "database = s.server.database.connection_url.get_secret_value()\n"
        "print(s.api.url, s.api.key and s.api.key.get_secret_value(), s.logging.level, database)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    api, key, level, database = done.stdout.split()
    return api, key, level, database


def test_what_the_user_has_set_counts(home: Path) -> None:
    own, before = f"{home}/.local/state/affectlake/prefect-3.", files(home / ".prefect")
    api, key, level, database = settings_of(environment(home))
    assert (api, key, level) == ("None", "None", "INFO")
    assert database.startswith(f"sqlite+aiosqlite:///{own}")
    assert files(home / ".prefect") == before
    cloud = 'PREFECT_API_URL = "http://127.0.0.1:4299/api"\nPREFECT_API_KEY = "pnu_x"\n'
    (home / ".prefect/profiles.toml").write_text(f"{PROFILES}{cloud}")
    assert settings_of(environment(home))[:3] == ("http://127.0.0.1:4299/api", "pnu_x", "INFO")
    given = {"PREFECT_API_URL": "http://127.0.0.1:4300/api"}
    given |= {"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////elsewhere/prefect.db"}
    found = settings_of(environment(home, **given))
    assert (found[0], found[3]) == tuple(given.values())


def test_a_server_that_does_not_start_is_told_with_its_cause(lake: Path, home: Path) -> None:
    url = f"sqlite+aiosqlite:///{home}/.prefect/prefect.db"
    began = time.monotonic()
    said = run(lake, environment(home, PREFECT_API_DATABASE_CONNECTION_URL=url), ok=1)
    assert time.monotonic() - began < 120
    assert "the Prefect server ended with status 3" in said
    assert f"Can't locate revision identified by '{NEWER}'" in said
    assert "`dvc repro` followed by `affectlake publish` does the same without a server" in said
    assert f"raise {LIMIT}" not in said  # more time would not help


def test_a_server_that_takes_too_long_is_told_and_the_way_without_it_works(lake: Path, home: Path) -> None:
    before = {name: content for name, content in files(lake).items() if not name.startswith((".dvc/tmp", "storage/s"))}
    env = environment(home, **{LIMIT: "1"})
    said = run(lake, env, ok=1)
    assert "the Prefect server was not ready within 1 s; nothing was run, and nothing is lost" in said
    assert f"raise {LIMIT}, such as to 2 (seconds)" in said
    assert "`dvc repro` followed by `affectlake publish` does the same without a server" in said
    assert {name: files(lake)[name] for name in before} == before
    (state,) = (home / ".local/state/affectlake").iterdir()
    assert not list(state.glob("server-*.json"))
    assert running_in(home) == []
    unreachable = env | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    for command in (["dvc", "repro"], ["affectlake", "publish"]):
        done = subprocess.run(command, cwd=lake, env=unreachable, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing changed since the last version" in done.stderr  # the stage has made the same tables again
    assert "(0 stages run" in run(lake, unreachable)


def running_in(home: Path) -> list[list[str]]:
    """Return the commands of the Prefect servers whose home is in `home`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT_HOME", "").startswith(str(home)) and "uvicorn" in process.cmdline():
                found.append(process.cmdline())
    return found


def test_a_server_whose_run_was_killed_is_stopped_by_the_next_run(home: Path) -> None:
    program = (
        "import os, sys\nfrom affectlake.process.environment import configure_process\nconfigure_process()\n"
        "from affectlake.flows.prefect_server import temporary_server\n"
        "with temporary_server(print):\n    os.kill(os.getpid(), int(sys.argv[1]))\n"
    )
    command, env = [sys.executable, "-c", program], environment(home)
    assert subprocess.run([*command, "9"], env=env, check=False).returncode == -9
    (orphan,) = running_in(home)
    assert subprocess.run([*command, "0"], env=env, check=False).returncode == 0
    assert orphan not in running_in(home)
    assert running_in(home) == []


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (LIMIT, "two", f"{LIMIT}=two is not a time limit in seconds"),
        (LIMIT, "0", "allowed: 1 to 86,400"),
        ("PREFECT_LOGGING_LEVEL", "LOUD", "level=LOUD: Input should be 'DEBUG'"),
        ("PREFECT_API_URL", "localhost", "no Prefect server answers at localhost"),
        ("PREFECT_HOME", "/dev/null/home", "or set PREFECT_HOME to another folder"),
    ],
)
def test_a_wrong_setting_is_one_message_before_any_work(
    name: str, given: str, words: str, lake: Path, home: Path
) -> None:
    said = run(lake, environment(home, **{name: given}), ok=1 if name in ("PREFECT_API_URL", "PREFECT_HOME") else 2)
    assert words in said
    assert said.count("\n  to do: ") == 1
    assert "sample: started" not in said
    assert "plugins" not in said  # what Prefect itself prints


@pytest.mark.parametrize("command", ["run", "list", "backfill nightly --from 2026-03-01 --to 2026-03-01"])
def test_a_wrong_setting_is_one_message_of_schedules_as_well(command: str, lake: Path, home: Path) -> None:
    done = subprocess.run(
        ["affectlake", "schedule", *command.split(), "--lake", str(lake)],
        env=environment(home, PREFECT_LOGGING_LEVEL="LOUD"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("affectlake: Prefect's settings cannot be read (LoggingSettings)\n")
    assert "level=LOUD: Input should be 'DEBUG'" in done.stderr


def test_waiting_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_server, "FIRST_LINE_AFTER_S", 0.2)
    monkeypatch.setattr(prefect_server, "LINE_EVERY_S", 0.4)
    said: list[str] = []
    launch = ServerLaunch(
        ("sleep", "60"), "http://127.0.0.1:9/health", tmp_path / "log", tmp_path / "note", {}, 1.0, 5.0
    )
    with pytest.raises(LakeError, match="was not ready within 1 s"), prefect_server._started(launch, "", said.append):
        raise AssertionError("it never was ready")
    assert [line.replace(" 1 s, at", " 0 s, at") for line in said] == 2 * [
        f"waiting for the Prefect server for 0 s, at most 1 s ({LIMIT}); its log is {tmp_path / 'log'}"
    ]
