"""The overlap of communities drawn: the correlation of every community with those of the other agents (Fig. 7e)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.agent_comparison import LONE, community_names
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.canvas import INK, SOFT, Canvas, Drawn, colours
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal, shortened

CELL_IN = 0.23
SHARED = 0.5  # communities whose r is above this are marked


def community_matrix(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw the correlation of each community of dimensions with each community of the other agents."""
    table = inputs.table("community_overlaps")
    if table is None:
        raise FigureError(LONE if len(agents) < 2 else "no two agents have communities to compare")
    present = {*table.select("agent", "community").iter_rows(), *table.select("against", "other_community").iter_rows()}
    order = [one.agent for one in agents]
    keys = sorted(present, key=lambda key: (order.index(key[0]), key[1]))
    place = {key: at for at, key in enumerate(keys)}
    r = np.full((len(keys), len(keys)), np.nan)
    for agent, community, against, other, value in table.select(
        "agent", "community", "against", "other_community", "r"
    ).iter_rows():
        r[place[agent, community], place[against, other]] = np.nan if value is None else value
    names = {one.agent: community_names(inputs, one) for one in agents}
    labels = [shortened(f"{community}: {names[agent].get(community, '')}".strip(" :"), 38) for agent, community in keys]
    size = CELL_IN * len(keys)
    (ax,) = canvas.panels(width=4.6 + size, height=1.7 + size)
    image = ax.imshow(r, cmap=colours("RdBu_r"), vmin=-1, vmax=1)
    ax.set_yticks(range(len(keys)), labels)
    ax.set_xticks(range(len(keys)), [str(community) for _, community in keys])
    ax.tick_params(length=0, labelsize=8, labelcolor=SOFT)
    ax.tick_params(axis="y", pad=16)
    styles = styles_of(order)
    for at, label in enumerate(ax.get_yticklabels()):
        label.set_color(INK)
        ax.plot(-0.9, at, styles[keys[at][0]].marker, color=styles[keys[at][0]].colour, ms=5, clip_on=False)
    edges = [at - 0.5 for at in range(1, len(keys)) if keys[at][0] != keys[at - 1][0]]
    ax.hlines(edges, -0.5, len(keys) - 0.5, color="white", lw=3)
    ax.vlines(edges, -0.5, len(keys) - 0.5, color="white", lw=3)
    rows, columns = np.nonzero(np.nan_to_num(r) > SHARED)
    ax.plot(columns, rows, "s", mfc="white", mec=INK, mew=0.8, ms=4)
    for agent in dict.fromkeys(agent for agent, _ in keys):
        own = [at for at, (name, _) in enumerate(keys) if name == agent]
        ax.annotate(shortened(agent, 3 + 4 * len(own)), (np.mean(own), len(keys) - 0.5), xytext=(0, -16), ha="center",
                    va="top", textcoords="offset points", color=INK, fontsize=8)  # fmt: skip
    ax.set(xlim=(-0.5, len(keys) - 0.5), ylim=(len(keys) - 0.5, -0.5))
    ax.spines[:].set_visible(False)
    bar = canvas.figure.colorbar(image, ax=ax, label="Pearson r of profiles", shrink=0.7, pad=0.02, ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    above = table.filter(table["r"] > SHARED)
    best = table.sort("r", descending=True).row(0, named=True)
    caption = (
        f"Correlation, over the stimuli, of the profiles of each community of dimensions (rows, with the numbers and "
        f"labels of their most central dimensions) with those of the other agents (columns). "
        f"Squares mark r above {SHARED}: "
        f"{count(len(above) // 2)} of {counted(len(table) // 2, 'pair')}. The highest is {decimal(best['r'])}, between "
        f"{best['agent']} ({best['community']}) and {best['against']} ({best['other_community']})."
    )
    return Drawn("Correlations of communities between agents", caption, table)
