"""Data of the interactive brain viewer. The slices for paper are drawn in ``brain_maps``.

The page's script (``viewer.js``) draws three slices and a rotatable glass brain from these data. Each value is stored
as one byte, on a scale that all maps of a method share.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.report.volumes import Volume

_STEPS = 254


class Scale(NamedTuple):
    """The lowest and highest value of a method's maps, over all subjects and agents."""

    low: float
    high: float


def scales(volumes: Sequence[Volume]) -> dict[str, Scale]:
    """Return the scale of each method that has a value."""
    found: dict[str, list[NDArray[np.float32]]] = {}
    for volume in volumes:
        for (method, _), values in volume.values.items():
            found.setdefault(method, []).append(values[~np.isnan(values)])
    every = {method: np.concatenate(parts) for method, parts in found.items()}
    return {method: Scale(float(v.min()), float(v.max())) for method, v in every.items() if len(v)}


def viewer_data(
    volumes: Sequence[Volume], agents: Sequence[str], methods: Mapping[str, str], regions: Mapping[str, str],
    thresholds: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Return the data that the script draws, ready for JSON.

    Parameters
    ----------
    volumes : sequence of Volume
    agents : sequence of str
        Names of the agents, in the page's order.
    methods : mapping from str to str
        Display names of the methods, by their keys.
    regions : mapping from str to str
        Display names of the regions, by their keys.
    thresholds : mapping from str to str
        For each method with a mask, which voxels are significant.

    Returns
    -------
    dict
        ``subjects[i]`` contains the name, the shape, the affine (12 numbers), the cells inside the brain as bits, a
        region number per cell, and for each method and agent a byte per cell: 0 for no value, 1 to 255 from low to
        high. Maps with a mask have a bit per cell, which is 1 if it is significant.
    """
    ranges = scales(volumes)
    keys = [key for key in regions if any(key in text.split() for one in volumes for text in set(one.regions))]
    shown = [agent for agent in agents if any(agent == name for one in volumes for _, name in one.values)]
    return {
        "agents": shown,
        "methods": {
            name: {"title": title, "low": ranges[name].low, "high": ranges[name].high, "mask": thresholds.get(name, "")}
            for name, title in methods.items()
            if name in ranges
        },
        "regions": [regions[key] for key in keys],
        "cells": "voxels" if all(one.block == 1 for one in volumes) else "cells",
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
                "significant": {
                    method: {
                        agent: _text(np.packbits(one.significant[method, agent]))
                        for agent in shown
                        if (method, agent) in one.significant
                    }
                    for method in ranges
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


def _bits(volume: Volume) -> NDArray[np.uint8]:
    inside = np.zeros(volume.shape, dtype=np.uint8)
    inside[tuple(volume.cells.T)] = 1
    return np.packbits(inside.ravel())


def _region_numbers(volume: Volume, keys: Sequence[str]) -> NDArray[np.uint8]:
    """Return, for each cell, 1 + the index in `keys` of its first listed region, or 0 if it has none."""
    places = {key: at + 1 for at, key in enumerate(keys)}
    found = [[places[word] for word in text.split() if word in places] for text in volume.regions]
    return np.array([numbers[0] if numbers else 0 for numbers in found], dtype=np.uint8)


def _text(numbers: NDArray[np.uint8]) -> str:
    return base64.b64encode(numbers.tobytes()).decode()
