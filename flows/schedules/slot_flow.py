"""The flow ``collect-slot``: one run of a schedule. What Prefect deployments and ``prefect.yaml`` point at.

A run belongs to a slot, the moment it was scheduled for. One that comes too late, one whose slot is done, and one that
finds the agent's answers being collected already end as ``Skipped`` and say why.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging import get_run_logger
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled, Completed

from affectlake.errors import LeaseError, UsageError, nearest
from affectlake.flows.collect import ask_task
from affectlake.flows.schedules.slots import Slots, grace
from affectlake.flows.schedules.webhook import Failed, tell
from affectlake.judge.chat import ChatAgent
from affectlake.pipelines.collection.planning import chat_agent
from affectlake.pipelines.collection.publishing import leases
from affectlake.pipelines.collection.request import CollectionProgress, CollectionRequest, CollectionResult
from affectlake.pipelines.collection.run import collect_answers, collect_proposed
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import Params, load
from affectlake.process import lease
from affectlake.process.terminal import say
from affectlake.secrets import hide

FLOW = "collect-slot"
SKIPPED = "Skipped"
_LINE_EVERY_S = 60.0


def schedule_named(params: Params, name: str) -> Schedule:
    """Return the schedule called `name`; an unknown one is a :class:`UsageError` that offers the nearest."""
    if name not in params.schedules:
        raise UsageError(
            f"there is no schedule {name!r}",
            allowed=", ".join(params.schedules) or "none: params.yaml has no `schedules:`",
            todo=nearest(name, params.schedules) or "give it an entry under `schedules:`",
        )
    return params.schedules[name]


def named(schedule: str, slot: datetime) -> str:
    """Return what a run is called: its schedule and its slot."""
    return f"{schedule} {slot.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _run_name() -> str:
    given: dict[str, Any] = runtime.flow_run.parameters
    return named(given["schedule"], given.get("slot") or runtime.flow_run.scheduled_start_time)


def tell_failed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Tell the lake's webhook that a run failed or crashed; Prefect calls it."""
    given = flow_run.parameters
    lake, schedule = Path(given["lake"]), str(given["schedule"])
    slot = _moment(given.get("slot")) or flow_run.expected_start_time or datetime.now(UTC)
    agent, secrets = "unknown", list[str]()
    words = hide(" ".join((state.message or "no account of it").split()))
    logger = flow_run_logger(flow_run)

    def log(line: str) -> None:
        logger.info(hide(line))
        say(f"{named(schedule, slot)}: {line}")

    try:
        agent, secrets = _agent_and_secrets(lake, schedule)
        Slots(lake).record(schedule, slot, "failed", words)
    except Exception as error:  # a lake that is broken is what may have to be told of
        log(f"what became of the slot could not be written: {error}".splitlines()[0])
    moment = slot.astimezone(UTC).isoformat()
    tell(Failed(str(lake), schedule, agent, moment, state.name or "Failed", words, str(flow_run.id)), secrets, log)


def _moment(given: object) -> datetime | None:
    """Return a slot as it was given: a moment or, from the server, its text."""
    found = datetime.fromisoformat(given) if isinstance(given, str) else given
    return found.astimezone(UTC) if isinstance(found, datetime) else None


def _agent_and_secrets(lake: Path, schedule: str) -> tuple[str, list[str]]:
    from os import environ

    params = load(lake)
    keys = [agent.api_key_env for agent in params.agents.values() if isinstance(agent, ChatAgent)]
    return schedule_named(params, schedule).agent, [environ[key] for key in keys if environ.get(key)]


