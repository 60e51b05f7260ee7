"""The section ``notify`` of ``params.yaml``: who is notified of runs of schedules, and of which ones.

Addresses that contain a secret are not written in ``params.yaml``, which is in every version: they are in environment
variables, or in a file of the lake that Git ignores.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from affectlake.errors import UsageError
from affectlake.lake.files import layout
from affectlake.pipelines.params.text import read_yaml, value_at
from affectlake.secrets import hide
from affectlake.validation import UNIQUE, Secret, Strict, check, mistake

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
Event = Literal["done", "failed", "fewer_parsed", "stopped"]
ADDRESSES = layout.COLLECTING / "notify.env"
"""File of the lake, ignored by Git, with lines NAME=URL for names that are not environment variables."""

_PLAIN = ("json", "jsons", "xml", "xmls", "form", "forms", "ntfy", "ntfys", "syslog")
"""Services of Apprise whose URLs need no secret."""

_TO = rf"^(env:[A-Za-z_][A-Za-z0-9_]*|({'|'.join(_PLAIN)})://[^@]*)$"
_WHERE = f"set an environment variable to the URL, or write NAME=URL to {ADDRESSES}, which Git ignores; then `env:NAME`"


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


def _address(text: str) -> str:
    if re.fullmatch(_TO[1:-1], text) and hide(text) == text:
        return text
    scheme = text.partition(":")[0]
    if "://" not in text:
        raise mistake("is not an address", wanted="env:NAME or a URL of Apprise, such as json://host/path", todo=_WHERE)
    what = "contains a secret" if scheme in _PLAIN else f"is a URL of a service that needs a secret ({scheme}://…)"
    raise mistake(what, wanted="env:NAME, because params.yaml is part of every version", todo=_WHERE)


Address = Annotated[Secret, AfterValidator(_address), Field(json_schema_extra={"pattern": _TO})]
"""A URL of Apprise that contains no secret, or ``env:NAME``; not shown in messages."""


def _not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse an empty list; `min_length` would also be broken by entries that are refused, and show them."""
    if not values:
        raise mistake("must be a list of one or more texts", found="[]")
    return values


class Notify(Strict):
    """Who is notified of runs of schedules: one webhook of failed runs, or services of Apprise of chosen runs."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "dependentRequired": {"on": ["to"]},
            "allOf": [
                {"not": {"required": [one, other]}}
                for one, other in (("webhook", "webhook_env"), ("webhook", "to"), ("webhook_env", "to"))
            ],
        }
    )

    webhook: Annotated[Secret, AfterValidator(_url)] = Field(
        default="",
        description="URL of a webhook, which is notified of failed runs.",
        json_schema_extra={"pattern": r"^\s*[hH][tT][tT][pP][sS]?://[^/?#]"},
    )
    webhook_env: Annotated[Secret, AfterValidator(_variable)] = Field(
        default="",
        description="Name of the environment variable that contains the URL of the webhook.",
        json_schema_extra={"pattern": _VARIABLE},
    )
    on: Annotated[tuple[Event, ...], UNIQUE, AfterValidator(_not_empty)] = Field(
        default=("failed", "fewer_parsed", "stopped"),
        strict=False,
        description="Which runs are reported to the addresses in `to`.",
        examples=[["failed", "fewer_parsed"]],
        json_schema_extra={"uniqueItems": True, "minItems": 1},
    )
    to: Annotated[tuple[Address, ...], AfterValidator(_not_empty)] = Field(
        default=(),
        strict=False,
        description="Addresses: URLs of Apprise without secrets, or env:NAME for URLs that are not written here.",
        examples=[["env:SLACK"]],
        json_schema_extra={"minItems": 1, "writeOnly": True},
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = self.model_fields_set - {"on"}
        if len(given) != 1 or (self.model_fields_set != given and "to" not in given):
            raise mistake(
                "needs exactly one of webhook, webhook_env, to",
                wanted="to: [env:NAME], with `on`; or webhook: URL; or, if the URL is secret, webhook_env: VARIABLE",
                found=", ".join(sorted(self.model_fields_set)) or "none of them",
            )
        return self

    def url(self) -> str:
        """Return the webhook's URL; empty if there is none.

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


def url_at(lake: Path, address: str) -> str:
    """Return the URL of an address in `to`: itself, or that of the variable or the line that it names.

    Raises
    ------
    UsageError
        If neither the environment nor the lake's file has the name.
    """
    kind, _, name = address.partition(":")
    if kind != "env":
        return address
    path = lake / ADDRESSES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = {key.strip(): value.strip() for key, equals, value in (line.partition("=") for line in lines) if equals}
    found = os.environ.get(name, "").strip() or known.get(name, "")
    if not found:
        raise UsageError(
            f"notify.to has env:{name}, and {name} is not set", todo=f"export {name}, or write it to {path}"
        )
    return found


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
