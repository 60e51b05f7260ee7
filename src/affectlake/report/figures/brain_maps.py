"""The brain's figures: regions with a dot per subject, glass brains, and one agent's voxels against another's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.report.figures import brain_viewer
from affectlake.report.figures.brain_viewer import SHADES, painted
from affectlake.report.figures.svg import Figure, absent, drawing, element, joined, number, ticks
from affectlake.report.inputs import BrainInputs
from affectlake.report.number_format import count, decimal
from affectlake.report.volumes import Volume

METHODS = {"searchlight": "Searchlight RSA (ρ)", "encoding": "Voxel-wise encoding (r)"}
GROUPS = {"subcortical": "subcortical regions", "cortical": "cortical regions"}

_LEFT, _TOP, _HEIGHT, _BOTTOM, _BAR, _GAP = 44.0, 12.0, 190.0, 74.0, 9.0, 12.0
_BINS = 40
_VIEWS = (("from the right", 1, 2), ("from behind", 0, 2), ("from above", 0, 1))  # name, axis across, axis up


def figures(inputs: BrainInputs | None, agents: Sequence[str]) -> list[tuple[str, str, Figure]]:
    """Return the section's figures in their order, with their names and titles.

    Parameters
    ----------
    inputs : BrainInputs, optional
        None for a version without brain maps, which has no figures.
    agents : sequence of str
        In the page's order; those without brain maps are left out.
    """
    shown = [agent for agent in agents if inputs and agent in set(inputs.scores["agent"])]
    if not inputs or not shown:
        return []
    found = [
        (f"{method}-{group}", f"{title}: {GROUPS[group]}", _regions(inputs, shown, method, group))
        for method, title in METHODS.items()
        for group in GROUPS
    ]
    found.append(("explore", "The maps, to explore", brain_viewer.draw(inputs.volumes, shown, METHODS)))
    for method, title in METHODS.items():
        found.append((f"{method}-glass", f"{title}: glass brains", _glass(inputs, shown, method)))
        found.append((f"{method}-voxels", f"{title}: voxel by voxel", _voxels(inputs, shown, method)))
    return found


def data(inputs: BrainInputs | None, agents: Sequence[str]) -> dict[str, Any] | None:
    """Return what the page's script draws the maps from; None for a version without brain maps."""
    if not inputs or not brain_viewer.scales(inputs.volumes):
        return None
    return brain_viewer.viewer_data(inputs.volumes, agents, METHODS, {one[0]: one[2] for one in inputs.regions})


def key(agents: Sequence[str]) -> Markup:
    """Return the line that names the agents' colours."""
    parts = [element("span", element("i", class_=_colour(at)), f" {agent}") for at, agent in enumerate(agents)]
    return element("p", joined(parts), class_="key agents")


def _colour(at: int) -> str:
    """Return the class of the style sheet's colour for the agent at a position."""
    return f"k{at % 10}"


