"""Steps of videos: decode them into the frames that models are shown, and compute features of vision models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.encoders.settings import VideoMAE, VisionEncoder
from affectlake.encoders.videomae import clip_vectors, load_video_model
from affectlake.encoders.vision import frame_vectors, load_vision_model
from affectlake.errors import SourceError
from affectlake.judge.agents import FeaturesAgent
from affectlake.pipelines.params.sources import EmotionSources, SyntheticSources, TableSources
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.seeds import generator
from affectlake.stimuli import make_synthetic


@step(
    reads=("stimuli",),
    writes=("videos", "frames"),
    params=(
        "seed",
        "sources.kind",
        "sources.videos",
        "sources.media",
        "sources.n_stimuli",
        "sources.clips",
        "sources.frame_sampling",
    ),
    optional=("sources.media", "sources.frame_sampling"),
    files=("sources.videos", "sources.media"),
    version=1,
)
def decode(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Decode the videos into the frames that models are shown; simulated clips are rendered first."""
    from affectlake.stimuli.frames import FRAMES, VIDEOS, decode_videos, unused_files

    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    folder = folder_of_videos(ids, params, context)
    if folder is None:
        reasons = {"emotion": "no videos: sources.videos is not set", "tables": "no media: sources.media is not set"}
        context.log(reasons.get(params.sources.kind, "no clips: sources.clips is false"))
        return {"videos": pl.DataFrame(schema=VIDEOS), "frames": pl.DataFrame(schema=FRAMES)}
    found = decode_videos(
        folder, ids, context.workers, lambda n: context.progress(f"{n:,} of {len(ids):,} videos"),
        params.sources.frame_sampling,
        "sources.media" if isinstance(params.sources, TableSources) else "sources.videos",
    )  # fmt: skip
    if isinstance(params.sources, TableSources):
        unused = unused_files(folder, found.videos["video_path"].drop_nulls().to_list())
        if unused:
            context.log(f"{len(unused):,} files of {folder} belong to no stimulus, such as {', '.join(unused[:3])}")
    n_without = found.videos["unreadable"].is_not_null().sum()
    context.log(f"{found.frames.height:,} frames of {len(ids) - n_without:,} videos, {n_without:,} cannot be shown")
    return {"videos": found.videos, "frames": found.frames}


def folder_of_videos(ids: list[str], params: Params, context: StepContext) -> Path | None:
    """Return the folder of the videos, or None if there are none; simulated clips are rendered into it first."""
    from affectlake.stimuli.clips import render_clips

    sources = params.sources
    if not isinstance(sources, SyntheticSources):
        named = sources.videos if isinstance(sources, EmotionSources) else sources.media
        return None if named is None else context.source_root / named
    if not sources.clips:
        return None
    folder = context.scratch / "clips"
    mix = make_synthetic(sources.n_stimuli, generator(params.seed, "synthetic")).mix
    render_clips(folder, ids, mix, generator(params.seed, "clips"))
    return folder


