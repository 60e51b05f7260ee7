"""What the process is set to before anything heavy is imported: one thread per numeric library, no telemetry, and a
home for Prefect's state that is not the user's own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from affectlake.process.git_caller import leave_caller

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""How many threads each numeric library uses; they read it when they are imported."""

SETTINGS = {
    **dict.fromkeys(THREADS, "1"),  # stages run side by side, one core each
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # the flow prints its own lines on the terminal; Prefect's still reach its server
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "DVC_NO_ANALYTICS": "1",
    # a tracking server that is dead or hangs is given up soon; MLflow's own limits add up to many minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GX_ANALYTICS_ENABLED": "false",
}


def configure_process() -> None:
    """Set what the user has not set, and where Prefect keeps its state; remove what a calling Git command has set."""
    leave_caller()
    for name, value in SETTINGS.items():
        if not os.environ.get(name, "").strip():  # MLflow takes an empty number for a wrong one
            os.environ[name] = value
    _use_own_prefect_home()


def compute_on_one_thread() -> None:
    """Let every numeric library use one thread, whatever the user has set: a sum over several has several orders.

    To be called by commands that make tables, before a numeric library is imported. Other commands leave the
    environment as it is, because servers of models are started with it.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))


def _use_own_prefect_home() -> None:
    """Let Prefect keep its state in a folder of this tool and of Prefect's version, and read the user's profiles.

    ``~/.prefect`` belongs to every Prefect of the user: whichever is newest migrates its database, and no older one can
    read that any more. The database that a user names (``PREFECT_API_DATABASE_CONNECTION_URL``) stays the one used.
    """
    from importlib.metadata import version

    given, users_home = os.environ.get("PREFECT_HOME"), os.path.expanduser("~")  # noqa: PTH111
    if users_home == "~":
        return  # a user without a home: Prefect says so, to whom it matters
    if given and Path(given).match("affectlake/prefect-*"):  # set so by a process that this one was started by
        home = Path(given)
    else:
        users = Path(given).expanduser() if given else Path(users_home) / ".prefect"
        state = users if given else Path(os.environ.get("XDG_STATE_HOME") or Path(users_home) / ".local/state")
        home = state / "affectlake" / f"prefect-{version('prefect')}"
        os.environ["PREFECT_HOME"] = str(home)
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(users / "profiles.toml"))
        if (users / "logging.yml").exists():
            os.environ.setdefault("PREFECT_LOGGING_CONFIG_PATH", str(users / "logging.yml"))
    with suppress(OSError):  # what cannot be written is said by the server that wants to
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