def _regions(inputs: BrainInputs, agents: list[str], method: str, group: str) -> Figure:
    """Draw a bar per agent and region: mean over subjects, s.d., a dot per subject, the noise ceiling, stars."""
    scores = inputs.scores.filter((pl.col("method") == method) & (pl.col("basis") == "embedding"))
    scores = scores.drop_nulls("region_score")
    present = set(scores["region"])
    regions = [one for one in inputs.regions if one[1] == group and one[0] in present]
    if not regions:
        return absent(f"No voxel of this version's subjects lies in a named one of the {GROUPS[group]}.")
    values = {key: rows["region_score"].to_numpy() for key, rows in scores.group_by("region", "agent")}
    every = np.concatenate(list(values.values()))
    low, high = min(0.0, float(every.min())), max(float(every.max()), 0.01) * 1.08
    width = _LEFT + len(regions) * (len(agents) * _BAR + _GAP) + 8

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (high - value) / (high - low)

    marks = [_axis(low, high, width, y)]
    for at, (region, _, name) in enumerate(regions):
        x = _LEFT + _GAP / 2 + at * (len(agents) * _BAR + _GAP)
        marks.append(
            _ceiling(inputs, region, x, len(agents) * _BAR, y, high) if method == "searchlight" else Markup("")
        )
        best = max(agents, key=lambda one: float(values.get((region, one), np.array([-np.inf])).mean()))
        for column, agent in enumerate(agents):
            mine = values.get((region, agent))
            if mine is not None:
                star = agent != best and _differs(inputs, method, region, best, agent)
                marks.append(_bar(x + column * _BAR, mine, y, column, star, f"{agent}, {name}"))
        middle = x + len(agents) * _BAR / 2
        place = f"rotate(-40 {number(middle)} {number(_TOP + _HEIGHT + 14)})"
        marks.append(
            element("text", region, x=middle, y=_TOP + _HEIGHT + 14, text_anchor="end", transform=place, class_="tick")
        )
    n = scores["subject"].n_unique()
    body = drawing(width, _TOP + _HEIGHT + _BOTTOM, f"{METHODS[method]} by region", *marks, class_="chart brain")
    ceiling = " Grey bands: noise ceilings, where they reach into the scale." if method == "searchlight" else ""
    return Figure(
        element("div", body, class_="scroll", role="region", tabindex="0", aria_label=f"{METHODS[method]}, {group}")
        + key(agents),
        f"Mean over {count(n)} subjects with standard deviations; dots are subjects. A star: differs from the region's "
        f"best agent (paired two-tailed t-test across subjects, false discovery rate below 0.05).{ceiling}",
        rows=scores.filter(pl.col("region").is_in([one[0] for one in regions])).sort("region", "agent", "subject"),
    )


def _axis(low: float, high: float, width: float, y: object) -> Markup:
    assert callable(y)
    parts = []
    for tick in ticks(low, high, 4):
        parts.append(
            element("line", x1=_LEFT, x2=width, y1=y(tick), y2=y(tick), class_="axis" if tick == 0 else "grid")
        )
        parts.append(element("text", f"{tick:g}", x=_LEFT - 6, y=y(tick) + 4, text_anchor="end", class_="tick"))
    return joined(parts)


def _bar(x: float, mine: NDArray[np.float64], y: object, column: int, star: bool, name: str) -> Markup:
    assert callable(y)
    mean, spread = float(mine.mean()), float(mine.std(ddof=1)) if len(mine) > 1 else 0.0
    middle = x + _BAR / 2
    top, bottom = min(y(mean), y(0.0)), max(y(mean), y(0.0))
    parts = [
        element("rect", element("title", f"{name}: {decimal(mean, 3)} ± {decimal(spread, 3)}"), x=x + 0.5, y=top,
                width=_BAR - 1, height=bottom - top, class_=f"node {_colour(column)}"),
        element("line", x1=middle, x2=middle, y1=y(mean - spread), y2=y(mean + spread), class_="spread"),
        *(element("circle", cx=middle, cy=y(float(value)), r=1.5, class_="subject") for value in mine),
    ]  # fmt: skip
    if star:
        parts.append(element("text", "*", x=middle, y=_TOP + 4, text_anchor="middle", class_="star"))
    return joined(parts)


def _ceiling(inputs: BrainInputs, region: str, x: float, width: float, y: object, high: float) -> Markup:
    assert callable(y)
    rows = inputs.ceilings.filter(pl.col("region") == region).drop_nulls(["ceiling_low", "ceiling_high"])
    if rows.is_empty() or rows["ceiling_low"][0] > high:
        return Markup("")
    top = y(min(high, float(rows["ceiling_high"][0])))
    return element("rect", x=x, width=width, y=top, height=y(float(rows["ceiling_low"][0])) - top, class_="ceiling")


def _differs(inputs: BrainInputs, method: str, region: str, one: str, other: str) -> bool:
    wanted = {"method": method, "region": region, "agent": one, "other_agent": other}
    rows = inputs.stats.filter(*(pl.col(name) == value for name, value in wanted.items())).drop_nulls("p_fdr")
    return not rows.is_empty() and float(rows["p_fdr"][0]) < 0.05


