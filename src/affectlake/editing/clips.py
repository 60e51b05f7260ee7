"""Files of edited clips: JPEG frames, H.264 videos that browsers play, and strips of several clips side by side.

Each file says that it is synthetic: frames in their comment, videos in the comment of the container, strips in the
picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from affectlake.editing.measures import Frames
from affectlake.errors import UsageError

MARK = "synthetic/edited"
"""The mark of edited media."""

_QUALITY = 95
_HEADER = 14


def jpeg_of(frame: NDArray[np.uint8], about: str = "") -> bytes:
    """Return a frame (height, width, 3) as JPEG, whose comment is the mark and `about`."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=_QUALITY, subsampling=0, comment=_comment(about))
    return buffer.getvalue()


def frame_of(jpeg: bytes, side: int | None = None) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG, uint8 (height, width, 3); with `side`, resized to a square."""
    with Image.open(io.BytesIO(jpeg)) as image:
        picture = image.convert("RGB")
        if side is not None and picture.size != (side, side):
            picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(picture)


def write_mp4(path: Path, frames: Frames, per_s: float, about: str = "") -> None:
    """Write frames as H.264 video (yuv420p), whose comment is the mark and `about`.

    Parameters
    ----------
    path : pathlib.Path
        The file, which is replaced.
    frames : uint8 (n_frames, height, width, 3)
        Odd sides lose a row or column: the format needs even ones.
    per_s : float
        Frames per second, above 0.
    about : str
        What was edited.

    Raises
    ------
    UsageError
        If there are no frames, or `per_s` is not above 0.

    Notes
    -----
    One thread and bit-exact settings: on one machine, the same frames give the same bytes.
    """
    import av

    if not len(frames) or not per_s > 0:
        raise UsageError(
            "a video needs at least one frame and a positive rate", found=f"{len(frames)} frames, {per_s} per second"
        )
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        container.metadata["comment"] = _comment(about)
        stream = container.add_stream("libx264", rate=Fraction(per_s).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1
        stream.options = {"crf": "18", "threads": "1", "flags": "+bitexact"}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def side_by_side(clips: Sequence[tuple[str, Frames]]) -> Frames:
    """Return clips of one shape side by side, each under its name; the mark is in the picture's lower line.

    Parameters
    ----------
    clips : sequence of (str, uint8 (n_frames, height, width, 3))
        Names and frames; the shortest clip decides the number of frames.

    Raises
    ------
    UsageError
        If there are no clips, or their sides differ.
    """
    if len({clip.shape[1:] for _, clip in clips}) != 1:
        raise UsageError("clips side by side need the same sides", found=", ".join(str(c.shape) for _, c in clips))
    height, width = clips[0][1].shape[1:3]
    n_frames = min(len(clip) for _, clip in clips)
    wide = len(clips) * width
    sheet = Image.new("RGB", (wide, height + 2 * _HEADER), "white")
    draw = ImageDraw.Draw(sheet)
    for at, (name, _) in enumerate(clips):
        draw.text((at * width + 2, 1), name, fill="black")
    draw.text((2, _HEADER + height + 1), MARK, fill="black")
    frames = np.repeat(np.asarray(sheet)[None], n_frames, axis=0)
    for at, (_, clip) in enumerate(clips):
        frames[:, _HEADER : _HEADER + height, at * width : (at + 1) * width] = clip[:n_frames]
    return frames


def strip(clips: Sequence[tuple[str, Frames]], most: int = 8) -> bytes:
    """Return a JPEG with one row per clip and up to `most` frames spread over it, names and mark in the picture."""
    if not clips or len({clip.shape for _, clip in clips}) != 1:
        raise UsageError("clips of a strip need the same shape", found=", ".join(str(c.shape) for _, c in clips))
    n_frames, height, width = clips[0][1].shape[:3]
    shown = np.unique(np.linspace(0, n_frames - 1, min(most, n_frames)).round().astype(int))
    row = height + _HEADER
    sheet = Image.new("RGB", (len(shown) * width, len(clips) * row + _HEADER), "white")
    draw = ImageDraw.Draw(sheet)
    for at, (name, clip) in enumerate(clips):
        draw.text((2, at * row + 1), name, fill="black")
        for column, index in enumerate(shown):
            sheet.paste(Image.fromarray(clip[index]), (column * width, at * row + _HEADER))
    draw.text((2, len(clips) * row + 1), MARK, fill="black")
    return jpeg_of(np.asarray(sheet))


def _comment(about: str) -> str:
    return f"{MARK}: {about}" if about else MARK
