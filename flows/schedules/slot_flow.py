"""The flow ``collect-slot``: one run of a schedule. Prefect deployments and ``prefect.yaml`` use this flow.

A run asks the agent's servers or, for an agent of kind experiment, publishes the answers that people gave. It belongs
to a slot, the time for which it was scheduled. A run that starts too late, whose slot is done, or whose
agent is being collected from already, ends as ``Skipped`` with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
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

from affectlake.errors import AffectlakeError, LeaseError, UsageError, nearest
from affectlake.flows.collect import ask_task
from affectlake.flows.experiment import publish_task
from affectlake.flows.schedules.actions import failure_of, run_actions
from affectlake.flows.schedules.comparisons import Comparison, stop_of, to_start_again
from affectlake.flows.schedules.health import compared
from affectlake.flows.schedules.notifications import SlotReport, send
from affectlake.flows.schedules.slots import ActionOutcome, SlotCounts, Slots, grace
from affectlake.flows.schedules.webhook import FailedRun, notify
from affectlake.judge.agents import ExperimentAgent
from affectlake.judge.chat import ChatAgent
from affectlake.pipelines.collection.planning import chat_agent
from affectlake.pipelines.collection.publishing import leases
from affectlake.pipelines.collection.request import CollectionProgress, CollectionRequest, CollectionResult, Tally
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.experiment.publishing import Wave, publish_received
from affectlake.pipelines.params.notify import Event
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import Params, load
from affectlake.process import lease, terminal
from affectlake.secrets import hide

FLOW = "collect-slot"
SKIPPED = "Skipped"
_LINE_EVERY_S = 60.0
_COUNTED_EVERY_S = 10.0


def schedule_named(params: Params, name: str) -> Schedule:
    """Return the schedule `name`; raise :class:`UsageError`, which suggests a similar name, if it does not exist."""
    if name not in params.schedules:
        raise UsageError(
            f"there is no schedule {name!r}",
            allowed=", ".join(params.schedules) or "none: params.yaml has no `schedules:`",
            todo=nearest(name, params.schedules) or "give it an entry under `schedules:`",
        )
    return params.schedules[name]


def named(schedule: str, slot: datetime) -> str:
    """Return the name of a run: its schedule and its slot."""
    return f"{schedule} {slot.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _run_name() -> str:
    given: dict[str, Any] = runtime.flow_run.parameters
    return named(given["schedule"], given.get("slot") or runtime.flow_run.scheduled_start_time)


def notify_failed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Notify the lake's webhook that a run failed or crashed; called by Prefect."""
    given = flow_run.parameters
    lake, schedule = Path(given["lake"]), str(given["schedule"])
    slot = _moment(given.get("slot")) or flow_run.expected_start_time or datetime.now(UTC)
    agent, secrets = "unknown", list[str]()
    words = hide(" ".join((state.message or "no error message").split()))
    logger = flow_run_logger(flow_run)

    def log(line: str) -> None:
        logger.info(hide(line))
        terminal.log(f"{named(schedule, slot)}: {line}")

    try:
        agent, secrets = _agent_and_secrets(lake, schedule)
        slots = Slots(lake)
        slots.record(schedule, slot, "failed", words)
        slots.end_actions(schedule, slot, words)
        actions = slots.actions(schedule, slot)
        counts = slots.counts(schedule, slot) if actions else slots.unfinished_counts(schedule, slot)
        own = state.message or "no error message"
        note = f"error: {' '.join(hide(own).splitlines()[:1])}; `affectlake schedule list` has the details"
        send(
            SlotReport(
                str(lake),
                schedule,
                agent,
                slot,
                ("failed",),
                counts,
                actions=actions,
                note=f"{note}\nto do: {_todo(lake, schedule, slot, actions)}",
            ),
            secrets,
            log,
        )
    except Exception as error:  # a damaged lake may be the failure to report
        log(f"the outcome of the slot could not be recorded: {error}".splitlines()[0])
    moment = slot.astimezone(UTC).isoformat()
    notify(FailedRun(str(lake), schedule, agent, moment, state.name or "Failed", words, str(flow_run.id)), secrets, log)


def _todo(lake: Path, schedule: str, slot: datetime, actions: Sequence[ActionOutcome]) -> str:
    """Return what to do about a failed run."""
    if actions:
        bad = " and ".join(f"`affectlake {one.action}`" for one in actions if one.state in ("failed", "skipped"))
        return f"correct the cause, then {bad or '`affectlake run`'}; the next slot runs them as well"
    at = f"{slot.astimezone(UTC):%Y-%m-%dT%H:%M}Z"
    again = f"`affectlake schedule backfill {schedule} --from {at} --to {at} --lake {lake}`"
    return f"correct the cause; every answer received is kept, and {again} or the next slot does the rest"


