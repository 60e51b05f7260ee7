"""The content that a chat agent is shown of each stimulus: its captions, or the frames of its video."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.judge.protocols.protocol import Modality
from affectlake.judge.protocols.wording import neutralise


@dataclass(frozen=True)
class Materials:
    """The content of every stimulus of a catalogue.

    Parameters
    ----------
    modality : {'captions', 'videos'}
        Kind of content.
    stimulus_ids : tuple of str
        The source's identifier of each stimulus.
    n_options : int64 (n_stimuli,)
        Number of captions of each stimulus, or 1 for a video with frames; a stimulus with 0 cannot be asked about.
    digests : tuple of tuple of str
        SHA-256 (hex) of each caption as it is shown, or of the hashes of a video's frames.
    captions : tuple of tuple of str
        Each stimulus's neutralised captions; empty for videos.
    frames : tuple of tuple of bytes
        Each video's JPEG frames; empty for captions.
    """

    modality: Modality
    stimulus_ids: tuple[str, ...]
    n_options: NDArray[np.int64]
    digests: tuple[tuple[str, ...], ...]
    captions: tuple[tuple[str, ...], ...] = ()
    frames: tuple[tuple[bytes, ...], ...] = ()

    def video(self, stimulus: int) -> tuple[str, str]:
        """Return a video's stable name and its data URI: a list of JPEG frames."""
        frames = ",".join(base64.b64encode(frame).decode("ascii") for frame in self.frames[stimulus])
        return self.digests[stimulus][0], f"data:video/jpeg;base64,{frames}"


def caption_materials(stimuli: pl.DataFrame, captions: pl.DataFrame) -> Materials:
    """Return the captions of a catalogue, neutralised.

    Parameters
    ----------
    stimuli, captions : polars.DataFrame
        The tables of these names.

    Raises
    ------
    SourceError
        If the captions of a stimulus are not numbered 0, 1, 2, ….
    """
    texts: list[list[str]] = [[] for _ in range(stimuli.height)]
    for stimulus, index, caption in (
        captions.sort("stimulus_index", "caption_index")
        .select("stimulus_index", "caption_index", "caption")
        .iter_rows()
    ):
        if index != len(texts[stimulus]):
            raise SourceError(
                f"the captions of stimulus_index {stimulus} are not numbered consecutively",
                wanted=f"caption_index {len(texts[stimulus])}",
                found=f"caption_index {index}",
                todo="rebuild the captions table from its source",
            )
        texts[stimulus].append(neutralise(caption))
    return Materials(
        modality="captions",
        stimulus_ids=_ids(stimuli),
        n_options=np.array([len(some) for some in texts], dtype=np.int64),
        digests=tuple(tuple(hashlib.sha256(text.encode()).hexdigest() for text in some) for some in texts),
        captions=tuple(map(tuple, texts)),
    )


def video_materials(stimuli: pl.DataFrame, frames: pl.DataFrame) -> Materials:
    """Return the frames of a catalogue's videos. All frames are held in memory (about 260 MB for the paper's videos).

    Parameters
    ----------
    stimuli, frames : polars.DataFrame
        The tables of these names.
    """
    held: list[list[bytes]] = [[] for _ in range(stimuli.height)]
    hashes: list[list[str]] = [[] for _ in range(stimuli.height)]
    for stimulus, digest, jpeg in (
        frames.sort("stimulus_index", "frame_index").select("stimulus_index", "frame_sha256", "jpeg").iter_rows()
    ):
        held[stimulus].append(jpeg)
        hashes[stimulus].append(digest)
    return Materials(
        modality="videos",
        stimulus_ids=_ids(stimuli),
        n_options=np.array([bool(some) for some in held], dtype=np.int64),
        digests=tuple((video_digest(some),) if some else () for some in hashes),
        frames=tuple(map(tuple, held)),
    )


def video_digest(frame_sha256: Sequence[str]) -> str:
    """Return the hash of a video as it is shown: SHA-256 of the hex hashes of its frames, in order."""
    return hashlib.sha256("".join(frame_sha256).encode()).hexdigest()


def _ids(stimuli: pl.DataFrame) -> tuple[str, ...]:
    return tuple(stimuli.sort("stimulus_index")["stimulus_id"])
