"""Which frames of a video are shown: at the times of the paper's equation 1, or as a model's own code samples.

Decoding belongs in :mod:`affectlake.stimuli.frames`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

PROCESSOR_RATE = 2.0
FRAME_FACTOR = 2
FEWEST_FRAMES, MOST_FRAMES = 4, 768

_RATES = ((5.0, 2.0), (15.0, 1.0), (20.0, 0.5))  # longest duration in seconds, frames per second
_SLOWEST = 0.2


def frame_rate(duration_s: float) -> float:
    """Return the number of frames per second for a video of this duration: equation 1 of Du et al. 2025.

    2 up to 5 s, 1 up to 15 s, 0.5 up to 20 s, and 0.2 beyond.
    """
    return next((rate for longest, rate in _RATES if duration_s <= longest), _SLOWEST)


def frame_times(duration_s: float) -> list[float]:
    """Return the times of the frames, in seconds from the start: 0, 1/rate, 2/rate, … before the end.

    The paper gives the rate but not the time of the first frame; here it is the first frame of the video.
    """
    rate = frame_rate(duration_s)
    n = 1
    while n / rate < duration_s - 1e-6:
        n += 1
    return [at / rate for at in range(n)]


def processor_frames(n_frames: int, frames_per_s: float, rate: float = PROCESSOR_RATE) -> list[int]:
    """Return the frames that Qwen2-VL's processor (qwen-vl-utils 0.0.8) takes from a video.

    Their number is the duration times `rate`, at least 4, at most 768 and at most `n_frames`, rounded to an even number
    (halves to a multiple of four). They are equally spaced from the first to the last frame of the video, rounded to
    whole frames. The processor refuses a video of one frame; here that frame is taken.

    Parameters
    ----------
    n_frames : int
        Number of frames of the video, at least 1.
    frames_per_s : float
        Average frame rate of the video.
    rate : float
        Frames to take per second. Default: 2, the processor's.

    Returns
    -------
    list of int
        Indices, increasing, from 0 to ``n_frames - 1``.
    """
    most = math.floor(min(MOST_FRAMES, n_frames) / FRAME_FACTOR) * FRAME_FACTOR
    wanted = min(max(n_frames / frames_per_s * rate, FEWEST_FRAMES), most)
    n = round(wanted / FRAME_FACTOR) * FRAME_FACTOR
    if n == 0:
        return [0]
    # in single precision and from both ends, as torch.linspace: places halfway between two frames depend on it
    last, step = np.float32(n_frames - 1), np.float32(n_frames - 1) / np.float32(n - 1)
    places = np.arange(n, dtype=np.float32)
    spread = np.where(places < n // 2, places * step, last - (n - 1 - places) * step)
    return [int(place) for place in np.rint(spread)]


def segment_frames(n_frames: int, n: int) -> list[int]:
    """Return the middle frames of `n` equal segments of a video.

    VideoMAE's published evaluation on Something-Something V2 takes two views of a video, of `n` = 16 frames: the first
    frames of the segments, and these.

    Parameters
    ----------
    n_frames : int
        Number of frames of the video, at least 1.
    n : int
        Number of segments.

    Returns
    -------
    list of int
        Indices, not decreasing, from 0 to ``n_frames - 1``: frame k is at (k + 1/2) n_frames / n, rounded down. A video
        with fewer than `n` frames repeats frames.

    Raises
    ------
    ValueError
        If the video has no frames.
    """
    if n_frames < 1:
        raise ValueError("no frames")
    return [(2 * segment + 1) * n_frames // (2 * n) for segment in range(n)]


PROCESSOR_RATES: dict[str, Callable[[float], float]] = {
    "qwen2-vl": lambda _: PROCESSOR_RATE,
    "qwen2-vl-equation-1": frame_rate,
}
"""The samplings of Qwen2-VL's processor, and the rate that each asks for, by the duration in seconds."""

EQUATION_1 = "equation-1"
SAMPLINGS = (EQUATION_1, *PROCESSOR_RATES)
