"""Figures of agents as maps: who is closest to people, similarity of embeddings, dimensions that are shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.agent_comparison import LONE
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.canvas import INK, SOFT, Canvas, Drawn, chance_level, colours, stack, whiskers
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import MISSING, count, counted, decimal, listed, percent, shortened


def closeness(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw each agent's share of agreement with people, in order of its rank, with the intervals of both."""
    table = inputs.table("closeness")
    if table is None or not len(table):
        raise FigureError("closeness to people needs people, or an agent made of their ratings, and another agent")
    shown = table.drop_nulls("share_same")
    if not len(shown):
        raise FigureError(f"left out: {table.drop_nulls('note')['note'].to_list()[0]}")
    references = sorted(shown["reference"].unique().to_list())
    most = max(len(shown.filter(reference=one)) for one in references)
    height = stack(most, rest=1.0)
    panels = canvas.panels(len(references), width=7.2, height=height * len(references), columns=1, grid="x")
    styles = styles_of(one.agent for one in agents)
    for ax, reference in zip(panels, references, strict=True):
        falling = [False, True, False]
        own = shown.filter(reference=reference)
        own = own.sort("agent_rank", "share_same", "agent", descending=falling, nulls_last=True)
        names = own["agent"].to_list()
        for at, row in enumerate(own.iter_rows(named=True)):
            ends = whiskers([row["share_same"]], [row["ci_low"]], [row["ci_high"]])
            style = styles[row["agent"]]
            dots = ax.errorbar([row["share_same"]], [at], xerr=ends, fmt=style.marker, color=style.colour, ms=6,
                               mec="white", mew=0.8, elinewidth=1.8)  # fmt: skip
            ranks = _ranks(row)
            canvas.note(dots[0], hints=[f"{row['agent']}: {percent(row['share_same'])}, {ranks}"])
            ax.annotate(ranks, (1, at), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
                        va="center", color=INK, fontsize=8)  # fmt: skip
        ax.set_yticks(range(len(names)), [shortened(name) for name in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.set(xlabel=f"share of answers that are those of {shortened(reference)}", xlim=(0, 1))
        chance_level(ax, 3, upright=True)
    return Drawn("Agreement of every agent with people", _closeness_caption(table), table)


def _ranks(row: dict[str, Any]) -> str:
    if row["agent_rank"] is None:
        return "not ranked"
    low, high = row["rank_low"], row["rank_high"]
    return f"rank {low}" if low == high else f"ranks {low} to {high}"


def _closeness_caption(table: pl.DataFrame) -> str:
    ranked = table.drop_nulls("agent_rank").sort("reference", "agent_rank", "agent")
    words = []
    for (reference,), own in ranked.group_by("reference", maintain_order=True):
        first = own.row(0, named=True)
        tied = (first["tied_with"] or "").split()
        words.append(
            f"Closest to {reference} is {first['agent']} ({percent(first['share_same'])}"
            + (f"; not told apart from {listed(tied)})." if tied else ").")
        )
    left = table.drop_nulls("note").select("agent", "note").unique().sort("agent", "note").iter_rows()
    reasons = [f"{agent} ({note})" for agent, note in left]
    missing = f" Not ranked: {listed(reasons)}." if reasons else ""
    return (
        "Share of the triplets that all agents judged with the same odd one out, with 95 % intervals over stimuli "
        "(mixed model with stimuli as random effects), and simultaneous 95 % intervals of the ranks. Which agents are "
        f"not told apart is in the column `tied_with`. {' '.join(words)}{missing}"
    )


def alignment(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw the similarity of each pair of embeddings: CKA above the diagonal, Procrustes below."""
    table = inputs.table("alignments")
    shown = None if table is None else table.drop_nulls("value").filter(pl.col("measure") != "procrustes_fitted")
    if table is None or shown is None or not len(shown):
        notes = [] if table is None else table.drop_nulls("note")["note"].to_list()
        raise FigureError(f"left out: {notes[0]}" if notes else LONE)
    names = _present(agents, shown)
    values, hints = np.full((len(names), len(names)), np.nan), {}
    for row in shown.iter_rows(named=True):
        at, other = names.index(row["agent"]), names.index(row["against"])
        if (row["measure"] == "cka") == (at < other):
            values[at, other] = row["value"]
            hints[at, other] = _interval(row)
    texts = {place: decimal(values[place], 2) for place in hints}
    _matrix(canvas, names, values, texts, hints, most=2.3)
    cka = shown.filter(pl.col("measure") == "cka", pl.col("agent") < pl.col("against")).sort(
        "value", "agent", "against"
    )
    highest = (
        f"The most similar by CKA are {cka['agent'][-1]} and {cka['against'][-1]}: "
        f"{_interval(cka.row(-1, named=True))}."
        if len(cka)
        else ""
    )
    caption = (
        "Similarity of each pair of embeddings up to a rotation: debiased linear CKA above the diagonal, Procrustes "
        "similarity (the correlation of the coordinates after a rotation fitted to other stimuli) below it. Both are 0 "
        f"for independent embeddings. Intervals over stimuli are in the table. {highest}"
    )
    return Drawn("Similarity of the embeddings of each pair of agents", caption, table)


def shared_dimensions(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw how many dimensions of each agent have a match among those of each other agent."""
    table = inputs.table("dimension_matches")
    shown = None if table is None else table.drop_nulls("match_kind")
    if table is None or shown is None or not len(shown):
        notes = [] if table is None else table.drop_nulls("note")["note"].to_list()
        raise FigureError(f"left out: {notes[0]}" if notes else LONE)
    names = _present(agents, shown)
    values, texts, hints = np.full((len(names), len(names)), np.nan), {}, {}
    for (agent, against), own in shown.group_by("agent", "against", maintain_order=True):
        place = names.index(str(agent)), names.index(str(against))
        kinds = {kind: int((own["match_kind"] == kind).sum()) for kind in ("one_to_one", "one_to_several", "unique")}
        values[place] = 1 - kinds["unique"] / len(own)
        texts[place] = f"{len(own) - kinds['unique']}/{len(own)}"
        hints[place] = f"{agent} in {against}: " + ", ".join(
            f"{n} {kind.replace('_', ' ')}" for kind, n in kinds.items()
        )
    _matrix(canvas, names, values, texts, hints, most=2.3)
    alone = shown.filter(match_kind="unique").select("agent", "dimension", "against")
    others = shown.group_by("agent").agg(pl.col("against").n_unique().alias("n"))
    never = alone.group_by("agent", "dimension").len().join(others, on="agent").filter(pl.col("len") == pl.col("n"))
    caption = (
        "Dimensions of each agent (rows) that have a match among those of each other agent (columns), of all its "
        "dimensions: with one of them, or with several together, at a false discovery rate of 5 % against relabelled "
        f"stimuli. {counted(len(never), 'dimension')} of {count(shown.select('agent', 'dimension').n_unique())} "
        f"{'has' if len(never) == 1 else 'have'} no match in any other agent. A match can be weak: `match_r` and "
        "`several_r` in the table tell how close it is. Without a match, none was found, which says little with few "
        "stimuli."
    )
    return Drawn("Dimensions of each agent with a match in each other agent", caption, table)


def _present(agents: Sequence[AgentFacts], shown: pl.DataFrame) -> list[str]:
    return [one.agent for one in agents if one.agent in set(shown["agent"]) | set(shown["against"])]


def _interval(row: dict[str, Any]) -> str:
    value = decimal(row["value"], 3)
    if row["ci_low"] is None or row["ci_high"] is None:
        return value
    return f"{value} ({decimal(row['ci_low'], 3)} to {decimal(row['ci_high'], 3)})"


def _matrix(
    canvas: Canvas, names: Sequence[str], values: NDArray[np.float64], texts: dict[tuple[int, int], str],
    hints: dict[tuple[int, int], str], *, most: float,
) -> None:  # fmt: skip
    """Draw a cell for each pair of agents, pale enough for ink in both themes."""
    n = len(names)
    (ax,) = canvas.panels(width=2.8 + 0.72 * n, height=1.5 + 0.5 * n)
    ax.imshow(values, cmap=colours("Blues"), vmin=0, vmax=most, aspect="auto")
    for at in range(n):
        for other in range(n):
            text = ax.text(other, at, texts.get((at, other), MISSING if at != other else ""), ha="center", va="center",
                           color=INK if (at, other) in texts else SOFT)  # fmt: skip
            canvas.note(text, hints.get((at, other), ""))
    edges = np.arange(1, n) - 0.5
    ax.hlines(edges, -0.5, n - 0.5, color="white", lw=2)
    ax.vlines(edges, -0.5, n - 0.5, color="white", lw=2)
    ax.set_xticks(range(n), [shortened(name) for name in names], rotation=40, ha="left", rotation_mode="anchor")
    ax.set_yticks(range(n), [shortened(name) for name in names])
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, labelcolor=INK)
    ax.spines[:].set_visible(False)
