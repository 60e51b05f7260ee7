"""Figures of the brain: scores by region, and maps as slices and glass brains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.brain_viewer import scales
from affectlake.report.figures.canvas import FAINT, INK, SOFT, Canvas, Drawn, colours
from affectlake.report.inputs import BrainInputs, ReportInputs
from affectlake.report.number_format import counted, decimal, shortened
from affectlake.report.volumes import Volume

METHODS = {"searchlight": "Searchlight RSA (ρ)", "encoding": "Voxel-wise encoding (r)"}
GROUPS_OF_REGIONS = {"subcortical": "subcortical regions", "cortical": "cortical regions"}
PANELS = (("sagittal", 0, 1, 2), ("coronal", 1, 0, 2), ("axial", 2, 0, 1))
"""Name of a slice, the axis that is perpendicular to it, and the horizontal and vertical axes."""

_VIEWS = (("from the right", 1, 2), ("from behind", 0, 2), ("from above", 0, 1))  # name, horizontal axis, vertical axis
_NARROWEST = 0.25  # of the largest side of a panel
_NOTHING = "no voxel of this version has a value above 0"


def brain_of(inputs: ReportInputs, agents: Sequence[AgentFacts]) -> tuple[BrainInputs, list[str]]:
    """Return the brain inputs, and the names of the agents that have maps, in the order of `agents`.

    Raises
    ------
    FigureError
        If the version has no brain maps of these agents.
    """
    scored = set(inputs.brain.scores["agent"]) if inputs.brain else set()
    shown = [one.agent for one in agents if one.agent in scored]
    if not inputs.brain or not shown:
        raise FigureError("this version has no brain maps")
    return inputs.brain, shown


def brain_regions(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight",
    group: str = "cortical",
) -> Drawn:  # fmt: skip
    """Draw a bar for each agent and region: mean and standard deviation over subjects, a dot for each subject."""
    brain, shown = brain_of(inputs, agents)
    scores = brain.scores.filter((pl.col("method") == method) & (pl.col("basis") == "embedding"))
    scores = scores.drop_nulls("region_score")
    present = set(scores["region"])
    regions = [key for key, where, _ in brain.regions if where == group and key in present]
    if not regions:
        raise FigureError(f"no voxel of this version's subjects is in one of the named {GROUPS_OF_REGIONS[group]}")
    own = scores.filter(pl.col("region").is_in(regions)).sort("region", "agent", "subject")
    values = {
        key: rows["region_score"].to_numpy() for key, rows in own.group_by("region", "agent", maintain_order=True)
    }
    width = max(4.6, 1.0 + len(regions) * (0.11 * len(shown) + 0.16))
    columns = max(1, int((width - 0.7) / (0.6 + 0.08 * max(len(shortened(agent)) for agent in shown))))
    (ax,) = canvas.panels(width=width, height=3.1 + 0.2 * -(-len(shown) // columns), grid="y")
    styles = styles_of(one.agent for one in agents)
    for at, agent in enumerate(shown):
        style = styles[agent].bars
        _bars(canvas, ax, brain, values, regions, agent, (at + 0.5) / len(shown) - 0.5, 0.8 / len(shown), style)
    low, high = ax.get_ylim()
    high = max(high, 0.01)
    if method == "searchlight":
        _ceilings(ax, brain, regions, high)
    for at, region in enumerate(regions):
        for place, agent in enumerate(shown):
            if _differs(brain, method, region, agent):
                x = at + 0.8 * ((place + 0.5) / len(shown) - 0.5)
                ax.text(x, high, "*", ha="center", va="center", fontsize=10)
    ax.axhline(0, color=FAINT, lw=0.8)
    names = {key: name for key, _, name in brain.regions}
    ax.set_xticks(range(len(regions)), regions, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(ylabel=METHODS[method], xlim=(-0.6, len(regions) - 0.4), ylim=(low, high))
    ax.tick_params(axis="x", length=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns, borderaxespad=0)
    names_of_keys = ", ".join(f"{key}: {names[key]}" for key in regions if key.lower() != names[key])
    ceiling = (
        " Grey bands are noise ceilings over all stimuli that subjects share, where they are within the scale."
        if method == "searchlight"
        else ""
    )
    caption = (
        f"Mean and standard deviation over {counted(scores['subject'].n_unique(), 'subject')}; each dot is a subject. "
        f"{_stars(brain)}{_of_stimuli(scores)}{ceiling} {names_of_keys}."
    ).strip(" .") + "."
    return Drawn(f"{METHODS[method]} by region, {GROUPS_OF_REGIONS[group]}", caption, own)


def _bars(
    canvas: Canvas, ax: Any, brain: BrainInputs, values: Mapping[Any, NDArray[np.float64]], regions: list[str],
    agent: str, shift: float, width: float, style: Mapping[str, Any],
) -> None:  # fmt: skip
    known = [(place + 0.8 * shift, region, values[region, agent]) for place, region in enumerate(regions)
             if (region, agent) in values]  # fmt: skip
    mean = [float(mine.mean()) for *_, mine in known]
    spread = [float(mine.std(ddof=1)) if len(mine) > 1 else 0.0 for *_, mine in known]
    bars = ax.bar([x for x, *_ in known], mean, 0.92 * width, yerr=spread, label=shortened(agent), **style)
    names = {key: name for key, _, name in brain.regions}
    for bar, (_, region, _), m, s in zip(bars, known, mean, spread, strict=True):
        canvas.note(bar, f"{agent}, {names[region]}: {decimal(m, 3)} ± {decimal(s, 3)}", class_="bar")
    subjects = [(x, float(value)) for x, _, mine in known for value in mine]
    ax.plot(*zip(*subjects, strict=True), "o", ms=2.6, mfc="white", mec=INK, mew=0.6)


def _ceilings(ax: Any, brain: BrainInputs, regions: list[str], high: float) -> None:
    for at, region in enumerate(regions):
        rows = brain.ceilings.filter(pl.col("region") == region).drop_nulls(["ceiling_low", "ceiling_high"])
        if len(rows) and float(rows["ceiling_low"][0]) <= high:
            low = float(rows["ceiling_low"][0])
            top = min(high, float(rows["ceiling_high"][0]))
            ax.bar(at, top - low, 0.86, bottom=low, fc=(FAINT, 0.3), zorder=0.5, ec=SOFT, lw=0.7, ls=":")


def _differs(brain: BrainInputs, method: str, region: str, agent: str) -> bool:
    """Return whether an agent differs from the reference, which is named in advance and not chosen by the data."""
    if "p_reference_fdr" not in brain.stats.columns:
        return False
    wanted = {"method": method, "region": region, "agent": agent, "other_agent": brain.reference}
    rows = brain.stats.filter(*(pl.col(name) == value for name, value in wanted.items())).drop_nulls("p_reference_fdr")
    return not rows.is_empty() and float(rows["p_reference_fdr"][0]) < 0.05


def _stars(brain: BrainInputs) -> str:
    if not brain.reference:
        return "Agents are not compared: the study has no reference (brain.reference)."
    return (
        f"A star marks an agent that differs from {brain.reference}, the study's reference, both in a paired "
        f"two-tailed t-test across subjects and against relabelled stimuli (false discovery rate below 0.05 over "
        f"regions and agents)."
    )


def _of_stimuli(scores: pl.DataFrame) -> str:
    """Return the number of stimuli, and the bias of their selection if there is one."""
    found = ""
    counts = scores["n_stimuli"].drop_nulls().to_list() if "n_stimuli" in scores.columns else []
    if counts:
        low, high = min(counts), max(counts)
        number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        found = f" Every subject's values are of {number} stimuli, the same for all agents."
    bias = scores["region_bias"].drop_nulls().abs().max() if "region_bias" in scores.columns else None
    if isinstance(bias, float) and bias > 0:
        found += (
            f" The stimuli were selected by the ratings, which gives agents made of ratings values of up to "
            f"{decimal(bias, 3)} without any relation; tests subtract this bias, the bars do not."
        )
    return found


def glass_brains(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight"
) -> Drawn:
    """Draw each agent's map of one subject from three sides, with the largest value along each line of sight."""
    brain, shown = brain_of(inputs, agents)
    volume = brain.volumes[0]
    maps = {agent: volume.values[method, agent] for agent in shown if (method, agent) in volume.values}
    above = np.concatenate([values[values > 0] for values in maps.values()]) if maps else np.empty(0)
    if not len(above) and not (maps and method in brain.thresholds):
        raise FigureError(_NOTHING)
    highest = float(np.quantile(above, 0.99)) if len(above) else _highest(brain, method)
    _pictures(canvas, maps, _VIEWS, volume, highest, METHODS[method], partial(_flat, volume))
    caption = (
        f"Maps of subject {volume.subject} seen from the right, from behind and from above: the largest value along "
        f"each line of sight. Colours are saturated from {decimal(highest, 3)} (99th percentile of the values above "
        f"0); voxels at or below 0 are grey. {_threshold(brain, method)}"
    )
    return Drawn(f"Glass brains of every agent, {METHODS[method]}", caption, _rows(brain, method))


