"""The emotion graph: dimensions around a circle by community, joined where they correlate. Nothing is computed here."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, first_labels, numbered, of_fit
from affectlake.report.figures.canvas import GROUPS, SOFT, Canvas, Drawn, bare
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal, listed, shortened

NEGATIVE = "#2461a8"


def emotion_graph(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the dimensions around a circle by community, joined where they correlate."""
    nodes, edges = (_of_fit(inputs, facts, name) for name in ("graph_nodes", "graph_edges"))
    if nodes is None or not len(nodes):
        raise FigureError("this version has no graph of this agent's dimensions")
    names = first_labels(inputs, facts)
    connected = nodes.filter(pl.col("community").is_not_null()).sort("community", "dimension")
    alone = nodes.filter(pl.col("community").is_null()).sort("dimension")["dimension"].to_list()
    if not len(connected) or edges is None:
        raise FigureError(f"no two of the {count(len(nodes))} dimensions correlate above the threshold for an edge")
    edges = edges.sort("r", "dimension", "other_dimension")
    (ax,) = canvas.panels(width=9.4, height=6.2)
    angles = _places(connected)
    _chords(canvas, ax, edges, angles)
    groups = []
    for at, own in enumerate(connected.partition_by("community", maintain_order=True)):
        groups.append(communities_named(list(dict.fromkeys(names.get(d, str(d)) for d in own["dimension"]))))
        _nodes(canvas, ax, own, angles, names, GROUPS[at % len(GROUPS)], groups[-1])
    bare(ax)
    ax.set(xlim=(-1.85, 1.85), ylim=(-1.85, 1.85))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="communities", alignment="left", labelspacing=0.8,
              markerscale=0.45)  # fmt: skip
    central = connected.sort("pagerank", "dimension", descending=[True, False])["dimension"][0]
    caption = (
        f"Lines join dimensions that correlate above the threshold ({counted(len(edges), 'pair')}). The connected "
        f"dimensions form {counted(len(groups), 'community', 'communities')} (Louvain); "
        f"{_isolated([numbered(d, names) for d in alone])}. The sizes of the dots show PageRank: the most central "
        f"dimension is {numbered(central, names)}. The strongest edge has r = {decimal(edges['r'][-1])}."
    )
    return Drawn(f"Graph of {len(nodes)} dimensions of {facts.agent} with {len(edges)} edges", caption, edges)


def communities_named(labels: list[str], most: int = 4) -> str:
    """Format the names of a community's dimensions: up to `most`, and the number of the others, which is never one."""
    return listed(labels if len(labels) <= most + 1 else [*labels[:most], f"{len(labels) - most} more"])


def _isolated(names: list[str]) -> str:
    if not names:
        return "no dimension is isolated"
    is_or_are = "is" if len(names) == 1 else "are"
    return f"{counted(len(names), 'dimension')} {is_or_are} isolated and not shown ({communities_named(names, 8)})"


def _of_fit(inputs: ReportInputs, facts: AgentFacts, table: str) -> pl.DataFrame | None:
    rows = inputs.table(table, facts.agent)
    return None if rows is None else of_fit(rows, facts.seed)


def _places(nodes: pl.DataFrame) -> dict[int, float]:
    """Return the angle of each dimension; gaps between communities are wider."""
    gap = 0.8
    step = 2 * math.pi / (len(nodes) + gap * nodes["community"].n_unique())
    angles, at, before = {}, 0.0, None
    for dimension, community in nodes.select("dimension", "community").iter_rows():
        at += step * (1 + (gap if before is not None and community != before else 0))
        angles[dimension], before = at, community
    return angles


def _xy(angle: float, radius: float = 1.0) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def _chords(canvas: Canvas, ax: Any, edges: pl.DataFrame, angles: dict[int, float]) -> None:
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    rows = list(edges.select("dimension", "other_dimension", "r").iter_rows())
    bent = [Path.MOVETO, Path.CURVE3, Path.CURVE3]
    paths = [Path([_xy(angles[one]), (0, 0), _xy(angles[other])], bent) for one, other, _ in rows]
    chords = PathCollection(
        paths, facecolors="none", edgecolors=[NEGATIVE if r < 0 else SOFT for *_, r in rows],
        linewidths=[0.5 + 4.5 * abs(r) for *_, r in rows], linestyles=["--" if r < 0 else "-" for *_, r in rows],
        zorder=1,
    )  # fmt: skip
    ax.add_collection(chords, autolim=False)
    canvas.note(chords, hints=[f"dimensions {one} and {other}: r = {decimal(r)}" for one, other, r in rows])


def _nodes(
    canvas: Canvas, ax: Any, own: pl.DataFrame, angles: dict[int, float], names: dict[int, str], colour: str, group: str
) -> None:
    rows = list(own.select("dimension", "community", "pagerank").iter_rows())
    places = [_xy(angles[dimension]) for dimension, *_ in rows]
    dots = ax.scatter(
        *zip(*places, strict=True), s=[(6 + 90 * min(rank or 0.0, 0.15)) ** 2 for *_, rank in rows], color=colour,
        edgecolor="white", linewidth=1, zorder=2, label=shortened(group, 60),
    )  # fmt: skip
    canvas.note(dots, hints=[f"dimension {d}, {names.get(d, str(d))}: community {c}" for d, c, _ in rows])
    for dimension, *_ in rows:
        angle = angles[dimension]
        left = math.cos(angle) < -1e-9
        x, y = _xy(angle, 1.11)
        ax.text(
            x, y, numbered(dimension, names), rotation=math.degrees(angle) + (180 if left else 0),
            rotation_mode="anchor", ha="right" if left else "left", va="center", color=SOFT, fontsize=8.5,
        )  # fmt: skip
