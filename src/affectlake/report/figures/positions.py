"""Figures of position bias: shares of the chosen positions, and how often answers change with the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, of_agent
from affectlake.report.figures.agent_styles import style_of
from affectlake.report.figures.canvas import ACCENT, INK, RULE, SECOND, WIDTH_IN, Canvas, Drawn
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, listed, percent, percent_range, shortened
from affectlake.report.order_effects import POSITIONS, Compared, Share, compared

THIRD = 1 / 3
REPEATED = "noise_ceiling"
_MARKS = ((ACCENT, "o"), (SECOND, "s"), (INK, "D"))  # of the first, second and third position


def chosen_positions(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw how often the first, second and third stimulus of a triplet was the odd one out."""
    counts = of_agent(inputs.choice_counts, facts.agent).sort("protocol", "trial_set", "position")
    if not facts.n_choices:
        raise FigureError("this version has no choices of this agent")
    if counts["position"].null_count():
        raise FigureError("the agent judged anchored triplets, which have no odd one out")
    several = counts["protocol"].n_unique() > 1
    groups = counts.partition_by("protocol", "trial_set", maintain_order=True)
    rows = -(-len(groups) // 3)
    axes = canvas.panels(len(groups), columns=3, width=9.6, height=2.3 * rows)
    pooled, colour = np.zeros(3, np.int64), style_of(inputs, facts.agent).colour
    for ax, group in zip(axes, groups, strict=True):
        by_position = dict(group.group_by("position").agg(pl.col("n_choices").sum()).iter_rows())
        chosen = np.array([by_position.get(position, 0) for position in (1, 2, 3)], np.int64)
        pooled += chosen
        name = group["trial_set"][0].replace("_", " ")
        _bars(canvas, ax, chosen, colour)
        ax.set_title(shortened(f"{name}, {group['protocol'][0]}" if several else name, 34))
    axes[0].set_ylabel("share of choices")
    return Drawn(f"Chosen positions of {facts.agent}", _positions_caption(facts, pooled), counts)


def _bars(canvas: Canvas, ax: Any, chosen: NDArray[np.int64], colour: str) -> None:
    shares = chosen / max(int(chosen.sum()), 1)
    bars = ax.bar(POSITIONS, shares, 0.7, color=colour)
    for bar, name, n, share in zip(bars, POSITIONS, chosen.tolist(), shares.tolist(), strict=True):
        canvas.note(bar, f"{name}: {percent(share, 1)}, {counted(n, 'choice')}", class_="bar")
        ax.annotate(percent(share, 1), (name, 0), xytext=(0, 5), textcoords="offset points", ha="center",
                    weight="bold", fontsize=8.5, bbox={"fc": "white", "lw": 0, "pad": 1.5})  # fmt: skip
    ax.axhline(THIRD, color=INK, ls=":", lw=1.2)
    ax.annotate("1/3", (1, THIRD), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
                va="center", fontsize=8)  # fmt: skip
    ax.set(ylim=(0, max(0.5, 1.05 * float(shares.max()))), xlabel=counted(int(chosen.sum()), "choice"))
    ax.tick_params(axis="x", length=0)


def _positions_caption(facts: AgentFacts, pooled: NDArray[np.int64]) -> str:
    shares = listed([percent(share, 1) for share in (pooled / pooled.sum()).tolist()])
    what = (
        f"In {counted(int(pooled.sum()), 'choice')}, the odd one was the first, second and third stimulus of the "
        f"triplet in {shares} of cases; {count(facts.n_tied)} choices were ties, which are broken at random."
    )
    return (
        f"{what} This agent is simulated and was not shown stimuli in any order, so the position is the one in the "
        f"triplet, which follows the rows of the stimuli table. Shares other than 1/3 reflect the order of these rows "
        f"and are not a bias of the agent."
    )


def order_effects(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw how often chat agents choose each position, and how often their answers change with the order."""
    effects = inputs.table("order_effects")
    found = [] if effects is None else compared(effects, [one.agent for one in agents])
    shown = [one for one in found if one.n and any(share.value is not None for share in one.shares)]
    if effects is None or not shown:
        raise FigureError("no chat agent has choices in this version")
    sets = list(dict.fromkeys(one.trial_set for one in shown))
    places = [at + 0.7 * sets.index(one.trial_set) for at, one in enumerate(shown)]
    height = 1.5 + 0.5 * (places[-1] + 1)
    shares, flips = canvas.panels(2, width=WIDTH_IN, height=height, grid="x", sharey=True, width_ratios=(3, 2))
    placed = list(zip(shown, places, strict=True))
    for at, (name, mark) in enumerate(zip(POSITIONS, _MARKS, strict=True)):
        _dots(canvas, shares, [(one, y + 0.2 * (at - 1), one.shares[at]) for one, y in placed], name, mark)
    _dots(canvas, flips, [(one, y - 0.12, one.other_order) for one, y in placed], "other order", _MARKS[1])
    _dots(canvas, flips, [(one, y + 0.12, one.same_order) for one, y in placed], "same order", _MARKS[0])
    highest = max(share.ci_high or share.value or 0.0 for one in shown for share in one.shares)
    shares.set(xlabel="share of choices, by position shown", xlim=(0, min(1.02, max(0.5, 1.1 * highest))))
    flips.set(xlabel="share of answers that differ", xlim=(-0.02, 1.02))
    for ax, chance, words in ((shares, THIRD, "chance, 1/3"), (flips, 2 / 3, "chance, 2/3")):
        ax.axvline(chance, color=INK, ls=":", lw=1.2, label=words)
        for y in places:
            ax.axhline(y, color=RULE, lw=0.8, zorder=0)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handletextpad=0.4)
        ax.spines["left"].set_visible(False)
    shares.set_yticks(places, [f"{shortened(one.agent)}\n{shortened(one.protocol)}" for one in shown])
    shares.set_ylim(places[-1] + 0.7, -1.0)
    for trial_set in sets:
        first = next(y for y, one in zip(places, shown, strict=True) if one.trial_set == trial_set)
        shares.text(0.005, first - 0.46, f"{trial_set.replace('_', ' ')} set", weight="bold", fontsize=8.5,
                    va="bottom", ha="left", transform=shares.get_yaxis_transform())  # fmt: skip
    return Drawn("Chosen positions of every chat agent", _order_caption(shown), effects)


def _dots(
    canvas: Canvas, ax: Any, placed: Sequence[tuple[Compared, float, Share]], name: str, mark: tuple[str, str]
) -> None:
    """Draw a proportion of each agent as a dot, with its interval if it has one."""
    rows = [row for row in placed if row[2].value is not None]
    ends = [(y, s.ci_low, s.ci_high) for _, y, s in rows if s.ci_low is not None and s.ci_high is not None]
    ax.hlines([y for y, _, _ in ends], [low for _, low, _ in ends], [high for *_, high in ends], color=mark[0], lw=1.6)
    (dots,) = ax.plot([share.value for *_, share in rows], [y for _, y, _ in rows], mark[1], color=mark[0], ms=6,
                      mec="white", mew=0.8, label=name)  # fmt: skip
    hints = [
        f"{one.agent}, {name}: {percent(s.value)} {percent_range(s.ci_low, s.ci_high)} (n = {count(s.n)})"
        for one, _, s in rows
    ]
    canvas.note(dots, hints=hints)


def _order_caption(shown: Sequence[Compared]) -> str:
    first = [one for one in shown if one.trial_set == shown[0].trial_set]
    one, at, share = max(
        ((one, at, share) for one in first for at, share in enumerate(one.shares) if share.value is not None),
        key=lambda row: abs((row[2].value or 0.0) - THIRD),
    )
    repeated = (
        " Answers to one triplet of the noise ceiling set are not independent, so its p-values are too small."
        if any(row.trial_set == REPEATED for row in shown)
        else ""
    )
    return (
        f"Left: shares of the chosen positions, with 95 % intervals. Every stimulus is shown equally often at each "
        f"position, so an agent without a position bias chooses each position in a third of the trials (dotted line; "
        f"χ² tests equal shares, with 2 degrees of freedom). The largest deviation is that of {one.agent}, which "
        f"chooses the {POSITIONS[at]} position in {percent(share.value, 1)} of {count(one.n)} choices of the "
        f"{one.trial_set.replace('_', ' ')} set. Right: how often two answers to one triplet differ. The difference "
        f"between another order and the same order is the effect of position.{repeated}"
    )
