"""Brains without any relation to the agents, taken through the steps: selection, searchlight, regions and subjects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from affectlake.brain.halves import split_half_r
from affectlake.judge.vectors.ratings import families_of, rating_vectors
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, override, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import brain_groups, brain_maps, brain_selection, embedding, rows, stimuli

AGENTS = ("human-category", "human-dimension", "caption-tfidf")
"""Two agents made of the ratings, and one whose embedding is drawn at random."""

Kind = Literal["white", "smooth", "shared"]
"""Independent voxels and subjects; neighbouring voxels alike; patterns that subjects share (three latent variables)."""

SIDE = 6  # voxels along each edge of a brain


def settings(selection: str, permutations: int, n_stimuli: int = 90, kept: int = 30, seed: int = 0) -> Params:
    """Return the demo's parameters with a small searchlight."""
    changes = (
        f"seed={seed}", f"sources.n_stimuli={n_stimuli}", "brain.encoding.outer_folds=3",
        "brain.encoding.inner_folds=2", f"brain.encoding.permutations={permutations}",
        f"brain.searchlight.n_stimuli={kept}", "brain.searchlight.radius_voxels=1.5",
        "brain.searchlight.min_voxels=8", f"brain.searchlight.permutations={permutations}",
        f"brain.searchlight.selection={selection}", "brain.searchlight.ranks=exact",
    )  # fmt: skip
    return parse(override(templates.starting_params("demo"), changes))


def lazy(tables: OutputTables) -> dict[str, pl.LazyFrame]:
    """Return tables as steps receive them."""
    return {name: frame.lazy() for name, frame in tables.items()}


def context(folder: Path, agent: str = "", workers: int = 1) -> StepContext:
    """Return a context that logs nothing."""
    return StepContext(agent, folder, folder, workers, lambda _: None, lambda _: None, agents=AGENTS)


def fitted(tables: OutputTables, params: Params, seed: int, dead: Sequence[int] = ()) -> OutputTables:
    """Return `embeddings` and `fits` of every agent: its rating vectors, or random numbers; `dead` rows are 0."""
    weights, fits = [], []
    for agent in AGENTS:
        which = getattr(params.agents[agent], "ratings", "")
        n = tables["stimuli"].height
        drawn = np.random.default_rng([seed, 1]).random((n, 12))
        vectors = rating_vectors(tables["ratings"], families_of(tables["families"], which), n) if which else drawn
        own = ((vectors - vectors.min(0)) / vectors.std(0)).astype(np.float32)
        if agent == AGENTS[0]:
            own[list(dead)] = 0
        weights.append(embedding._weights(agent, 0, own))
        fits.append({"agent": agent, "seed": 0, "n_dimensions": own.shape[1], "held_out_loss": 1.0,
                     "representative": True})  # fmt: skip
    return {"embeddings": pl.concat(weights), "fits": rows.to_table("fits", fits)}


