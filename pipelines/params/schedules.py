"""The section ``schedules`` of ``params.yaml``: recurring collections.

No step reads them, so that a change does not make a stage stale. :mod:`affectlake.flows.schedules` computes the slots
and runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from affectlake.errors import UsageError, nearest
from affectlake.judge.agents import SCHEDULED_KINDS, SERVER_KINDS
from affectlake.mistakes import Mistake
from affectlake.pipelines.params.cron import check_cron
from affectlake.pipelines.params.text import value_at
from affectlake.validation import UNIQUE, Entry, Strict, Text, mistake

TrialSet = Literal["main", "validation", "noise_ceiling"]
Action = Literal["run", "push", "report"]


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


_IF_STOPPED: dict[str, Any] = {
    "if": {"properties": {"stop_when": {"type": "object"}}, "required": ["stop_when"]},
    "then": {
        "properties": {"then": {"contains": {"const": "run"}}, "trial_set": {"const": "main"}},
        "required": ["then"],
    },
}


class StopWhen(Strict):
    """When a schedule stops by itself: held-out accuracy no longer rises."""

    gain_below: float = Field(
        gt=0,
        lt=1,
        description="Gain of accuracy, as a share of the choices, below which more answers are not worth asking for.",
        examples=[0.005],
    )
    over: int = Field(
        default=3,
        ge=1,
        description="Compare with the embedding this many versions before, counting those with more answers.",
    )


class Schedule(Entry):
    """A recurring collection."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_IF_PROPOSED, _IF_STOPPED]})

    agent: str = Field(
        description="Agent whose answers are collected, of kind chat; or of kind experiment, whose answers are "
        "published."
    )
    cron: Annotated[Text, AfterValidator(_cron)] = Field(
        description="Times: minute, hour, day of month, month, day of week.", examples=["0 2 * * *"]
    )
    limit: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Maximum number of questions per run; null: all remaining ones. Agents of kind chat need it; those "
        "of kind experiment have none.",
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
    then: Annotated[tuple[Action, ...], UNIQUE] = Field(
        default=(),
        strict=False,
        description="Commands after each collection that published its answers or found nothing to ask, in this order.",
        examples=[["run", "push", "report"]],
        json_schema_extra={"uniqueItems": True},
    )
    stop_when: StopWhen | None = Field(
        default=None,
        description="Stop when held-out accuracy no longer rises, compared after each `run` in `then`; null: never.",
        examples=[{"gain_below": 0.005, "over": 3}],
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

    @model_validator(mode="after")
    def _can_stop(self) -> Self:
        if self.stop_when is not None and ("run" not in self.then or self.trial_set != "main"):
            raise mistake(
                "cannot stop by itself",
                wanted="with stop_when, `run` in then, which fits the embeddings to compare, and the trial set main, "
                "from which they learn",
                found=f"then: [{', '.join(self.then)}], trial_set: {self.trial_set}",
                todo="add `run` to then, or remove stop_when",
            )
        return self


def wrong_agents(raw: object) -> Iterator[Mistake]:
    """Yield the schedules of a ``params.yaml`` whose agent is not collected from."""
    schedules, agents = value_at(raw, "schedules"), value_at(raw, "agents")
    if not isinstance(schedules, Mapping) or not isinstance(agents, Mapping):
        return
    kinds = {key: value_at(entry, "kind") for key, entry in agents.items()}
    known = [str(key) for key, kind in kinds.items() if kind in SCHEDULED_KINDS]
    for key, entry in schedules.items():
        name = value_at(entry, "agent")
        if isinstance(entry, Mapping):
            yield from _wrong_keys(str(key), entry, kinds.get(name) if isinstance(name, str) else None)
        if isinstance(name, str) and name not in known:
            yield Mistake(
                f"schedules.{key}.agent",
                f": {name!r} is not an agent that answers are collected from",
                found=f"an agent of kind {kinds[name]}" if name in kinds else "no such agent in the file",
                allowed=", ".join(known) or f"none: the file has no agent of kind {', '.join(SCHEDULED_KINDS)}",
                todo=nearest(name, known),
            )


def _wrong_keys(name: str, entry: Mapping[Any, Any], kind: object) -> Iterator[Mistake]:
    """Yield the keys that a schedule of an agent of this kind lacks, or that have no effect."""
    publishes = kind in SCHEDULED_KINDS and kind not in SERVER_KINDS
    if "limit" not in entry and not publishes:
        yield Mistake(f"schedules.{name}.limit", "is missing", wanted="null or an integer, 1 or more")
    for key in ("limit", "trial_set", "proposed", "stop_when"):
        if publishes and entry.get(key) not in (None, False):
            why = f"an agent of kind {kind} is not asked; its answers are published"
            yield Mistake(f"schedules.{name}.{key}", f"has no effect: {why}", todo="remove it")
