"""The stimulus map: points placed by t-SNE and coloured by category, with its legend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, Category, categories, of_agent, of_fit
from affectlake.report.figures.canvas import FAINT, Canvas, Drawn, bare
from affectlake.report.figures.colours import circular_order, palette
from affectlake.report.figures.markup import joined
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal, listed, percent, shortened

WIDTH_IN, LEAST_IN, MOST_IN = 7.2, 4.4, 6.5
CAPTION_LENGTH = 200
LETTER_IN, LINE_IN = 0.082, 0.15  # of the names
_SPREAD = 8.0  # the density of a category at a point is measured over 1/8 of its stimuli


class LegendEntry(NamedTuple):
    """One category of the legend: its number in the page's data, its name, number of stimuli and colour."""

    number: int
    name: str
    n: int
    colour: str


def legend(inputs: ReportInputs) -> list[LegendEntry]:
    """Return the categories in the order of their hues, so that categories with similar ratings are adjacent."""
    found = categories(inputs)
    order = circular_order(np.array([one.profile for one in found])) if found else np.array([], int)
    first = _start(found, order.tolist())
    turned = [*order[first:].tolist(), *order[:first].tolist()]
    colours = palette(len(found))
    return [LegendEntry(at, found[one].name, found[one].n, colours[at]) for at, one in enumerate(turned)]


def _start(found: list[Category], order: list[int]) -> int:
    """Return where the circle begins: at the category with the most stimuli."""
    return max(range(len(order)), key=lambda at: (found[order[at]].n, -order[at]), default=0)


def stimulus_data(inputs: ReportInputs, entries: list[LegendEntry]) -> dict[str, list[object]]:
    """Return the data of the tooltips: id, category number (-1 if it has none) and first caption of each stimulus."""
    numbers = {entry.name: entry.number for entry in entries}
    captions = inputs.captions.sort("stimulus_index", "caption_index").unique("stimulus_index", keep="first")
    rows = (
        inputs.stimuli.select("stimulus_index", "stimulus_id", "category")
        .join(captions.select("stimulus_index", "caption"), on="stimulus_index", how="left")
        .sort("stimulus_index")
    )
    return {
        "index": rows["stimulus_index"].to_list(),
        "id": rows["stimulus_id"].to_list(),
        "category": [numbers.get(name, -1) for name in rows["category"]],
        "caption": [shortened(text or "", CAPTION_LENGTH) for text in rows["caption"]],
        "rated": _rated(inputs, rows["stimulus_index"].to_list()),
    }


def _rated(inputs: ReportInputs, order: list[int]) -> list[object]:
    """Return the three highest category ratings, and valence and arousal, of each stimulus as text."""
    categories = [family.name for family in inputs.families if family.are_categories]
    rated = inputs.ratings.drop_nulls("score")
    named = rated.filter(pl.col("family").is_in(categories) & (pl.col("score") > 0))
    best = (
        named.sort("score", "rating", descending=[True, False]).group_by("stimulus_index", maintain_order=True).head(3)
    )
    scales = rated.filter(pl.col("rating").is_in(["valence", "arousal"])).sort("rating", descending=True)
    words: dict[int, list[str]] = {}
    for index, rating, score in pl.concat([best, scales]).select("stimulus_index", "rating", "score").iter_rows():
        words.setdefault(index, []).append(f"{rating} {decimal(score)}")
    return [" · ".join(words.get(index, [])) for index in order]