def brain_slices(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw slices of one subject's maps through the highest value."""
    brain, agents_shown = brain_of(inputs, agents)
    volume = brain.volumes[0]
    ranges = scales(brain.volumes)
    method = next((one for one in METHODS if one in ranges and ranges[one].high > 0), "")
    significant = bool(method)
    method = method or next((one for one in METHODS if one in brain.thresholds), "")
    if not method:
        raise FigureError(_NOTHING)
    highest = ranges[method].high if significant else _highest(brain, method)
    maps = {agent: volume.values[method, agent] for agent in agents_shown if (method, agent) in volume.values}
    best = np.fmax.reduce(list(maps.values()))
    at = volume.cells[int(np.nanargmax(best)) if np.isfinite(best).any() else len(volume.cells) // 2]
    _pictures(canvas, maps, PANELS, volume, highest, METHODS[method], partial(_cut, volume, at))
    x, y, z = (decimal(float(one), 0) for one in volume.mm(at[None])[0])
    n = sum(len(one.values) for one in brain.volumes)
    size = "" if volume.block == 1 else f" Each cell is the mean of {' × '.join([str(volume.block)] * 3)} voxels."
    caption = (
        f"The report's viewer shows {counted(n, 'map')} of {counted(len(brain.volumes), 'subject')}. The drawing, "
        f"used on paper, shows {METHODS[method]} of subject {volume.subject} in slices through x {x}, y {y}, z {z} mm, "
        f"the position of the highest value. Colours are saturated at {decimal(highest, 3)}; values at or below 0 "
        f"are grey; the left side of the brain is at the left.{size} {_threshold(brain, method)}"
    )
    return Drawn(f"Slices of every agent's map, {METHODS[method]}", caption, _rows(brain, method))


def _threshold(brain: BrainInputs, method: str) -> str:
    if method in brain.thresholds:
        none = "" if any(method == name and (values > 0).any() for one in brain.volumes for (name, _), values
                         in one.values.items()) else " No voxel is."  # fmt: skip
        return f"Only significant voxels are coloured: {brain.thresholds[method]} (relabelled stimuli).{none}"
    return "All voxels are shown, significant or not."


def _highest(brain: BrainInputs, method: str) -> float:
    """Return the highest value of the maps without a mask: the scale of a picture without a significant voxel."""
    return max([float(value) for value in _rows(brain, method)["value"].drop_nulls() if value > 0], default=1.0)


def _rows(brain: BrainInputs, method: str) -> pl.DataFrame:
    return brain.maps.filter(pl.col("method") == method).sort("agent", "voxel_index")


def _pictures(
    canvas: Canvas, maps: Mapping[str, NDArray[np.float32]], views: Sequence[tuple[Any, ...]], volume: Volume,
    highest: float, title: str, picture: Callable[[NDArray[np.float32], tuple[Any, ...]], NDArray[np.float64]],
) -> None:  # fmt: skip
    """Draw a row of images for each agent, all with the same scales of length and colour."""
    images = [(volume.shape[across] * volume.cell_mm[across], volume.shape[up] * volume.cell_mm[up])
              for *_, across, up in views]  # fmt: skip
    least = _NARROWEST * max(max(size) for size in images)  # a brain of one slice has panels without a width
    sizes = [(max(width, least), max(height, least)) for width, height in images]
    wide, high = sum(width for width, _ in sizes), max(height for _, height in sizes)
    inches = 4.6 / wide
    axes = canvas.panels(
        len(maps) * len(views), columns=len(views), width=7.4, height=0.3 + len(maps) * (high * inches + 0.14),
        width_ratios=[width for width, _ in sizes],
    )  # fmt: skip
    reds = colours("Reds").with_extremes(bad="none", under="#dddddd")
    image = None
    for at, (agent, values) in enumerate(maps.items()):
        for view, image_mm, size, ax in zip(views, images, sizes, axes[at * len(views) :], strict=False):
            shown = picture(values, view)
            shown[shown <= 0] = -1  # grey
            image = ax.imshow(shown, cmap=reds, vmin=0, vmax=highest, extent=(0, image_mm[0], 0, image_mm[1]))
            ax.set(xticks=[], yticks=[], xlim=_around(image_mm[0], size[0]), ylim=_around(image_mm[1], size[1]))
            ax.spines[:].set_visible(False)
            if at == 0:
                ax.set_title(view[0], loc="center", weight="normal", color=SOFT, fontsize=8.5)
        axes[at * len(views)].set_ylabel(shortened(agent), rotation=0, ha="right", va="center", color=INK)
    canvas.figure.colorbar(image, ax=axes, label=title, shrink=min(1.0, 1.6 / (len(maps) * high * inches)), pad=0.02,
                           aspect=14, extend="max").outline.set_visible(False)  # fmt: skip


def _around(length: float, frame: float) -> tuple[float, float]:
    """Return the limits of a frame with an image from 0 to `length` in its middle."""
    return (length - frame) / 2, (length + frame) / 2


def _flat(volume: Volume, values: NDArray[np.float32], view: tuple[Any, ...]) -> NDArray[np.float64]:
    """Return the largest value along each line of sight, top row first; NaN outside the brain, 0 without a value."""
    _, across, up = view
    picture = np.full((volume.shape[up], volume.shape[across]), np.nan)
    x, y = volume.cells[:, across], volume.shape[up] - 1 - volume.cells[:, up]
    np.fmax.at(picture, (y, x), np.nan_to_num(values, nan=0.0).clip(min=0))
    return picture


def _cut(
    volume: Volume, at: NDArray[np.int64], values: NDArray[np.float32], view: tuple[Any, ...]
) -> NDArray[np.float64]:
    """Return one slice, top row first; NaN outside the brain, 0 without a value."""
    _, still, across, up = view
    picture = np.full((volume.shape[up], volume.shape[across]), np.nan)
    here = volume.cells[:, still] == at[still]
    cells = volume.cells[here]
    picture[volume.shape[up] - 1 - cells[:, up], cells[:, across]] = np.nan_to_num(values[here], nan=0.0)
    return picture
