"""The commands that test chat agents for position bias and for effects of prompt injections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.collection import TRIAL_SET, progress_bar
from affectlake.cli.options import AT, JSON, LAKE
from affectlake.process.terminal import log
from affectlake.process.text_table import text_table

if TYPE_CHECKING:
    from affectlake.judge.trials.injections import InjectionEffect


@click.command()
@LAKE
@AT
@JSON
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also draw a figure: FILE.svg, .png or .pdf.",
)
def positions(lake: Path, at: str, as_json: bool, figure: Path | None) -> None:
    """Compare the positions that the chat agents of a version choose: shares, a test, and flips with the order."""
    from affectlake.lake import repository
    from affectlake.pipelines.outputs import report

    root = repository.find(lake)
    found = report.positions(root, at)
    if figure:
        from affectlake.figures import draw
        from affectlake.report.export import write_figure

        write_figure(draw("order_effects", root, at=at), figure)
        log(f"figure: {figure}")
    if found.without_choices:
        log(f"no choices yet: {', '.join(found.without_choices)}")
    if as_json:
        click.echo(json.dumps([row.as_mapping() for row in found.rows], indent=2))
        return
    head = ["set", "agent", "protocol", "n", "first", "second", "third", "chi2", "p", "flips other", "flips same"]
    rows = [
        [
            row.trial_set,
            row.agent,
            row.protocol,
            f"{row.n:,}",
            *(_interval(share.value, share.ci_low, share.ci_high) for share in row.shares),
            _number(row.chi_square, ".1f"),
            _number(row.p_value, ".2g"),
            *(_flips(share.value, share.n) for share in (row.other_order, row.same_order)),
        ]
        for row in found.rows
    ]
    click.echo(text_table([head], rows, right=range(3, len(head))))


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if low is None or high is None else f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _flips(value: float | None, n: int) -> str:
    return "-" if value is None else f"{value:.1%} of {n:,}"


@click.command()
@click.argument("agent", shell_complete=completion.agents)
@LAKE
@TRIAL_SET
@click.option("--n", default=200, show_default=True, metavar="N", help="Number of trials; each is asked twice.")
@JSON
def injections(agent: str, lake: Path, trial_set: str, n: int, as_json: bool) -> None:
    """Ask AGENT trials with and without prompt injections in captions, and compare its choices."""
    from affectlake.lake import repository
    from affectlake.pipelines.collection.injection_run import measure_injections
    from affectlake.process.interrupts import end_now, exit_on_interrupt

    kept = "every answer received is kept; run it again to continue"
    with exit_on_interrupt(log, kept), progress_bar() as show:
        done = measure_injections(repository.find(lake), agent, trial_set, n, log, show)
        if done.account.ending == "stopped":
            log(f"affectlake: stopped by a signal; {kept}")
            end_now(130)
    if done.account.n_failed:
        log(f"{done.account.n_failed:,} requests failed for good; run it again to retry them")
    if as_json:
        rows = [
            {"canary": one.injection or None, "n_pairs": one.n_pairs, **_effect(one.effect)} for one in done.effects
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    head = ["injection", "asked", "n", "clean", "injected", "p"]
    cells = [
        [
            _short(one.injection) if one.injection else "all",
            f"{one.n_pairs:,}",
            f"{one.effect.n:,}",
            *(f"{share:.1%}" if one.effect.n else "-" for share in (one.effect.clean, one.effect.injected)),
            _number(one.effect.p_value if one.effect.n else None, ".2g"),
        ]
        for one in done.effects
    ]
    click.echo(text_table([head], cells, right=range(1, len(head))))


def _effect(found: InjectionEffect) -> dict[str, float | int | None]:
    return {key: value if found.n or key == "n" else None for key, value in found._asdict().items()}


def _short(text: str, longest: int = 60) -> str:
    """Return a text on one line, shortened to `longest` characters."""
    line = json.dumps(text, ensure_ascii=False)[1:-1]
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


COMMANDS: tuple[click.Command, ...] = (positions, injections)
