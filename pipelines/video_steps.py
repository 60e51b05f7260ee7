"""Steps of videos: decoded once, to the frames that models are shown."""

from __future__ import annotations

import polars as pl

from affectlake.seeds import generator
from affectlake.stimuli import make_synthetic
from affectlake.stimuli.clips import render_clips
from affectlake.stimuli.frames import FRAMES, VIDEOS, decode_videos
from pipelines.params import EmotionSources, Params
from pipelines.record import Frames, Tables, Work, step


@step(
    reads=("stimuli",),
    writes=("videos", "frames"),
    params=("seed", "sources"),
    files=("sources.videos",),
    version=1,
)
def decode(tables: Tables, params: Params, work: Work) -> Frames:
    """Decode the videos into the frames that models are shown; the demo world renders its clips first."""
    sources = params.sources
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    if isinstance(sources, EmotionSources):
        folder = None if sources.videos is None else work.lake / sources.videos
    elif sources.clips:
        folder = work.scratch / "clips"
        mix = make_synthetic(sources.n_stimuli, generator(params.seed, "synthetic")).mix
        render_clips(folder, ids, mix, generator(params.seed, "clips"))
    else:
        folder = None
    if folder is None:
        work.say("no videos: sources.videos is not set" if isinstance(sources, EmotionSources) else "no clips wanted")
        return {"videos": pl.DataFrame(schema=VIDEOS), "frames": pl.DataFrame(schema=FRAMES)}
    found = decode_videos(folder, ids, work.workers, lambda n: work.progress(f"{n:,} of {len(ids):,} videos"))
    n_without = found.videos["unreadable"].is_not_null().sum()
    work.say(f"{found.frames.height:,} frames of {len(ids) - n_without:,} videos, {n_without:,} cannot be shown")
    return {"videos": found.videos, "frames": found.frames}
