"""Backfills: run past slots of a schedule now, one after another, without the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from affectlake.errors import LeaseError, UsageError
from affectlake.flows.prefect_server import running_server, temporary_server
from affectlake.flows.schedules.comparisons import stop_of, to_start_again
from affectlake.flows.schedules.slot_flow import SKIPPED, collect_slot, schedule_named
from affectlake.flows.schedules.slots import MOST_SLOTS, Slots, slots_between
from affectlake.pipelines.params.schedules import Schedule
from affectlake.pipelines.params.study import load


class BackfillResult(NamedTuple):
    """What a backfill did: slots run, slots that were done before, and whether it was stopped before the end."""

    n_run: int
    n_known: int
    stopped: bool


def backfill(lake: Path, name: str, start: str, end: str, log: Callable[[str], None], *, again: bool) -> BackfillResult:
    """Run the slots of a schedule from `start` to `end` (inclusive), the earliest first.

    The backfill ends at the first run that fails, or with which the schedule stops. Slots that are done remain done, so
    that the same command continues with the rest.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    name : str
        Name of the schedule.
    start, end : str
        Dates with times in ISO 8601, in the schedule's time zone unless they contain another; or dates, which stand
        for whole days.
    log : callable
        Takes one line of progress.
    again : bool
        Whether to run slots again that are done.

    Returns
    -------
    BackfillResult
        What was run.

    Raises
    ------
    UsageError
        If the schedule does not exist or has stopped, `start` or `end` is not a date, or there is no slot between them.
    LeaseError
        If another run collects the agent's answers.
    CollectionError
        If a run fails.
    """
    params = load(lake)
    schedule = schedule_named(params, name)
    stop = stop_of(lake, params, schedule)
    if stop is not None:
        raise UsageError(f"the schedule {name} has stopped", found=str(stop), todo=to_start_again(schedule))
    slots = _past_slots(schedule, start, end, log)
    outcomes = {slot: Slots(lake).outcome(name, slot) for slot in slots}
    known = [slot for slot, one in outcomes.items() if one is not None and one.state == "done" and not again]
    to_run = [slot for slot in slots if slot not in known]
    done_before = f"; {len(known):,} of them are done (--again runs them again)" if known else ""
    log(f"{name}: {len(slots):,} slots from {slots[0]:%Y-%m-%d %H:%M} to {slots[-1]:%Y-%m-%d %H:%M} UTC{done_before}")
    if not to_run:
        return BackfillResult(0, len(known), stopped=False)
    with _server(lake, log):
        for at, slot in enumerate(to_run):
            flow: Any = collect_slot
            state = flow(str(lake), name, slot, again, return_state=True)
            if state.is_cancelled():
                return BackfillResult(at, len(known), stopped=True)
            state.result()  # raises the error of a run that failed
            if state.name == SKIPPED:
                raise LeaseError(f"{name} {slot:%Y-%m-%d %H:%M} UTC was not run", found=state.message or "")
            if stop_of(lake, params, schedule) is not None and slot != to_run[-1]:
                n = len(to_run) - at - 1
                log(f"{name}: the schedule has stopped; {n:,} later slot{'s are' if n > 1 else ' is'} not run")
                return BackfillResult(at + 1, len(known), stopped=False)
    return BackfillResult(len(to_run), len(known), stopped=False)


def _past_slots(schedule: Schedule, start: str, end: str, log: Callable[[str], None]) -> list[datetime]:
    first = moment("--from", start, schedule.timezone, end_of_day=False)
    last = moment("--to", end, schedule.timezone, end_of_day=True)
    now = datetime.now(UTC)
    slots = slots_between(schedule, first, last) if first <= last else []
    if len(slots) >= MOST_SLOTS:
        raise UsageError(f"--from {start} --to {end} has too many slots of {schedule.name}", allowed=f"{MOST_SLOTS:,}")
    past = [slot for slot in slots if slot <= now]
    if not past:
        raise UsageError(
            f"{schedule.name} has no past slot from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC",
            wanted=f"a range that contains slots of '{schedule.cron}' in {schedule.timezone}, with --from before --to",
        )
    if len(past) < len(slots):
        log(f"{schedule.name}: {len(slots) - len(past):,} slots are in the future and are left out")
    return past


def moment(option: str, text: str, timezone: str, *, end_of_day: bool) -> datetime:
    """Return the time that a text stands for, in UTC; for a date, the start or the end of the day.

    Raises
    ------
    UsageError
        If the text is not a date.
    """
    zone = ZoneInfo(timezone)
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text) + timedelta(days=int(end_of_day))
            found = datetime.combine(day, time(), zone) - timedelta(seconds=int(end_of_day))
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option}: not a date or time: {text}",
            wanted="a date such as 2026-01-31 or 2026-01-31T14:00",
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


@contextmanager
def _server(lake: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Use the Prefect server that runs for this lake, so that the runs are visible there; otherwise a temporary one."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    api = "" if PREFECT_API_URL.value() else running_server(lake)
    with temporary_settings({PREFECT_API_URL: api} if api else {}), temporary_server(log):
        yield
