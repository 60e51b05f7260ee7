"""Figures that compare agents: accuracy, human consistency, agreement on the same triplets, similar communities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, first_labels, numbered
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.canvas import (
    INK,
    Canvas,
    Drawn,
    chance_level,
    colours,
    stack,
    whiskers,
)
from affectlake.report.figures.markup import element, scrolling
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import MISSING, count, counted, decimal, listed, percent, shortened

LONE = "a single agent cannot be compared: add a second one to params.yaml"
FEW = 6  # with at most this many agents, the cells of a matrix have room for intervals


def accuracy(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw each agent's held-out accuracy with its noise ceiling."""
    shown = [(one.agent, one.held_out) for one in agents if one.held_out is not None]
    if not shown:
        raise FigureError("no agent has a held-out accuracy")
    measured = pl.col("analysis") == "noise_ceiling", pl.col("measure") == "consistency"
    ceilings = dict(inputs.metrics.filter(*measured).drop_nulls("value").select("agent", "value").iter_rows())
    names, found = [name for name, _ in shown], [estimate for _, estimate in shown]
    values = [one.value for one in found]
    (ax,) = canvas.panels(width=7.2, height=stack(len(shown)), grid="x")
    ends = whiskers(values, [one.ci_low for one in found], [one.ci_high for one in found])
    styles = styles_of(one.agent for one in agents)
    for at, (name, value) in enumerate(zip(names, values, strict=True)):
        (bar,) = ax.barh(at, value, 0.62, xerr=ends[:, [at]], **styles[name].bars)
        canvas.note(bar, f"{name}: {percent(value)}", class_="bar")
    known = [(at, ceilings[name]) for at, name in enumerate(names) if name in ceilings]
    ax.vlines([c for _, c in known], [at - 0.42 for at, _ in known], [at + 0.42 for at, _ in known], color=INK, lw=1.8,
              clip_on=False, label="noise ceiling")  # fmt: skip
    tasks = {one.n_answers for one in agents if one.held_out is not None}
    for n_answers in tasks:
        chance_level(ax, n_answers, upright=True)
    _rows(ax, names)
    ax.set(xlabel="held-out accuracy", xlim=(0, 1))
    if known:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, handlelength=1)
    best = max(shown, key=lambda one: one[1].value)
    ceiling = (
        "Lines across the bars are noise ceilings: the mean share of the most frequent answer to repeated triplets, "
        "which luck makes too high; `attainable` in the table is the expected accuracy of a perfect model. "
        if known
        else ""
    )
    anchored = "Of anchored triplets, it is the one of two that is more like the head, and chance is 1/2. "
    caption = (
        f"Share of held-out triplets whose odd one out the embedding predicts, with 95 % intervals. "
        f"{anchored if 2 in tasks else ''}{ceiling}"
        f"The choices of {best[0]} are predicted best ({percent(best[1].value)})."
    )
    rows = inputs.metrics.filter(pl.col("analysis").is_in(["held_out", "noise_ceiling"]))
    return Drawn("Held-out accuracy of every agent", caption, rows)