def stimulus_map(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the stimuli at their t-SNE coordinates, coloured by category."""
    layout = of_fit(of_agent(inputs.layouts, facts.agent), facts.seed)
    if not len(layout):
        raise FigureError("this version has no stimulus map of this agent: the table layouts has no rows of it")
    entries = legend(inputs)
    rows = layout.join(inputs.stimuli.select("stimulus_index", "category"), on="stimulus_index", how="left").sort(
        "stimulus_index"
    )
    xy = rows.select("x", "y").to_numpy().astype(np.float64)
    extent = np.maximum(np.ptp(xy, axis=0), 1e-9)
    height = float(np.clip(WIDTH_IN * extent[1] / extent[0], LEAST_IN, MOST_IN))
    (ax,) = canvas.panels(width=WIDTH_IN, height=height)
    bare(ax)
    margin = 0.03 * extent
    ax.set(xlim=(xy[:, 0].min() - margin[0], xy[:, 0].max() + margin[0]))
    ax.set(ylim=(xy[:, 1].min() - margin[1], xy[:, 1].max() + margin[1]))
    index, names = rows["stimulus_index"].to_list(), rows["category"].to_list()
    members = {entry.number: [at for at, name in enumerate(names) if name == entry.name] for entry in entries}
    members[-1] = [at for at, name in enumerate(names) if name is None]
    colours = {entry.number: (entry.colour, entry.name) for entry in entries} | {-1: (FAINT, "no category")}
    for number in sorted(members, key=lambda number: (-len(members[number]), number)):  # small categories last, on top
        own = members[number]
        if own:
            colour, name = colours[number]
            dots = ax.scatter(
                *xy[own].T, s=20, facecolor=colour, edgecolor="white", linewidth=0.3, label=name, clip_on=False
            )
            canvas.note(dots, class_="cat", data_c=str(number), each={"data-i": [index[at] for at in own]})
    units = max(extent[0] / WIDTH_IN, extent[1] / height)  # units of the map per inch
    for entry, x, y in _names(xy, members, entries, units):
        text = ax.text(
            x, y, shortened(entry.name), ha="center", va="center", weight="bold", fontsize=8.5,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "boxstyle": "round,pad=0.1"},
        )  # fmt: skip
        canvas.note(text, class_="name", data_c=str(entry.number))
    label = f"Map of {count(len(rows))} stimuli for {facts.agent}{', coloured by category' if entries else ''}"
    return Drawn(label, _caption(facts, len(rows), entries, len(members[-1])), rows)


def _names(
    xy: NDArray[np.float64], members: dict[int, list[int]], entries: list[LegendEntry], units: float
) -> list[tuple[LegendEntry, float, float]]:
    """Place category names where their stimuli are densest, larger categories first, without overlap."""
    taken: list[tuple[float, float, float, float]] = []
    placed = []
    low, high = xy.min(axis=0), xy.max(axis=0)
    line = LINE_IN * units
    for entry in sorted(entries, key=lambda entry: (-len(members[entry.number]), entry.number)):
        own = xy[members[entry.number]]
        if len(own) < 3:
            continue
        x, y = _densest(own)
        half = min(0.5 * LETTER_IN * len(shortened(entry.name)) * units, float(high[0] - low[0]) / 2)
        x = float(np.clip(x, low[0] + half, high[0] - half))
        for shift in (0.0, line, -line, 2 * line, -2 * line):
            box = (x - half, y + shift - line / 2, x + half, y + shift + line / 2)
            inside = box[1] > low[1] - line and box[3] < high[1] + line
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                placed.append((entry, x, y + shift))
                break
    return placed


def _densest(own: NDArray[np.float64]) -> tuple[float, float]:
    distance = np.linalg.norm(own[:, None] - own[None], axis=2)
    near = min(len(own) - 1, max(2, round(len(own) / _SPREAD)))
    x, y = own[np.sort(distance, axis=1)[:, near].argmin()]
    return float(x), float(y)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _caption(facts: AgentFacts, n_points: int, entries: list[LegendEntry], n_without: int) -> str:
    coloured = (
        f" and coloured by their highest-rated category"
        f"{f' ({count(n_without)} without a category)' if n_without else ''}; categories with similar ratings have "
        f"similar hues"
    )
    placed = (
        f"{counted(n_points, 'stimulus', 'stimuli')} placed by t-SNE of their weights on "
        f"{counted(facts.n_dimensions, 'dimension')} (seed {facts.seed}){coloured if entries else ''}."
    )
    largest = sorted(entries, key=lambda entry: (-entry.n, entry.name))[:3]
    named = listed([f"{entry.name} ({count(entry.n)})" for entry in largest]) if largest else ""
    sizes = f"The largest of {counted(len(entries), 'category', 'categories')} are {named}." if largest else ""
    if facts.top1 is None:
        return f"{placed} {sizes}".rstrip()
    found = (
        f"For {percent(facts.top1.value)} of the {count(facts.top1.n or 0)} stimuli in large enough categories, the "
        f"nearest centroid of the embedding is that of their own category."
    )
    return f"{placed} {sizes} {found}"


def colour_rules(entries: list[LegendEntry]) -> Markup:
    """Return the CSS rules that set the colour of each category."""
    return joined(Markup(".c{}{{--own:{}}}").format(entry.number, entry.colour) for entry in entries)
