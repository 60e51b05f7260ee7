"""Agents beside one another: human consistency, agreement on the same triplets, and communities that are alike."""

from __future__ import annotations

import polars as pl
from markupsafe import Markup

from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.axes import Axes
from affectlake.report.figures.emotion_graph import first_labels
from affectlake.report.figures.svg import Figure, absent, drawing, element, joined, scrolling
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, decimal, listed, percent

LONE = "One agent alone cannot be compared: add a second to params.yaml."
LEFT, ROW = 190.0, 24.0


def accuracy(inputs: ReportInputs, found: list[AgentFacts]) -> Figure:
    """Draw each agent's held-out accuracy with its noise ceiling."""
    shown = [one for one in found if one.held_out is not None]
    if not shown:
        return absent("No agent has a held-out accuracy.")
    ceilings = _metric(inputs, "noise_ceiling", "consistency")
    steps = [(float(at), one.agent) for at, one in enumerate(shown)]
    width = max(420.0, 150.0 * len(shown))
    axes = Axes("Held-out accuracy", "", (-0.6, len(shown) - 0.1), (0.0, 1.0), width, 300.0, steps)
    parts = [axes.level(1 / 3, "chance")]
    for at, one in enumerate(shown):
        assert one.held_out is not None
        parts.append(_bar(axes, at, one.held_out.value, f"{one.agent}: {percent(one.held_out.value)}"))
        parts.append(axes.whisker(at, one.held_out.ci_low, one.held_out.ci_high))
        ceiling = ceilings.get(one.agent)
        if ceiling is not None:
            parts.append(_cap(axes, at, ceiling))
    best = max(shown, key=lambda one: one.held_out.value if one.held_out else 0)
    assert best.held_out is not None
    caption = (
        f"Share of held-out triplets whose odd one out the embedding predicts; lines across the bars are noise "
        f"ceilings, the mean share of the most frequent of repeated answers. {best.agent} is predicted best "
        f"({percent(best.held_out.value)})."
    )
    rows = inputs.metrics.filter(pl.col("analysis").is_in(["held_out", "noise_ceiling"]))
    return Figure(
        scrolling("Held-out accuracy", axes.drawn("Held-out accuracy of every agent", *parts)), caption, rows=rows
    )


def _metric(inputs: ReportInputs, analysis: str, measure: str) -> dict[str, float]:
    rows = inputs.metrics.filter(pl.col("analysis") == analysis, pl.col("measure") == measure).drop_nulls("value")
    return dict(rows.select("agent", "value").iter_rows())


def _bar(axes: Axes, at: float, value: float, hint: str, half: float = 0.3, kind: str = "bar") -> Markup:
    x, y = axes.x(at - half), axes.y(max(value, 0.0))
    height = abs(axes.y(0.0) - axes.y(value))
    return element("rect", element("title", hint), x=x, y=y, width=axes.x(at + half) - x, height=height, class_=kind)


def _cap(axes: Axes, at: float, value: float) -> Markup:
    y = axes.y(value)
    return element("line", x1=axes.x(at - 0.38), x2=axes.x(at + 0.38), y1=y, y2=y, class_="cap")


