"""Steps of videos: decode them into the frames that models are shown, and compute features of vision models."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.judge.agents import FeaturesAgent, VisionEncoder
from affectlake.judge.vectors.vision import frame_vectors, load_vision_model
from affectlake.pipelines.params.study import EmotionSources, Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.seeds import generator
from affectlake.stimuli import make_synthetic
from affectlake.stimuli.clips import render_clips
from affectlake.stimuli.frames import FRAMES, VIDEOS, decode_videos


@step(
    reads=("stimuli",),
    writes=("videos", "frames"),
    params=(
        "seed",
        "sources.kind",
        "sources.videos",
        "sources.n_stimuli",
        "sources.clips",
        "sources.frame_sampling",
    ),
    optional=("sources.frame_sampling",),
    files=("sources.videos",),
    version=1,
)
def decode(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Decode the videos into the frames that models are shown; simulated clips are rendered first."""
    sources = params.sources
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    if isinstance(sources, EmotionSources):
        folder = None if sources.videos is None else context.source_root / sources.videos
    elif sources.clips:
        folder = context.scratch / "clips"
        mix = make_synthetic(sources.n_stimuli, generator(params.seed, "synthetic")).mix
        render_clips(folder, ids, mix, generator(params.seed, "clips"))
    else:
        folder = None
    if folder is None:
        context.log(
            "no videos: sources.videos is not set"
            if isinstance(sources, EmotionSources)
            else "no clips: sources.clips is false"
        )
        return {"videos": pl.DataFrame(schema=VIDEOS), "frames": pl.DataFrame(schema=FRAMES)}
    found = decode_videos(
        folder, ids, context.workers, lambda n: context.progress(f"{n:,} of {len(ids):,} videos"),
        sources.frame_sampling,
    )  # fmt: skip
    n_without = found.videos["unreadable"].is_not_null().sum()
    context.log(f"{found.frames.height:,} frames of {len(ids) - n_without:,} videos, {n_without:,} cannot be shown")
    return {"videos": found.videos, "frames": found.frames}


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
    without = rows.filter(pl.col("jpeg").is_null())
    if len(without):
        reasons = without.join(tables["videos"].collect(), on="stimulus_index", how="left", maintain_order="left")
        examples = (
            reasons.select("stimulus_id", pl.col("unreadable").fill_null("no videos were read")).head(5).iter_rows()
        )
        raise SourceError(
            f"{len(without):,} of {len(rows):,} stimuli have no frames, so that a vision agent cannot judge them",
            found=", ".join(f"{name} ({reason})" for name, reason in examples),
            todo="set sources.videos, exclude those stimuli, or leave the vision agents out of params.yaml",
        )
    return rows["jpeg"].to_list()
