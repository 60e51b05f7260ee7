"""The HTML page: puts figures and numbers into the templates. Other modules read the tables and draw the figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

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
from affectlake.report.figures.catalogue import FIGURES, OF_BRAIN
from affectlake.report.figures.embedded import SharedStyles
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
from affectlake.report.page_figures import Block, blocks, file_name, is_shown
from affectlake.report.summary import summary
from affectlake.report.templating import template_environment

if TYPE_CHECKING:
    from jinja2 import Environment

    from affectlake.report.figures.canvas import Figure
    from affectlake.report.figures.html_figure import HtmlFigure

KINDS = {
    "ratings": "simulated from ratings",
    "features": "feature vectors",
    "chat": "language model",
    "judgments": "people",
    "anchored": "people, anchored triplets",
    "experiment": "people, asked in a browser",
}
COMMIT_LENGTH = 10


class _Agent(NamedTuple):
    """One agent as the template shows it: its numbers and its figures."""

    facts: AgentFacts
    kind: str
    key: Markup
    figures: list[Block]
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
            caption = ""
            for chosen in entry.variants() if is_shown(entry, inputs, about) else ():
                with suppress(FigureError):
                    figure = entry.made(inputs, about, **chosen)
                    if not entry.switched(chosen) or figure.caption != caption:  # without a mask, both are the same
                        yield file_name(entry, about, chosen), figure
                    caption = figure.caption


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
            blocks(inputs, "agent", one, shared),
            summary(inputs, one),
        )
        for one in every
    ]
    order = inputs.table("order_effects")
    sections: dict[str, list[Block]] = {
        "together": blocks(inputs, "together", every, shared),
        "picture": blocks(inputs, "picture", every, shared),
        "order": [] if order is None else blocks(inputs, "order", every, shared),
        **{section: blocks(inputs, section, every, shared) for section in OF_BRAIN},
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


def _contents(sections: Mapping[str, list[Block]], found: list[_Agent]) -> list[dict[str, object]]:
    """Return the table of contents, in the page's order: each section's id, title and figures."""
    titles = {
        "brain": "Brain",
        "variance": "Whose variance",
        "certainty": "How sure",
        "together": "Comparison of agents",
        "picture": "What in the picture",
        "order": "Position bias",
    }
    rows: list[tuple[str, str, list[Block]]] = [
        *((key, title, sections[key]) for key, title in titles.items() if sections[key]),
        *((f"agent-{one.facts.agent}", one.facts.agent, one.figures) for one in found),
        ("run", "Stimuli, triplets and choices", []),
        ("provenance", "Provenance", []),
        ("files", "Files and parameters", []),
    ]
    return [{"id": key, "title": title, "figures": figures} for key, title, figures in rows]


def _brain_data(inputs: ReportInputs, every: Sequence[AgentFacts]) -> dict[str, Any] | None:
    """Return the data of the brain viewer; None for a version without brain maps."""
    if inputs.brain is None or not brain_viewer.scales(inputs.brain.volumes):
        return None
    names = {key: name for key, _, name in inputs.brain.regions}
    shown = [one.agent for one in every]
    return brain_viewer.viewer_data(inputs.brain.volumes, shown, METHODS, names, inputs.brain.thresholds)


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
