"""Step that measures the motion energy of videos, which variance partitioning may hold constant."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import brain_of
from affectlake.pipelines.steps.progress import Progress
from affectlake.pipelines.steps.rows import to_table
from affectlake.pipelines.steps.videos import folder_of_videos
from affectlake.stimuli.motion_energy import (
    CHANNELS,
    N_SAMPLES,
    SAMPLES_PER_S,
    SIDE_PIXELS,
    motion_energies,
)

Energies = tuple[NDArray[np.float64], str]
"""Motion energy in each channel, and why there is none."""


@step(
    reads=("stimuli", "videos"),
    writes=("motion",),
    params=(
        "seed",
        "sources.kind",
        "sources.videos",
        "sources.media",
        "sources.n_stimuli",
        "sources.clips",
        "brain.partition.nuisance",
    ),
    optional=("sources.media", "brain.partition.nuisance"),
    files=("sources.videos", "sources.media"),
    section="brain.partition",
    version=1,
)
def measure_motion(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Measure the motion energy of each video, if it is a nuisance feature of variance partitioning."""
    partition = brain_of(params).partition
    assert partition is not None
    if "motion_energy" not in partition.nuisance:
        return {"motion": to_table("motion", [])}
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    folder = folder_of_videos(ids, params, context)
    if folder is None:
        context.log("no videos")
        return {"motion": to_table("motion", [])}
    unreadable = dict(tables["videos"].select("stimulus_index", "unreadable").collect().iter_rows())

    def of_video(index: int) -> Energies:
        return _energies(folder, ids[index], unreadable.get(index) or "")

    progress = Progress(context, "motion energy", "videos")
    found: list[Energies] = []
    with ThreadPoolExecutor(context.workers) as pool:
        for one in pool.map(of_video, range(len(ids))):
            found.append(one)
            progress(len(found), len(ids))
    n_without = sum(bool(note) for _, note in found)
    context.log(f"{len(CHANNELS)} channels of {len(ids) - n_without:,} videos, {n_without:,} have no motion energy")
    rows = (
        {"stimulus_index": index, "motion_energy": energy, "note": note or None, **channel._asdict()}
        for index, (energies, note) in enumerate(found)
        for channel, energy in zip(CHANNELS, energies.tolist(), strict=True)
    )
    return {"motion": to_table("motion", rows)}


def _energies(folder: Path, stimulus_id: str, unreadable: str) -> Energies:
    from affectlake.stimuli.whole_clips import read_luma

    nothing = np.full(len(CHANNELS), np.nan)
    if unreadable:
        return nothing, unreadable
    luma = read_luma(folder, stimulus_id, SIDE_PIXELS, SAMPLES_PER_S)
    if luma.unreadable:
        return nothing, luma.unreadable
    if len(luma.images) < N_SAMPLES:
        return nothing, f"shorter than {N_SAMPLES / SAMPLES_PER_S:g} s"
    return motion_energies(luma.images), ""
