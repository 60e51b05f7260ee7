"""Features of stimuli that are of no interest: length of captions, brightness and change of frames, motion energy.

They are computed from captions, from frames as they are shown to models, and from what was measured in whole videos.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.stimuli.motion_energy import CHANNELS, Channel

Features = NDArray[np.float64]


def caption_length(captions: pl.DataFrame, n_stimuli: int) -> Features:
    """Return the mean number of characters and of words of each stimulus's captions: (n_stimuli, 2).

    Parameters
    ----------
    captions : polars.DataFrame
        The table ``captions``.
    n_stimuli : int

    Returns
    -------
    float64 (n_stimuli, 2)
        NaN for a stimulus without captions.
    """
    counted = captions.group_by("stimulus_index").agg(
        pl.col("caption").str.len_chars().mean().alias("characters"),
        pl.col("caption").str.split(" ").list.len().mean().alias("words"),
    )
    return _of_stimuli(counted, ("characters", "words"), n_stimuli)


def luminance(frames: pl.DataFrame, n_stimuli: int) -> Features:
    """Return the mean luma of each stimulus's frames, and its standard deviation within frames: (n_stimuli, 2).

    Parameters
    ----------
    frames : polars.DataFrame
        The table ``frames``.
    n_stimuli : int

    Returns
    -------
    float64 (n_stimuli, 2)
        Luma of ITU-R BT.601, from 0 to 255; NaN for a stimulus without frames.
    """
    return _of_images(frames, n_stimuli, lambda images: (images.mean(), images.std(axis=(1, 2)).mean()))


def frame_change(frames: pl.DataFrame, n_stimuli: int) -> Features:
    """Return the mean absolute change of luma from one shown frame to the next, and its maximum: (n_stimuli, 2).

    Parameters
    ----------
    frames : polars.DataFrame
        The table ``frames``.
    n_stimuli : int

    Returns
    -------
    float64 (n_stimuli, 2)
        In units of luma, from 0 to 255; 0 for a single frame, NaN for a stimulus without frames. Shown frames are
        half a second or more apart, so that this is not the motion energy of a video (`motion_energy`).
    """

    def change(images: NDArray[np.float32]) -> tuple[float, float]:
        steps = np.abs(np.diff(images, axis=0)).mean(axis=(1, 2))
        return (float(steps.mean()), float(steps.max())) if len(steps) else (0.0, 0.0)

    return _of_images(frames, n_stimuli, change)


def motion_energy(motion: pl.DataFrame, n_stimuli: int) -> Features:
    """Return the motion energy of each stimulus's video in each channel: (n_stimuli, 24).

    Parameters
    ----------
    motion : polars.DataFrame
        The table ``motion``.
    n_stimuli : int

    Returns
    -------
    float64 (n_stimuli, 24)
        As in `affectlake.stimuli.motion_energy.motion_energies`; NaN for a stimulus without a video, or with one that
        is shorter than a filter.
    """
    channels = pl.DataFrame(CHANNELS, schema=Channel._fields, orient="row").with_row_index("channel")
    rows = motion.drop_nulls("motion_energy").join(channels, on=Channel._fields)
    found = np.full((n_stimuli, len(CHANNELS)), np.nan)
    found[rows["stimulus_index"].to_numpy(), rows["channel"].to_numpy()] = rows["motion_energy"].to_numpy()
    return found


def _of_images(
    frames: pl.DataFrame, n_stimuli: int, measure: Callable[[NDArray[np.float32]], tuple[float, float]]
) -> Features:
    from PIL import Image

    found = np.full((n_stimuli, 2), np.nan)
    for (stimulus,), own in frames.sort("stimulus_index", "frame_index").group_by(
        "stimulus_index", maintain_order=True
    ):
        images = [np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), dtype=np.float32) for jpeg in own["jpeg"]]
        found[int(str(stimulus))] = measure(np.stack(images))
    return found


def _of_stimuli(rows: pl.DataFrame, columns: tuple[str, ...], n_stimuli: int) -> Features:
    found = np.full((n_stimuli, len(columns)), np.nan)
    found[rows["stimulus_index"].to_numpy()] = rows.select(columns).to_numpy()
    return found


NUISANCE: dict[str, tuple[str, Callable[[pl.DataFrame, int], Features]]] = {
    "caption_length": ("captions", caption_length),
    "luminance": ("frames", luminance),
    "frame_change": ("frames", frame_change),
    "motion_energy": ("motion", motion_energy),
}
"""The table that each feature is computed from, and its function."""
