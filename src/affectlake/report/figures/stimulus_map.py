"""The map of the stimuli: t-SNE points coloured by category, and the legend's order and colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.report.agent_summary import AgentFacts, Category, categories, of_agent, of_fit
from affectlake.report.figures.colours import Colour, circular_order, palette
from affectlake.report.figures.svg import Figure, absent, drawing, element, joined
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal, listed, percent

WIDTH, MARGIN = 760.0, 26.0
LEAST_HEIGHT, MOST_HEIGHT = 460.0, 680.0
CAPTION_LENGTH = 200
_SPREAD = 8.0  # a name is written beside its category's thickest part, this share of it being "near"


class LegendEntry(NamedTuple):
    """One category of the legend: its number in the page's data, name, number of stimuli and colour."""

    number: int
    name: str
    n: int
    colour: Colour


def legend(inputs: ReportInputs) -> list[LegendEntry]:
    """Return the categories in the order of their hues, so that emotions rated alike stand side by side."""
    found = categories(inputs)
    order = circular_order(np.array([one.profile for one in found])) if found else np.array([], int)
    first = _start(found, order.tolist())
    turned = [*order[first:].tolist(), *order[:first].tolist()]
    colours = palette(len(found))
    return [LegendEntry(at, found[one].name, found[one].n, colours[at]) for at, one in enumerate(turned)]


def _start(found: list[Category], order: list[int]) -> int:
    """Return where the circle is cut: before the category with the most stimuli."""
    return max(range(len(order)), key=lambda at: (found[order[at]].n, -order[at]), default=0)


def stimulus_data(inputs: ReportInputs, entries: list[LegendEntry]) -> dict[str, list[object]]:
    """Return what hovering shows: id, category number (−1 for none) and first caption of each stimulus, by row."""
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
        "caption": [_shortened(text) for text in rows["caption"]],
        "rated": _rated(inputs, rows["stimulus_index"].to_list()),
    }


def _rated(inputs: ReportInputs, order: list[int]) -> list[object]:
    """Return the three highest category ratings and valence and arousal of each stimulus, in words."""
    named = inputs.ratings.filter((pl.col("family") == "category") & (pl.col("score") > 0))
    best = (
        named.sort("score", "rating", descending=[True, False]).group_by("stimulus_index", maintain_order=True).head(3)
    )
    scales = inputs.ratings.filter(pl.col("rating").is_in(["valence", "arousal"])).sort("rating", descending=True)
    words: dict[int, list[str]] = {}
    for index, rating, score in pl.concat([best, scales]).select("stimulus_index", "rating", "score").iter_rows():
        words.setdefault(index, []).append(f"{rating} {decimal(score)}")
    return [" · ".join(words.get(index, [])) for index in order]


