"""Figures of brain maps: slices and glass brains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.brain_viewer import scales
from affectlake.report.figures.canvas import INK, SOFT, Canvas, Drawn, colours
from affectlake.report.inputs import BrainInputs, ReportInputs
from affectlake.report.number_format import counted, decimal, shortened
from affectlake.report.volumes import Volume

METHODS = {"searchlight": "Searchlight RSA (ρ)", "encoding": "Voxel-wise encoding (r)"}
VOXELS = {"significant": "significant voxels", "all": "all voxels"}
"""The voxels that a picture shows: in a version without a mask, the same."""

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


def glass_brains(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight",
    voxels: str = "significant",
) -> Drawn:  # fmt: skip
    """Draw each agent's map of one subject from three sides, with the largest value along each line of sight."""
    brain, shown = brain_of(inputs, agents)
    volume = brain.volumes[0]
    shown = [agent for agent in shown if (method, agent) in volume.values]
    above = _above(volume.masked(method, agent) for agent in shown)
    scaled = above if len(above) else _above(volume.values[method, agent] for agent in shown)
    if not len(scaled):
        raise FigureError(_NOTHING)
    highest = float(np.quantile(scaled, 0.99))  # of the significant voxels in both pictures, to compare their colours
    maps = {agent: _map(volume, method, agent, voxels) for agent in shown}
    _pictures(canvas, maps, _VIEWS, volume, highest, METHODS[method], partial(_flat, volume))
    caption = (
        f"Maps of subject {volume.subject} seen from the right, from behind and from above: the largest value along "
        f"each line of sight. Colours are saturated from {decimal(highest, 3)} (99th percentile of the "
        f"{'significant ' if method in brain.thresholds and len(above) else ''}values above 0); voxels at or below 0 "
        f"are grey. {which_voxels(brain, method, voxels)}"
    )
    return Drawn(f"Glass brains of every agent, {METHODS[method]}, {VOXELS[voxels]}", caption, _rows(brain, method))


def has_group_maps(inputs: ReportInputs) -> bool:
    """Return whether a version has means of maps over subjects."""
    return inputs.brain is not None and inputs.brain.group is not None


def group_maps(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight"
) -> Drawn:
    """Draw the mean of each agent's maps over subjects from three sides, where it is significant."""
    brain, shown = brain_of(inputs, agents)
    group = brain.group
    if group is None:
        raise FigureError("this version has no means of maps over subjects, which need two subjects on one grid")
    volume = group.volume
    shown = [agent for agent in shown if (method, agent) in volume.values]
    maps = {agent: volume.masked(method, agent) for agent in shown}
    known = _above(maps.values())
    scaled = known if len(known) else _above(volume.values[method, agent] for agent in shown)
    if not len(scaled):
        raise FigureError(_NOTHING)
    highest = float(np.quantile(scaled, 0.99))
    _pictures(canvas, maps, _VIEWS, volume, highest, METHODS[method], partial(_flat, volume))
    which = (
        f"Only significant voxels are coloured: {group.threshold} ({group.n_flips:,} flips of the subjects' signs, so "
        f"that no level is below {decimal(1 / max(group.n_flips, 1), 3)}).{'' if len(known) else ' No voxel is.'}"
        if group.threshold
        else "All voxels are shown, significant or not."
    )
    caption = (
        f"Means of the maps of {counted(group.n_subjects, 'subject')} on one grid, seen from the right, from behind "
        f"and from above: the largest value along each line of sight. Colours are saturated from {decimal(highest, 3)} "
        f"(99th percentile of the values above 0); voxels at or below 0 are grey. {which}"
    )
    places = dict(zip(("x_mm", "y_mm", "z_mm"), volume.mm(volume.cells).T, strict=True))
    rows = pl.concat(
        pl.DataFrame({"agent": [agent] * len(volume.cells)} | places).with_columns(
            value=pl.Series(volume.values[method, agent]).fill_nan(None), shown=pl.Series(np.isfinite(maps[agent]))
        )
        for agent in shown
    )
    return Drawn(f"Means of every agent's maps over subjects, {METHODS[method]}", caption, rows)


def brain_slices(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, voxels: str = "significant"
) -> Drawn:
    """Draw slices of one subject's maps through the highest value."""
    brain, shown = brain_of(inputs, agents)
    volume = brain.volumes[0]
    found = next(filter(None, ([one for one in METHODS if _any_above(brain, one, kind)] for kind in VOXELS)), [])
    if not found:
        raise FigureError(_NOTHING)
    method = found[0]
    shown = [agent for agent in shown if (method, agent) in volume.values]
    highest = scales(brain.volumes)[method].high
    best = np.fmax.reduce([volume.masked(method, agent) for agent in shown])
    if not np.isfinite(best).any():
        best = np.fmax.reduce([volume.values[method, agent] for agent in shown])
    at = volume.cells[int(np.nanargmax(best)) if np.isfinite(best).any() else len(volume.cells) // 2]
    maps = {agent: _map(volume, method, agent, voxels) for agent in shown}
    _pictures(canvas, maps, PANELS, volume, highest, METHODS[method], partial(_cut, volume, at))
    x, y, z = (decimal(float(one), 0) for one in volume.mm(at[None])[0])
    n = sum(len(one.values) for one in brain.volumes)
    size = "" if volume.block == 1 else f" Each cell is the mean of {' × '.join([str(volume.block)] * 3)} voxels."
    caption = (
        f"The report's viewer shows {counted(n, 'map')} of {counted(len(brain.volumes), 'subject')}. The drawing, "
        f"used on paper, shows {METHODS[method]} of subject {volume.subject} in slices through x {x}, y {y}, z {z} mm, "
        f"the position of the highest value. Colours are saturated at {decimal(highest, 3)}; values at or below 0 "
        f"are grey; the left side of the brain is at the left.{size} {which_voxels(brain, method, voxels)}"
    )
    return Drawn(f"Slices of every agent's map, {METHODS[method]}, {VOXELS[voxels]}", caption, _rows(brain, method))


def which_voxels(brain: BrainInputs, method: str, voxels: str) -> str:
    """Return which voxels a picture shows, as a sentence of its caption."""
    if method not in brain.thresholds or voxels == "all":
        return "All voxels are shown, significant or not."
    none = "" if _any_above(brain, method, voxels) else " No voxel is."
    return f"Only significant voxels are coloured: {brain.thresholds[method]} (relabelled stimuli).{none}"


def _any_above(brain: BrainInputs, method: str, voxels: str) -> bool:
    """Return whether a picture of any subject and agent shows a value above 0."""
    return any(
        (_map(one, name, agent, voxels) > 0).any() for one in brain.volumes for name, agent in one.values
        if name == method
    )  # fmt: skip


def _above(maps: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return all values above 0."""
    return np.concatenate([np.empty(0, np.float32), *(values[values > 0] for values in maps)])


def _map(volume: Volume, method: str, agent: str, voxels: str) -> NDArray[np.float32]:
    return volume.values[method, agent] if voxels == "all" else volume.masked(method, agent)


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
