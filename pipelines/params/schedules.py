"""``schedules:`` and ``notify:`` of ``params.yaml``, read strictly: what recurs, and whom to tell of failures.

No step reads them, so a change makes nothing stale. When a schedule's slots are, and running them, does not belong
here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from affectlake.errors import UsageError, nearest
from affectlake.judge import entries
from affectlake.judge.agents import Agent
from affectlake.lake.files import layout
from affectlake.pipelines.params.cron import check_cron

TRIAL_SETS = ("main", "validation", "noise_ceiling")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXAMPLE = "nightly: {agent: qwen2-vl, cron: '0 2 * * *', limit: 100000}"


@dataclass(frozen=True)
class Schedule:
    """A collection that recurs.

    Parameters
    ----------
    name : str
        Its key: small letters, digits and dashes.
    agent : str
        Whose answers are collected.
    cron : str
        When: minute, hour, day of month, month, day of week.
    limit : int or None
        Questions per run; None: all that are left.
    trial_set : {'main', 'validation', 'noise_ceiling'}
        Which trials are asked.
    timezone : str
        Where the cron's clock hangs, as IANA names it: ``UTC``, ``Europe/Berlin``.
    proposed : bool
        Ask what tells most: each run has `limit` triplets of the main set proposed, and asks these.
    """

    name: str
    agent: str
    cron: str
    limit: int | None
    trial_set: str = "main"
    timezone: str = "UTC"
    proposed: bool = False


@dataclass(frozen=True)
class Notify:
    """Whom to tell of a failed run: a webhook, or the environment variable that holds a secret one.

    Parameters
    ----------
    webhook : str
        Its URL; empty if the variable holds it, or if there is none.
    webhook_env : str
        The variable's name.
    """

    webhook: str = ""
    webhook_env: str = ""

    def url(self) -> str:
        """Return the webhook's URL; empty if nobody is to be told.

        Raises
        ------
        UsageError
            If the variable is not set, or does not hold a URL.
        """
        if not self.webhook_env:
            return self.webhook
        found = os.environ.get(self.webhook_env, "").strip()
        if not found:
            raise UsageError(
                f"the environment variable {self.webhook_env} is not set",
                wanted="the URL of the webhook that notify.webhook_env names",
            )
        if not _is_url(found):
            raise UsageError(f"the environment variable {self.webhook_env} holds no URL", wanted="https://…")
        return found


def parse_schedules(name: str, found: object, agents: Mapping[str, Agent]) -> dict[str, Schedule]:
    """Return the schedules of a file; none if it has no ``schedules:``.

    Parameters
    ----------
    name : str
        What to call the file in messages.
    found : object
        What stands under ``schedules:``.
    agents : mapping of str to Agent
        The file's agents.

    Raises
    ------
    UsageError
        A key or value that does not exist, is missing, or is of the wrong type; an agent that is not asked.
    """
    if found is None:
        return {}
    every = entries.mapping(f"{name}: schedules", found, _EXAMPLE)
    return {key: _schedule(f"{name}: schedules.{key}", key, entry, agents) for key, entry in every.items()}


def _schedule(where: str, name: str, given: object, agents: Mapping[str, Agent]) -> Schedule:
    entry = entries.mapping(where, given, _EXAMPLE)
    entries.only(where, entry, ("agent", "cron", "limit"), ("trial_set", "timezone", "proposed"))
    cron = entries.text(f"{where}.cron", entry["cron"], "such as '0 2 * * *'")
    check_cron(f"{where}.cron", cron)
    limit = entry["limit"]
    found = Schedule(
        name=name,
        agent=_chat_agent(f"{where}.agent", entry["agent"], agents),
        cron=cron,
        limit=None if limit is None else entries.whole(f"{where}.limit", limit, 1),
        trial_set=entries.choice(where, {"trial_set": "main", **entry}, "trial_set", TRIAL_SETS),
        timezone=_timezone(f"{where}.timezone", entry.get("timezone", "UTC")),
        proposed=entries.flag(f"{where}.proposed", entry.get("proposed", False)),
    )
    if found.proposed and (found.limit is None or found.trial_set != "main"):
        raise UsageError(
            f"{where} cannot have triplets proposed",
            wanted="with proposed: true, a limit (how many to propose each time) and the trial set main",
            found=f"limit: {'null' if found.limit is None else found.limit}, trial_set: {found.trial_set}",
        )
    return found


def _chat_agent(where: str, name: object, agents: Mapping[str, Agent]) -> str:
    known = [key for key, agent in agents.items() if agent.kind == "chat"]
    if not isinstance(name, str) or name not in known:
        kind = agents[name].kind if isinstance(name, str) and name in agents else ""
        raise UsageError(
            f"{where}: {name!r} is no agent that answers are collected from",
            found=f"an agent of kind {kind}" if kind else "no such agent in the file",
            allowed=", ".join(known) or "none: the file has no agent of kind chat",
            todo=nearest(str(name), known),
        )
    return name


def _timezone(where: str, name: object) -> str:
    try:
        return ZoneInfo(name).key if isinstance(name, str) and name else _unknown_timezone(where, name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return _unknown_timezone(where, name)


def _unknown_timezone(where: str, name: object) -> str:
    raise UsageError(f"{where}: there is no time zone {name!r}", wanted="a name such as UTC or Europe/Berlin") from None


def parse_notify(name: str, found: object) -> Notify:
    """Return whom to tell of failed runs; nobody if the file has no ``notify:``.

    Parameters
    ----------
    name : str
        What to call the file in messages.
    found : object
        What stands under ``notify:``: ``{webhook: URL}`` or ``{webhook_env: VARIABLE}``.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if found is None:
        return Notify()
    where = f"{name}: notify"
    entry = entries.mapping(where, found, "{webhook_env: SLACK_WEBHOOK}")
    entries.only(where, entry, (), ("webhook", "webhook_env"))
    if len(entry) != 1:
        raise UsageError(
            f"{where} names no one webhook",
            wanted="webhook: URL or, where the URL is a secret, webhook_env: VARIABLE",
            found=", ".join(entry) or "nothing",
        )
    if "webhook_env" in entry:
        variable = entries.text(f"{where}.webhook_env", entry["webhook_env"], "the name of a variable")
        if not _VARIABLE.fullmatch(variable):
            raise UsageError(f"{where}.webhook_env names no variable", wanted="the name of an environment variable")
        return Notify(webhook_env=variable)
    url = entries.text(f"{where}.webhook", entry["webhook"], "an http or https URL")
    if not _is_url(url):
        raise UsageError(
            f"{where}.webhook is no URL", wanted="http://… or https://…, without user name and password",
            todo="keep a URL that is a secret in an environment variable, and name it with webhook_env",
        )  # fmt: skip
    return Notify(webhook=url)


def notify_of(lake: Path) -> Notify:
    """Return whom to tell, whatever else may be wrong with the lake's ``params.yaml``.

    Raises
    ------
    UsageError
        If the file cannot be read, or its ``notify:`` cannot.
    """
    path = lake / layout.PARAMS
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", found=str(error).replace("\n", " ")) from error
    return parse_notify(str(path), raw.get("notify") if isinstance(raw, Mapping) else None)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
