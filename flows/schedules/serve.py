"""Running a lake's schedules: registers each as a Prefect deployment, runs what is due, and says what was missed.

Two runs of one agent never overlap: the agent's lease sees to that, whichever server or machine they come from. A
concurrency limit of Prefect's would add nothing but a slot that stays taken when its holder is killed.
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
from affectlake.flows.schedules.slot_flow import FLOW, collect_slot, tell_failed
from affectlake.flows.schedules.slots import Slots, grace, next_slots, slots_between
from affectlake.lake.files import layout
from affectlake.pipelines.collection.publishing import leases
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import load
from affectlake.process import lease
from affectlake.process.file_lock import file_lock

TAG = "affectlake"
STOPPED_WITHIN_S = 90.0  # half a minute for answers on their way, and time to publish
SCHEDULED_WITHIN_S = 150.0  # Prefect looks at new deployments every 5 s, at all of them every minute
Log = Callable[[str], None]


def serve(lake: Path, log: Log) -> None:
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
        If another process serves this lake, another lake has the same name on the Prefect server, or there is none.
    """
    schedules = load(lake).schedules
    if not schedules:
        raise UsageError(
            f"{lake / layout.PARAMS} has no schedules",
            wanted="schedules: {nightly: {agent: NAME, cron: '0 2 * * *', limit: 100000}}",
        )
    lock = lake / layout.COLLECTING / "serve.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    busy = f"the schedules of {lake} are being served"
    with (
        file_lock(lock, "affectlake schedule run", busy=busy, todo="stop it first"),
        prefect_server(lake, log) as server,
    ):
        runner = Runner(name=f"affectlake-{os.getpid()}", limit=None, pause_on_shutdown=False)
        served = _Served(lake, log)
        with get_client(sync_client=True) as client:
            served.forget_gone(client, schedules)
            deployments = {name: served.register(client, runner, one) for name, one in schedules.items()}
        log(f"serving {len(schedules)} schedules; their runs are at {server.ui} (Ctrl-C ends)")
        asyncio.run(_run(runner, deployments, log))


def deployment_name(lake: Path, schedule: str) -> str:
    """Return what a schedule's deployment is called: the lake's folder and the schedule."""
    return f"{lake.name}.{schedule}".replace("/", "-").replace("%", "-")