def brains(
    kind: Kind, n_stimuli: int, seed: int, n_subjects: int = 5, repeats: bool = False,
    ratings: NDArray[np.float64] | None = None, strength: float = 0.0,
) -> OutputTables:  # fmt: skip
    """Return `voxels` and `betas` of subjects whose patterns are drawn without the ratings.

    With `repeats`, each stimulus is presented twice: what subjects share is the same, the rest is drawn again. Standard
    `ratings` (n_stimuli, n_ratings) are planted in the voxels of the region VC, as another random sum in every voxel,
    the same in both presentations; `strength` is the ratio of the standard deviations of what is planted and of what
    is there in one presentation.
    """
    planting = np.random.default_rng([seed, 3])
    rng = np.random.default_rng([seed, 0])
    place = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    again = np.random.default_rng([seed, 2])
    inside = place[:, 0] < SIDE // 2
    latent, voxels, betas = rng.normal(size=(n_stimuli, 3)), [], []
    for number in range(1, n_subjects + 1):
        patterns = _noise(kind, rng, n_stimuli)
        signal = latent @ rng.normal(size=(3, len(place))) if kind == "shared" else np.zeros(patterns.shape)
        patterns += signal
        if ratings is not None:
            planted = ratings @ planting.normal(size=(ratings.shape[1], int(inside.sum())))
            planted *= strength * patterns[:, inside].std(0) / planted.std(0)
            signal[:, inside] += planted
            patterns[:, inside] += planted
        r: list[float | None] = [None] * n_stimuli
        if repeats:
            second = _noise(kind, again, n_stimuli) + signal
            r = split_half_r(np.vstack([patterns, second]), np.tile(np.arange(n_stimuli), 2)).tolist()
            patterns = (patterns + second) / 2
        subject, flat = f"S{number}", patterns.astype(np.float32)
        voxels.append(pl.DataFrame(
            {"subject": [subject] * len(place), "voxel_index": np.arange(len(place), dtype=np.int32)}
            | {f"voxel_{axis}": place[:, i] for i, axis in enumerate("ijk")}
            | {f"{axis}_mm": place[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
            | {"regions": np.where(inside, "VC", "DLPFC"), "usable": [True] * len(place)}
        ))  # fmt: skip
        betas.append(pl.DataFrame(
            {"subject": [subject] * n_stimuli, "stimulus_index": np.arange(n_stimuli, dtype=np.int32),
             "run": pl.Series([None] * n_stimuli, dtype=pl.Int32),
             "n_presentations": pl.Series([1 + repeats] * n_stimuli, dtype=pl.Int32),
             "split_half_r": pl.Series(r, dtype=pl.Float64),
             "pattern": pl.Series(flat.tolist(), dtype=pl.List(pl.Float32))}
        ))  # fmt: skip
    return {"voxels": pl.concat(voxels), "betas": pl.concat(betas)}


def _noise(kind: Kind, rng: np.random.Generator, n_stimuli: int) -> NDArray[np.float64]:
    drawn = rng.normal(size=(n_stimuli, SIDE**3))
    if kind == "smooth":
        drawn = gaussian_filter(drawn.reshape(n_stimuli, SIDE, SIDE, SIDE), (0, 1.5, 1.5, 1.5))
    return drawn.reshape(n_stimuli, -1)


def study(
    params: Params, kind: Kind, seed: int, folder: Path, n_subjects: int = 5, repeats: bool = False,
    planted: float = 0.0,
) -> OutputTables:  # fmt: skip
    """Return the tables of a study of null brains up to the selected stimuli.

    `planted` is the strength with which all brains follow the category ratings, as in :func:`brains`.
    """
    tables, ratings = stimuli.ingest({}, params, context(folder)), None
    n = tables["stimuli"].height
    if planted:
        vectors = rating_vectors(tables["ratings"], families_of(tables["families"], "category"), n)
        ratings = (vectors - vectors.mean(0)) / vectors.std(0).clip(1e-9)
    tables |= brains(kind, n, seed, n_subjects, repeats, ratings, planted) | fitted(tables, params, seed)
    tables |= brain_selection.share_stimuli(lazy(tables), params, context(folder))
    return tables | brain_selection.select_stimuli(lazy(tables), params, context(folder))


def compared(tables: OutputTables, params: Params, folder: Path, encoding: bool = True) -> OutputTables:
    """Return the maps, region scores and statistics of every agent, with or without those of encoding."""
    found: dict[str, list[pl.DataFrame]] = {}
    for agent in AGENTS:
        (folder / agent).mkdir(parents=True, exist_ok=True)
        here = context(folder / agent, agent)
        own = tables | {name: tables[name].filter(pl.col("agent") == agent) for name in ("embeddings", "fits")}
        encoded = brain_maps.encode_brains(lazy(own), params, here) if encoding else {
            name: rows.to_table(name, []) for name in ("encoding_maps", "encoding_weights", "encoding_nulls")
        }  # fmt: skip
        mine = encoded | brain_maps.search_brains(lazy(own), params, here)
        mine |= brain_groups.score_regions(lazy(own | mine), params, here)
        if params.agents[agent].kind == "ratings":
            mine |= brain_groups.compare_bases(lazy(own | mine), params, here)
        for name, frame in mine.items():
            found.setdefault(name, []).append(frame)
    maps = {name: pl.concat(frames) for name, frames in found.items()}
    return maps | brain_groups.compare_brains(lazy(tables | maps), params, context(folder))
