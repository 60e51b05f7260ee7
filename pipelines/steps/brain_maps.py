"""Steps that compare every voxel, or the sphere around it, with an agent: encoding and searchlight maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import nulls, statistics
from affectlake.brain.clusters.levels import ClusterLevels, relabelled_levels
from affectlake.brain.clusters.neighbours import neighbours_of
from affectlake.brain.encoding.crossvalidation import Encoding, encode, relabelled
from affectlake.brain.searchlight.search import Searchlight, search
from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import (
    Subject,
    brain_of,
    folds_of,
    null_orders,
    region_nulls,
    subjects_of,
    vectors_of,
)
from affectlake.pipelines.steps.rows import null_nan, to_table
from affectlake.rsm import correlation_rsm

Floats = NDArray[np.floating]


@step(
    reads=("stimuli", "families", "ratings", "voxels", "betas", "embeddings/{agent}", "fits/{agent}"),
    writes=("encoding_maps/{agent}", "encoding_weights/{agent}", "encoding_nulls/{agent}"),
    params=(
        "seed",
        "brain.encoding",
        "brain.cluster_forming_p",
        "agents.{agent}.kind",
        "agents.{agent}.ratings",
        "agents.{agent}.scaling",
    ),
    kinds=EVERY_KIND,
    optional=("brain.cluster_forming_p",),
    section="brain",
    version=4,
)
def encode_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Predict each voxel from the agent's embedding and, for a ratings agent, from its rating vectors."""
    seed, bases = _bases(tables, params, context)
    if not bases:
        return {name: to_table(name, []) for name in ("encoding_maps", "encoding_weights", "encoding_nulls")}
    wanted, forming_p = brain_of(params).encoding, brain_of(params).cluster_forming_p
    maps, weights, scores = [], [], []
    for subject in subjects_of(tables, context):
        z, folds, neighbours = subject.z_scored, folds_of(subject, params), neighbours_of(subject.voxels)
        for basis, vectors in bases.items():
            features = np.asarray(vectors[subject.stimulus_index], dtype=np.float64)
            found = encode(features, z, folds, standardise=wanted.standardise, workers=context.workers)
            count = wanted.permutations if basis == "embedding" else 0
            orders = null_orders(params, "encoding", subject.stimulus_index, count)
            null = relabelled(features, z, folds, orders, standardise=wanted.standardise, workers=context.workers)
            levels = relabelled_levels(found.r, null, neighbours, forming_p, workers=context.workers)
            maps.append(_encoding_map(context.agent, subject, basis, found, null, levels))
            context.log(
                f"{subject.name}, {basis}: median r {np.nanmedian(found.r):.3f}, {int(found.usable.sum()):,} voxels"
            )
            if basis == "embedding":
                weights.append(_encoding_weights(context.agent, seed, subject.name, found))
                scores.append(region_nulls(context.agent, subject, basis, null))
    return {
        "encoding_maps": null_nan(pl.concat(maps)),
        "encoding_weights": pl.concat(weights),
        "encoding_nulls": pl.concat(scores),
    }


def _encoding_map(
    agent: str, subject: Subject, basis: str, found: Encoding, null: Floats, clusters: ClusterLevels
) -> pl.DataFrame:
    p = statistics.correlation_p_values(found.r, len(subject.stimulus_index))
    levels = statistics.pooled_p_values(found.r, null)
    n = len(found.r)
    return pl.DataFrame(
        {
            "agent": [agent] * n,
            "subject": [subject.name] * n,
            "basis": [basis] * n,
            "voxel_index": np.arange(n, dtype=np.int32),
            "encoding_r": found.r,
            "p": p,
            "p_fdr": statistics.benjamini_hochberg(p),
            "p_null": levels,
            "p_null_fdr": statistics.benjamini_hochberg(levels),
            "p_fwe": statistics.maximum_p_values(found.r, null),
            "p_tfce": clusters.tfce,
            "p_cluster": clusters.cluster,
            "penalty": np.exp(np.log(found.penalty).mean(axis=0)),
            "n_stimuli": np.full(n, len(subject.stimulus_index), dtype=np.int32),
        }
    )


