"""The figures of a section as the page's template shows them: drawing, caption, data, or the reason for its absence."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import polars as pl
from markupsafe import Markup

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.catalogue import OF_BRAIN, Entry, Section, of_section
from affectlake.report.figures.embedded import SharedStyles, embedded
from affectlake.report.figures.html_figure import HtmlFigure
from affectlake.report.figures.markup import scrolling
from affectlake.report.inputs import ReportInputs

UNPACKED = 1500  # bytes that compression has to save
DIGITS = 4  # significant ones of numbers in the page's data; files of figures have all

_BY_KEYBOARD = ("stimulus_map", "heatmap")


class Block(NamedTuple):
    """One figure as the template shows it, or the reason why it is missing.

    ``other`` is what the figure's switch shows in place of it, if it has a switch.
    """

    name: str
    file: str
    title: str
    body: Markup
    caption: str
    rows: str
    missing: str
    other: Block | None = None


def blocks(
    inputs: ReportInputs, section: Section, about: AgentFacts | Sequence[AgentFacts], styles: SharedStyles
) -> list[Block]:
    """Return the figures of a section; in the section "agent", those of the given agent."""
    found: list[Block] = []
    for entry in of_section(section):
        for chosen in entry.variants() if is_shown(entry, inputs, about) else ():
            block = _block(inputs, entry, about, chosen, styles)
            if not entry.switched(chosen):
                found.append(block)
            elif block.caption != found[-1].caption and not found[-1].missing:  # without a mask, both are the same
                found[-1] = found[-1]._replace(other=block)
    return found


def is_shown(entry: Entry, inputs: ReportInputs, about: AgentFacts | Sequence[AgentFacts]) -> bool:
    """Return whether a version with these agents can have the figure."""
    if (entry.brain and inputs.brain is None) or (entry.needs and not _has(inputs, entry.needs)):
        return False
    return not isinstance(about, AgentFacts) or about.is_simulated or not entry.simulated


def _has(inputs: ReportInputs, needs: str | Callable[[ReportInputs], bool]) -> bool:
    """Return whether a version has what a figure needs: rows of a table or, if a column is named, values in it."""
    if not isinstance(needs, str):
        return needs(inputs)
    name, _, column = needs.partition(".")
    table = inputs.table(name)
    return table is not None and (not column or (column in table.columns and table[column].count() > 0))


def file_name(entry: Entry, about: AgentFacts | Sequence[AgentFacts], chosen: Mapping[str, str]) -> str:
    """Return the name of a figure's files."""
    whose = about.agent if isinstance(about, AgentFacts) else "brain" if entry.section in OF_BRAIN else "all"
    name = entry.name.replace("_", "-").removeprefix(f"{whose}-")
    return "-".join([whose, name, *entry.suffixes(chosen)])


def _block(
    inputs: ReportInputs, entry: Entry, about: AgentFacts | Sequence[AgentFacts], chosen: Mapping[str, str],
    styles: SharedStyles,
) -> Block:  # fmt: skip
    """Return a figure for the template; its caption has the verdict on the agent's answers, if there is one."""
    name = "-".join([entry.name.replace("_", "-"), *entry.suffixes(chosen)])
    file, title = file_name(entry, about, chosen), entry.titled(chosen)
    try:
        figure = entry.made(inputs, about, **chosen)
    except FigureError as error:
        return Block(name, file, title, Markup(""), "", "", f"{error.summary[:1].upper()}{error.summary[1:]}.")
    if isinstance(figure, HtmlFigure):
        body = figure.html
    else:
        body = embedded(figure, styles, focusable=entry.name in _BY_KEYBOARD)
        body = scrolling(figure.label, body)
    agent = about.agent if isinstance(about, AgentFacts) else ""
    verdict = inputs.verdicts.get(agent, "")
    caption = f"{figure.caption} Note: {agent} {verdict}." if verdict else figure.caption
    return Block(name, file, title, body, caption, _csv(figure.data) if entry.rows_on_page else "", "")


def _csv(rows: pl.DataFrame) -> str:
    """Return rows as a data URL of a CSV file, compressed if it is long; empty if there are no rows."""
    if not len(rows):
        return ""
    kept = rows.select(name for name in rows.columns if rows[name].null_count() < len(rows))
    rounded = kept.with_columns(pl.col(pl.Float32, pl.Float64).cast(pl.Float64).round_sig_figs(DIGITS))
    text = rounded.sort(kept.columns, nulls_last=True).write_csv().encode()
    packed = gzip.compress(text, mtime=0)
    if len(packed) < len(text) - UNPACKED:
        return "data:application/gzip;base64," + base64.b64encode(packed).decode()
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text).decode()
