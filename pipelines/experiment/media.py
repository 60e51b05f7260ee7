"""The files of stimuli that are shown: found where the study's sources say, and verified by the recorded hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import SourceError
from affectlake.experiment.offer import MediaFile
from affectlake.judge.agents import ExperimentAgent
from affectlake.pipelines.experiment.entry import folder_of
from affectlake.pipelines.params.sources import EmotionSources, SyntheticSources
from affectlake.pipelines.params.study import Params
from affectlake.seeds import generator
from affectlake.stimuli import make_synthetic

TYPES = {
    "images": {
        ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif",
        ".bmp": "image/bmp",
    },
    "videos": {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime"},
    "sounds": {
        ".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".flac": "audio/flac", ".m4a": "audio/mp4",
        ".aac": "audio/aac", ".opus": "audio/ogg",
    },
}  # fmt: skip
"""MIME types of the files that browsers show, by kind and suffix."""

_EXAMPLES = 3


class Media(NamedTuple):
    """The file of each stimulus, None if it has none that can be shown, and the reasons with their numbers."""

    files: tuple[MediaFile | None, ...]
    reasons: dict[str, int]


def media_of(lake: Path, params: Params, agent: ExperimentAgent, ids: list[str], videos: pl.DataFrame) -> Media:
    """Return the files that are shown.

    Parameters
    ----------
    lake : Path
        Root of the lake, to which source paths are relative.
    params : Params
        Its parameters.
    agent : ExperimentAgent
        Its `show` is images, videos or sounds.
    ids : list of str
        Id of each stimulus.
    videos : polars.DataFrame
        The table ``videos``, which has the path and the SHA-256 of each file.

    Raises
    ------
    SourceError
        If the sources have no folder of media, or a file is not the one that was read.
    """
    folder = _folder(lake, params, agent, ids)
    known = {row["stimulus_index"]: row for row in videos.iter_rows(named=True)}
    types, found, changed = TYPES[agent.show], list[MediaFile | None](), list[str]()
    reasons = dict[str, int]()
    for index in range(len(ids)):
        row = known.get(index) or {}
        name = row.get("video_path")
        kind = types.get(Path(name).suffix.lower()) if name else None
        path = folder / name if name else None
        why = "" if name else "no file"
        if name and kind is None:
            why = f"files {Path(name).suffix.lower()} are not {agent.show} that browsers show"
        elif path is not None and not path.is_file():
            why = "the file is missing"
        if why or path is None or kind is None:
            reasons[why] = reasons.get(why, 0) + 1
            found.append(None)
            continue
        payload = path.read_bytes()
        digest = hashlib.sha256(payload).hexdigest()
        if digest != row["video_sha256"]:
            changed.append(ids[index])
        found.append(MediaFile(digest, path, len(payload), kind))
    if changed:
        raise SourceError(
            f"{len(changed):,} files in {folder} are not those that were read",
            found=", ".join(changed[:_EXAMPLES]) + (", …" if len(changed) > _EXAMPLES else ""),
            todo="restore them, or read the new ones with `affectlake run`",
        )
    return Media(tuple(found), reasons)


def _folder(lake: Path, params: Params, agent: ExperimentAgent, ids: list[str]) -> Path:
    sources = params.sources
    if isinstance(sources, SyntheticSources):
        if not sources.clips:
            raise _without(agent, "sources.clips: true")
        return _rendered(lake, params, agent, ids, sources.n_stimuli)
    key, named = ("videos", sources.videos) if isinstance(sources, EmotionSources) else ("media", sources.media)
    if named is None:
        raise _without(agent, f"sources.{key}, the folder of the files")
    return (lake / named).resolve()


def _rendered(lake: Path, params: Params, agent: ExperimentAgent, ids: list[str], n: int) -> Path:
    """Return the folder of simulated clips, which are rendered into it unless they are there."""
    from affectlake.stimuli.clips import render_clips

    folder = folder_of(lake, agent.name) / "clips"
    if len(list(folder.glob("*.mp4"))) < n:
        mix = make_synthetic(n, generator(params.seed, "synthetic")).mix
        render_clips(folder, ids, mix, generator(params.seed, "clips"))
    return folder


def _without(agent: ExperimentAgent, wanted: str) -> SourceError:
    return SourceError(
        f"the study has no {agent.show} to show", wanted=wanted, todo=f"set it, or agents.{agent.name}.show: captions"
    )