def _moment(given: object) -> datetime | None:
    """Return a slot in UTC, given as a date or, by the server, as text."""
    found = datetime.fromisoformat(given) if isinstance(given, str) else given
    return found.astimezone(UTC) if isinstance(found, datetime) else None


def _agent_and_secrets(lake: Path, schedule: str) -> tuple[str, list[str]]:
    from os import environ

    params = load(lake)
    keys = [agent.api_key_env for agent in params.agents.values() if isinstance(agent, ChatAgent)]
    return schedule_named(params, schedule).agent, [environ[key] for key in keys if environ.get(key)]


@flow(name=FLOW, flow_run_name=_run_name, on_failure=[notify_failed], on_crashed=[notify_failed])
def collect_slot(lake: str, schedule: str, slot: datetime | None = None, again: bool = False) -> Any:
    """Collect answers for one slot of a schedule, or publish those that people gave.

    Parameters
    ----------
    lake : str
        Root of the lake.
    schedule : str
        Name of a schedule in its ``params.yaml``.
    slot : datetime, optional
        Slot to run, however long ago it was; by default, the time for which this run was scheduled.
    again : bool
        Whether to run the slot even if it is done.
    """
    root = Path(lake)
    params = load(root)
    planned = schedule_named(params, schedule)
    moment = _moment(slot or runtime.flow_run.scheduled_start_time) or datetime.now(UTC)
    run = _SlotRun(root, params, planned, moment)
    why = run.reason_to_skip(is_backfill=slot is not None, again=again)
    return run.skipped(why) if why else run.collect()


