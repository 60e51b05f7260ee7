"""Frames of videos, and images, as they are shown to a model: decoded once, 256 x 256, JPEG.

A video that cannot be read becomes a row with a reason. Which frames are taken is decided in
:mod:`affectlake.stimuli.frame_sampling`; how frames are sent to a model does not belong here either.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import polars as pl
from av.video.frame import VideoFrame
from PIL import Image, ImageOps

from affectlake.errors import SourceError
from affectlake.stimuli.frame_sampling import EQUATION_1, PROCESSOR_RATES, frame_times, processor_frames

SIDE_PIXELS = 256
JPEG_QUALITY = 90
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SOUNDS = (".wav", ".mp3", ".ogg", ".flac", ".m4a", ".aac", ".opus")
SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif", *IMAGES, *SOUNDS)
"""Tried in this order for a stimulus whose id is not a file name."""

VIDEOS = {
    "stimulus_index": pl.Int32,
    "video_path": pl.String,
    "video_sha256": pl.String,
    "duration_s": pl.Float64,
    "n_frames": pl.Int16,
    "unreadable": pl.String,
}
FRAMES = {
    "stimulus_index": pl.Int32,
    "frame_index": pl.Int16,
    "time_s": pl.Float64,
    "frame_sha256": pl.String,
    "jpeg": pl.Binary,
}


class Frame(NamedTuple):
    """One frame: its time in seconds from the start of the video, and its JPEG."""

    time_s: float
    jpeg: bytes


class Video(NamedTuple):
    """The video of one stimulus.

    Attributes
    ----------
    path : str
        Path in the folder of videos; empty if no file was found.
    sha256 : str
        SHA-256 of the file; empty if there is none.
    duration_s : float
        Time from the start of the first frame to the end of the last; NaN for an image, and if it cannot be read.
    frames : tuple of Frame
        Empty if the video is not readable.
    unreadable : str
        Why there are no frames; empty if there are frames.
    """

    path: str
    sha256: str
    duration_s: float
    frames: tuple[Frame, ...]
    unreadable: str


class Decoded(NamedTuple):
    """The tables ``videos`` and ``frames``."""

    videos: pl.DataFrame
    frames: pl.DataFrame


class _UnreadableError(Exception):
    """Raised with the reason if a video has no frames."""


def decode_videos(
    folder: Path, stimulus_ids: Sequence[str], workers: int = 1, progress: Callable[[int], None] = lambda _n: None,
    sampling: str = EQUATION_1, setting: str = "sources.videos",
) -> Decoded:  # fmt: skip
    """Decode the video of every stimulus.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the videos. Nothing outside it is opened, even if an id or a link leads there.
    stimulus_ids : sequence of str
        File names such as ``0001.mp4``, or names to which one of `SUFFIXES` is appended.
    workers : int, default=1
        Number of threads.
    progress : callable, optional
        Called with the number of videos done so far.
    sampling : str
        Which frames are taken: one of `affectlake.stimuli.frame_sampling.SAMPLINGS`. Default: those of equation 1.
    setting : str
        The key of ``params.yaml`` that names the folder, for messages.

    Returns
    -------
    Decoded
        One row per stimulus, and one row per frame. The bytes do not depend on the number of threads.

    Raises
    ------
    SourceError
        If the folder does not exist, or contains none of the videos.
    """
    if not folder.is_dir():
        raise SourceError(
            f"there is no folder of videos at {folder}",
            todo=f"set {setting} to their folder, or to null",
        )
    with ThreadPoolExecutor(workers) as pool:
        found = []
        for video in pool.map(lambda stimulus: decode_video(folder, stimulus, sampling), stimulus_ids):
            found.append(video)
            progress(len(found))
    if stimulus_ids and not any(video.path for video in found):
        raise SourceError(
            f"the folder {folder} has none of the {len(stimulus_ids):,} videos",
            wanted=f"files such as {stimulus_ids[0]}",
            found=", ".join(sorted(entry.name for entry in folder.iterdir())[:3]) or "an empty folder",
            todo=f"set {setting} to the folder that directly contains the files",
        )
    return Decoded(_videos(found), _frames(found))


def decode_video(folder: Path, stimulus_id: str, sampling: str = EQUATION_1) -> Video:
    """Decode the video of one stimulus; if that fails, `Video.unreadable` is the reason."""
    path, problem = find_video(folder, stimulus_id)
    if path is None:
        return Video("", "", float("nan"), (), problem)
    name = path.relative_to(folder.resolve()).as_posix()
    payload = path.read_bytes()
    digest = hashlib.sha256(payload).hexdigest()
    try:
        if not payload:
            raise _UnreadableError("the file is empty")
        if path.suffix.lower() in SOUNDS:
            raise _UnreadableError("a sound has no frames")
        if path.suffix.lower() in IMAGES:
            return Video(name, digest, float("nan"), (_image(payload),), "")
        duration_s = _duration(payload)
        if sampling == EQUATION_1:
            frames = _pick(payload, frame_times(duration_s))
        else:
            frames = _spread(payload, duration_s, PROCESSOR_RATES[sampling](duration_s))
        return Video(name, digest, duration_s, tuple(frames), "")
    except _UnreadableError as error:
        return Video(name, digest, float("nan"), (), str(error))
    except (av.FFmpegError, ValueError, IndexError) as error:
        words = getattr(error, "strerror", None) or type(error).__name__  # its text would contain a local path
        return Video(name, digest, float("nan"), (), f"cannot be decoded: {words}")


def find_video(folder: Path, stimulus_id: str) -> tuple[Path | None, str]:
    """Return the file of a stimulus in a folder of videos or other media, or the reason why there is none."""
    root = folder.resolve()
    for name in (stimulus_id, *(stimulus_id + suffix for suffix in SUFFIXES)):
        try:
            path = (root / name).resolve()
            if path.is_file():
                return (path, "") if path.is_relative_to(root) else (None, "the path leads out of the folder of videos")
        except (OSError, ValueError):
            return None, "the id is not a file name"
    if not (root / stimulus_id).resolve().is_relative_to(root):
        return None, "the path leads out of the folder of videos"
    return None, "no file"


def _duration(payload: bytes) -> float:
    """Return the duration of the video stream from its packets, because headers may be wrong or missing."""
    with av.open(io.BytesIO(payload)) as container:
        if not container.streams.video:
            raise _UnreadableError("no video stream")
        stream = container.streams.video[0]
        spans = [
            (packet.pts, packet.pts + (packet.duration or 0))
            for packet in container.demux(stream)
            if packet.pts is not None and packet.time_base is not None
        ]
        base = stream.time_base
    if not spans or base is None:
        raise _UnreadableError("no frames")
    duration_s = float((max(end for _, end in spans) - min(start for start, _ in spans)) * base)
    if duration_s <= 0.0:
        raise _UnreadableError("zero length")
    return duration_s


def _pick(payload: bytes, times: list[float]) -> Iterator[Frame]:
    """Yield the frame that is displayed at each time: the last one that began by then."""
    with av.open(io.BytesIO(payload)) as container:
        stream = container.streams.video[0]
        shown: VideoFrame | None = None
        start_s: float | None = None
        waiting = iter(times)
        time_s = next(waiting)
        for frame in container.decode(stream):
            at_s = frame.time if frame.time is not None else 0.0
            start_s = at_s if start_s is None else start_s
            while shown is not None and at_s - start_s > time_s + 1e-6:
                yield Frame(time_s, _jpeg(shown))
                following = next(waiting, None)
                if following is None:
                    return
                time_s = following
            shown = frame
    if shown is None:
        raise _UnreadableError("no frames")
    for left in (time_s, *waiting):
        yield Frame(left, _jpeg(shown))


def _spread(payload: bytes, duration_s: float, rate: float) -> Iterator[Frame]:
    """Yield the frames that Qwen2-VL's processor takes at a rate, with the times at which they begin."""
    with av.open(io.BytesIO(payload)) as container:  # some packets have no frame, so that all frames are decoded twice
        stream = container.streams.video[0]
        n_frames = sum(1 for _ in container.decode(stream))
        average = stream.average_rate
    if n_frames == 0:
        raise _UnreadableError("no frames")
    frames_per_s = float(average) if average else n_frames / duration_s
    taken = iter(processor_frames(n_frames, frames_per_s, rate))
    following = next(taken)
    with av.open(io.BytesIO(payload)) as container:
        start_s: float | None = None
        for at, frame in enumerate(container.decode(container.streams.video[0])):
            at_s = frame.time if frame.time is not None else at / frames_per_s
            start_s = at_s if start_s is None else start_s
            if at == following:
                yield Frame(at_s - start_s, _jpeg(frame))
                following = next(taken, -1)