@flow(name=FLOW, flow_run_name=_run_name, on_failure=[tell_failed], on_crashed=[tell_failed])
def collect_slot(lake: str, schedule: str, slot: datetime | None = None, again: bool = False) -> Any:
    """Collect what a schedule wants, for one slot.

    Parameters
    ----------
    lake : str
        Root of the lake.
    schedule : str
        A schedule of its ``params.yaml``.
    slot : datetime, optional
        The slot that is run on purpose, however long ago it was; by default, the time this run was scheduled for.
    again : bool
        Run it even if it is done.
    """
    root = Path(lake)
    params = load(root)
    planned = schedule_named(params, schedule)
    moment = _moment(slot or runtime.flow_run.scheduled_start_time) or datetime.now(UTC)
    run = _SlotRun(root, params, planned, moment)
    why = run.why_not(on_purpose=slot is not None, again=again)
    return run.skipped(why) if why else run.collect()


class _SlotRun:
    """One slot of one schedule, and what is said of it."""

    def __init__(self, lake: Path, params: Params, schedule: Schedule, slot: datetime) -> None:
        self.lake, self.params, self.schedule, self.slot = lake, params, schedule, slot
        self.slots = Slots(lake)
        self.name = named(schedule.name, slot)
        self.logger = get_run_logger()
        self.told_s = monotonic()

    def tell(self, line: str) -> None:
        """Say a line on the terminal and in the run's log."""
        say(f"{self.name}: {line}")  # who served it may be gone; the run is not
        self.logger.info(hide(line))

    def why_not(self, *, on_purpose: bool, again: bool) -> str:
        """Return why the slot is not to be run now; empty if it is."""
        known = self.slots.fate(self.schedule.name, self.slot)
        if known is not None and known.state == "done" and not again:
            return f"the slot is done: {known.words}"
        late, most = datetime.now(UTC) - self.slot, grace(self.schedule, self.slot)
        if late > most and not on_purpose:
            why = f"missed: {_span(late)} after its slot, and {_span(most)} are allowed"
            self.slots.record(self.schedule.name, self.slot, "missed", why)
            return why
        return ""

    def skipped(self, why: str) -> State[Any]:
        """End without having asked anything."""
        self.tell(f"skipped: {why}")
        return Completed(name=SKIPPED, message=why)

    def collect(self) -> State[Any]:
        """Ask, and say what came of it."""
        agent = chat_agent(self.params, self.schedule.agent)
        holder = lease.holder(leases(self.lake), agent.name)
        if holder is not None:
            return self._held(f"answers of {agent.name} are being collected already by {holder}")
        self.slots.record(self.schedule.name, self.slot, "running")
        done: CollectionResult | LeaseError = ask_task(agent, self.schedule.trial_set, self._ask)()
        if isinstance(done, LeaseError):
            return self._held(f"{done.summary} by {done.found}")
        self.tell(str(done))
        stopped = done.ending == "stopped"
        self.slots.record(self.schedule.name, self.slot, "stopped" if stopped else "done", str(done))
        return Cancelled(message=f"stopped; {done}") if stopped else Completed(message=str(done))

    def _held(self, why: str) -> State[Any]:
        self.slots.record(self.schedule.name, self.slot, "skipped", why)
        return self.skipped(why)

    def _ask(self) -> CollectionResult | LeaseError:
        planned = self.schedule
        try:
            if planned.proposed and planned.limit is not None:
                return collect_proposed(self.lake, planned.agent, planned.limit, self.tell, self._show)
            wanted = CollectionRequest(planned.agent, planned.trial_set, planned.limit)
            return collect_answers(self.lake, wanted, self.tell, self._show)
        except LeaseError as error:
            return error

    def _show(self, shown: CollectionProgress) -> None:
        if monotonic() - self.told_s < _LINE_EVERY_S:
            return
        self.told_s = monotonic()
        failed = f", {shown.progress.n_failed:,} failed for good" if shown.progress.n_failed else ""
        self.tell(f"{shown.n_done:,} of {shown.n_wanted:,}: {shown.progress.per_second:,.1f}/s{failed}")


def _span(length: timedelta) -> str:
    """Return a length of time as people say it."""
    seconds = length.total_seconds()
    for unit, unit_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