def _encoding_weights(agent: str, seed: int, subject: str, found: Encoding) -> pl.DataFrame:
    d, n = found.weights.shape
    values = pl.Series(found.weights.astype(np.float32), dtype=pl.Array(pl.Float32, n)).cast(pl.List(pl.Float32))
    return pl.DataFrame(
        {
            "agent": [agent] * d,
            "seed": pl.Series([seed] * d, dtype=pl.Int32),
            "subject": [subject] * d,
            "dimension": np.arange(1, d + 1, dtype=np.int16),
            "voxel_weights": values,
        }
    )


@step(
    reads=(
        "stimuli",
        "families",
        "ratings",
        "voxels",
        "betas",
        "shared_stimuli",
        "stimulus_reliability",
        "embeddings/{agent}",
        "fits/{agent}",
    ),
    writes=("rsa_maps/{agent}", "rsa_nulls/{agent}"),
    params=(
        "seed",
        "brain.searchlight.radius_voxels",
        "brain.searchlight.min_voxels",
        "brain.searchlight.ranks",
        "brain.searchlight.permutations",
        "brain.cluster_forming_p",
        "brain.device",
        "agents.{agent}.kind",
        "agents.{agent}.ratings",
        "agents.{agent}.scaling",
    ),
    kinds=EVERY_KIND,
    optional=("brain.cluster_forming_p",),
    gpu=True,
    section="brain",
    version=5,
)
def search_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compare the similarities in the sphere around each voxel with those of the agent."""
    least, forming_p = brain_of(params).searchlight.min_voxels, brain_of(params).cluster_forming_p
    _, bases = _bases(tables, params, context)
    if not bases:
        return {name: to_table(name, []) for name in ("rsa_maps", "rsa_nulls")}
    shared = tables["shared_stimuli"].filter("shared").select("stimulus_index").collect()["stimulus_index"].to_numpy()
    maps, scores = [], []
    for subject in subjects_of(tables, context):
        chosen = tables["stimulus_reliability"].filter(pl.col("subject") == subject.name).sort("stimulus_index")
        rows = np.flatnonzero(np.isin(subject.stimulus_index, shared))
        count = brain_of(params).searchlight.permutations
        orders = null_orders(params, "searchlight", subject.stimulus_index[rows], count)
        stimuli = _Stimuli(chosen.collect(), rows, orders)
        vectors = {basis: v[subject.stimulus_index].astype(np.float64) for basis, v in bases.items()}
        found, null = _searched(subject, stimuli, vectors, params, context)
        neighbours = neighbours_of(subject.voxels)
        for at, basis in enumerate(bases):
            one = Searchlight(found.rho[at], found.n_members)
            levels = relabelled_levels(one.rho, null[:, at], neighbours, forming_p, workers=context.workers)
            maps.append(_rsa_map(context.agent, subject.name, basis, one, null[:, at], stimuli, levels))
            scores.append(region_nulls(context.agent, subject, basis, null[:, at]))
            context.log(f"{subject.name}, {basis}: {_middle(found.rho[at], least)}, {stimuli.n_selected:,} stimuli")
    return {"rsa_maps": null_nan(pl.concat(maps)), "rsa_nulls": pl.concat(scores)}


class _Stimuli(NamedTuple):
    """A subject's rows of `stimulus_reliability`, its rows that all agents describe (m,), and their orders (K, m)."""

    reliability: pl.DataFrame
    shared: NDArray[np.int64]
    orders: NDArray[np.int64]

    @property
    def selected(self) -> NDArray[np.bool_]:
        return self.reliability["selected"].to_numpy()

    @property
    def n_selected(self) -> int:
        return int(self.selected.sum())

    @property
    def by_ratings(self) -> bool:
        """Whether the selection depends on the ratings, so that each permutation has stimuli of its own."""
        return self.reliability["null_selected"].null_count() == 0


