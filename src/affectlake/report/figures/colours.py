"""Colours of the categories: similar emotions have neighbouring hues. Nothing is drawn here."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SHADES = ((0.56, 0.17), (0.63, 0.15), (0.44, 0.13))
"""Lightness and chroma in OKLCH, cycled so that neighbours on the hue circle differ; contrast to white above 3."""


def circular_order(profiles: NDArray[np.floating]) -> NDArray[np.intp]:
    """Order items around a circle so that neighbours are similar.

    They are ordered by their angle in the plane of the first two principal components of the standardised profiles; for
    emotion ratings this plane is close to valence and arousal.

    Parameters
    ----------
    profiles : float array (n_items, n_features)
        Mean rating of each item; fewer than three items, or no features, keep their order.

    Returns
    -------
    intp array (n_items,)
        Item numbers, by ascending angle.
    """
    n_items, n_features = profiles.shape
    if n_items < 3 or n_features < 2:
        return np.arange(n_items)
    spread = profiles.std(axis=0)
    z = (profiles - profiles.mean(axis=0)) / np.where(spread > 0, spread, 1)
    left, scale, right = np.linalg.svd(z, full_matrices=False)
    sign = np.where(right[np.arange(2), np.abs(right[:2]).argmax(axis=1)] < 0, -1, 1)
    plane = left[:, :2] * scale[:2] * sign  # (n_items, 2)
    angle = np.round(np.arctan2(plane[:, 1], plane[:, 0]), 9)
    return np.argsort(angle, kind="stable")


def palette(n: int) -> list[str]:
    """Return `n` colours ``#rrggbb`` evenly around the hue circle; the lightness alternates between neighbours."""
    return [_hexadecimal(*_SHADES[item % len(_SHADES)], 25 + 360 * item / max(n, 1)) for item in range(n)]


def _hexadecimal(lightness: float, chroma: float, hue_degrees: float) -> str:
    """Convert OKLCH to sRGB, with less chroma if it is out of gamut (Ottosson 2020, bottosson.github.io)."""
    while True:
        channels = _linear_srgb(lightness, chroma, hue_degrees)
        if chroma <= 0 or all(-1e-6 <= channel <= 1 + 1e-6 for channel in channels):
            break
        chroma = max(0.0, chroma - 0.005)
    return "#" + "".join(f"{round(255 * _gamma(min(max(channel, 0.0), 1.0))):02x}" for channel in channels)


def _linear_srgb(lightness: float, chroma: float, hue_degrees: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue_degrees)), chroma * math.sin(math.radians(hue_degrees))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(channel: float) -> float:
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055
