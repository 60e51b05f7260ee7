"""Prefect's settings as a user has made them, or one message that says which is wrong."""

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
"""A server that hangs is given up after this long; one that ends is seen to end at once."""

START_LIMIT = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
"""The environment variable that sets another limit."""


def prefect_settings() -> Settings:
    """Return Prefect's settings.

    Raises
    ------
    UsageError
        If an environment variable or a profile has a value that Prefect does not take.
    """
    from pydantic import ValidationError

    integer(
        START_LIMIT, 1, 86_400, default=START_LIMIT_S, meaning="a time limit in seconds", unset=f"for {START_LIMIT_S}"
    )
    said = io.StringIO()
    try:
        with redirect_stderr(said):  # Prefect would print what is raised below, too
            from prefect.settings import get_current_settings

            settings = get_current_settings()
    except ValidationError as error:
        wrong = [(_name(one), one) for one in error.errors() if one["type"] != "default_factory_not_called"]
        raise UsageError(
            f"Prefect's settings cannot be read ({error.title})",
            found="; ".join(f"{name}: {one['msg']}" for name, one in wrong),
            todo="mend or unset the environment variable PREFECT_… of that setting, or the one in a profile of Prefect",
        ) from error
    sys.stderr.write(said.getvalue())
    return settings


def _name(wrong: ErrorDetails) -> str:
    """Return a setting and, unless it is a secret, its value."""
    name = ".".join(map(str, wrong["loc"]))
    return name if re.search("key|auth|password|secret|url", name) else f"{name}={wrong['input']}"


def start_limit_s(settings: Settings) -> float:
    """Return how long a server may take to start: as the user has set it, or this tool's own limit."""
    ephemeral = settings.server.ephemeral
    is_set = "startup_timeout_seconds" in ephemeral.model_fields_set
    return float(ephemeral.startup_timeout_seconds if is_set else START_LIMIT_S)