def _searched(
    subject: Subject, stimuli: _Stimuli, vectors: Mapping[str, NDArray[np.float64]], params: Params,
    context: StepContext,
) -> tuple[Searchlight, NDArray[np.float32]]:  # fmt: skip
    """Return the maps of all bases, and their null distributions (n_permutations, n_bases, n_voxels)."""
    wanted, z = brain_of(params).searchlight, subject.z_scored
    spheres = make_spheres(subject.voxels, sphere_offsets(wanted.radius_voxels), subject.usable)
    rsms = np.stack([correlation_rsm(v[stimuli.shared]) for v in vectors.values()])

    def run(rows: NDArray[np.bool_], orders: NDArray[np.int64], name: str) -> Searchlight:
        return search(
            z.of_stimuli(rows),
            spheres,
            nulls.Relabelled(rsms, orders[:, rows[stimuli.shared]]),
            min_voxels=wanted.min_voxels,
            ranks=wanted.ranks,
            workers=context.workers,
            device=brain_of(params).device,
            checkpoint=context.scratch / name,
            on_spheres=lambda done: context.progress(f"{name}: {done:,} spheres"),
        )

    own, n_bases = np.arange(len(stimuli.shared))[None], len(vectors)
    if not stimuli.by_ratings:
        found = run(stimuli.selected, np.concatenate([own, stimuli.orders]), subject.name)
        null = found.rho[n_bases:].reshape(len(stimuli.orders), n_bases, spheres.n_voxels)
        return Searchlight(found.rho[:n_bases], found.n_members), null
    again = nulls.unpacked(stimuli.reliability["null_selected"].to_list(), len(stimuli.orders))
    drawn = [run(rows, order[None], f"{subject.name}-{k}").rho
             for k, (rows, order) in enumerate(zip(again, stimuli.orders, strict=True))]  # fmt: skip
    return run(stimuli.selected, own, subject.name), np.stack(drawn)


def _middle(rho: Floats, min_voxels: int) -> str:
    found = rho[~np.isnan(rho)]
    return f"median ρ {np.median(found):.4f}" if len(found) else f"no map: no sphere has {min_voxels:,} usable voxels"


def _rsa_map(
    agent: str, subject: str, basis: str, own: Searchlight, null: NDArray[np.float32], stimuli: _Stimuli,
    clusters: ClusterLevels,
) -> pl.DataFrame:  # fmt: skip
    rho, n = own.rho, len(own.rho)
    found = nulls.levels(rho, null)
    return pl.DataFrame(
        {
            "agent": [agent] * n,
            "subject": [subject] * n,
            "basis": [basis] * n,
            "voxel_index": np.arange(n, dtype=np.int32),
            "rho": rho,
            "bias": found.mean.astype(np.float32) if stimuli.by_ratings else np.where(np.isnan(rho), rho, 0.0),
            "p": found.p,
            "p_fdr": statistics.benjamini_hochberg(found.p),
            "p_null": found.pooled,
            "p_null_fdr": statistics.benjamini_hochberg(found.pooled),
            "p_fwe": found.familywise,
            "p_tfce": clusters.tfce,
            "p_cluster": clusters.cluster,
            "n_members": own.n_members,
            "n_stimuli": np.full(n, stimuli.n_selected, dtype=np.int32),
        }
    )


def _bases(tables: Tables, params: Params, context: StepContext) -> tuple[int, dict[str, Floats]]:
    """Return the seed of the representative fit, and the bases, each (n_stimuli, d); no bases if there is no fit."""
    seed, found = vectors_of(tables, params, context.agent)
    if not found:
        context.log("no brain maps: pruning removed all dimensions of all fits")
    return seed, found
