"""The emotion graph: dimensions around a circle by community, with chords where they correlate. No arithmetic here."""

from __future__ import annotations

import math

import polars as pl
from markupsafe import Markup

from affectlake.report.agent_summary import AgentFacts, of_fit
from affectlake.report.figures.analyses import communities_named
from affectlake.report.figures.svg import Figure, absent, drawing, element, joined, number, scrolling
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal

SIZE, RADIUS = 680.0, 180.0
HUES = 10  # classes k0 … k9 of the style sheet


def draw(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """Draw the graph of one agent's fit, or say why there is none."""
    nodes = _of_fit(inputs, facts, "graph_nodes")
    edges = _of_fit(inputs, facts, "graph_edges")
    if nodes is None or not len(nodes):
        return absent("This version has no graph of this agent's dimensions.")
    names = first_labels(inputs, facts)
    joined_nodes = nodes.filter(pl.col("community").is_not_null()).sort("community", "dimension")
    alone = nodes.filter(pl.col("community").is_null()).sort("dimension")["dimension"].to_list()
    if not len(joined_nodes) or edges is None:
        return absent(f"No two of the {count(len(nodes))} dimensions correlate above the threshold of an edge.")
    place = _places(joined_nodes)
    chords = [_chord(place, row) for row in edges.sort("r").iter_rows(named=True)]
    dots = [_node(place, row, names) for row in joined_nodes.iter_rows(named=True)]
    label = f"Graph of {len(nodes)} dimensions of {facts.agent}: {len(edges)} edges"
    body = drawing(SIZE, SIZE, label, element("g", *chords), *dots, class_="chart network")
    groups = [
        [names.get(d, str(d)) for d in own["dimension"]]
        for _, own in joined_nodes.group_by("community", maintain_order=True)
    ]
    text = _key(groups)
    left_out = _isolated([names.get(d, str(d)) for d in alone])
    central = joined_nodes.sort("pagerank", descending=True)["dimension"][0]
    caption = (
        f"{counted(len(edges), 'pair')} of dimensions correlate above the threshold and fall into "
        f"{counted(len(groups), 'community', 'communities')} (Louvain); {left_out}. "
        f"The most central (PageRank, size of the dots) is {names.get(central, str(central))}; the strongest edge has "
        f"r = {decimal(edges.sort('r')['r'][-1])}."
    )
    return Figure(element("div", scrolling(label, body), text, class_="graph"), caption, rows=edges)


def _isolated(names: list[str]) -> str:
    if not names:
        return "no dimension is isolated"
    is_or_are = "is" if len(names) == 1 else "are"
    return f"{counted(len(names), 'dimension')} {is_or_are} isolated and left out ({communities_named(names, 8)})"


def first_labels(inputs: ReportInputs, facts: AgentFacts) -> dict[int, str]:
    """Return the first label of each dimension of the fit that is shown: ``sadness`` or ``arousal-low``."""
    rows = _of_fit(inputs, facts, "labels")
    if rows is None:
        return {}
    first = rows.filter(pl.col("label_rank") == 1).select("dimension", "rating", "direction")
    return {d: rating if way == "high" else f"{rating}-low" for d, rating, way in first.iter_rows()}


def _of_fit(inputs: ReportInputs, facts: AgentFacts, table: str) -> pl.DataFrame | None:
    rows = inputs.table(table, facts.agent)
    return None if rows is None else of_fit(rows, facts.seed)


def _places(nodes: pl.DataFrame) -> dict[int, float]:
    """Return the angle of each dimension; between communities the gap is wider."""
    gap = 0.8
    n_communities = nodes["community"].n_unique()
    step = 2 * math.pi / (len(nodes) + gap * n_communities)
    angles, at, before = {}, 0.0, None
    for dimension, community in nodes.select("dimension", "community").iter_rows():
        at += step * (1 + (gap if before is not None and community != before else 0))
        angles[dimension], before = at, community
    return angles


def _xy(angle: float, radius: float = RADIUS) -> tuple[float, float]:
    return SIZE / 2 + radius * math.cos(angle), SIZE / 2 + radius * math.sin(angle)


def _chord(place: dict[int, float], row: dict[str, float]) -> Markup:
    one, other = int(row["dimension"]), int(row["other_dimension"])
    (x1, y1), (x2, y2), r = _xy(place[one]), _xy(place[other]), row["r"]
    middle = SIZE / 2
    path = f"M{number(x1)} {number(y1)}Q{number(middle)} {number(middle)} {number(x2)} {number(y2)}"
    told = element("title", f"dimensions {one} and {other}: r = {decimal(r)}")
    kind = "chord neg" if r < 0 else "chord"
    return element(
        "path", told, d=path, class_=kind, stroke_width=0.6 + 6 * abs(r), stroke_opacity=min(0.85, 0.15 + abs(r))
    )


def _node(place: dict[int, float], row: dict[str, float], names: dict[int, str]) -> Markup:
    dimension, community = int(row["dimension"]), int(row["community"])
    angle = place[dimension]
    x, y = _xy(angle)
    radius = 4 + 60 * min(float(row["pagerank"] or 0.0), 0.15)
    tx, ty = _xy(angle, RADIUS + 18)
    left = math.cos(angle) < -1e-9
    turn = math.degrees(angle) + (180 if left else 0)
    name = names.get(dimension, str(dimension))
    told = element("title", f"dimension {dimension}, {name}: community {community}")
    return joined(
        [
            element("circle", told, cx=x, cy=y, r=radius, class_=f"node k{(community - 1) % HUES}"),
            element(
                "text",
                name,
                transform=f"translate({number(tx)} {number(ty)}) rotate({number(turn)})",
                class_="tick",
                text_anchor="end" if left else "start",
                dominant_baseline="middle",
            ),
        ]
    )


def _key(groups: list[list[str]]) -> Markup:
    items = [
        element(
            "li", element("i", class_=f"k{at % HUES}"), element("span", communities_named(list(dict.fromkeys(group))))
        )
        for at, group in enumerate(groups)
    ]
    return element("ol", *items, class_="communities")
