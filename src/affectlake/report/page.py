"""The HTML page: puts figures and numbers into the templates. Other modules read the tables and draw the figures."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import yaml
from markupsafe import Markup

from affectlake.errors import FigureError
from affectlake.report import bookkeeping
from affectlake.report.agent_summary import AgentFacts, Estimate, agent_facts, agents
from affectlake.report.banner import banner_of
from affectlake.report.brain_answer import brain_answers
from affectlake.report.figures import brain_viewer, heatmap, stimulus_map
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.brain_maps import METHODS
from affectlake.report.figures.canvas import older_objects_frozen, styled
from affectlake.report.figures.catalogue import FIGURES, Entry, Section, of_section
from affectlake.report.figures.embedded import SharedStyles, embedded
from affectlake.report.figures.html_figure import HtmlFigure
from affectlake.report.figures.markup import scrolling
from affectlake.report.figures.strip import strip
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import (
    count,
    counted,
    decimal,
    level,
    listed,
    percent,
    percent_range,
    size,
)
from affectlake.report.order_effects import compared
from affectlake.report.summary import summary
from affectlake.report.templating import template_environment

if TYPE_CHECKING:
    from jinja2 import Environment

    from affectlake.report.figures.canvas import Figure

KINDS = {
    "ratings": "simulated from ratings",
    "features": "feature vectors",
    "chat": "language model",
    "judgments": "people",
    "anchored": "people, anchored triplets",
}
COMMIT_LENGTH = 10
UNPACKED = 1500  # bytes that compression has to save


_BY_KEYBOARD = ("stimulus_map", "heatmap")


class _Block(NamedTuple):
    """One figure as the template shows it, or the reason why it is missing."""

    name: str
    file: str
    title: str
    body: Markup
    caption: str
    rows: str
    missing: str


class _Agent(NamedTuple):
    """One agent as the template shows it: its numbers and its figures."""

    facts: AgentFacts
    kind: str
    key: Markup
    figures: list[_Block]
    summary: list[dict[str, object]]


def render(inputs: ReportInputs) -> str:
    """Return the report as one HTML page that needs no other file and no network.

    The same inputs give the same text. Where a table lacks rows, the page prints the reason.

    Parameters
    ----------
    inputs : ReportInputs
        Tables and facts of one version.

    Returns
    -------
    str
        A complete HTML document, to be written as UTF-8.
    """
    with older_objects_frozen(), styled():
        context = _context(inputs)
    return environment().get_template("page.html.j2").render(context)


def named_figures(inputs: ReportInputs) -> Iterator[tuple[str, Figure | HtmlFigure]]:
    """Yield the name of the files and the figure of every entry.

    Names are ``AGENT-NAME`` for one agent, and ``all-NAME`` or ``brain-NAME`` for all agents.
    """
    every = [agent_facts(inputs, agent) for agent in agents(inputs)]
    for entry in FIGURES:
        for about in every if entry.section == "agent" else [every]:
            if isinstance(about, AgentFacts) and not _has(entry, about):
                continue
            for chosen in entry.variants():
                with suppress(FigureError):
                    yield _file(entry, about, chosen), entry.made(inputs, about, **chosen)


def environment() -> Environment:
    """Return the Jinja environment of the templates, with the filters that they use."""
    return template_environment(
        "affectlake.report",
        count=count,
        percent=percent,
        percent_range=percent_range,
        decimal=decimal,
        level=level,
        size=size,
    )


def _context(inputs: ReportInputs) -> dict[str, Any]:
    entries = stimulus_map.legend(inputs)
    every = [agent_facts(inputs, agent) for agent in agents(inputs)]
    styles, shared = styles_of(one.agent for one in every), SharedStyles()
    found = [
        _Agent(
            one,
            KINDS.get(one.kind, one.kind or "unknown kind"),
            styles[one.agent].key,
            _blocks(inputs, "agent", one, shared),
            summary(inputs, one),
        )
        for one in every
    ]
    order = inputs.table("order_effects")
    sections = {
        "together": _blocks(inputs, "together", every, shared),
        "order": [] if order is None else _blocks(inputs, "order", every, shared),
        "brain": [] if inputs.brain is None else _blocks(inputs, "brain", every, shared),
    }
    data = {
        "stimuli": stimulus_map.stimulus_data(inputs, entries),
        "categories": [entry.name for entry in entries],
        "heat": {one.agent: heatmap.cell_data(one) for one in every},
        "brain": _brain_data(inputs, every),
    }
    return {
        "inputs": inputs,
        "version": inputs.version,
        "commit": inputs.version.commit[:COMMIT_LENGTH],
        "created": inputs.version.created_iso[:16].replace("T", " "),
        "lead": _lead(inputs, found),
        "agents": found,
        **sections,
        "contents": _contents(sections, found),
        "banner": banner_of(inputs.synthetic, every),
        "brain_answers": brain_answers(inputs.brain, METHODS),
        "order_rows": [] if order is None else compared(order, [one.agent for one in every]),
        "legend": entries,
        "colour_rules": stimulus_map.colour_rules(entries),
        "drawing_rules": shared.rules,
        "data": _embedded(data),
        "tiles": bookkeeping.tiles(inputs),
        "exclusions": bookkeeping.exclusions(inputs.exclusions),
        "trials": bookkeeping.trials(inputs.trial_counts),
        "choices": bookkeeping.choices(inputs.choice_counts, [one.agent for one in every]),
        "files": bookkeeping.files(inputs.tables),
        "n_bytes": int(inputs.tables["n_bytes"].sum()),
        "left_out": inputs.left_out,
        "params": yaml.safe_dump(bookkeeping.plain(inputs.params), sort_keys=False, allow_unicode=True, width=100),
        "strip": strip,
        "spread": _spread,
    }


def _contents(sections: Mapping[str, list[_Block]], found: list[_Agent]) -> list[dict[str, object]]:
    """Return the table of contents, in the page's order: each section's id, title and figures."""
    titles = {"brain": "Brain", "together": "Comparison of agents", "order": "Position bias"}
    rows: list[tuple[str, str, list[_Block]]] = [
        *((key, title, sections[key]) for key, title in titles.items() if sections[key]),
        *((f"agent-{one.facts.agent}", one.facts.agent, one.figures) for one in found),
        ("run", "Stimuli, triplets and choices", []),
        ("provenance", "Provenance", []),
        ("files", "Files and parameters", []),
    ]
    return [{"id": key, "title": title, "figures": figures} for key, title, figures in rows]


def _blocks(
    inputs: ReportInputs, section: Section, about: AgentFacts | Sequence[AgentFacts], styles: SharedStyles
) -> list[_Block]:
    """Return the figures of a section; in the section "agent", those of the given agent."""
    return [
        _block(inputs, entry, about, chosen, styles)
        for entry in of_section(section)
        if not isinstance(about, AgentFacts) or _has(entry, about)
        for chosen in entry.variants()
    ]


def _block(
    inputs: ReportInputs, entry: Entry, about: AgentFacts | Sequence[AgentFacts], chosen: Mapping[str, str],
    styles: SharedStyles,
) -> _Block:  # fmt: skip
    """Return a figure for the template; its caption has the verdict on the agent's answers, if there is one."""
    name = "-".join([entry.name.replace("_", "-"), *chosen.values()])
    file, title = _file(entry, about, chosen), entry.titled(chosen)
    try:
        figure = entry.made(inputs, about, **chosen)
    except FigureError as error:
        return _Block(name, file, title, Markup(""), "", "", f"{error.summary[:1].upper()}{error.summary[1:]}.")
    if isinstance(figure, HtmlFigure):
        body = figure.html
    else:
        body = embedded(figure, styles, focusable=entry.name in _BY_KEYBOARD)
        body = scrolling(figure.label, body)
    agent = about.agent if isinstance(about, AgentFacts) else ""
    verdict = inputs.verdicts.get(agent, "")
    caption = f"{figure.caption} Note: {agent} {verdict}." if verdict else figure.caption
    return _Block(name, file, title, body, caption, _csv(figure.data) if entry.rows_on_page else "", "")


