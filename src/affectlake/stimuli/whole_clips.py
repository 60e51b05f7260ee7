"""Whole clips: a fixed number of frames spread over a video, in its own size, for models that take clips.

The frames that models of single images and chat models are shown are in :mod:`affectlake.stimuli.frames`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.stimuli.frame_sampling import segment_frames
from affectlake.stimuli.frames import find_video


class WholeClip(NamedTuple):
    """Frames spread over a video.

    Attributes
    ----------
    images : uint8 (n_frames, height, width, 3)
        The frames, RGB, in the size of the first frame of the video.
    n_decoded : int
        Number of frames of the video; if it is smaller than ``n_frames``, frames are repeated.
    """

    images: NDArray[np.uint8]
    n_decoded: int


def read_clip(folder: Path, stimulus_id: str, n_frames: int) -> WholeClip:
    """Return the middle frames of equal segments of the video of one stimulus.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the videos. Nothing outside it is opened, even if an id or a link leads there.
    stimulus_id : str
        A file name such as ``0001.mp4``, or a name to which a suffix is appended.
    n_frames : int
        Number of frames; a video with fewer frames repeats them
        (:func:`affectlake.stimuli.frame_sampling.segment_frames`).

    Returns
    -------
    WholeClip
        The frames, and the number of frames of the video.

    Raises
    ------
    SourceError
        If there is no such video, or it cannot be decoded.
    """
    path, problem = find_video(folder, stimulus_id)
    if path is None:
        raise _unreadable(stimulus_id, problem)
    payload = path.read_bytes()
    try:
        return _decode(payload, n_frames)
    except (av.FFmpegError, ValueError, IndexError) as error:
        words = getattr(error, "strerror", None) or type(error).__name__  # its text would contain a local path
        raise _unreadable(stimulus_id, f"cannot be decoded: {words}") from error


def _decode(payload: bytes, n_frames: int) -> WholeClip:
    with av.open(io.BytesIO(payload)) as container:  # some packets have no frame, so that all frames are decoded twice
        n_decoded = sum(1 for _ in container.decode(container.streams.video[0]))
    wanted = segment_frames(n_decoded, n_frames)
    images: dict[int, NDArray[np.uint8]] = {}
    with av.open(io.BytesIO(payload)) as container:
        width = height = 0
        for at, frame in enumerate(container.decode(container.streams.video[0])):
            if at == 0:
                width, height = frame.width, frame.height
            if at in wanted:
                images[at] = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return WholeClip(np.stack([images[at] for at in wanted]), n_decoded)


def _unreadable(stimulus_id: str, reason: str) -> SourceError:
    return SourceError(
        f"the video of {stimulus_id} cannot be read",
        found=reason,
        todo="repair it, exclude the stimulus, or leave the agents that are shown clips out of params.yaml",
    )