def human_consistency(inputs: ReportInputs, found: list[AgentFacts]) -> Figure:
    """Draw how well each agent's similarities agree with those of the human agents, corrected for reliability."""
    table = inputs.table("comparisons")
    every = None if table is None else table.filter(pl.col("analysis") == "human_consistency")
    if every is None or not len(every):
        return absent(
            "No agent simulated from human ratings stands beside another, so there is nothing to compare with."
        )
    rows = every.filter(pl.col("measure") == "corrected_r")
    shown = rows.drop_nulls("value")
    if not len(shown):
        notes = rows.drop_nulls("note")["note"].to_list()
        return absent(f"Left out: {notes[0]}." if notes else LONE)
    humans = sorted(shown["against"].unique().to_list())
    agents = [one.agent for one in found if one.agent in set(shown["agent"])]
    width = max(420.0, 150.0 * len(agents))
    top = max(1.0, float(shown["value"].max()) * 1.05)  # type: ignore[arg-type]
    low = min(0.0, float(shown["value"].min()))  # type: ignore[arg-type]
    axes = Axes(
        "Corrected correlation", "", (-0.6, len(agents) - 0.4), (low, top), width, 300.0, list(enumerate(agents))
    )
    parts = []
    for row in shown.iter_rows(named=True):
        offset = (humans.index(row["against"]) - (len(humans) - 1) / 2) * 0.34
        at = agents.index(row["agent"]) + offset
        hint = f"{row['agent']} with {row['against']}: {decimal(row['value'], 3)}"
        parts += [
            _bar(axes, at, row["value"], hint, 0.15, f"bar h{humans.index(row['against']) % 2}"),
            axes.whisker(at, row["ci_low"], row["ci_high"]),
        ]
    key = element("p", *_key(humans), class_="key")
    best = shown.sort("value", descending=True).row(0, named=True)
    left = rows.drop_nulls("note").select("agent", "note").unique().sort("agent", "note").iter_rows()
    reasons = [f"{agent} ({note})" for agent, note in left]
    missing = f" Left out: {listed(reasons)}." if reasons else ""
    caption = (
        f"Pearson correlation of the similarities of {counted(_pairs(rows), 'pair')} of prototypes, divided by the "
        f"geometric mean of both split-half reliabilities (bars: 95 % intervals over resampled stimuli). "
        f"{best['agent']} is closest, to {best['against']}: {decimal(best['value'], 3)} "
        f"({decimal(best['ci_low'], 3)} to {decimal(best['ci_high'], 3)}).{missing}"
    )
    return Figure(
        joined([scrolling("Human consistency", axes.drawn("Human consistency of every agent", *parts)), key]),
        caption,
        rows=every,
    )


def _pairs(rows: pl.DataFrame) -> int:
    return int(rows["n"].max() or 0)  # type: ignore[arg-type]


def _key(humans: list[str]) -> list[Markup]:
    return [
        joined([element("i", class_=f"block h{at % 2}"), element("span", f"with {human} ")])
        for at, human in enumerate(humans)
    ]


def agreement(inputs: ReportInputs, found: list[AgentFacts]) -> Figure:
    """Draw Cohen's κ of every two agents, and of each with its own repetition on the diagonal."""
    table = inputs.table("comparisons")
    rows = None if table is None else table.filter(pl.col("analysis") == "agreement", pl.col("measure") == "kappa")
    if rows is None or len(found) < 2 or not len(rows):
        return absent(LONE)
    agents = [one.agent for one in found if one.agent in set(rows["agent"])]
    cells = {(row["agent"], row["against"]): row for row in rows.iter_rows(named=True)}
    side = 118.0
    parts = []
    for line, one in enumerate(agents):
        parts.append(element("text", one, x=LEFT - 10, y=40 + (line + 0.5) * 54 + 4, class_="tick", text_anchor="end"))
        parts.append(element("text", one, x=LEFT + (line + 0.5) * side, y=26, class_="tick", text_anchor="middle"))
        for column, other in enumerate(agents):
            parts.append(_cell(cells.get((one, other)), LEFT + column * side, 40 + line * 54, side))
    width, height = LEFT + len(agents) * side + 4, 44 + 54.0 * len(agents)
    body = drawing(width, height, "Cohen's kappa of every two agents", *parts, class_="chart kappa")
    known = rows.drop_nulls("value").filter(pl.col("agent") < pl.col("against")).sort("value", descending=True)
    first = known.row(0, named=True) if len(known) else None
    most = "most: " if len(known) > 1 else "with "
    said = (
        f"{first['agent']} and {first['against']} agree {most}κ = {decimal(first['value'], 3)} "
        f"({decimal(first['ci_low'], 3)} to {decimal(first['ci_high'], 3)}) on {counted(first['n'], 'triplet')}."
        if first
        else "No two agents have a triplet in common."
    )
    caption = (
        f"Cohen's κ on the triplets that both answered; on the diagonal, of an agent with its own repetition: its "
        f"ceiling. {said}"
    )
    return Figure(scrolling("Agreement", body), caption, rows=rows)


