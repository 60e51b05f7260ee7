"""The command of recurring collections. How they run is in the flows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from affectlake.cli.options import JSON, LAKE
from affectlake.errors import UsageError
from affectlake.process.terminal import say

_SHOWN = 5


@click.command()
@LAKE
@click.option("--backfill", default="", metavar="NAME", help="Instead, run past slots of a schedule now, on purpose.")
@click.option("--from", "start", default="", metavar="TIME", help="With --backfill: the first day or moment.")
@click.option("--to", "end", default="", metavar="TIME", help="With --backfill: the last day or moment.")
@click.option("--again", is_flag=True, help="With --backfill: also run slots that are done.")
@click.option("--list", "listed", is_flag=True, help="Instead, say when the next runs are and how the last ones went.")
@JSON
def serve(lake: Path, backfill: str, start: str, end: str, again: bool, listed: bool, as_json: bool) -> None:
    """Run the schedules of params.yaml until stopped.

    Each schedule becomes a Prefect deployment, on the server that PREFECT_API_URL names or on one that is started
    here. A run belongs to its slot: one that was missed is skipped and said, never queued up.
    """
    from affectlake.flows.prefect_settings import prefect_settings
    from affectlake.lake import repository

    root = repository.find(lake)
    prefect_settings()  # what follows imports Prefect, which ends with a traceback where they are wrong
    if not backfill and (start or end or again):
        raise UsageError("--from, --to and --again belong to --backfill", todo="name a schedule: --backfill NAME")
    if listed:
        _list(root, as_json)
    elif backfill:
        _backfill(root, backfill, start, end, again)
    else:
        from affectlake.flows.schedules.serve import serve as run

        run(root, say)


def _backfill(root: Path, name: str, start: str, end: str, again: bool) -> None:
    from affectlake.flows.schedules.backfill import backfill
    from affectlake.process.interrupts import end_now, ending_at_once

    if not start or not end:
        raise UsageError("--backfill wants a range", wanted="--from TIME --to TIME, such as --from 2026-01-01")
    kept = "every answer that came is kept; run it again to go on"
    with ending_at_once(say, kept):
        done = backfill(root, name, start, end, say, again=again)
        if done.stopped:
            say(f"affectlake: stopped as asked; {kept}")
            end_now(130)
    click.echo(f"{name}: {done.n_run:,} slots run, {done.n_known:,} done before")


def _list(root: Path, as_json: bool) -> None:
    from datetime import UTC, datetime

    from affectlake.flows.schedules.slots import Slots, next_slots
    from affectlake.pipelines.params.study import load

    slots, rows = Slots(root), list[dict[str, Any]]()
    for schedule in load(root).schedules.values():
        latest = [fate._asdict() for fate in slots.latest(schedule.name, _SHOWN)]
        (coming,) = next_slots(schedule, datetime.now(UTC))
        rows.append({"schedule": schedule.name, "agent": schedule.agent, "next": coming, "latest": latest})
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=datetime.isoformat))
        return
    for row in rows:
        click.echo(f"{row['schedule']}: {row['agent']}; next {row['next']:%Y-%m-%d %H:%M} UTC")
        for fate in row["latest"]:
            click.echo(f"    {fate['slot']:%Y-%m-%d %H:%M} UTC  {fate['state']:<8} {fate['words']}")
    if not rows:
        say("params.yaml has no schedules")


COMMANDS = (serve,)
