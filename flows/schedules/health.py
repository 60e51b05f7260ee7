"""The health of a lake's schedules, for monitors: from recorded slots, the scheduler's heartbeat and the disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from affectlake.errors import UsageError
from affectlake.flows.prefect_settings import prefect_settings
from affectlake.flows.schedules.actions import actions_under_way
from affectlake.flows.schedules.comparisons import stop_of
from affectlake.flows.schedules.heartbeat import heartbeat
from affectlake.flows.schedules.parsed_shares import FewerParsed, Parsed, fewer_parsed
from affectlake.flows.schedules.slots import SlotOutcome, Slots, grace, slots_between
from affectlake.pipelines.collection.publishing import leases
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import Params
from affectlake.process import lease

LEAST_FREE_BYTES = 1_000_000_000
"""Free space on the lake's disk below which it is failing."""

_COMPARED = 20  # earlier runs that are looked at; those with few answers are left out
_STARTS_WITHIN_S = 120.0
_LATE = timedelta(minutes=2)

State = Literal["ok", "degraded", "failing"]
_ORDER: tuple[State, ...] = ("ok", "degraded", "failing")


class Reason(NamedTuple):
    """Why a lake is not healthy: how bad it is, the schedule (empty: all of them), and what is wrong."""

    state: State
    schedule: str
    what: str

    def __str__(self) -> str:
        return f"{self.state}: {f'{self.schedule}: ' if self.schedule else ''}{self.what}"


class Health(NamedTuple):
    """Health of a lake's schedules.

    Attributes
    ----------
    health : {'ok', 'degraded', 'failing'}
        The worst state of the reasons. ``failing`` needs a person; ``degraded`` may be intended.
    reasons : list of Reason
        All reasons; empty if it is ``ok``.
    """

    health: State
    reasons: list[Reason]


def health(lake: Path, params: Params, agent: str = "") -> Health:
    """Return the health of a lake's schedules, or of those of one agent.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    agent : str
        Name of an agent; empty for all.
    """
    wanted = [one for one in params.schedules.values() if agent in ("", one.agent)]
    reasons = [*_of_disk(lake), *(_of_scheduler(lake) if wanted else ())]
    for schedule in wanted:
        stop = stop_of(lake, params, schedule)
        reasons += _of_schedule(lake, schedule) if stop is None else _of_actions(lake, schedule.name, stop.slot)
    return Health(max((one.state for one in reasons), key=_ORDER.index, default="ok"), reasons)


def compared(slots: Slots, schedule: str, slot: datetime) -> FewerParsed | None:
    """Return how far the share parsed of a slot's run is below that of the last runs; None if it is not."""
    counts = slots.counts(schedule, slot)
    if counts is None:
        return None
    before = slots.counts_before(schedule, slot, _COMPARED)
    return fewer_parsed(
        Parsed(counts.n_parsed, counts.n_answered), [Parsed(one.n_parsed, one.n_answered) for one in before]
    )


def _of_disk(lake: Path) -> Iterator[Reason]:
    free = shutil.disk_usage(lake).free
    if free < LEAST_FREE_BYTES:
        yield Reason("failing", "", f"{free / 1e9:.2f} GB are free on the disk of the lake, below 1 GB")


def _of_scheduler(lake: Path) -> Iterator[Reason]:
    try:
        prefect_settings()
    except UsageError as error:
        yield Reason("failing", "", error.summary)
    last = heartbeat(lake)
    if last is None:
        yield Reason("degraded", "", "`affectlake schedule run` was not started in this lake")
        return
    when = f"{datetime.fromtimestamp(last.beat_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if last.is_dead:
        what = f"process {last.pid} on {last.host} gave its last sign of life at {when}"
        yield Reason("failing", "", f"the scheduler is dead: {what}")
    elif last.is_stopped:
        yield Reason("degraded", "", f"the scheduler was stopped at {when}")


def _of_schedule(lake: Path, schedule: Schedule) -> Iterator[Reason]:
    slots, name, now = Slots(lake), schedule.name, datetime.now(UTC)
    latest = slots.latest(name)
    if not latest:
        yield Reason("degraded", name, "no slot has run yet")
        return
    (last,) = latest
    when = f"{last.slot:%Y-%m-%d %H:%M} UTC"
    bad: dict[str, State] = {"failed": "failing", "missed": "failing", "skipped": "degraded", "stopped": "degraded"}
    if last.state in bad:
        yield Reason(bad[last.state], name, f"the last slot, {when}, was {last.state}: {last.words}")
    if last.state == "running" and _is_killed(lake, schedule, last):
        yield Reason("failing", name, f"the run of the last slot, {when}, was killed")
    yield from _of_actions(lake, name, last.slot)
    fewer = compared(slots, name, last.slot)
    if fewer is not None:
        yield Reason("failing", name, f"fewer answers were parsed in the last slot, {when}: {fewer}")
    passed = slots_between(schedule, last.slot + timedelta(seconds=1), now - _LATE)
    missed = [slot for slot in passed if now - slot > grace(schedule, slot) + _LATE]
    if missed:
        n = f"{len(missed):,} slots have" if len(missed) > 1 else "1 slot has"
        yield Reason("failing", name, f"{n} not been run since {missed[0]:%Y-%m-%d %H:%M} UTC")


def _of_actions(lake: Path, name: str, slot: datetime) -> Iterator[Reason]:
    """Yield what is wrong with the commands after the last slot, or after the one with which a schedule stopped."""
    when = f"{slot:%Y-%m-%d %H:%M} UTC"
    for one in Slots(lake).actions(name, slot):
        if one.state in ("failed", "stopped"):
            state: State = "failing" if one.state == "failed" else "degraded"
            yield Reason(state, name, f"{one.action} {one.state} after the last slot, {when}: {one.words}")
        if one.state == "running" and not actions_under_way(lake):
            yield Reason("failing", name, f"{one.action} was killed after the last slot, {when}")


def _is_killed(lake: Path, schedule: Schedule, last: SlotOutcome) -> bool:
    """Return whether no process can be at work on a slot that is recorded as running."""
    is_new = time.time() - last.at_s < _STARTS_WITHIN_S
    return not is_new and lease.holder(leases(lake), schedule.agent) is None
