"""The brain maps to explore: the page's data, the controls, and the same slices as drawings for paper.

The page's script (``viewer.js``) draws three slices and a brain to turn from the data made here. Numbers are sent as
one byte each, on a scale that all maps of a method share.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.report.figures.svg import Figure, absent, drawing, element, joined, number
from affectlake.report.number_format import counted, decimal
from affectlake.report.volumes import Volume

SHADES = 16  # of a drawing on paper
PANELS = (("sagittal", 0, 1, 2), ("coronal", 1, 0, 2), ("axial", 2, 0, 1))
"""Name, the axis that a slice stands still on, and the axes across and up."""

_STEPS = 254


class Scale(NamedTuple):
    """The lowest and highest value of a method's maps, over all subjects and agents."""

    low: float
    high: float


def scales(volumes: Sequence[Volume]) -> dict[str, Scale]:
    """Return the scale of each method; a method without any value has none."""
    found: dict[str, list[NDArray[np.float32]]] = {}
    for volume in volumes:
        for (method, _), values in volume.values.items():
            found.setdefault(method, []).append(values[~np.isnan(values)])
    every = {method: np.concatenate(parts) for method, parts in found.items()}
    return {method: Scale(float(v.min()), float(v.max())) for method, v in every.items() if len(v)}


def viewer_data(
    volumes: Sequence[Volume], agents: Sequence[str], methods: Mapping[str, str], regions: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the script draws, as plain data.

    Parameters
    ----------
    volumes : sequence of Volume
    agents : sequence of str
        In the page's order.
    methods : mapping from str to str
        Names of the methods, as the page says them.
    regions : mapping from str to str
        Names of the regions, by their keys.

    Returns
    -------
    dict
        ``subjects[i]`` has the name, the shape, the affine (12 numbers), the cells inside the brain as bits, a region
        number per cell, and per method and agent a byte per cell: 0 without a value, else 1 … 255 from low to high.
    """
    ranges = scales(volumes)
    keys = [key for key in regions if any(key in text.split() for one in volumes for text in set(one.regions))]
    shown = [agent for agent in agents if any(agent == name for one in volumes for _, name in one.values)]
    return {
        "agents": shown,
        "methods": {
            name: {"title": title, "low": ranges[name].low, "high": ranges[name].high}
            for name, title in methods.items()
            if name in ranges
        },
        "regions": [regions[key] for key in keys],
        "subjects": [
            {
                "name": one.subject,
                "shape": list(one.shape),
                "affine": [round(float(x), 4) for x in one.affine.ravel()],
                "inside": _text(_bits(one)),
                "regions": _text(_region_numbers(one, keys)),
                "maps": {
                    method: {
                        agent: _text(quantised(one.values[method, agent], scale))
                        for agent in shown
                        if (method, agent) in one.values
                    }
                    for method, scale in ranges.items()
                },
            }
            for one in volumes
        ],
    }


def quantised(values: NDArray[np.floating], scale: Scale) -> NDArray[np.uint8]:
    """Return values as one byte each: 0 for NaN, else the nearest of 255 steps from low (1) to high (255)."""
    width = scale.high - scale.low or 1.0
    steps = np.rint((np.nan_to_num(values, nan=scale.low) - scale.low) / width * _STEPS)
    return np.where(np.isnan(values), 0, 1 + np.clip(steps, 0, _STEPS)).astype(np.uint8)


def draw(volumes: Sequence[Volume], agents: Sequence[str], methods: Mapping[str, str]) -> Figure:
    """Draw the slices of the first subject's maps through its highest value, with a place for the script to take over.

    Parameters
    ----------
    volumes, agents, methods
        As in :func:`viewer_data`.
    """
    ranges = scales(volumes)
    method = next((name for name in methods if name in ranges and ranges[name].high > 0), None)
    if method is None:
        return absent("No voxel of this version has a value above 0.")
    first, scale = volumes[0], ranges[method]
    shown = [agent for agent in agents if (method, agent) in first.values]
    best = np.fmax.reduce([first.values[method, agent] for agent in shown])
    at = first.cells[int(np.nanargmax(best))]
    panels = [
        element("div", element("p", agent, class_="who"),
                *(_slice(first, first.values[method, agent], axis, at, scale, agent) for axis in PANELS), class_="cut")
        for agent in shown
    ]  # fmt: skip
    x, y, z = (decimal(float(one), 0) for one in first.mm(at[None])[0])
    live = element("div", class_="live")
    n = sum(len(one.values) for one in volumes)
    size = "" if first.block == 1 else f" A cell is the mean of {first.block} × {first.block} × {first.block} voxels."
    caption = (
        f"{counted(n, 'map')} of {counted(len(volumes), 'subject')}. On paper: {methods[method]} of {first.subject}, "
        f"through x {x}, y {y}, z {z} mm, where its maps are highest; full colour at "
        f"{decimal(scale.high, 3)}, blank at or below 0, left is left.{size}"
    )
    return Figure(live + element("div", joined(panels), class_="cuts"), caption)


def _slice(
    volume: Volume, values: NDArray[np.float32], panel: tuple[str, int, int, int], at: NDArray[np.int64], scale: Scale,
    agent: str,
) -> Markup:  # fmt: skip
    name, still, across, up = panel
    here = volume.cells[:, still] == at[still]
    cells, shown = volume.cells[here], values[here]
    width, height = volume.shape[across], volume.shape[up]
    x, y = cells[:, across], height - 1 - cells[:, up]
    with np.errstate(invalid="ignore"):
        shade = np.where(shown > 0, np.ceil(shown / scale.high * SHADES), 0).clip(0, SHADES).astype(int)
    return painted(
        x, y, shade, (width, height), volume.cell_mm[[across, up]], f"{agent}, {name} slice", class_="view slice"
    )


def painted(
    x: NDArray[np.integer], y: NDArray[np.integer], shade: NDArray[np.integer], size: tuple[int, int],
    cell: NDArray[np.floating], label: str, class_: str,
) -> Markup:  # fmt: skip
    """Return a drawing of cells: those inside the brain, and over them those with a shade above 0, in rows.

    Parameters
    ----------
    x, y : int (n_cells,)
        Column and row from the top left.
    shade : int (n_cells,)
        0 to SHADES.
    size : tuple of int
        Columns and rows.
    cell : float (2,)
        Width and height of a cell, in the drawing's units.
    """
    picture = np.full((size[1], size[0]), -1)
    picture[y, x] = shade
    hot = [
        element("path", d=_rows(picture == level), fill_opacity=level / SHADES)
        for level in np.unique(shade[shade > 0]).tolist()
    ]
    scale = f"scale({number(cell[0])} {number(cell[1])})"
    return drawing(
        size[0] * cell[0], size[1] * cell[1], label,
        element("path", d=_rows(picture >= 0), class_="inside", transform=scale),
        element("g", joined(hot), class_="hot", transform=scale),
        class_=class_,
    )  # fmt: skip


def _rows(where: NDArray[np.bool_]) -> str:
    """Return the cells of a picture as runs along its rows, in the language of SVG's paths."""
    edges = np.diff(np.pad(where.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return "".join(
        f"M{x} {y}h{end - x}v1h{x - end}z" for (y, x), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True)
    )


def _bits(volume: Volume) -> NDArray[np.uint8]:
    inside = np.zeros(volume.shape, dtype=np.uint8)
    inside[tuple(volume.cells.T)] = 1
    return np.packbits(inside.ravel())


def _region_numbers(volume: Volume, keys: Sequence[str]) -> NDArray[np.uint8]:
    """Return per cell 1 + the place of its first named region in `keys`, 0 for none."""
    places = {key: at + 1 for at, key in enumerate(keys)}
    found = [[places[word] for word in text.split() if word in places] for text in volume.regions]
    return np.array([numbers[0] if numbers else 0 for numbers in found], dtype=np.uint8)


def _text(numbers: NDArray[np.uint8]) -> str:
    return base64.b64encode(numbers.tobytes()).decode()