def _image(payload: bytes) -> Frame:
    """Return an image, upright, with transparent parts on white."""
    try:
        with Image.open(io.BytesIO(payload)) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise _UnreadableError(f"cannot be decoded: {type(error).__name__}") from error
    ground = Image.new("RGBA", upright.size, "white")
    shown = Image.alpha_composite(ground, upright).convert("RGB")
    return Frame(0.0, _saved(shown.resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BICUBIC)))


def _jpeg(frame: VideoFrame) -> bytes:
    small = frame.reformat(width=SIDE_PIXELS, height=SIDE_PIXELS, format="rgb24", interpolation="BICUBIC")
    return _saved(Image.fromarray(small.to_ndarray()))


def _saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def unused_files(folder: Path, used: Iterable[str]) -> list[str]:
    """Return the files of media in a folder that no stimulus uses, as paths in the folder, sorted."""
    root, taken = folder.resolve(), set(used)
    found = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted({path.relative_to(root).as_posix() for path in found} - taken)


def _videos(found: list[Video]) -> pl.DataFrame:
    rows = [
        (
            index,
            one.path or None,
            one.sha256 or None,
            None if np.isnan(one.duration_s) else one.duration_s,
            len(one.frames),
            one.unreadable or None,
        )
        for index, one in enumerate(found)
    ]
    return pl.DataFrame(rows, schema=VIDEOS, orient="row")


def _frames(found: list[Video]) -> pl.DataFrame:
    rows = [
        (index, at, frame.time_s, hashlib.sha256(frame.jpeg).hexdigest(), frame.jpeg)
        for index, one in enumerate(found)
        for at, frame in enumerate(one.frames)
    ]
    return pl.DataFrame(rows, schema=FRAMES, orient="row")
