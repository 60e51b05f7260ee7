"""The commands for recurring collections, implemented in :mod:`affectlake.flows.schedules`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from affectlake.cli.options import JSON, LAKE
from affectlake.errors import UsageError
from affectlake.process.terminal import log

_SHOWN = 5


@click.group()
def schedule() -> None:
    """Recurring collections, the schedules of params.yaml."""


@schedule.command()
@LAKE
def run(lake: Path) -> None:
    """Run the schedules of params.yaml until stopped.

    Each schedule becomes a Prefect deployment on the server at PREFECT_API_URL, or on a server that this command
    starts. A missed slot is skipped and reported, and is not run later.
    """
    from affectlake.flows.prefect_settings import prefect_settings
    from affectlake.lake import repository

    root = repository.find(lake)
    prefect_settings()  # raises if a setting is not valid; importing Prefect would end with a traceback
    from affectlake.flows.schedules.scheduler import run_schedules

    run_schedules(root, log)


@schedule.command(name="list")
@LAKE
@JSON
def listed(lake: Path, as_json: bool) -> None:
    """List when each schedule runs next, and the results of its last runs."""
    from affectlake.flows.prefect_settings import prefect_settings
    from affectlake.lake import repository

    root = repository.find(lake)
    prefect_settings()
    _list(root, as_json)


@schedule.command()
@click.argument("name")
@LAKE
@click.option("--from", "start", default="", metavar="TIME", help="The first date or time.")
@click.option("--to", "end", default="", metavar="TIME", help="The last date or time.")
@click.option("--again", is_flag=True, help="Also run slots that are already done.")
def backfill(name: str, lake: Path, start: str, end: str, again: bool) -> None:
    """Run past slots of the schedule NAME."""
    from affectlake.flows.prefect_settings import prefect_settings
    from affectlake.lake import repository

    root = repository.find(lake)
    prefect_settings()
    _backfill(root, name, start, end, again)


@click.command(hidden=True, deprecated="use `affectlake schedule`")
@LAKE
@click.option("--backfill", "name", default="", metavar="NAME")
@click.option("--from", "start", default="", metavar="TIME")
@click.option("--to", "end", default="", metavar="TIME")
@click.option("--again", is_flag=True)
@click.option("--list", "as_list", is_flag=True)
@JSON
@click.pass_context
def serve(
    context: click.Context, lake: Path, name: str, start: str, end: str, again: bool, as_list: bool, as_json: bool
) -> None:
    """Run, list or backfill schedules; former name of ``schedule run``, ``list`` and ``backfill``."""
    if not name and (start or end or again):
        raise UsageError("--from, --to and --again need --backfill", todo="name a schedule: --backfill NAME")
    if as_list:
        context.invoke(listed, lake=lake, as_json=as_json)
    elif name:
        context.invoke(backfill, name=name, lake=lake, start=start, end=end, again=again)
    else:
        context.invoke(run, lake=lake)


def _backfill(root: Path, name: str, start: str, end: str, again: bool) -> None:
    from affectlake.flows.schedules import backfill as past
    from affectlake.process.interrupts import end_now, exit_on_interrupt

    if not start or not end:
        raise UsageError("a backfill needs a time range", wanted="--from TIME --to TIME, such as --from 2026-01-01")
    kept = "every answer received is kept; run it again to continue"
    with exit_on_interrupt(log, kept):
        done = past.backfill(root, name, start, end, log, again=again)
        if done.stopped:
            log(f"affectlake: stopped by a signal; {kept}")
            end_now(130)
    click.echo(f"{name}: {done.n_run:,} slots run, {done.n_known:,} done before")


def _list(root: Path, as_json: bool) -> None:
    from datetime import UTC, datetime

    from affectlake.flows.schedules.comparisons import stop_of, to_start_again
    from affectlake.flows.schedules.slots import Slots, next_slots
    from affectlake.pipelines.params.study import load

    slots, rows, params = Slots(root), list[dict[str, Any]](), load(root)
    for schedule in params.schedules.values():
        latest = [
            {**fate._asdict(), "then": [one._asdict() for one in slots.actions(schedule.name, fate.slot)]}
            for fate in slots.latest(schedule.name, _SHOWN)
        ]
        stop = stop_of(root, params, schedule)
        coming = next_slots(schedule, datetime.now(UTC))[0] if stop is None else None
        why = "" if stop is None else f"{stop}; {to_start_again(schedule)}"
        named = {"schedule": schedule.name, "agent": schedule.agent}
        rows.append({**named, "next": coming, "stopped": why, "latest": latest})
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=datetime.isoformat))
        return
    for row in rows:
        when = f"stopped: {row['stopped']}" if row["stopped"] else f"next {row['next']:%Y-%m-%d %H:%M} UTC"
        click.echo(f"{row['schedule']}: {row['agent']}; {when}")
        for fate in row["latest"]:
            click.echo(f"    {fate['slot']:%Y-%m-%d %H:%M} UTC  {fate['state']:<8} {fate['words']}")
            for one in fate["then"]:
                click.echo(f"        {one['action']:<8} {one['state']:<8} {one['words']}".rstrip())
    if not rows:
        log("params.yaml has no schedules")


COMMANDS: tuple[click.Command, ...] = (schedule, serve)
