"""Measures of an edited clip: peak signal-to-noise ratio inside and outside a mask, and flicker."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import UsageError

Frames = NDArray[np.uint8]


def psnr_db(before: Frames, after: Frames, where: NDArray[np.bool_] | None = None) -> float | None:
    """Return the peak signal-to-noise ratio ``10 log10(255² / mse)`` of a clip against another, in decibels.

    Parameters
    ----------
    before, after : uint8 (n_frames, height, width, 3)
        The clips.
    where : bool (n_frames, height, width), optional
        Pixels that count; all by default.

    Returns
    -------
    float or None
        Infinite if the pixels are equal; None if no pixel counts.

    Raises
    ------
    UsageError
        If the shapes differ.
    """
    if before.shape != after.shape:
        raise UsageError("the clips do not have the same shape", found=f"{before.shape} and {after.shape}")
    squared = (before.astype(np.float64) - after) ** 2
    chosen = squared if where is None else squared[where]
    if not chosen.size:
        return None
    mse = float(chosen.mean())
    return float("inf") if mse == 0 else float(10 * np.log10(255**2 / mse))


def flicker_ratio(before: Frames, after: Frames) -> float | None:
    """Return the mean absolute difference of neighbouring frames after the edit, divided by that before it.

    Parameters
    ----------
    before, after : uint8 (n_frames, height, width, 3)
        The clips.

    Returns
    -------
    float or None
        1 if neighbouring frames differ as much as before; None for one frame, or if the original does not change.
    """
    if len(before) < 2:
        return None
    original = _change(before)
    return None if original == 0 else _change(after) / original


def _change(frames: Frames) -> float:
    return float(np.abs(np.diff(frames.astype(np.float64), axis=0)).mean())
