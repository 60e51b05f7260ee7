"""The sections ``schedules`` and ``notify`` of ``params.yaml``: recurring collections, and reports of failures.

No step reads them, so that a change does not make a stage stale. :mod:`affectlake.flows.schedules` computes the slots
and runs them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from affectlake.errors import UsageError, nearest
from affectlake.judge.agents import SERVER_KINDS
from affectlake.lake.files import layout
from affectlake.mistakes import Mistake
from affectlake.pipelines.params.cron import check_cron
from affectlake.pipelines.params.text import read_yaml, value_at
from affectlake.validation import Entry, Secret, Strict, Text, check, mistake

TrialSet = Literal["main", "validation", "noise_ceiling"]
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


def _cron(text: str) -> str:
    try:
        check_cron("", text)
    except UsageError as error:
        parts = {"wanted": error.wanted, "found": error.found, "allowed": error.allowed, "todo": error.todo}
        raise mistake(error.summary.strip(), **parts) from error
    return text


def _timezone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise mistake("is not a time zone", found=repr(name), wanted="a name such as UTC or Europe/Berlin") from None


_IF_PROPOSED: dict[str, Any] = {
    "if": {"properties": {"proposed": {"const": True}}, "required": ["proposed"]},
    "then": {"properties": {"limit": {"type": "integer"}, "trial_set": {"const": "main"}}},
}


class Schedule(Entry):
    """A recurring collection."""

    model_config = ConfigDict(json_schema_extra=_IF_PROPOSED)

    agent: str = Field(description="Agent whose answers are collected, of kind chat.")
    cron: Annotated[Text, AfterValidator(_cron)] = Field(
        description="Times: minute, hour, day of month, month, day of week.", examples=["0 2 * * *"]
    )
    limit: Annotated[int, Field(ge=1)] | None = Field(
        description="Maximum number of questions per run; null: all remaining ones."
    )
    trial_set: TrialSet = Field(default="main", description="Trial set that is asked.")
    timezone: Annotated[Text, AfterValidator(_timezone)] = Field(
        default="UTC",
        description="Time zone of the cron expression, a name of the IANA database.",
        examples=["Europe/Berlin"],
    )
    proposed: bool = Field(
        default=False,
        description="Whether each run proposes `limit` triplets of the main set and asks those.",
    )

    @model_validator(mode="after")
    def _can_be_proposed(self) -> Self:
        if self.proposed and (self.limit is None or self.trial_set != "main"):
            raise mistake(
                "cannot propose triplets",
                wanted="with proposed: true, a limit (number of triplets per run) and the trial set main",
                found=f"limit: {'null' if self.limit is None else self.limit}, trial_set: {self.trial_set}",
            )
        return self


def _url(url: str) -> str:
    if not _is_url(url):
        raise mistake(
            "is not a valid URL",
            wanted="http://… or https://…, without user name and password",
            todo="put a secret URL in an environment variable, and set webhook_env to its name",
        )
    return url


def _variable(name: str) -> str:
    if not re.fullmatch(_VARIABLE.rstrip("$"), name):
        raise mistake("is not the name of an environment variable", wanted="a name, not the URL")
    return name


class Notify(Strict):
    """Where failed runs are reported: the URL of a webhook, or an environment variable that contains it."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    webhook: Annotated[Secret, AfterValidator(_url)] = Field(
        default="",
        description="URL of the webhook.",
        json_schema_extra={"pattern": r"^\s*[hH][tT][tT][pP][sS]?://[^/?#]"},
    )
    webhook_env: Annotated[Secret, AfterValidator(_variable)] = Field(
        default="",
        description="Name of the environment variable that contains the URL of the webhook.",
        json_schema_extra={"pattern": _VARIABLE},
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise mistake(
                "needs exactly one of webhook, webhook_env",
                wanted="webhook: URL or, if the URL is secret, webhook_env: VARIABLE",
                found=", ".join(sorted(self.model_fields_set)) or "neither",
            )
        return self

    def url(self) -> str:
        """Return the webhook's URL.

        Raises
        ------
        UsageError
            If the variable is not set, or is not a URL.
        """
        if not self.webhook_env:
            return self.webhook
        found = os.environ.get(self.webhook_env, "").strip()
        if not found:
            raise UsageError(
                f"the environment variable {self.webhook_env} is not set",
                wanted="the URL of the webhook, as set in notify.webhook_env",
            )
        if not _is_url(found):
            raise UsageError(f"the environment variable {self.webhook_env} is not a valid URL", wanted="https://…")
        return found


def wrong_agents(raw: object) -> Iterator[Mistake]:
    """Yield the schedules of a ``params.yaml`` whose agent is not collected from."""
    schedules, agents = value_at(raw, "schedules"), value_at(raw, "agents")
    if not isinstance(schedules, Mapping) or not isinstance(agents, Mapping):
        return
    kinds = {key: value_at(entry, "kind") for key, entry in agents.items()}
    known = [str(key) for key, kind in kinds.items() if kind in SERVER_KINDS]
    for key, entry in schedules.items():
        name = value_at(entry, "agent")
        if isinstance(name, str) and name not in known:
            yield Mistake(
                f"schedules.{key}.agent",
                f": {name!r} is not an agent that answers are collected from",
                found=f"an agent of kind {kinds[name]}" if name in kinds else "no such agent in the file",
                allowed=", ".join(known) or f"none: the file has no agent of kind {', '.join(SERVER_KINDS)}",
                todo=nearest(name, known),
            )


def notify_of(lake: Path) -> Notify | None:
    """Return the section ``notify`` of ``params.yaml``, even if other sections are invalid; None if it is missing.

    Raises
    ------
    UsageError
        If the file cannot be read, or the section is invalid.
    """
    path = lake / layout.PARAMS
    try:
        raw: Any = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", found=str(error).replace("\n", " ")) from error
    given = value_at(raw, "notify")
    found: Notify | None = None if given is None else check(Notify, given, str(path), "notify")
    return found


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
