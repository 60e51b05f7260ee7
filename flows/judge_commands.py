"""The commands that look at how chat agents judge: by position, or by what a caption tells them to choose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from flows.options import AT, JSON, LAKE, say


@click.command()
@LAKE
@AT
@JSON
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also draw it: FILE.svg or .png."
)
def positions(lake: Path, at: str, as_json: bool, figure: Path | None) -> None:
    """Compare which positions the chat agents of a version choose: shares, test, flips with the order."""
    from affectlake.lake import repository
    from affectlake.report.export import write_figure
    from pipelines import reporting

    found = reporting.positions(repository.find(lake), at)
    if figure:
        write_figure(found.figure, figure)
        say(f"figure: {figure}")
    if found.silent:
        say(f"no choices yet: {', '.join(found.silent)}")
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
    _print_table(head, rows, n_names=3)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if low is None or high is None else f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _flips(value: float | None, n: int) -> str:
    return "-" if value is None else f"{value:.1%} of {n:,}"


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], n_names: int) -> None:
    """Print rows in columns: the first `n_names` to the left, numbers to the right."""
    every = [head, *rows]
    widths = [max(len(row[at]) for row in every) for at in range(len(head))]
    for row in every:
        cells = [
            text.ljust(width) if at < n_names else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


COMMANDS: tuple[click.Command, ...] = (positions,)
