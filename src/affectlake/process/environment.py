"""The environment of the process, set before any large import: one thread per numeric library, no telemetry, and a
folder for Prefect's state that is separate from the user's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from affectlake.process.git_caller import leave_caller

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables for the number of threads of each numeric library; the libraries read them when they are imported."""

SETTINGS = {
    **dict.fromkeys(THREADS, "1"),  # stages run side by side, one core each
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # the flow prints its own progress on the terminal; Prefect's log still goes to its server
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "DVC_NO_ANALYTICS": "1",
    # give up early if a tracking server is down or hangs; MLflow's default limits add up to many minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GX_ANALYTICS_ENABLED": "false",
}


def configure_process(*, for_prefect: bool = True) -> None:
    """Set variables that the user has not set, and the folder of Prefect's state; remove those of a Git hook.

    Parameters
    ----------
    for_prefect : bool
        Whether the process may start Prefect. If not, the folder of its state is left alone.
    """
    leave_caller()
    for name, value in SETTINGS.items():
        if not os.environ.get(name, "").strip():  # MLflow does not accept an empty number
            os.environ[name] = value
    if for_prefect:
        _use_own_prefect_home()


def compute_on_one_thread() -> None:
    """Let every numeric library use one thread, even if the user has set another number.

    With several threads, the order of summation can vary, and with it the results. Commands that make tables call this
    before a numeric library is imported. Other commands do not, because model servers inherit the environment.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))


def _use_own_prefect_home() -> None:
    """Set a folder for Prefect's state that is specific to affectlake and to Prefect's version.

    All installations of Prefect share ``~/.prefect``: the newest one migrates the database, and older ones can no
    longer read it. The user's profiles are still read, and a database that the user has set
    (``PREFECT_API_DATABASE_CONNECTION_URL``) is still used.
    """
    from importlib.metadata import PackageNotFoundError, version

    given, users_home = os.environ.get("PREFECT_HOME"), os.path.expanduser("~")  # noqa: PTH111
    if users_home == "~":
        return  # the user has no home folder; Prefect reports this if it needs one
    if given and Path(given).match("affectlake/prefect-*"):  # set by a parent process
        home = Path(given)
    else:
        users = Path(given).expanduser() if given else Path(users_home) / ".prefect"
        state = users if given else Path(os.environ.get("XDG_STATE_HOME") or Path(users_home) / ".local/state")
        try:
            home = state / "affectlake" / f"prefect-{version('prefect')}"
        except PackageNotFoundError:
            return  # without the extra `study`
        os.environ["PREFECT_HOME"] = str(home)
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(users / "profiles.toml"))
        if (users / "logging.yml").exists():
            os.environ.setdefault("PREFECT_LOGGING_CONFIG_PATH", str(users / "logging.yml"))
    with suppress(OSError):  # if the folder is not writable, Prefect's server reports it
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
