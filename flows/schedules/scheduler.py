"""The scheduler: register a lake's schedules as Prefect deployments, run slots when due, and report missed ones.

Two runs of one agent never overlap, on any server or machine, because a run holds the agent's lease. A concurrency
limit of Prefect is not used: its slot remains occupied if the run that holds it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.states import Crashed, Scheduled
from prefect.types.entrypoint import EntrypointType

from affectlake.errors import LakeError, UsageError
from affectlake.flows.prefect_server import prefect_server
from affectlake.flows.schedules.actions import actions_under_way
from affectlake.flows.schedules.comparisons import stop_of, to_start_again
from affectlake.flows.schedules.heartbeat import BEAT_S, beat
from affectlake.flows.schedules.slot_flow import FLOW, collect_slot, notify_failed
from affectlake.flows.schedules.slots import Slots, grace, next_slots, slots_between
from affectlake.lake.files import layout
from affectlake.pipelines.collection.publishing import leases
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import Params, load
from affectlake.process import lease
from affectlake.process.file_lock import file_lock

TAG = "affectlake"
STOPPED_WITHIN_S = 90.0  # half a minute for requests in flight, and time to publish
SCHEDULED_WITHIN_S = 150.0  # Prefect checks new deployments every 5 s, all deployments every minute
Log = Callable[[str], None]


def run_schedules(lake: Path, log: Log) -> None:
    """Run the lake's schedules until SIGINT or SIGTERM.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    log : callable
        Takes one line of progress.

    Raises
    ------
    UsageError
        If ``params.yaml`` has no schedules.
    LakeError
        If another process runs this lake's schedules, a lake of the same name is registered on the Prefect server, or
        the server is unavailable.
    """
    params = load(lake)
    schedules = params.schedules
    if not schedules:
        raise UsageError(
            f"{lake / layout.PARAMS} has no schedules",
            wanted="schedules: {nightly: {agent: NAME, cron: '0 2 * * *', limit: 100000}}",
        )
    lock = lake / layout.COLLECTING / "serve.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    busy = f"the schedules of {lake} are already running"
    with (
        file_lock(lock, "affectlake schedule run", busy=busy, todo="stop it first"),
        prefect_server(lake, log) as server,
    ):
        runner = Runner(name=f"affectlake-{os.getpid()}", limit=None, pause_on_shutdown=False)
        registrar = _Registrar(lake, params, log)
        with get_client(sync_client=True) as client:
            registrar.delete_removed(client, schedules)
            deployments = {name: registrar.register(client, runner, one) for name, one in schedules.items()}
        log(f"running {len(schedules)} schedules; their runs are at {server.ui} (Ctrl-C stops)")
        try:
            asyncio.run(_run(lake, runner, deployments, log))
        finally:
            beat(lake, is_stopped=True)


def deployment_name(lake: Path, schedule: str) -> str:
    """Return the name of a schedule's deployment: the lake's folder and the schedule."""
    return f"{lake.name}.{schedule}".replace("/", "-").replace("%", "-")


class _Registrar:
    """Registers the schedules of one lake as deployments on a Prefect server."""

    def __init__(self, lake: Path, params: Params, log: Log) -> None:
        self.lake, self.params, self.log = lake, params, log
        self.slots = Slots(lake)

    def delete_removed(self, client: SyncPrefectClient, schedules: Mapping[str, Schedule]) -> None:
        """Delete the deployments of schedules that are no longer in ``params.yaml``."""
        tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
        for found in client.read_deployments(deployment_filter=tagged):
            mine = found.parameters.get("lake") == str(self.lake) and found.work_pool_name is None
            if mine and found.parameters.get("schedule") not in schedules:
                client.delete_deployment(found.id)
                self.log(f"{found.parameters.get('schedule')}: no longer in params.yaml; its deployment is deleted")

    def register(self, client: SyncPrefectClient, runner: Runner, schedule: Schedule) -> UUID:
        """Register a schedule as a deployment, record the slots missed since the last run, and return its id."""
        self._refuse_other_lake(client, schedule)
        flow: Flow[..., Any] = collect_slot
        deployment: Any = flow.to_deployment(
            name=deployment_name(self.lake, schedule.name),
            schedule=Cron(schedule.cron, timezone=schedule.timezone),
            parameters={"lake": str(self.lake), "schedule": schedule.name},
            paused=False,
            tags=[TAG, schedule.agent],
            description=f"{schedule.agent} · {schedule.trial_set}, {_most(schedule)}; lake {self.lake}",
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        found: Any = runner.add_deployment(deployment)
        assert isinstance(found, UUID)
        self._end_orphans(client, found, schedule)
        self._record_missed(client, found, schedule)
        (coming,) = next_slots(schedule, datetime.now(UTC))
        what = f"{schedule.agent} · {schedule.trial_set}, {_most(schedule)}"
        stop = stop_of(self.lake, self.params, schedule)
        when = f"next {coming:%Y-%m-%d %H:%M} UTC" if stop is None else f"stopped: {stop}; {to_start_again(schedule)}"
        self.log(f"{schedule.name}: {what}; {when}")
        return found

    def _refuse_other_lake(self, client: SyncPrefectClient, schedule: Schedule) -> None:
        name = deployment_name(self.lake, schedule.name)
        try:
            found = client.read_deployment_by_name(f"{FLOW}/{name}")
        except ObjectNotFound:
            return
        if found.parameters.get("lake") != str(self.lake):
            raise LakeError(
                f"{name!r} is registered on the Prefect server as a schedule of another lake",
                found=str(found.parameters.get("lake")),
                todo="rename the folder of one of the lakes, or delete the deployment if that lake no longer exists",
            )

    def _end_orphans(self, client: SyncPrefectClient, deployment: UUID, schedule: Schedule) -> None:
        """Mark runs as crashed whose process no longer exists."""
        if lease.holder(leases(self.lake), schedule.agent) is not None or actions_under_way(self.lake):
            return
        under_way = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])),
        )
        for run in client.read_flow_runs(flow_run_filter=under_way):
            state: Any = Crashed(message="the process of the run no longer exists")
            client.set_flow_run_state(run.id, state, force=True)
            notify_failed(collect_slot, run, state)

    def _record_missed(self, client: SyncPrefectClient, deployment: UUID, schedule: Schedule) -> None:
        """Record the slots missed while the scheduler was not running; run the last one if it is not too late."""
        now = datetime.now(UTC)
        latest = self.slots.latest(schedule.name)
        if not latest:
            return
        passed = slots_between(schedule, latest[0].slot + timedelta(seconds=1), now)
        if stop_of(self.lake, self.params, schedule) is not None:
            for slot in passed:
                self.slots.record(schedule.name, slot, "skipped", "the schedule has stopped")
            return
        missed = [slot for slot in passed if now - slot > grace(schedule, slot)]
        for slot in missed:
            self.slots.record(schedule.name, slot, "missed", "the scheduler was not running")
        if missed:
            first, last = (f"{slot:%Y-%m-%dT%H:%M}Z" for slot in (missed[0], missed[-1]))
            n = "1 run was" if len(missed) == 1 else f"{len(missed):,} runs were"
            self.log(
                f"{schedule.name}: {n} missed while the scheduler was down and will not be repeated; to run them:"
                f" affectlake schedule backfill {schedule.name} --from {first} --to {last}"
            )
        for slot in passed[len(missed) :][-1:]:
            key = f"{deployment} {slot.isoformat()}"
            client.create_flow_run_from_deployment(
                deployment, state=Scheduled(scheduled_time=slot), idempotency_key=key
            )
            self.log(f"{schedule.name}: the slot {slot:%Y-%m-%d %H:%M} UTC has just passed and runs now")


def _most(schedule: Schedule) -> str:
    return "all remaining questions" if schedule.limit is None else f"at most {schedule.limit:,} questions"


async def _beat(lake: Path) -> None:
    while True:
        beat(lake)
        await asyncio.sleep(BEAT_S)


async def _run(lake: Path, runner: Runner, deployments: dict[str, UUID], log: Log) -> None:
    """Run slots when due until a signal; then let current runs publish their answers."""
    ended, by = asyncio.Event(), list[signal.Signals]()
    running = asyncio.create_task(runner.start())
    while not runner.started and not running.done():
        await asyncio.sleep(0.02)
    loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        by.append(number)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    waiting = asyncio.create_task(ended.wait())
    checking = asyncio.create_task(_check_scheduling(deployments))
    beating = asyncio.create_task(_beat(lake))
    await asyncio.wait({checking, waiting, running}, return_when=asyncio.FIRST_COMPLETED)
    if not checking.done() or checking.exception() is None:
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        if by:
            log("stopping; current runs publish their answers first (a second signal stops at once)")
        await _end_runs(by)
        await runner.astop()
    for task in (waiting, checking, beating):
        task.cancel()
    for task in (running, checking):
        with suppress(asyncio.CancelledError):
            await task


async def _end_runs(by: list[signal.Signals]) -> None:
    """Let the runs stop asking and publish: Prefect itself kills them while requests are in flight."""
    import psutil

    runs = [child for child in psutil.Process().children() if "prefect.engine" in _command(child)]
    if by[:1] != [signal.SIGINT]:  # Ctrl-C has reached them already; a second signal would stop them at once
        for run in runs:
            with suppress(psutil.NoSuchProcess):
                run.terminate()
    until_s = monotonic() + STOPPED_WITHIN_S
    while len(by) < 2 and monotonic() < until_s and any(_command(run) for run in runs):
        await asyncio.sleep(0.1)


def _command(process: Any) -> list[str]:
    """Return the command line of a process; empty if it has ended."""
    import psutil

    try:
        found: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return found


async def _check_scheduling(deployments: dict[str, UUID]) -> None:
    """Raise if the Prefect server does not schedule runs, which is not reported otherwise."""
    unseen, until_s = dict(deployments), monotonic() + SCHEDULED_WITHIN_S
    async with get_client() as client:
        while unseen:
            name, deployment = next(iter(unseen.items()))
            to_come = FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            )
            if any(run.auto_scheduled for run in await client.read_flow_runs(flow_run_filter=to_come)):
                del unseen[name]
            elif monotonic() > until_s:
                raise LakeError(
                    "the Prefect server does not schedule runs",
                    wanted=f"a scheduled run of {name} within {SCHEDULED_WITHIN_S:.0f} s",
                    found="none; its scheduler is off, or fails (as under SQLAlchemy 2.1 with Prefect 3.8)",
                    todo="see the server's log",
                )
            else:
                await asyncio.sleep(2)