class _SlotRun:
    """A run of one slot of one schedule."""

    def __init__(self, lake: Path, params: Params, schedule: Schedule, slot: datetime) -> None:
        self.lake, self.params, self.schedule, self.slot = lake, params, schedule, slot
        self.slots = Slots(lake)
        self.name = named(schedule.name, slot)
        self.logger = get_run_logger()
        self.logged_s = self.counted_s = monotonic()
        self.counts = SlotCounts(0, 0, 0, 0, 0, "")

    def log(self, line: str) -> None:
        """Log a line on the terminal and in the run's log."""
        terminal.log(f"{self.name}: {line}")
        self.logger.info(hide(line))

    def reason_to_skip(self, *, is_backfill: bool, again: bool) -> str:
        """Return why the slot is not run now; empty if it is run."""
        known = self.slots.outcome(self.schedule.name, self.slot)
        if known is not None and known.state == "done" and not again:
            return f"the slot is done: {known.words}"
        stop = stop_of(self.lake, self.params, self.schedule)
        if stop is not None:
            why = f"the schedule has stopped: {stop}; {to_start_again(self.schedule)}"
            self.slots.record(self.schedule.name, self.slot, "skipped", why)
            return why
        late, most = datetime.now(UTC) - self.slot, grace(self.schedule, self.slot)
        if late > most and not is_backfill:
            why = f"missed: {_span(late)} after its slot, and {_span(most)} are allowed"
            self.slots.record(self.schedule.name, self.slot, "missed", why)
            return why
        return ""

    def skipped(self, why: str) -> State[Any]:
        """Log the reason and return the state ``Skipped``."""
        self.log(f"skipped: {why}")
        return Completed(name=SKIPPED, message=why)

    def collect(self) -> State[Any]:
        """Collect or publish the answers and return the final state."""
        entry = self.params.agents[self.schedule.agent]
        holder = lease.holder(leases(self.lake), entry.name)
        if holder is not None:
            return self._held(f"answers of {entry.name} are already being collected by {holder}")
        self.slots.record(self.schedule.name, self.slot, "running")
        self.slots.forget_actions(self.schedule.name, self.slot)
        self.slots.forget_unfinished_counts(self.schedule.name, self.slot)
        task = (
            publish_task(entry.name, self._publish)
            if isinstance(entry, ExperimentAgent)
            else ask_task(chat_agent(self.params, entry.name), self.schedule.trial_set, self._ask)
        )
        done: CollectionResult | Wave | LeaseError = task()
        if isinstance(done, LeaseError):
            return self._held(f"{done.summary} by {done.found}")
        self.log(str(done))
        stopped = isinstance(done, CollectionResult) and done.ending == "stopped"
        self.slots.record(self.schedule.name, self.slot, "stopped" if stopped else "done", str(done))
        return Cancelled(message=f"stopped; {done}") if stopped else self._then(done)

    def _then(self, done: CollectionResult | Wave) -> State[Any]:
        """Run the commands of `then`, and return the final state; raise if one of them failed."""
        own, version = self.schedule, done.version.name if done.version else ""
        counts = SlotCounts(done.n_asked, done.n_answered, done.n_parsed, done.n_refused, done.n_failed, version)
        self.slots.record_counts(own.name, self.slot, counts)
        fewer = compared(self.slots, own.name, self.slot)
        if fewer is not None:
            self.log(f"warning: fewer answers were parsed than usual: {fewer}")
        outcomes = run_actions(self.lake, own, self.slot, self.name, self.log)
        failure, compared_as = failure_of(outcomes, str(done)), self._compare(outcomes)
        has_stopped = compared_as is not None and compared_as.has_stopped
        happened: dict[Event, bool] = {
            "done": failure is None,
            "fewer_parsed": fewer is not None,
            "stopped": has_stopped,
        }
        events = tuple(event for event, is_true in happened.items() if is_true)
        if events:
            agent, secrets = _agent_and_secrets(self.lake, own.name)
            told = SlotReport(str(self.lake), own.name, agent, self.slot, events, counts, fewer, outcomes)
            again = to_start_again(own) if has_stopped else ""
            send(told._replace(comparison=compared_as, note=again), secrets, self.log)
        if failure is not None:
            raise failure
        if any(one.state == "stopped" for one in outcomes):
            return Cancelled(message=f"stopped after the collection; {done}")
        return Completed(message="; ".join([str(done), *(f"{one.action}: {one.words}" for one in outcomes)]))

    def _compare(self, outcomes: Sequence[ActionOutcome]) -> Comparison | None:
        """Compare held-out accuracy if the schedule may stop and `run` is done; log the result."""
        if self.schedule.stop_when is None or ("run", "done") not in [(one.action, one.state) for one in outcomes]:
            return None
        from affectlake.flows.schedules.stopping import compare  # late: kernels are slow to import

        try:
            found = compare(self.lake, self.params, self.schedule, self.slot)
        except AffectlakeError as error:
            self.log(f"warning: held-out accuracy is not compared, and the schedule continues: {error.summary}")
            return None
        if isinstance(found, str):
            self.log(found)
            return None
        stopped = f"stopped: {found}; {to_start_again(self.schedule)}"
        self.log(stopped if found.has_stopped else str(found))
        return found

    def _held(self, why: str) -> State[Any]:
        self.slots.record(self.schedule.name, self.slot, "skipped", why)
        return self.skipped(why)

    def _publish(self) -> Wave | LeaseError:
        """Publish what people answered; the lease tells others that the slot is under way."""
        try:
            with lease.hold(leases(self.lake), self.schedule.agent):
                return publish_received(self.lake, self.params, self.schedule.agent, self.log)
        except LeaseError as error:
            return error

    def _ask(self) -> CollectionResult | LeaseError:
        try:
            return self._answers()
        except LeaseError as error:
            return error
        except BaseException:
            if any(self.counts):
                self.slots.record_unfinished_counts(self.schedule.name, self.slot, self.counts)
            raise

    def _answers(self) -> CollectionResult:
        planned, told = self.schedule, (self.log, self._on_progress, self._on_tally)
        if planned.proposed and planned.limit is not None:
            from affectlake.pipelines.collection.proposed import collect_proposed  # late: fits are slow to import

            return collect_proposed(self.lake, planned.agent, planned.limit, *told)
        request = CollectionRequest(planned.agent, planned.trial_set, planned.limit)
        return collect_answers(self.lake, request, *told)

    def _on_tally(self, now: Tally) -> None:
        """Keep the counts of the run, which only grow, also for whoever reports that its process was killed."""
        last = self.counts
        self.counts = SlotCounts(
            max(now.n_asked, last.n_asked),
            max(now.n_answered, last.n_answered),
            max(now.n_parsed, last.n_parsed),
            max(now.n_refused, last.n_refused),
            max(now.n_failed, last.n_failed),
            now.version.name if now.version else last.version,
        )
        if monotonic() - self.counted_s > _COUNTED_EVERY_S and any(self.counts):
            self.counted_s = monotonic()
            self.slots.record_unfinished_counts(self.schedule.name, self.slot, self.counts)

    def _on_progress(self, now: CollectionProgress) -> None:
        if monotonic() - self.logged_s < _LINE_EVERY_S:
            return
        self.logged_s = monotonic()
        failed = f", {now.progress.n_failed:,} failed for good" if now.progress.n_failed else ""
        self.log(f"{now.n_done:,} of {now.n_wanted:,}: {now.progress.per_second:,.1f}/s{failed}")


def _span(length: timedelta) -> str:
    """Return a duration as text, in seconds, minutes, hours or days."""
    seconds = length.total_seconds()
    for unit, unit_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
