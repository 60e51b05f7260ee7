"""Clips of the synthetic study: encoded videos whose colour and motion encode the planted categories.

A disc moves from side to side over a uniform background. The hue of the background and the speed of the disc depend on
the stimulus's categories, and the brightness of the disc on the share of the strongest one. Decoding does not belong
here.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

SIDE_PIXELS = 96
FRAMES_PER_S = 8
RADIUS_PIXELS = 10
DURATIONS_S = (2.0, 3.0, 4.0, 5.0, 8.0, 18.0, 24.0)
_DURATION_WEIGHTS = (0.25, 0.25, 0.25, 0.15, 0.06, 0.02, 0.02)
SLOWEST_PIXELS_PER_S, FASTEST_PIXELS_PER_S = 8.0, 64.0


def render_clips(folder: Path, names: Sequence[str], mix: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Write one clip per stimulus, ``NAME.mp4``; most last two to five seconds, a few are much longer.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the clips, created if it does not exist.
    names : sequence of str
        Stimulus ids.
    mix : float64 (n_stimuli, n_categories)
        Share of each category in each stimulus; rows sum to 1.
    rng : numpy.random.Generator
        Draws the durations and the initial positions of the disc.
    """
    folder.mkdir(parents=True, exist_ok=True)
    durations = rng.choice(DURATIONS_S, size=len(names), p=_DURATION_WEIGHTS)
    starts = rng.uniform(0, 1, size=len(names))
    for name, share, duration_s, start in zip(names, mix, durations, starts, strict=True):
        render_clip(folder / f"{name}.mp4", share, float(duration_s), float(start))


def render_clip(path: Path, share: NDArray[np.float64], duration_s: float, start: float) -> None:
    """Write one clip.

    Parameters
    ----------
    path : pathlib.Path
        The file, ``.mp4``.
    share : float64 (n_categories,)
        Share of each category in the stimulus. Category c of C has hue c / C, and speed c / (C - 1) of the way from the
        slowest to the fastest; a blend has intermediate values.
    duration_s : float
        Duration in seconds.
    start : float
        Initial position of the disc, 0 (left) to 1 (right).
    """
    n = len(share)
    ground = (_colours(n) * share[:, None]).sum(axis=0)  # (3,) 0 to 255
    pace = float(share @ np.arange(n)) / max(n - 1, 1)
    speed = SLOWEST_PIXELS_PER_S + pace * (FASTEST_PIXELS_PER_S - SLOWEST_PIXELS_PER_S)
    disc = np.full(3, 255.0 * float(share.max()))
    grid = np.arange(SIDE_PIXELS)
    room = SIDE_PIXELS - 2 * RADIUS_PIXELS
    with av.open(str(path), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_S, options={"flags": "+bitexact", "threads": "1"})
        stream.width = stream.height = SIDE_PIXELS
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 400_000
        stream.time_base = Fraction(1, FRAMES_PER_S)
        for at in range(round(duration_s * FRAMES_PER_S)):
            way = (start * room + speed * at / FRAMES_PER_S) % (2 * room)
            x = RADIUS_PIXELS + min(way, 2 * room - way)  # there and back
            inside = (grid[None, :] - x) ** 2 + (grid[:, None] - SIDE_PIXELS / 2) ** 2 <= RADIUS_PIXELS**2
            image = np.where(inside[..., None], disc, ground).astype(np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _colours(n: int) -> NDArray[np.float64]:
    return np.array([colorsys.hsv_to_rgb(c / n, 0.8, 0.8) for c in range(n)]) * 255.0