def _shortened(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= CAPTION_LENGTH else text[: CAPTION_LENGTH - 1].rstrip() + "…"


def draw(inputs: ReportInputs, facts: AgentFacts, entries: list[LegendEntry]) -> Figure:
    """Draw the map of one agent's fit, or say why there is none."""
    layout = of_fit(of_agent(inputs.layouts, facts.agent), facts.seed)
    if not len(layout):
        return absent("This version has no map of this agent's stimuli: the layouts table has no row for it.")
    rows = layout.join(inputs.stimuli.select("stimulus_index", "category"), on="stimulus_index", how="left").sort(
        "stimulus_index"
    )
    points, height = _scaled(rows.select("x", "y").to_numpy())
    index = rows["stimulus_index"].to_list()
    names = rows["category"].to_list()
    members = {entry.number: [at for at, name in enumerate(names) if name == entry.name] for entry in entries}
    members[-1] = [at for at, name in enumerate(names) if name is None]
    groups = [  # small categories last, on top
        element(
            "g", *(_dot(points[at], index[at]) for at in members[number]), class_=f"cat c{number}", data_c=str(number)
        )
        for number in sorted(members, key=lambda number: (-len(members[number]), number))
        if members[number]
    ]
    label = f"Map of {count(len(rows))} stimuli for {facts.agent}, coloured by category; arrow keys step through them"
    names_wide = _names(points, members, entries, size=12.0, height=height)
    names_narrow = _names(points, members, entries, size=23.0, height=height)
    body = drawing(
        WIDTH,
        height,
        label,
        *groups,
        element("g", *names_wide, class_="names wide"),
        element("g", *names_narrow, class_="names narrow"),
        element("circle", class_="ring", r=7.0),
        class_="atlas",
        focusable=True,
    )
    return Figure(body, _caption(facts, len(rows), entries, len(members[-1])), rows=rows)


def _dot(point: NDArray[np.float64], stimulus_index: int) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.2" data-i="{}"/>').format(*point.tolist(), stimulus_index)


class _Scaled(NamedTuple):
    points: NDArray[np.float64]  # (n_stimuli, 2) in the drawing's units
    height: float


def _scaled(points: NDArray[np.float32]) -> _Scaled:
    """Fit the points into a drawing as high as they need, both axes alike, y upwards."""
    xy = np.asarray(points, np.float64)
    middle = (xy.max(axis=0) + xy.min(axis=0)) / 2
    extent = np.maximum(xy.max(axis=0) - xy.min(axis=0), 1e-9)
    across = WIDTH - 2 * MARGIN
    height = round(min(max(across * extent[1] / extent[0] + 2 * MARGIN, LEAST_HEIGHT), MOST_HEIGHT))
    scale = min(across / extent[0], (height - 2 * MARGIN) / extent[1])
    return _Scaled((xy - middle) * scale * [1, -1] + [WIDTH / 2, height / 2], float(height))


def _names(
    points: NDArray[np.float64],
    members: dict[int, list[int]],
    entries: list[LegendEntry],
    *,
    size: float,
    height: float,
) -> list[Markup]:
    """Write category names where their stimuli are thickest, larger categories first, and none over another."""
    taken: list[tuple[float, float, float, float]] = []
    written = []
    for entry in sorted(entries, key=lambda entry: (-len(members[entry.number]), entry.number)):
        own = points[members[entry.number]]
        if len(own) < 3:
            continue
        x, y = _thickest(own)
        half = 0.29 * size * len(entry.name) + 2
        x = float(np.clip(x, half, WIDTH - half))
        for shift in (0.0, -0.9 * size, 0.9 * size, -1.8 * size, 1.8 * size):
            box = (x - half, y + shift - 0.6 * size, x + half, y + shift + 0.6 * size)
            inside = box[1] > 0 and box[3] < height
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                text = element(
                    "text", entry.name, x=x, y=y + shift + 0.35 * size, font_size=size, data_c=str(entry.number)
                )
                written.append(text)
                break
    return written


def _thickest(own: NDArray[np.float64]) -> tuple[float, float]:
    distance = np.linalg.norm(own[:, None] - own[None], axis=2)
    near = min(len(own) - 1, max(2, round(len(own) / _SPREAD)))
    x, y = own[np.sort(distance, axis=1)[:, near].argmin()]
    return float(x), float(y)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _caption(facts: AgentFacts, n_points: int, entries: list[LegendEntry], n_without: int) -> str:
    placed = (
        f"{counted(n_points, 'stimulus', 'stimuli')} placed by t-SNE of their weights on "
        f"{counted(facts.n_dimensions, 'dimension')} (seed {facts.seed}) and coloured by their highest-rated category"
        f"{f' ({count(n_without)} have none)' if n_without else ''}, with like hues for emotions that are rated alike."
    )
    largest = sorted(entries, key=lambda entry: (-entry.n, entry.name))[:3]
    named = listed([f"{entry.name} ({count(entry.n)})" for entry in largest]) if largest else ""
    sizes = f"The largest of {counted(len(entries), 'category', 'categories')} are {named}" if largest else ""
    if facts.top1 is None:
        return " ".join([placed, f"{sizes}."] if sizes else [placed])
    found = (
        f"the nearest centroid is that of a stimulus's own category for {percent(facts.top1.value)} of the "
        f"{count(facts.top1.n or 0)} stimuli in large enough categories."
    )
    return f"{placed} {sizes}; {found}"


def colour_rules(entries: list[LegendEntry]) -> Markup:
    """Return the CSS that gives each category its colour on light and dark backgrounds."""
    light = joined(Markup("--c{}:{};").format(entry.number, entry.colour.light) for entry in entries)
    dark = joined(Markup("--c{}:{};").format(entry.number, entry.colour.dark) for entry in entries)
    fills = joined(Markup(".c{0}{{--own:var(--c{0})}}").format(entry.number) for entry in entries)
    return Markup(":root{{{}}}@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}{}").format(
        light, dark, fills
    )
