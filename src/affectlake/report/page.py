"""The HTML page: figures and numbers put into the templates. Drawing and reading tables belong to their modules."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import yaml
from markupsafe import Markup

from affectlake.report.agent_summary import AgentFacts, Estimate, agent_facts, agents, of_agent, of_fit, rating_names
from affectlake.report.figures import (
    agent_comparison,
    analyses,
    brain_maps,
    charts,
    emotion_graph,
    gallery,
    heatmap,
    positions,
    stimulus_map,
)
from affectlake.report.figures.svg import Figure
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import (
    MISSING,
    count,
    counted,
    decimal,
    level,
    listed,
    percent,
    percent_range,
    size,
)

if TYPE_CHECKING:
    from jinja2 import Environment


class _Kind(NamedTuple):
    """A kind of agent: what it is called, and whether it is shown the stimuli in an order (``order_effects``)."""

    words: str
    in_order: bool


KINDS = {
    "ratings": _Kind("simulated from ratings", in_order=False),
    "features": _Kind("feature vectors", in_order=False),
    "chat": _Kind("language model", in_order=True),
}
SHOWN_IDS = 12
DIGEST_LENGTH, COMMIT_LENGTH = 8, 10


class _Agent(NamedTuple):
    """One agent as the template shows it: its numbers and its titled figures."""

    facts: AgentFacts
    kind: str
    figures: tuple[tuple[str, str, Figure], ...]  # name, title, figure
    summary: list[dict[str, object]]


def render(inputs: ReportInputs) -> str:
    """Return the report as one HTML page that needs no other file and no network.

    The same inputs give the same text. What a table does not have is said in words.

    Parameters
    ----------
    inputs : ReportInputs
        Tables and facts of one version.

    Returns
    -------
    str
        A complete HTML document, to be written as UTF-8.
    """
    return environment().get_template("page.html.j2").render(_context(inputs))


def named_figures(inputs: ReportInputs) -> dict[str, Figure]:
    """Return every figure by the name of its files: ``AGENT-NAME``; of all agents ``all-NAME`` or ``brain-NAME``."""
    entries = stimulus_map.legend(inputs)
    found = [_agent(inputs, agent, entries) for agent in agents(inputs)]
    own = {f"{one.facts.agent}-{name}": figure for one in found for name, _, figure in one.figures}
    order = {} if (shown := _order(inputs)) is None else {"all-order": shown}
    brains = brain_maps.figures(inputs.brain, [one.facts.agent for one in found])
    together = {f"all-{name}": figure for name, _, figure in _together(inputs, found)}
    return together | order | own | {f"brain-{name}": figure for name, _, figure in brains}


def environment() -> Environment:
    """Return where the templates are, with the filters that they use."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("affectlake.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        count=count, percent=percent, percent_range=percent_range, decimal=decimal, level=level, size=size, rows=_rows
    )
    return made


def _context(inputs: ReportInputs) -> dict[str, Any]:
    entries = stimulus_map.legend(inputs)
    found = [_agent(inputs, agent, entries) for agent in agents(inputs)]
    data = {
        "stimuli": stimulus_map.stimulus_data(inputs, entries),
        "categories": [entry.name for entry in entries],
        "heat": {one.facts.agent: heatmap.cell_data(one.facts) for one in found},
        "brain": brain_maps.data(inputs.brain, [one.facts.agent for one in found]),
    }
    return {
        "inputs": inputs,
        "version": inputs.version,
        "commit": inputs.version.commit[:COMMIT_LENGTH],
        "created": inputs.version.created_iso[:16].replace("T", " "),
        "lead": _lead(inputs, found),
        "agents": found,
        "together": _together(inputs, found),
        "order": _order(inputs),
        "legend": entries,
        "brain": brain_maps.figures(inputs.brain, [one.facts.agent for one in found]),
        "colour_rules": stimulus_map.colour_rules(entries),
        "data": _embedded(data),
        "tiles": _tiles(inputs),
        "exclusions": _exclusions(inputs.exclusions),
        "trials": _trials(inputs.trial_counts),
        "choices": _choices(inputs.choice_counts, [one.facts.agent for one in found]),
        "files": [
            row | {"digest": str(row["digest"] or MISSING)[:DIGEST_LENGTH], "partition": row["partition"] or ""}
            for row in inputs.tables.sort("table", "partition").to_dicts()
        ],
        "n_bytes": int(inputs.tables["n_bytes"].sum()),
        "left_out": inputs.left_out,
        "params": yaml.safe_dump(_plain(inputs.params), sort_keys=False, allow_unicode=True, width=100),
        "strip": charts.strip,
        "spread": _spread,
    }


def _agent(inputs: ReportInputs, agent: str, entries: list[stimulus_map.LegendEntry]) -> _Agent:
    facts = agent_facts(inputs, agent)
    figures = [
        ("map", "Map of the stimuli", stimulus_map.draw(inputs, facts, entries)),
        ("ratings", "Dimensions and ratings", heatmap.draw(facts)._replace(rows=_correlation_rows(inputs, facts))),
        ("gallery", "Components one by one", gallery.draw(inputs, facts)),
        ("roses", "What single stimuli are made of", gallery.roses(inputs, facts)),
        ("graph", "Emotion graph", emotion_graph.draw(inputs, facts)),
        ("reproducibility", "Reproducibility", analyses.reproducibility(inputs, facts)),
        ("components", "Necessary components", analyses.components(inputs, facts)),
        ("sweeps", "Where it saturates", analyses.sweeps(inputs, facts)),
        ("learning", "Learning curves", charts.learning_curves(inputs, facts)),
    ]
    kind = KINDS.get(facts.kind, _Kind(facts.kind or "of unknown kind", in_order=True))
    if not kind.in_order:
        figures.append(("positions", "Chosen positions", charts.positions(inputs, facts)))
    return _Agent(facts, kind.words, tuple(figures), analyses.summary(inputs, facts))