def _cell(row: dict[str, object] | None, x: float, y: float, side: float) -> Markup:
    value = row["value"] if row else None
    if not isinstance(value, float):
        told = element("title", str(row["note"])) if row and row["note"] else Markup("")
        return joined(
            [element("rect", told, x=x, y=y, width=side - 3, height=51, class_="none"), _text("–", x, y, side)]
        )
    assert row is not None
    shade = element(
        "rect", x=x, y=y, width=side - 3, height=51, class_="shade", fill_opacity=0.06 + 0.5 * max(value, 0.0)
    )
    ends = [row["ci_low"], row["ci_high"]]
    interval = " to ".join(decimal(end, 3) for end in ends if isinstance(end, float))
    return joined(
        [
            shade,
            _text(decimal(value, 3), x, y, side),
            element("text", interval, x=x + side / 2, y=y + 40, class_="tick", text_anchor="middle"),
        ]
    )


def _text(text: str, x: float, y: float, side: float) -> Markup:
    return element("text", text, x=x + side / 2, y=y + 22, class_="value", text_anchor="middle")


def overlaps(inputs: ReportInputs, found: list[AgentFacts]) -> Figure:
    """List, for each community of each agent, the community of every other agent that is most like it."""
    table = inputs.table("community_overlaps")
    if table is None:
        return absent(LONE if len(found) < 2 else "No two agents have communities to compare.")
    best = (
        table.sort("r", descending=True)
        .unique(["agent", "community", "against"], keep="first")
        .sort("agent", "community", "against")
    )
    agents = [one.agent for one in found]
    names = {one.agent: _community_names(inputs, one) for one in found}
    head = element(
        "tr",
        element("th", "Agent", scope="col"),
        element("th", "Community", scope="col"),
        *(element("th", agent, scope="col") for agent in agents),
    )
    cells = {(r["agent"], r["community"], r["against"]): r for r in best.iter_rows(named=True)}
    lines = []
    for agent in agents:
        for community, name in sorted(names[agent].items()):
            others = [_alike(cells.get((agent, community, other)), names.get(other, {})) for other in agents]
            lines.append(
                element(
                    "tr",
                    element("th", agent, scope="row"),
                    element("td", name),
                    *(element("td", other) for other in others),
                )
            )
    body = element(
        "div",
        element("table", element("thead", head), element("tbody", *lines)),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Communities that are alike",
    )
    shared = best.filter(pl.col("r") > 0.5)
    top = best.sort("r", descending=True).row(0, named=True)
    caption = (
        f"For each community, named by the labels of its dimensions, the most similar one of every other agent "
        f"(correlation of their profiles over the stimuli). {counted(len(shared), 'match', 'matches')} of {len(best)} "
        f"have r above 0.5; the closest is {decimal(top['r'], 3)}, between {top['agent']} and {top['against']}."
    )
    return Figure(body, caption, rows=table)


def _community_names(inputs: ReportInputs, facts: AgentFacts) -> dict[int, str]:
    nodes = inputs.table("graph_nodes", facts.agent)
    if nodes is None or facts.seed is None:
        return {}
    labels = first_labels(inputs, facts)
    own = (
        nodes.filter(pl.col("seed") == facts.seed)
        .drop_nulls("community")
        .sort("community", "pagerank", descending=[False, True])
    )
    found: dict[int, list[str]] = {}
    for community, dimension in own.select("community", "dimension").iter_rows():
        found.setdefault(community, []).append(labels.get(dimension, str(dimension)))
    return {community: listed(list(dict.fromkeys(all_names))[:3]) for community, all_names in found.items()}


def _alike(row: dict[str, float] | None, names: dict[int, str]) -> str:
    if row is None:
        return "–"
    return f"{names.get(int(row['other_community']), str(row['other_community']))} ({decimal(row['r'])})"
