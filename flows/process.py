"""What the process is set to before anything heavy is imported: one thread per numeric library, no telemetry."""

from __future__ import annotations

import os

from affectlake.lake.git import leave_caller

SETTINGS = {
    # stages run side by side, one core each; a sum over one thread also has one order, so the bytes repeat
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # the flow prints its own lines on the terminal; Prefect's still reach its server
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # the first start of its temporary server makes a database; a busy machine takes longer than the usual 20 s
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GX_ANALYTICS_ENABLED": "false",
}


def configure_process() -> None:
    """Set the environment variables that the user has not set; remove those of a Git command that calls."""
    leave_caller()
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