def _has(entry: Entry, facts: AgentFacts) -> bool:
    return facts.is_simulated or not entry.simulated


def _file(entry: Entry, about: AgentFacts | Sequence[AgentFacts], chosen: Mapping[str, str]) -> str:
    """Return the name of a figure's files."""
    whose = about.agent if isinstance(about, AgentFacts) else "brain" if entry.section == "brain" else "all"
    name = entry.name.replace("_", "-").removeprefix(f"{whose}-")
    return "-".join([whose, name, *chosen.values()])


def _brain_data(inputs: ReportInputs, every: Sequence[AgentFacts]) -> dict[str, Any] | None:
    """Return the data of the brain viewer; None for a version without brain maps."""
    if inputs.brain is None or not brain_viewer.scales(inputs.brain.volumes):
        return None
    names = {key: name for key, _, name in inputs.brain.regions}
    return brain_viewer.viewer_data(inputs.brain.volumes, [one.agent for one in every], METHODS, names)


def _csv(rows: pl.DataFrame) -> str:
    """Return rows as a data URL of a CSV file, compressed if it is long; empty if there are no rows."""
    if not len(rows):
        return ""
    kept = rows.select(name for name in rows.columns if rows[name].null_count() < len(rows))
    text = kept.sort(kept.columns, nulls_last=True).write_csv(float_precision=6).encode()
    packed = gzip.compress(text, mtime=0)
    if len(packed) < len(text) - UNPACKED:
        return "data:application/gzip;base64," + base64.b64encode(packed).decode()
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text).decode()


def _lead(inputs: ReportInputs, found: list[_Agent]) -> str:
    """Return the page's first paragraph: the question of the study, the data, and what the page shows."""
    n_triplets = int(inputs.trial_counts["n_triplets"].sum())
    n_anchored = sum(one.facts.n_answers == 2 for one in found)
    anchored = (
        f"{counted(n_anchored, 'agent')} judged which of two stimuli is more like a third. " if n_anchored else ""
    )
    return (
        f"{inputs.wording.question} {counted(len(found) - n_anchored, 'agent')} answered this question for "
        f"{counted(n_triplets, 'triplet')} of {counted(len(inputs.stimuli), 'stimulus', 'stimuli')}. {anchored}"
        f"A sparse positive embedding was learned from the answers of each agent. This page shows how well the "
        f"embeddings predict held-out choices, and how closely their dimensions match {inputs.wording.ratings}."
    )


def _spread(estimate: Estimate, n_seeds: int) -> str:
    """Return the range over the fits of all seeds; empty if there is one fit."""
    if n_seeds < 2:
        return ""
    return f"{listed([percent(end) for end in estimate.seeds], 'to')} over {counted(n_seeds, 'seed')}"


def _embedded(data: dict[str, Any]) -> Markup:
    """Return JSON that cannot end the script element that contains it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
