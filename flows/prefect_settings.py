"""Prefect's settings, or one error that names the invalid ones."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr
from typing import TYPE_CHECKING

from affectlake.errors import UsageError
from affectlake.process.variables import integer

if TYPE_CHECKING:
    from prefect.settings import Settings
    from pydantic_core import ErrorDetails

START_LIMIT_S = 900
"""Time limit for the start of a server. A server that exits during its start is noticed at once."""

START_LIMIT = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
"""Environment variable that sets another time limit."""


def prefect_settings() -> Settings:
    """Return Prefect's settings.

    Raises
    ------
    UsageError
        If an environment variable or a Prefect profile has a value that Prefect does not accept.
    """
    from pydantic import ValidationError

    integer(
        START_LIMIT, 1, 86_400, default=START_LIMIT_S, meaning="a time limit in seconds", unset=f"for {START_LIMIT_S}"
    )
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):  # Prefect also prints the error that is raised below
            from prefect.settings import get_current_settings

            settings = get_current_settings()
    except ValidationError as error:
        wrong = [(_name(one), one) for one in error.errors() if one["type"] != "default_factory_not_called"]
        raise UsageError(
            f"Prefect's settings cannot be read ({error.title})",
            found="; ".join(f"{name}: {one['msg']}" for name, one in wrong),
            todo="correct or unset the setting: the environment variable PREFECT_… or its value in a Prefect profile",
        ) from error
    sys.stderr.write(printed.getvalue())
    return settings


def _name(wrong: ErrorDetails) -> str:
    """Return the name of a setting and, unless it may be a secret, its value."""
    name = ".".join(map(str, wrong["loc"]))
    return name if re.search("key|auth|password|secret|url", name) else f"{name}={wrong['input']}"


def start_limit_s(settings: Settings) -> float:
    """Return how long a server may take to start, in seconds: the value that is set, or `START_LIMIT_S`."""
    ephemeral = settings.server.ephemeral
    is_set = "startup_timeout_seconds" in ephemeral.model_fields_set
    return float(ephemeral.startup_timeout_seconds if is_set else START_LIMIT_S)