@step(
    reads=("stimuli", "videos", "frames"),
    writes=("features/{agent}",),
    params=("agents.{agent}.encoder",),
    kinds=("features",),
    modality="videos",
    gpu=True,
    version=1,
)
def encode_frames(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compute a feature vector of each stimulus: the mean of a vision model's features over the frames of its video."""
    agent = params.agents[context.agent]
    assert isinstance(agent, FeaturesAgent) and isinstance(agent.encoder, VisionEncoder)
    frames = _frames(tables)
    model = load_vision_model(agent.encoder, context.source_root, params.device)
    context.log(f"{agent.encoder.library} {agent.encoder.model}, weights {model.sha256[:16]}, on {params.device}")
    workers = context.workers if params.device == "cpu" else 1
    vectors = frame_vectors(frames, model, workers, lambda n: context.progress(f"{n:,} of {len(frames):,} videos"))
    return {"features": feature_rows(vectors, context)}


@step(
    reads=("stimuli", "videos"),
    writes=("features/{agent}",),
    params=(
        "seed",
        "sources.kind",
        "sources.videos",
        "sources.media",
        "sources.n_stimuli",
        "sources.clips",
        "agents.{agent}.encoder",
    ),
    optional=("sources.media",),
    files=("sources.videos", "sources.media"),
    kinds=("features",),
    modality="clips",
    gpu=True,
    version=1,
)
def encode_clips(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compute a feature vector of each stimulus: a video model's features of frames spread over its video."""
    from affectlake.stimuli.whole_clips import read_clip

    agent = params.agents[context.agent]
    assert isinstance(agent, FeaturesAgent) and isinstance(agent.encoder, VideoMAE)
    stimuli = tables["stimuli"].sort("stimulus_index").select("stimulus_index", "stimulus_id").collect()
    ids, videos = stimuli["stimulus_id"].to_list(), tables["videos"].collect()
    readable = videos.filter(pl.col("unreadable").is_null())
    _refuse(stimuli.join(readable, on="stimulus_index", how="anti", maintain_order="left"), stimuli, videos)
    folder = folder_of_videos(ids, params, context)
    assert folder is not None  # each stimulus has a video
    model = load_video_model(agent.encoder, context.source_root, params.device)
    context.log(f"videomae {agent.encoder.model}, weights {model.sha256[:16]}, on {params.device}")
    workers = context.workers if params.device == "cpu" else 1
    n_decoded: dict[int, int] = {}

    def clip_of(index: int) -> NDArray[np.uint8]:
        images, n_decoded[index] = read_clip(folder, ids[index], model.n_frames)
        return images

    vectors = clip_vectors(
        len(ids), clip_of, model, workers, lambda n: context.progress(f"{n:,} of {len(ids):,} videos")
    )
    n_short = sum(n < model.n_frames for n in n_decoded.values())
    context.log(f"{model.n_frames} frames of each video; {n_short:,} videos have fewer, so that frames are repeated")
    return {"features": feature_rows(vectors, context)}


def feature_rows(vectors: NDArray[np.float32], context: StepContext) -> pl.DataFrame:
    """Return vectors (n_stimuli, n_features) as rows of the table ``features``."""
    context.log(f"{vectors.shape[0]:,} vectors of {vectors.shape[1]:,} features")
    columns = {"agent": [context.agent] * len(vectors), "stimulus_index": np.arange(len(vectors), dtype=np.int32)}
    return pl.DataFrame(columns | {"vector": pl.Series(vectors, dtype=pl.List(pl.Float32))})


def _frames(tables: Tables) -> list[list[bytes]]:
    """Return the JPEG frames of each stimulus, in the order of the catalogue."""
    joined = tables["stimuli"].join(
        tables["frames"].group_by("stimulus_index").agg(pl.col("jpeg").sort_by("frame_index")),
        on="stimulus_index",
        how="left",
    )
    rows = joined.sort("stimulus_index").select("stimulus_index", "stimulus_id", "jpeg").collect()
    _refuse(rows.filter(pl.col("jpeg").is_null()), rows, tables["videos"].collect())
    return rows["jpeg"].to_list()


def _refuse(without: pl.DataFrame, stimuli: pl.DataFrame, videos: pl.DataFrame) -> None:
    """Raise :class:`SourceError` with the first reasons if there are stimuli without a readable video."""
    if without.is_empty():
        return
    reasons = without.join(videos, on="stimulus_index", how="left", maintain_order="left")
    examples = reasons.select("stimulus_id", pl.col("unreadable").fill_null("no videos were read")).head(5).iter_rows()
    raise SourceError(
        f"{len(without):,} of {len(stimuli):,} stimuli have no frames, so that a vision agent cannot judge them",
        found=", ".join(f"{name} ({reason})" for name, reason in examples),
        todo="set sources.videos, exclude those stimuli, or leave the vision agents out of params.yaml",
    )
