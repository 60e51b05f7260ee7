"""Whole clips: frames spread over a video in its own size, for models that take clips, or the luma of all of it.

The frames that models of single images and chat models are shown are in :mod:`affectlake.stimuli.frames`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.stimuli.frame_sampling import segment_frames
from affectlake.stimuli.frames import find_video

LONGEST_S = 600
"""Duration in seconds above which the luma of a clip is not read."""


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


class Luma(NamedTuple):
    """Luma of a video.

    Attributes
    ----------
    images : float32 (n_samples, side_pixels, side_pixels)
        Luma of ITU-R BT.601, from 0 to 255.
    unreadable : str
        Why there are no samples; empty if the video can be decoded.
    """

    images: NDArray[np.float32]
    unreadable: str


class _UnreadableError(Exception):
    """Raised with the reason if a video cannot be read."""


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
    try:
        with _with_reasons():
            return _decode(_payload(folder, stimulus_id), n_frames)
    except _UnreadableError as error:
        raise SourceError(
            f"the video of {stimulus_id} cannot be read",
            found=str(error),
            todo="repair it, exclude the stimulus, or leave the agents that are shown clips out of params.yaml",
        ) from error


def read_luma(folder: Path, stimulus_id: str, side_pixels: int, samples_per_s: int) -> Luma:
    """Return the luma of the video of one stimulus as small squares, in samples of equal duration.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the videos. Nothing outside it is opened, even if an id or a link leads there.
    stimulus_id : str
        A file name such as ``0001.mp4``, or a name to which a suffix is appended.
    side_pixels : int
        Side of the squares, to which frames are resized by averaging areas, whatever their shape.
    samples_per_s : int
        Samples per second.

    Returns
    -------
    Luma
        The samples; if there are none, why. Each is the mean of what is displayed during its time, as in a camera
        whose shutter is always open, so that clips with other frame rates can be compared.
    """
    try:
        with _with_reasons(), av.open(io.BytesIO(_payload(folder, stimulus_id))) as container:
            images = list(_samples(_displayed(container, side_pixels), samples_per_s))
    except _UnreadableError as error:
        return Luma(np.empty((0, side_pixels, side_pixels), dtype=np.float32), str(error))
    return Luma(np.array(images, dtype=np.float32).reshape(-1, side_pixels, side_pixels), "")


def _payload(folder: Path, stimulus_id: str) -> bytes:
    path, problem = find_video(folder, stimulus_id)
    if path is None:
        raise _UnreadableError(problem)
    return path.read_bytes()


@contextmanager
def _with_reasons() -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ValueError, IndexError) as error:
        words = getattr(error, "strerror", None) or type(error).__name__  # its text would contain a local path
        raise _UnreadableError(f"cannot be decoded: {words}") from error


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


def _displayed(container: InputContainer, side_pixels: int) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Yield how long each frame is displayed, in seconds, and its luma."""
    stream = container.streams.video[0]
    shown: VideoFrame | None = None
    usual = 1.0 / float(stream.average_rate) if stream.average_rate else 0.0
    begin_s = 0.0
    for frame in container.decode(stream):
        at_s = frame.time if frame.time is not None else begin_s + usual
        if shown is not None:
            yield max(at_s - begin_s, 0.0), _luma(shown, side_pixels)
        shown, begin_s = frame, at_s
    if shown is not None:
        last_s = float(shown.duration * shown.time_base) if shown.duration and shown.time_base else usual
        yield last_s, _luma(shown, side_pixels)


def _luma(frame: VideoFrame, side_pixels: int) -> NDArray[np.float32]:
    small = frame.reformat(width=side_pixels, height=side_pixels, format="gray", interpolation="AREA")
    return small.to_ndarray().astype(np.float32)


def _samples(
    displayed: Iterator[tuple[float, NDArray[np.float32]]], samples_per_s: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the mean of what is displayed during each sample; at the end, half a sample or more is one."""
    sample: NDArray[np.float32] | float = 0.0
    filled, n = 0.0, 0  # share of the sample
    for lasts_s, image in displayed:
        left = lasts_s * samples_per_s
        while left > 0:
            part = min(left, 1.0 - filled)
            sample, filled, left = sample + image * np.float32(part), filled + part, left - part
            if filled > 1.0 - 1e-6:  # rounding of time stamps
                n += 1
                if n > LONGEST_S * samples_per_s:
                    raise _UnreadableError(f"longer than {LONGEST_S} s")
                yield np.asarray(sample, dtype=np.float32)
                sample, filled = 0.0, 0.0
    if filled >= 0.5:
        yield np.asarray(sample / np.float32(filled), dtype=np.float32)