def _rows(ax: Any, names: Sequence[str]) -> None:
    """Label a row for each agent, the first at the top."""
    ax.set_yticks(range(len(names)), [shortened(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0, labelcolor=INK)


def human_consistency(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw the correlation of each agent's similarities with those of the human agents, corrected for reliability."""
    table = inputs.table("comparisons")
    every = None if table is None else table.filter(pl.col("analysis") == "human_consistency")
    if every is None or not len(every):
        raise FigureError("human consistency needs an agent simulated from human ratings and at least one other agent")
    earlier = "halves_r" not in every["measure"]  # versions before `halves_r` contain equation 4 as `corrected_r`
    rows = every.filter(pl.col("measure") == ("corrected_r" if earlier else "halves_r"))
    shown = rows.drop_nulls("value").sort("agent", "against")
    if not len(shown):
        notes = rows.drop_nulls("note")["note"].to_list()
        raise FigureError(f"left out: {notes[0]}" if notes else LONE)
    humans = sorted(shown["against"].unique().to_list())
    names = [one.agent for one in agents if one.agent in set(shown["agent"])]
    (ax,) = canvas.panels(width=7.2, height=stack(len(names), 0.25 * len(humans) + 0.1, 1.2), grid="x")
    styles = styles_of(one.agent for one in agents)
    for at, human in enumerate(humans):
        own = shown.filter(pl.col("against") == human)
        places = [names.index(name) + (at - (len(humans) - 1) / 2) * 0.8 / len(humans) for name in own["agent"]]
        ends = whiskers(own["value"], own["ci_low"], own["ci_high"])
        bars = ax.barh(
            places, own["value"].to_numpy(), 0.72 / len(humans), xerr=ends, label=f"with {shortened(human)}",
            **styles[human].bars,
        )  # fmt: skip
        for bar, row in zip(bars, own.iter_rows(named=True), strict=True):
            canvas.note(bar, f"{row['agent']} with {human}: {decimal(row['value'], 3)}", class_="bar")
    _rows(ax, names)
    low, high = float(shown["value"].to_numpy().min()), float(shown["value"].to_numpy().max())
    ax.set(xlabel="correlation without the noise of trials (r)", xlim=(min(0.0, low), max(1.0, high * 1.05)))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    best = shown.sort("value", "agent", descending=[True, False]).row(0, named=True)
    left = rows.drop_nulls("note").select("agent", "note").unique().sort("agent", "note").iter_rows()
    reasons = [f"{agent} ({note})" for agent, note in left]
    missing = f" Left out: {listed(reasons)}." if reasons else ""
    highest = (
        f" The highest is that of {best['agent']} with {best['against']}: {decimal(best['value'], 3)} "
        f"({decimal(best['ci_low'], 3)} to {decimal(best['ci_high'], 3)})."
    )
    how = (
        ", divided by the geometric mean of their split-half reliabilities (the paper's equation 4), with 95 % "
        "intervals over resampled stimuli. This correction favours agents that judged fewer trials, so agents with "
        "different numbers of trials cannot be compared."
        if earlier
        else " from one half of the trials and the other, divided by the geometric mean of the correlations of each "
        "agent's own halves, with 95 % intervals over resampled stimuli and splits. Agents with the same preferences "
        f"have a value of 1, for any number of trials.{highest} The paper's equation 4 is `equation_4_r` in the table: "
        "it favours agents that judged fewer trials."
    )
    caption = (
        f"Pearson correlation of two agents' similarities of {counted(int(rows['n'].max() or 0), 'pair')} of "  # type: ignore[arg-type]
        f"prototypes{how}{missing}"
    )
    return Drawn("Human consistency of every agent", caption, every)


def agreement(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw Cohen's κ of each pair of agents and, on the diagonal, of each agent's answers to repeated triplets."""
    table = inputs.table("comparisons")
    rows = None if table is None else table.filter(pl.col("analysis") == "agreement", pl.col("measure") == "kappa")
    if rows is None or len(agents) < 2 or not len(rows):
        raise FigureError(LONE)
    compared = set(rows["agent"]) | set(rows["against"])
    names = [one.agent for one in agents if one.agent in compared]
    rows = rows.filter(pl.col("agent").is_in(names), pl.col("against").is_in(names))
    if not len(rows):
        raise FigureError(LONE)
    kappa = np.full((len(names), len(names)), np.nan)
    few = len(names) <= FEW and max(map(len, names)) <= 17
    width = 1.7 + 1.25 * len(names) if few else 2.8 + 0.72 * len(names)
    (ax,) = canvas.panels(width=width, height=0.6 + (0.55 if few else 0.6) * len(names))
    for row in rows.iter_rows(named=True):
        at, other = names.index(row["agent"]), names.index(row["against"])
        kappa[at, other] = np.nan if row["value"] is None else row["value"]
        ends = [end for end in (row["ci_low"], row["ci_high"]) if end is not None]
        value = MISSING if row["value"] is None else decimal(row["value"], 3)
        text = ax.text(other, at, value, ha="center", va="bottom" if few and ends else "center",
                       weight="bold", color=INK)  # fmt: skip
        canvas.note(text, row["note"] or "")
        if few and ends:
            ax.text(other, at + 0.06, " to ".join(decimal(end, 3) for end in ends), ha="center", va="top", fontsize=8,
                    color=text.get_color())  # fmt: skip
    ax.imshow(kappa, cmap=colours("Blues"), vmin=0, vmax=2.3, aspect="auto")  # pale enough for ink in both themes
    edges = np.arange(1, len(names)) - 0.5
    ax.hlines(edges, -0.5, len(names) - 0.5, color="white", lw=2)
    ax.vlines(edges, -0.5, len(names) - 0.5, color="white", lw=2)
    turned = {} if few else {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(names)), [shortened(name) for name in names], **turned)
    ax.set_yticks(range(len(names)), [shortened(name) for name in names])
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, labelcolor=INK)
    ax.spines[:].set_visible(False)
    known = rows.drop_nulls("value").filter(pl.col("agent") < pl.col("against")).sort("value", descending=True)
    first = known.row(0, named=True) if len(known) else None
    most = "most, with " if len(known) > 1 else "with "
    highest = (
        f"{first['agent']} and {first['against']} agree {most}κ = {decimal(first['value'], 3)} "
        f"({decimal(first['ci_low'], 3)} to {decimal(first['ci_high'], 3)}) on {counted(first['n'], 'triplet')}."
        if first
        else "No two agents have a triplet in common."
    )
    caption = (
        f"Cohen's κ of each pair of agents on the triplets that both answered, with 95 % intervals. The diagonal "
        f"contains κ between an agent's first and repeated answers, which is its ceiling. {highest}"
    )
    return Drawn("Cohen's kappa of each pair of agents", caption, rows)


def community_overlaps(inputs: ReportInputs, agents: Sequence[AgentFacts]) -> tuple[Markup, Drawn]:
    """List, for each community of each agent, the most similar community of every other agent."""
    table = inputs.table("community_overlaps")
    if table is None:
        raise FigureError(LONE if len(agents) < 2 else "no two agents have communities to compare")
    best = (
        table.sort("r", descending=True)
        .unique(["agent", "community", "against"], keep="first")
        .sort("agent", "community", "against")
    )
    names = {one.agent: community_names(inputs, one) for one in agents}
    head = element("tr", *(element("th", text, scope="col") for text in ("Agent", "Community", *names)))
    cells = {(r["agent"], r["community"], r["against"]): r for r in best.iter_rows(named=True)}
    lines = []
    for agent, communities in names.items():
        for community, name in sorted(communities.items()):
            others = [_similar(cells.get((agent, community, other)), names[other]) for other in names]
            row = [element("th", agent, scope="row"), *(element("td", text) for text in (name, *others))]
            lines.append(element("tr", *row))
    body = element("table", element("thead", head), element("tbody", *lines))
    shared = best.filter(pl.col("r") > 0.5)
    top = best.sort("r", descending=True).row(0, named=True)
    caption = (
        f"For each community of dimensions, named by their labels, the most similar community of every other agent, "
        f"with the correlation of their profiles over the stimuli. For {count(len(shared))} of "
        f"{counted(len(best), 'match', 'matches')}, r is above 0.5; the highest r is {decimal(top['r'], 3)}, between "
        f"{top['agent']} and {top['against']}."
    )
    label = "Similar communities"
    return scrolling(label, body), Drawn(label, caption, table)


def community_names(inputs: ReportInputs, facts: AgentFacts) -> dict[int, str]:
    """Return the name of each community of an agent: the numbers and labels of its most central dimensions."""
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
        found.setdefault(community, []).append(numbered(dimension, labels))
    return {community: listed(list(dict.fromkeys(every))[:3]) for community, every in found.items()}


def _similar(row: dict[str, float] | None, names: dict[int, str]) -> str:
    if row is None:
        return MISSING
    return f"{names.get(int(row['other_community']), str(row['other_community']))} ({decimal(row['r'])})"
