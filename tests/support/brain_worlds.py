"""A small made-up study with simulated brains, for tests that call its steps without a lake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import brain as brain_steps
from affectlake.pipelines.steps import choices as choices_steps
from affectlake.pipelines.steps import embedding as embedding_steps
from affectlake.pipelines.steps import rows
from affectlake.pipelines.steps import stimuli as stimuli_steps

TEXT = override(
    templates.starting_params("demo"),
    (
        "sources.n_stimuli=240",
        "brain.sources.n_subjects=3",
        "brain.sources.voxel_mm=16.0",
        "brain.encoding.permutations=1",
        "brain.searchlight.n_stimuli=90",
        "brain.searchlight.radius_voxels=1.5",
        "brain.searchlight.min_voxels=8",
        "brain.searchlight.permutations=19",
        "brain.partition=null",
    ),
)
PARAMS = parse(TEXT)
AGENTS = ("human-category", "human-dimension")


def context(folder: Path, agent: str = "", lines: list[str] | None = None) -> StepContext:
    log = lines.append if lines is not None else lambda _: None
    return StepContext(agent, folder, folder, 2, log, lambda _: None, agents=AGENTS)


def lazy(frames: OutputTables) -> dict[str, pl.LazyFrame]:
    return {name: frame.lazy() for name, frame in frames.items()}


def with_embedding(tables: OutputTables, params: Params, agent: str) -> OutputTables:
    """Give an agent an embedding without fitting one: its own rating vectors, scaled to be positive."""
    which = params.agents[agent].ratings  # type: ignore[union-attr]
    vectors = choices_steps.rating_vectors(
        tables["ratings"], choices_steps.families_of(tables["families"], which), tables["stimuli"].height
    )
    weights = ((vectors - vectors.min(0)) / vectors.std(0)).astype(np.float32)
    fit = {"agent": agent, "seed": 0, "n_dimensions": weights.shape[1], "held_out_loss": 1.0, "representative": True}
    return tables | {"embeddings": embedding_steps._weights(agent, 0, weights), "fits": rows.to_table("fits", [fit])}


def world_of_bands(params: Params, folder: Path) -> OutputTables:
    """Return the tables that steps of bands of agents read, with an embedding of each agent and without videos."""
    here = context(folder)
    study = stimuli_steps.ingest({}, params, here)
    frames = pl.DataFrame(schema={"stimulus_index": pl.Int32, "frame_index": pl.Int16, "jpeg": pl.Binary})
    media = {"frames": frames, "motion": rows.to_table("motion", [])}
    tables = study | brain_steps.ingest_brains(lazy(study), params, here) | media
    both = [with_embedding(tables, params, agent) for agent in AGENTS]
    return tables | {name: pl.concat([one[name] for one in both]) for name in ("embeddings", "fits")}
