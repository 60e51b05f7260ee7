"""What all workers of a test run share: homes of the tools' own, a Prefect server, and preloaded commands.

The process that starts the workers makes the homes and starts both processes; without workers, the first test that runs
a command does. The workers find them in the folder that the environment variable `FOLDER` names.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.support import builds, preloaded

FOLDER = "AFFECTLAKE_TEST_SERVICES"
"""The environment variable with the folder of the homes, of the address of the server, and of the programs."""

_LIMIT_S = 300
_running = contextlib.ExitStack()

_SERVER = """
import sys
from pathlib import Path
from affectlake.process.environment import configure_process
configure_process()
from affectlake.flows.prefect_server import temporary_server
with temporary_server(print):
    from prefect.settings import get_current_settings
    made = Path(sys.argv[1])
    made.with_suffix(".new").write_text(get_current_settings().api.url)
    made.with_suffix(".new").rename(made)
    sys.stdin.read()  # until the caller ends, however it ends
"""


def make_homes(folder: Path) -> None:
    """Keep Prefect's, DVC's and Git's state of the tests out of the user's home: in `folder`."""
    home = folder / "home"
    os.environ[FOLDER] = str(folder)
    os.environ[builds.FOLDER] = str(folder / "builds")
    (home / "affectlake").mkdir(parents=True)
    os.environ["PREFECT_HOME"] = str(home / "affectlake" / "prefect-of-tests")  # one that is taken as it is
    os.environ.pop("PREFECT_PROFILES_PATH", None)
    os.environ["DVC_GLOBAL_CONFIG_DIR"] = str(home / "dvc")
    os.environ["DVC_SITE_CACHE_DIR"] = str(home / "dvc-site")
    os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # compiled code, for tests in other homes too
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    os.environ["GIT_CONFIG_SYSTEM"] = os.devnull
    os.environ.pop("PREFECT_API_URL", None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def start() -> None:
    """Start the server and the preloaded process, if no process has; do not wait for them."""
    folder = Path(os.environ[FOLDER])
    with contextlib.suppress(FileExistsError):
        (folder / "started").touch(exist_ok=False)
        log = _running.enter_context((folder / "server.log").open("wb"))
        command = [sys.executable, "-c", _SERVER, str(_address())]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        _running.callback(_end, server)
        _running.enter_context(preloaded.preloaded(folder / "preloaded"))


def stop() -> None:
    """End what this process has started, and remove the homes that it has made."""
    _running.close()
    shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True)


def prefect_api() -> str:
    """Return the URL of the server's API, as soon as it is ready."""
    until = time.monotonic() + _LIMIT_S
    while not _address().exists():
        assert time.monotonic() < until, _address().with_name("server.log").read_text()
        time.sleep(0.05)
    return _address().read_text()


def programs() -> Path:
    """Return the folder with the preloaded programs."""
    return Path(os.environ[FOLDER]) / "preloaded" / "bin"


def _address() -> Path:
    return Path(os.environ[FOLDER]) / "prefect-api"


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait(60)