def _together(inputs: ReportInputs, found: list[_Agent]) -> list[tuple[str, str, Figure]]:
    """Return the titled figures that set all agents beside one another."""
    every = [one.facts for one in found]
    return [
        ("accuracy", "How well choices are predicted", agent_comparison.accuracy(inputs, every)),
        ("consistency", "Consistency with human ratings", agent_comparison.human_consistency(inputs, every)),
        ("agreement", "Agreement on the same triplets", agent_comparison.agreement(inputs, every)),
        ("overlaps", "Communities that are alike", agent_comparison.overlaps(inputs, every)),
    ]


def _order(inputs: ReportInputs) -> Figure | None:
    """Return what the order of showing does to chat agents' answers; None where no chat agent has answers."""
    effects = inputs.table("order_effects")
    return None if effects is None else positions.draw(positions.compared(effects, agents(inputs)), effects)


def _correlation_rows(inputs: ReportInputs, facts: AgentFacts) -> pl.DataFrame:
    own = of_fit(of_agent(inputs.metrics, facts.agent), facts.seed)
    return own.filter(pl.col("analysis") == "rating_correlation")


def _rows(figure: Figure) -> str:
    """Return the rows behind a figure as the address of a CSV file that the page itself holds."""
    if figure.rows is None or not len(figure.rows):
        return ""
    kept = figure.rows.select(name for name in figure.rows.columns if figure.rows[name].null_count() < len(figure.rows))
    text = kept.sort(kept.columns, nulls_last=True).write_csv(float_precision=6)
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()


def _lead(inputs: ReportInputs, found: list[_Agent]) -> str:
    """Ask the report's question and say in one sentence what answers it."""
    n_triplets = int(inputs.trial_counts["n_triplets"].sum())
    return (
        f"Of three stimuli, which one feels different from the other two? From the answers of "
        f"{counted(len(found), 'agent')} to {counted(n_triplets, 'triplet')} of "
        f"{counted(len(inputs.stimuli), 'stimulus', 'stimuli')}, a sparse positive embedding was learned for each: "
        f"this page shows how well it predicts choices that it never saw, and how close its dimensions come to the "
        f"emotions that people report."
    )


def _tiles(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Return the counts of what went in, each with its name."""
    named, scales = rating_names(inputs)
    excluded = inputs.exclusions["stimulus_id"].n_unique()
    triplets = int(inputs.trial_counts["n_triplets"].sum())
    choices = int(inputs.choice_counts["n_choices"].sum())
    return [
        (count(len(inputs.stimuli)), "stimuli"),
        (count(len(named)), "rated categories"),
        (count(len(scales)), "rated dimensions"),
        (count(len(inputs.captions)), "captions"),
        (count(excluded), "left out"),
        (count(triplets), "triplets"),
        (count(choices), "choices"),
    ]


def _exclusions(exclusions: pl.DataFrame) -> list[dict[str, Any]]:
    grouped = (
        exclusions.sort("source", "reason", "stimulus_id")
        .group_by("source", "reason", maintain_order=True)
        .agg(pl.col("stimulus_id"), pl.col("n_rows").sum())
    )
    rows = []
    for source, reason, ids, n_rows in grouped.iter_rows():
        more = len(ids) - SHOWN_IDS
        shown = ", ".join(ids[:SHOWN_IDS]) + (f" and {count(more)} more" if more > 0 else "")
        rows.append({"source": source, "reason": reason, "n": len(ids), "n_rows": n_rows, "ids": shown})
    return rows


def _trials(trial_counts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one row per trial set with its triplets in each split."""
    rows: dict[str, dict[str, Any]] = {}
    for trial_set, split, n in trial_counts.select("trial_set", "split", "n_triplets").sort("trial_set").iter_rows():
        row = rows.setdefault(trial_set, {"trial_set": trial_set, "train": 0, "test": 0})
        row[split] = row.get(split, 0) + n
    return list(rows.values())


def _choices(choice_counts: pl.DataFrame, order: list[str]) -> list[dict[str, Any]]:
    """Return one row per agent, protocol and trial set, agents in the page's order."""
    rows = choice_counts.group_by("agent", "protocol", "trial_set").agg(
        pl.col("n_choices").sum(), pl.col("n_tied").sum()
    )
    rows = rows.with_columns(pl.col("protocol", "trial_set").fill_null(MISSING))
    return sorted(rows.to_dicts(), key=lambda row: (order.index(row["agent"]), row["protocol"], row["trial_set"]))


def _spread(estimate: Estimate, n_seeds: int) -> str:
    """Say how far the fits of other seeds differ, where there are any."""
    if n_seeds < 2:
        return ""
    return f"{listed([percent(end) for end in estimate.seeds], 'to')} over {counted(n_seeds, 'seed')}"


def _embedded(data: dict[str, Any]) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _plain(value: object) -> object:
    """Return nested mappings and sequences as plain dicts and lists, which YAML can write."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
