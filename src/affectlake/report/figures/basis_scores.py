"""Figure of the region scores of ratings and of the embeddings that are learned from them, as pairs of bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.basis_comparison import LEVEL, NO_RATINGS
from affectlake.report.figures.brain_maps import METHODS, brain_of
from affectlake.report.figures.brain_regions import GROUPS_OF_REGIONS, of_stimuli, region_names, regions_of, score_bars
from affectlake.report.figures.canvas import FAINT, Canvas, Drawn
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted

BASES = {"vectors": "ratings", "embedding": "embedding"}


def basis_scores(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight",
    group: str = "cortical",
) -> Drawn:  # fmt: skip
    """Draw how close ratings and the embeddings that are learned from them are to each region, as pairs of bars.

    Mean and standard deviation over subjects, and a dot for each subject (Extended Data Fig. 2 of Du et al. 2025).
    """
    brain, shown = brain_of(inputs, agents)
    scores = brain.scores.filter(pl.col("method") == method, pl.col("agent").is_in(shown)).drop_nulls("region_score")
    rated = set(scores.filter(pl.col("basis") == "vectors")["agent"])
    named = [agent for agent in shown if agent in rated]
    if not named:
        raise FigureError(NO_RATINGS)
    regions = regions_of(brain, scores, group)
    own = scores.filter(
        pl.col("region").is_in(regions), pl.col("agent").is_in(named), pl.col("basis").is_in(list(BASES))
    )
    own = own.sort("region", "agent", "basis", "subject")
    n = len(BASES) * len(named)
    (ax,) = canvas.panels(width=max(4.6, 1.0 + len(regions) * (0.12 * n + 0.2)), height=3.5, grid="y")
    styles = styles_of(one.agent for one in agents)
    for at, (agent, basis) in enumerate((agent, basis) for agent in named for basis in BASES):
        mine = own.filter(agent=agent, basis=basis)
        values = {(region, agent): rows["region_score"].to_numpy()
                  for (region,), rows in mine.group_by("region", maintain_order=True)}  # fmt: skip
        style = styles[agent].bars
        if basis == "vectors":  # a frame in the agent's colour
            style |= {"facecolor": "white", "edgecolor": styles[agent].colour, "linewidth": 1.1, "hatch": None}
        name = f"{agent}, {BASES[basis]}"
        score_bars(canvas, ax, brain, values, regions, agent, (at + 0.5) / n - 0.5, 0.8 / n, style, name)
    ax.axhline(0, color=FAINT, lw=0.8)
    stars = _stars(inputs, ax, method, regions, named)
    ax.set_xticks(range(len(regions)), regions, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(ylabel=METHODS[method], xlim=(-0.6, len(regions) - 0.4))
    ax.tick_params(axis="x", length=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2, borderaxespad=0)
    caption = (
        f"Scores of the ratings of which agents are made (frames) and of the embeddings that were learned from choices "
        f"by these ratings (filled): means over {counted(own['subject'].n_unique(), 'subject')}; error bars are "
        f"standard deviations, and each dot is a subject. {stars}{of_stimuli(own)} {region_names(brain, regions)}."
    ).strip(" .") + "."
    return Drawn(f"{METHODS[method]} of ratings and of embeddings, {GROUPS_OF_REGIONS[group]}", caption, own)


def _stars(inputs: ReportInputs, ax: Any, method: str, regions: list[str], named: list[str]) -> str:
    """Mark the regions in which an embedding differs from its ratings; return a sentence on the marks."""
    table = inputs.table("basis_stats")
    tested = None if table is None else table.filter(pl.col("method") == method).drop_nulls("p_both_fdr")
    if tested is None or not len(tested):
        return "There are no stars: ratings have no values under relabelled stimuli."
    high = ax.get_ylim()[1]
    for agent, region, level in tested.select("agent", "region", "p_both_fdr").iter_rows():
        if level < LEVEL and agent in named and region in regions:
            x = regions.index(region) + 0.8 * ((named.index(agent) + 0.5) / len(named) - 0.5)
            ax.text(x, high, "*", ha="center", va="center", fontsize=10)
    ax.set_ylim(top=high)
    return (
        "A star marks a pair that differs both in a paired two-tailed t-test across subjects and against relabelled "
        "stimuli (false discovery rate below 0.05 over the agent's regions)."
    )