def _glass(inputs: BrainInputs, agents: list[str], method: str) -> Figure:
    """Draw each agent's map of one subject from three sides: the largest value along the line of sight."""
    volume = inputs.volumes[0]
    shown = {agent: volume.values[method, agent] for agent in agents if (method, agent) in volume.values}
    above = np.concatenate([values[values > 0] for values in shown.values()]) if shown else np.empty(0)
    if not len(above):
        return absent("No voxel of this version has a value above 0.")
    highest = float(np.quantile(above, 0.99))
    panels = [
        element("div", element("p", agent, class_="who"), *(_view(volume, values, view, highest) for view in _VIEWS),
                class_="glass")
        for agent, values in shown.items()
    ]  # fmt: skip
    return Figure(
        joined(panels),
        f"Subject {volume.subject} from the right, from behind and from above: the largest value along each line of "
        f"sight; full colour from {decimal(highest, 3)} (99th percentile). Voxels at or below 0 are blank.",
    )


def _view(volume: Volume, values: NDArray[np.float32], view: tuple[str, int, int], highest: float) -> Markup:
    name, across, up = view
    width, height = volume.shape[across], volume.shape[up]
    line, seen = np.unique(volume.cells[:, across] * height + volume.cells[:, up], return_inverse=True)
    largest = np.zeros(len(line))
    np.fmax.at(largest, seen, values)
    shade = np.ceil(largest / highest * SHADES).clip(0, SHADES).astype(int)
    x, y = line // height, height - 1 - line % height
    return painted(x, y, shade, (width, height), volume.cell_mm[[across, up]], f"glass brain {name}", class_="view")


def _voxels(inputs: BrainInputs, agents: list[str], method: str) -> Figure:
    """Draw 2-D histograms of the voxels: the agent with the highest mean against every other."""
    rows = inputs.maps.filter(pl.col("method") == method).drop_nulls("value")
    wide = rows.pivot("agent", index="voxel_index", values="value")
    ranked = sorted((a for a in agents if a in wide.columns), key=lambda a: -float(wide[a].mean() or 0.0))  # type: ignore[arg-type]
    if len(ranked) < 2:
        return absent("There is only one agent with a brain map.")
    panels = []
    for other in ranked[1:]:
        both = wide.select(ranked[0], other).drop_nulls().to_numpy()
        panels.append(_histogram(both, ranked[0], other))
    return Figure(
        element("div", joined(panels), class_="panels"),
        f"Subject {inputs.subject}: voxels counted in squares; darker is more, on a logarithmic scale. Above the "
        f"diagonal {ranked[0]} is closer to the brain.",
    )


def _histogram(both: NDArray[np.float64], one: str, other: str) -> Markup:
    low, high = float(both.min()), float(both.max())
    counts, _, _ = np.histogram2d(both[:, 1], both[:, 0], bins=_BINS, range=[[low, high]] * 2)
    most, size, edge = np.log1p(counts.max()), 5.0, _BINS * 5.0
    cells = [
        element("rect", x=30 + i * size, y=8 + edge - (j + 1) * size, width=size, height=size,
                fill_opacity=max(0.08, float(np.log1p(counts[i, j]) / most)))
        for i, j in np.argwhere(counts > 0)
    ]  # fmt: skip
    share = float(((both[:, 0] > both[:, 1]) + 0.5 * (both[:, 0] == both[:, 1])).mean())
    parts = (
        element("g", joined(cells), class_="hot"),
        element("line", x1=30, y1=8 + edge, x2=30 + edge, y2=8, class_="axis"),
        element("rect", x=30, y=8, width=edge, height=edge, class_="outline"),
        element("text", f"{low:.2f}", x=30, y=edge + 22, class_="tick"),
        element("text", f"{high:.2f}", x=30 + edge, y=edge + 22, text_anchor="end", class_="tick"),
        element("text", other, x=30 + edge / 2, y=edge + 36, text_anchor="middle", class_="tick"),
        element("text", one, x=14, y=8 + edge / 2, text_anchor="middle", class_="tick",
                transform=f"rotate(-90 14 {number(8 + edge / 2)})"),
        element("text", f"{share:.0%} above", x=36, y=22, class_="tick"),
    )  # fmt: skip
    return drawing(edge + 40, edge + 44, f"{one} against {other}", *parts, class_="chart joint")