class _Served:
    """The schedules of one lake, and the Prefect server that is to know them."""

    def __init__(self, lake: Path, log: Log) -> None:
        self.lake, self.log = lake, log
        self.slots = Slots(lake)

    def forget_gone(self, client: SyncPrefectClient, schedules: Mapping[str, Schedule]) -> None:
        """Delete the deployments of schedules that ``params.yaml`` no longer has."""
        tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
        for found in client.read_deployments(deployment_filter=tagged):
            mine = found.parameters.get("lake") == str(self.lake) and found.work_pool_name is None
            if mine and found.parameters.get("schedule") not in schedules:
                client.delete_deployment(found.id)
                self.log(f"{found.parameters.get('schedule')}: no longer in params.yaml, no longer served")

    def register(self, client: SyncPrefectClient, runner: Runner, schedule: Schedule) -> UUID:
        """Make a schedule a deployment, settle what happened while nobody served it, and return its id."""
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
        self._settle_past(client, found, schedule)
        (coming,) = next_slots(schedule, datetime.now(UTC))
        what = f"{schedule.agent} · {schedule.trial_set}, {_most(schedule)}"
        self.log(f"{schedule.name}: {what}; next {coming:%Y-%m-%d %H:%M} UTC")
        return found

    def _refuse_other_lake(self, client: SyncPrefectClient, schedule: Schedule) -> None:
        name = deployment_name(self.lake, schedule.name)
        try:
            found = client.read_deployment_by_name(f"{FLOW}/{name}")
        except ObjectNotFound:
            return
        if found.parameters.get("lake") != str(self.lake):
            raise LakeError(
                f"the Prefect server knows {name!r} as a schedule of another lake",
                found=str(found.parameters.get("lake")),
                todo="rename the folder of one of the lakes, or delete that deployment if the lake is gone",
            )

    def _end_orphans(self, client: SyncPrefectClient, deployment: UUID, schedule: Schedule) -> None:
        """Call runs crashed that nothing runs any more: whoever served them was killed."""
        if lease.holder(leases(self.lake), schedule.agent) is not None:
            return
        under_way = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])),
        )
        for run in client.read_flow_runs(flow_run_filter=under_way):
            state: Any = Crashed(message="the process that ran it is gone")
            client.set_flow_run_state(run.id, state, force=True)
            tell_failed(collect_slot, run, state)

    def _settle_past(self, client: SyncPrefectClient, deployment: UUID, schedule: Schedule) -> None:
        """Write off the slots that passed while nobody served; run the last one if it is not too late."""
        now = datetime.now(UTC)
        latest = self.slots.latest(schedule.name)
        if not latest:
            return
        passed = slots_between(schedule, latest[0].slot + timedelta(seconds=1), now)
        missed = [slot for slot in passed if now - slot > grace(schedule, slot)]
        for slot in missed:
            self.slots.record(schedule.name, slot, "missed", "nobody served")
        if missed:
            first, last = (f"{slot:%Y-%m-%dT%H:%M}Z" for slot in (missed[0], missed[-1]))
            n = "1 slot was" if len(missed) == 1 else f"{len(missed):,} slots were"
            self.log(
                f"{schedule.name}: {n} missed while nobody served and will not be made up; to run on purpose:"
                f" affectlake schedule backfill {schedule.name} --from {first} --to {last}"
            )
        for slot in passed[len(missed) :][-1:]:
            key = f"{deployment} {slot.isoformat()}"
            client.create_flow_run_from_deployment(
                deployment, state=Scheduled(scheduled_time=slot), idempotency_key=key
            )
            self.log(f"{schedule.name}: the slot {slot:%Y-%m-%d %H:%M} UTC has just passed and is run now")


def _most(schedule: Schedule) -> str:
    return "all that is left" if schedule.limit is None else f"at most {schedule.limit:,} questions"


async def _run(runner: Runner, deployments: dict[str, UUID], log: Log) -> None:
    """Run what is due until a signal; then let runs under way keep what they have."""
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
    looking = asyncio.create_task(_see_scheduled(deployments))
    await asyncio.wait({looking, waiting, running}, return_when=asyncio.FIRST_COMPLETED)
    if not looking.done() or looking.exception() is None:
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        if by:
            log("stopping; runs under way publish what was answered (a second signal does not wait)")
        await _end_runs(by)
        await runner.astop()
    for task in (waiting, looking):
        task.cancel()
    for task in (running, looking):
        with suppress(asyncio.CancelledError):
            await task


async def _end_runs(by: list[signal.Signals]) -> None:
    """Let the runs stop asking and publish: Prefect alone would kill them while answers are still on their way."""
    import psutil

    runs = [child for child in psutil.Process().children() if "prefect.engine" in _command(child)]
    if by[:1] != [signal.SIGINT]:  # Ctrl-C has reached them already, and a second signal makes them hurry
        for run in runs:
            with suppress(psutil.NoSuchProcess):
                run.terminate()
    until_s = monotonic() + STOPPED_WITHIN_S
    while len(by) < 2 and monotonic() < until_s and any(_command(run) for run in runs):
        await asyncio.sleep(0.1)


def _command(process: Any) -> list[str]:
    """Return a process's command; nothing if it has ended."""
    import psutil

    try:
        found: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return found


async def _see_scheduled(deployments: dict[str, UUID]) -> None:
    """Raise if the Prefect server does not schedule runs: nothing else would say so."""
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
                    wanted=f"a coming run of {name} within {SCHEDULED_WITHIN_S:.0f} s",
                    found="none; its scheduler is off, or ends in errors (as under SQLAlchemy 2.1 with Prefect 3.8)",
                    todo="see the server's log",
                )
            else:
                await asyncio.sleep(2)
