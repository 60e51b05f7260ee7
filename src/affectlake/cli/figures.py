"""The command that draws one figure for a paper."""

from __future__ import annotations

import re
from pathlib import Path

import click

from affectlake.cli.options import AT, LAKE
from affectlake.errors import UsageError

_UNITS = {"mm": 1.0, "cm": 10.0, "in": 25.4}


@click.command()
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
@LAKE
@AT
@click.option("--agent", default="", help="The agent, for a figure of one agent.")
@click.option("--width", default="", metavar="WIDTH", help="Exact width, such as 89mm, 18.3cm or 3.5in.")
@click.option(
    "--format", "kind", type=click.Choice(["pdf", "svg", "png"]), help="Format; by default, by the ending of OUT."
)
@click.option(
    "--choose", "choices", multiple=True, metavar="KEY=VALUE", help="An option of the figure, such as method."
)
def figure(
    name: str, out: Path, lake: Path, at: str, agent: str, width: str, kind: str | None, choices: tuple[str, ...]
) -> None:
    """Draw the figure NAME of a version for a paper, write it to OUT, and print its path.

    docs/figures.md lists the figures and their options. Text has at least 6 points. Figures of synthetic stimuli are
    marked as such.
    """
    from affectlake.figures import draw
    from affectlake.lake import repository
    from affectlake.report.export import write_figure
    from affectlake.report.figures.html_figure import HtmlFigure

    given = dict(_pair(one) for one in choices)
    made = draw(name, repository.find(lake), agent, at, width_mm=_millimetres(width), **given)
    if isinstance(made, HtmlFigure):
        raise UsageError(f"{name} is cards or a table, not a drawing", todo="see it with `affectlake report`")
    place = out if kind is None or out.suffix == f".{kind}" else out.with_name(f"{out.name}.{kind}")
    place.parent.mkdir(parents=True, exist_ok=True)
    write_figure(made, place)
    click.echo(place)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"--choose {text} has no value", wanted="KEY=VALUE, such as method=encoding")
    return key, value


def _millimetres(width: str) -> float:
    if not width:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(mm|cm|in)", width.strip())
    if not found:
        raise UsageError(f"--width {width} is not a width", wanted="a number and mm, cm or in", todo="try --width 89mm")
    return float(found[1]) * _UNITS[found[2]]


COMMANDS = (figure,)
