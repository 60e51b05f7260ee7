"""Bars of what the dimensions of each agent mean: nearest centroids and kinds of labels (Fig. 3b, f and g)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, Estimate, rows_of
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.canvas import GROUPS, INK, Canvas, Drawn, stack, whiskers
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, listed, percent, shortened

_KINDS = (
    ("categorical", "categories only", GROUPS[1], ""),
    ("dimensional", "other ratings only", GROUPS[0], "////"),
    ("mixed", "both", GROUPS[7], "\\\\\\\\"),
)


def nearest_centroids(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw the share of stimuli whose category is among the three nearest centroids, with chance."""
    shown = [(one, one.top3) for one in agents if one.top3 is not None]
    if not shown:
        reasons = [one.unclassified for one in agents if one.unclassified]
        raise FigureError(reasons[0] if reasons else "no agent's stimuli were classified")
    styles = styles_of(one.agent for one in agents)
    (ax,) = canvas.panels(width=7.2, height=stack(len(shown)), grid="x")
    for at, (one, found) in enumerate(shown):
        ends = whiskers([found.value], [_end(found.ci_low)], [_end(found.ci_high)])
        (bar,) = ax.barh(at, found.value, 0.62, xerr=ends, **styles[one.agent].bars)
        canvas.note(bar, f"{one.agent}: {percent(found.value)}", class_="bar")
    known = [(at, found.chance) for at, (_, found) in enumerate(shown) if found.chance is not None]
    ax.vlines([c for _, c in known], [at - 0.42 for at, _ in known], [at + 0.42 for at, _ in known], color=INK, lw=1.8,
              ls=":", label="chance")  # fmt: skip
    rows(ax, [one.agent for one, _ in shown])
    ax.set(xlabel="share of stimuli, category among the three nearest centroids", xlim=(0, 1))
    if known:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, handlelength=1.4)
    best = max(shown, key=lambda one: one[1].value)
    caption = (
        f"Share of stimuli whose rated category is among the three nearest leave-one-out centroids of the embedding, "
        f"with 95 % intervals; dotted lines are chance, from shuffled categories. The highest is that of "
        f"{best[0].agent} ({percent(best[1].value)}{_of(best[1])})."
    )
    wanted = pl.col("analysis") == "nearest_centroid", pl.col("measure") == "top3_accuracy"
    return Drawn("Top-3 nearest-centroid accuracy of every agent", caption, inputs.metrics.filter(*wanted))


def _end(value: float | None) -> float:
    return float("nan") if value is None else value


def _of(found: Estimate) -> str:
    return f" of {counted(found.n, 'stimulus', 'stimuli')}" if found.n else ""


def rows(ax: Any, names: Sequence[str]) -> None:
    """Label a row for each agent, the first at the top."""
    ax.set_yticks(range(len(names)), [shortened(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0, labelcolor=INK)


def label_shares(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw the share of each agent's dimensions that have a label and, of those, the shares of the kinds of labels."""
    found = {one.agent: _shares(inputs, one) for one in agents}
    shown = [agent for agent, shares in found.items() if "interpretable" in shares]
    if not shown:
        raise FigureError("the labels of the dimensions were not counted in this version")
    styles = styles_of(one.agent for one in agents)
    left, right = canvas.panels(2, width=9.6, height=stack(len(shown)), grid="x", sharey=True)
    for at, agent in enumerate(shown):
        share = found[agent]["interpretable"]
        (bar,) = left.barh(at, share, 0.62, **styles[agent].bars)
        canvas.note(bar, f"{agent}: {percent(share)} with a label", class_="bar")
    for at, agent in enumerate(shown):
        start = 0.0
        for key, name, colour, hatch in _KINDS:
            share = found[agent].get(key, 0.0)
            (bar,) = right.barh(at, share, 0.62, left=start, fc=colour, ec="white", lw=0, hatch=hatch or None,
                                label=name if at == 0 else None)  # fmt: skip
            canvas.note(bar, f"{agent}, {name}: {percent(share)}", class_="bar")
            start += share
    rows(left, shown)
    left.set(xlabel="share of dimensions with a label", xlim=(0, 1))
    right.set(xlabel="share of labelled dimensions, labelled by", xlim=(0, 1))
    right.tick_params(axis="y", length=0)
    right.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2, handlelength=1.4)
    most = [f"{agent} {percent(found[agent]['interpretable'])}" for agent in shown]
    caption = (
        f"Left: share of dimensions whose correlation with a rating is above |r| = 0.1: {listed(most)}. Right: of "
        f"these, the shares labelled by categories only, by other ratings only, and by both."
    )
    wanted = pl.col("analysis") == "labels", pl.col("measure").str.ends_with("_share")
    return Drawn("Shares of labelled dimensions of every agent", caption, inputs.metrics.filter(*wanted))


def _shares(inputs: ReportInputs, facts: AgentFacts) -> dict[str, float]:
    """Return the shares by kind; kinds without a value are left out."""
    kinds = ("interpretable", *(key for key, *_ in _KINDS))
    every = {kind: rows_of(inputs, facts, "labels", f"{kind}_share").drop_nulls("value") for kind in kinds}
    return {kind: float(rows["value"][0]) for kind, rows in every.items() if len(rows)}
