"""Steps of the brain: from recordings to maps, region scores and group statistics.

:mod:`affectlake.brain` does the computations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import statistics
from affectlake.brain.encoding.crossvalidation import Encoding, encode
from affectlake.brain.encoding.folds import Folds, folds_by_run, nested_folds
from affectlake.brain.encoding.reliability import leave_one_out, most_reliable
from affectlake.brain.recordings import regions
from affectlake.brain.recordings.subjects import align, usable_voxels, z_scored
from affectlake.brain.searchlight.search import search
from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets
from affectlake.errors import UsageError
from affectlake.judge.agents import RatingsAgent
from affectlake.judge.vectors.ratings import rating_matrix, rating_vectors
from affectlake.pipelines.params.brain import Brain
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.arrays import representative
from affectlake.pipelines.steps.brain_arrays import METHODS, Subject, beta_rows, subjects_of
from affectlake.pipelines.steps.brain_sources import recordings
from affectlake.pipelines.steps.rows import Row, null_nan, to_table
from affectlake.rsm import correlation_rsm
from affectlake.seeds import generator

Floats = NDArray[np.floating]


@step(
    reads=("stimuli", "ratings"),
    writes=("voxels", "betas"),
    params=("seed", "brain.sources"),
    files=(
        "brain.sources.subjects",
        "brain.sources.derivatives",
        "brain.sources.raw",
        "brain.sources.mask",
        "brain.sources.atlas",
    ),
    section="brain",
    version=1,
)
def ingest_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Read the recordings: all voxels with their regions, and one pattern per subject and stimulus."""
    ids = tables["stimuli"].sort("stimulus_index").select("stimulus_id").collect()["stimulus_id"].to_list()
    voxels, betas = [], []
    for name, recording in recordings(tables, params, context.lake, ids):  # sorted by name, as the rows of the tables
        found = align(recording, ids)
        context.log(found.account(name))
        member = regions.membership(recording.columns, len(recording.voxels))
        if member.absent:
            context.log(f"{name}: no columns for {len(member.absent)} regions: {', '.join(member.absent)}")
        axes = {f"voxel_{axis}": recording.voxels[:, i] for i, axis in enumerate("ijk")}
        places = {f"{axis}_mm": recording.mm[:, i] for i, axis in enumerate("xyz")}
        n_voxels = len(recording.voxels)
        voxels.append(
            pl.DataFrame(
                {"subject": [name] * n_voxels, "voxel_index": np.arange(n_voxels, dtype=np.int32)}
                | axes | places | {"regions": regions.words(member), "usable": usable_voxels(found.patterns)}
            )
        )  # fmt: skip
        betas.append(beta_rows(name, found, context.scratch / f"{name}.arrow"))
    return {"voxels": pl.concat(voxels), "betas": pl.concat(betas)}


@step(
    reads=("stimuli", "ratings", "voxels", "betas"),
    writes=("stimulus_reliability", "noise_ceilings"),
    params=(
        "seed",
        "brain.encoding.outer_folds",
        "brain.encoding.inner_folds",
        "brain.encoding.by_run",
        "brain.searchlight.n_stimuli",
    ),
    section="brain",
    version=1,
)
def select_stimuli(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Select the stimuli whose patterns the ratings predict best, and compute the noise ceilings of regions."""
    brain = _brain(params)
    ratings, n_stimuli = tables["ratings"].collect(), tables["stimuli"].select(pl.len()).collect().item()
    rated = np.hstack([rating_matrix(ratings, n_stimuli, family).scores for family in ("category", "dimension")])
    parts, kept = [], list[ReliableStimuli]()
    for subject in subjects_of(tables, context):
        features = _standard(rated[subject.stimulus_index])
        z = subject.z_scored
        fitted = encode(features, z, _folds(subject, params), workers=context.workers)
        penalties = np.exp(np.log(fitted.penalty).mean(axis=0))
        found = leave_one_out(features, z, _on_grid(penalties), workers=context.workers)
        count = min(brain.searchlight.n_stimuli, len(found.r))
        rows = most_reliable(found.r, count)
        selected = np.isin(np.arange(len(found.r)), rows)
        context.log(f"{subject.name}: median reliability {np.nanmedian(found.r):.3f}, of the {count:,} kept "
                 f"{np.median(found.r[rows]):.3f}")  # fmt: skip
        columns = {"subject": [subject.name] * len(selected), "stimulus_index": subject.stimulus_index}
        parts.append(pl.DataFrame(columns | {"reliability": found.r, "selected": selected}))
        kept.append(ReliableStimuli(subject, selected))
    return {
        "stimulus_reliability": null_nan(pl.concat(parts)),
        "noise_ceilings": null_nan(pl.DataFrame(_ceilings(kept), infer_schema_length=None)),
    }


def _on_grid(penalties: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round penalties to the nearest of 100 values, so that few different hat matrices are needed."""
    from affectlake.brain.encoding.crossvalidation import PENALTIES

    at = np.abs(np.log(penalties)[:, None] - np.log(PENALTIES)).argmin(axis=1)
    return np.where(np.isnan(penalties), np.nan, PENALTIES[at])


class ReliableStimuli(NamedTuple):
    """A subject, and a mask of its rows with the most reliable stimuli."""

    subject: Subject
    rows: NDArray[np.bool_]


def _ceilings(kept: list[ReliableStimuli]) -> list[dict[str, object]]:
    """Return one row per region: the noise ceiling over the stimuli that are selected in all subjects."""
    shared = sorted(set.intersection(*(set(one.stimulus_index[rows].tolist()) for one, rows in kept)))
    found: list[dict[str, object]] = []
    for region in [*regions.regions(), "all"]:
        rsms = []
        for one, _ in kept:
            at = np.ix_(np.isin(one.stimulus_index, shared), one.usable & one.inside(region))
            patterns = z_scored(one.patterns[at])
            if patterns.shape[1] >= 3 and np.isfinite(patterns).all():
                rsms.append(correlation_rsm(patterns))
        bound = statistics.noise_ceiling(np.stack(rsms)) if len(rsms) > 1 and len(shared) > 3 else None
        found.append(
            {
                "region": region,
                "ceiling_low": bound.lower if bound else None,
                "ceiling_high": bound.upper if bound else None,
                "n_subjects": len(rsms),
                "n_stimuli": len(shared),
            }
        )
    return found


@step(
    reads=("stimuli", "ratings", "voxels", "betas", "embeddings/{agent}", "fits/{agent}"),
    writes=("encoding_maps/{agent}", "encoding_weights/{agent}"),
    params=("seed", "brain.encoding", "agents.{agent}.kind", "agents.{agent}.ratings", "agents.{agent}.scaling"),
    kinds=EVERY_KIND,
    section="brain",
    version=2,
)
def encode_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Predict each voxel from the agent's embedding and, for a ratings agent, from its rating vectors."""
    seed, bases = _bases(tables, params, context)
    if not bases:
        return {"encoding_maps": to_table("encoding_maps", []), "encoding_weights": to_table("encoding_weights", [])}
    wanted = _brain(params).encoding
    maps, weights = [], []
    for subject in subjects_of(tables, context):
        z, folds = subject.z_scored, _folds(subject, params)
        for basis, vectors in bases.items():
            features = np.asarray(vectors[subject.stimulus_index], dtype=np.float64)
            found = encode(features, z, folds, standardise=wanted.standardise, workers=context.workers)
            rng = generator(params.seed, "brain", "encoding-null", context.agent, subject.name)
            drawn = [
                encode(rng.permutation(features), z, folds, standardise=wanted.standardise, workers=context.workers).r
                for _ in range(wanted.permutations if basis == "embedding" else 0)
            ]
            null = np.stack(drawn) if drawn else np.empty((0, len(found.r)))
            maps.append(_encoding_map(context.agent, subject, basis, found, null))
            context.log(
                f"{subject.name}, {basis}: median r {np.nanmedian(found.r):.3f}, {int(found.usable.sum()):,} voxels"
            )
            if basis == "embedding":
                weights.append(_encoding_weights(context.agent, seed, subject.name, found))
    return {"encoding_maps": null_nan(pl.concat(maps)), "encoding_weights": pl.concat(weights)}


def _encoding_map(agent: str, subject: Subject, basis: str, found: Encoding, null: Floats) -> pl.DataFrame:
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
            "penalty": np.exp(np.log(found.penalty).mean(axis=0)),
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
        "ratings",
        "voxels",
        "betas",
        "stimulus_reliability",
        "embeddings/{agent}",
        "fits/{agent}",
    ),
    writes=("rsa_maps/{agent}",),
    params=(
        "seed",
        "brain.searchlight.radius_voxels",
        "brain.searchlight.min_voxels",
        "brain.searchlight.ranks",
        "brain.searchlight.permutations",
        "brain.device",
        "agents.{agent}.kind",
        "agents.{agent}.ratings",
        "agents.{agent}.scaling",
    ),
    kinds=EVERY_KIND,
    gpu=True,
    section="brain",
    version=2,
)
def search_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Compare the similarities in the sphere around each voxel with those of the agent."""
    settings, device = _brain(params).searchlight, _brain(params).device
    _, bases = _bases(tables, params, context)
    if not bases:
        return {"rsa_maps": to_table("rsa_maps", [])}
    maps = []
    for subject in subjects_of(tables, context):
        chosen = tables["stimulus_reliability"].filter((pl.col("subject") == subject.name) & pl.col("selected"))
        rows = np.isin(subject.stimulus_index, chosen.select("stimulus_index").collect()["stimulus_index"].to_numpy())
        vectors = {basis: v[subject.stimulus_index] for basis, v in bases.items()}
        constant = np.any([v.max(axis=1) == v.min(axis=1) for v in vectors.values()], axis=0)
        if (rows & constant).any():
            context.log(f"{subject.name}: {int((rows & constant).sum())} stimuli without any weight are left out")
        rows &= ~constant
        models = [correlation_rsm(v[rows].astype(np.float64)) for v in vectors.values()]
        rng = generator(params.seed, "brain", "null", context.agent, subject.name)
        null = statistics.relabelled(models[0], rng, settings.permutations) if settings.permutations else models[:0]
        found = search(
            subject.z_scored.of_stimuli(rows),
            make_spheres(subject.voxels, sphere_offsets(settings.radius_voxels), subject.usable),
            np.stack([*models, *null]),
            min_voxels=settings.min_voxels,
            ranks=settings.ranks,
            workers=context.workers,
            device=device,
            checkpoint=context.scratch / subject.name,
            on_spheres=lambda done, name=subject.name: context.progress(f"{name}: {done:,} spheres"),  # type: ignore[misc]
        )
        levels = statistics.map_p_values(found.rho[0], found.rho[len(models) :])
        for at, basis in enumerate(bases):
            maps.append(_rsa_map(context.agent, subject.name, basis, found.rho[at], levels if at == 0 else None))
            maps[-1] = maps[-1].with_columns(n_members=pl.Series(found.n_members))
            context.log(
                f"{subject.name}, {basis}: {_middle(found.rho[at], settings.min_voxels)}, {int(rows.sum()):,} stimuli"
            )
    return {"rsa_maps": null_nan(pl.concat(maps))}


def _middle(rho: Floats, min_voxels: int) -> str:
    found = rho[~np.isnan(rho)]
    return f"median ρ {np.median(found):.4f}" if len(found) else f"no map: no sphere has {min_voxels:,} usable voxels"


def _rsa_map(agent: str, subject: str, basis: str, rho: Floats, levels: Floats | None) -> pl.DataFrame:
    n = len(rho)
    p = np.full(n, np.nan) if levels is None else levels
    return pl.DataFrame(
        {
            "agent": [agent] * n,
            "subject": [subject] * n,
            "basis": [basis] * n,
            "voxel_index": np.arange(n, dtype=np.int32),
            "rho": rho,
            "p": np.asarray(p, dtype=np.float64),
            "p_fdr": statistics.benjamini_hochberg(p),
        }
    )


@step(
    reads=("stimuli", "voxels", "betas", "encoding_maps/{agent}", "rsa_maps/{agent}"),
    writes=("roi_scores/{agent}",),
    kinds=EVERY_KIND,
    section="brain",
    version=1,
)
def score_regions(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Average both maps over each region and over the whole brain."""
    rows: list[Row] = []
    voxels = tables["voxels"].select("subject", "voxel_index", "regions").sort("subject", "voxel_index").collect()
    for (subject,), own in voxels.group_by("subject", maintain_order=True):
        member = regions.from_words(own["regions"])
        names, inside = [*member.keys, "all"], np.vstack([member.voxels, np.ones(own.height, dtype=bool)])
        for method, table, value in METHODS:
            maps = tables[table].filter(pl.col("subject") == subject).select("basis", "voxel_index", value).collect()
            for (basis,), one in maps.group_by("basis", maintain_order=True):
                joined = own.join(one, on="voxel_index", how="left", maintain_order="left")
                values = joined[value].cast(pl.Float64).fill_null(np.nan).to_numpy()
                keys: Row = {"agent": context.agent, "subject": subject, "basis": basis, "method": method}
                means = statistics.region_means(values[None], inside)[0].tolist()
                counts = np.count_nonzero(inside & ~np.isnan(values), axis=1).tolist()
                found = zip(names, means, counts, strict=True)
                rows += [keys | {"region": name, "region_score": score, "n_voxels": n} for name, score, n in found]
    return {"roi_scores": to_table("roi_scores", rows)}


@step(
    reads=("voxels", "roi_scores/{agents}", "encoding_maps/{agents}", "rsa_maps/{agents}"),
    writes=("group_stats",),
    section="brain",
    version=2,
)
def compare_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Test for each region whether one agent's scores are higher than another's across subjects."""
    rows: list[dict[str, object]] = []
    for method, table, value in METHODS:
        scores = tables["roi_scores"].filter((pl.col("method") == method) & (pl.col("basis") == "embedding")).collect()
        maps = (tables[table].filter(pl.col("basis") == "embedding")
                .select("agent", "subject", "voxel_index", value).collect())  # fmt: skip
        wide = maps.pivot("agent", index=["subject", "voxel_index"], values=value).join(
            tables["voxels"].select("subject", "voxel_index", "regions").collect(),
            on=["subject", "voxel_index"],
            maintain_order="left",
        )
        agents = sorted(scores["agent"].unique())
        found = [
            _compare(scores, wide, method, region, one, other)
            for region in sorted(scores["region"].unique())
            for one in agents
            for other in agents
            if one != other
        ]
        for row, level in zip(found, statistics.benjamini_hochberg(_numbers(found, "p")), strict=True):
            rows.append(row | {"p_fdr": level})
    schema = {"method": pl.String, "region": pl.String, "agent": pl.String, "other_agent": pl.String}
    numbers = dict.fromkeys(("difference", "t", "p", "share_won", "p_fdr"), pl.Float64)
    return {"group_stats": null_nan(pl.DataFrame(rows, schema=schema | numbers | {"n_subjects": pl.Int32}))}


def _compare(
    scores: pl.DataFrame, wide: pl.DataFrame, method: str, region: str, one: str, other: str
) -> dict[str, object]:
    here = scores.filter(pl.col("region") == region).pivot("agent", index="subject", values="region_score")
    pair = [here.sort("subject")[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (one, other)]
    tested = statistics.paired_t_test(*pair)
    inside = wide if region == "all" else wide.filter(pl.col("regions").str.split(" ").list.contains(region))
    shares = [
        statistics.share_won(
            *(group[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (one, other))
        ).share
        for _, group in inside.group_by("subject", maintain_order=True)
    ]
    names: dict[str, object] = {"method": method, "region": region, "agent": one, "other_agent": other}
    levels = {"difference": tested.difference, "t": tested.t, "p": tested.p, "n_subjects": tested.n}
    return names | levels | {"share_won": float(np.mean(shares)) if shares else float("nan")}


def _numbers(rows: list[dict[str, object]], key: str) -> NDArray[np.float64]:
    return np.array([row[key] for row in rows], dtype=np.float64)


def _brain(params: Params) -> Brain:
    assert params.brain is not None
    return params.brain


def _standard(x: Floats) -> NDArray[np.float64]:
    spread = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0), dtype=np.float64)


def _folds(subject: Subject, params: Params) -> Folds:
    wanted = _brain(params).encoding
    try:
        if wanted.by_run and subject.runs is not None:
            return folds_by_run(subject.runs, wanted.outer_folds, wanted.inner_folds)
        rng = generator(params.seed, "brain", "folds", subject.name)
        return nested_folds(len(subject.stimulus_index), wanted.outer_folds, wanted.inner_folds, rng)
    except UsageError as error:
        raise UsageError(
            f"{subject.name}: {error.summary}", wanted=error.wanted, found=error.found, allowed=error.allowed,
            todo="set fewer folds in brain.encoding, or leave the subject out",
        ) from error  # fmt: skip


def _bases(tables: Tables, params: Params, context: StepContext) -> tuple[int, dict[str, Floats]]:
    """Return the seed of the representative fit, and the bases, each (n_stimuli, d); no bases if there is no fit."""
    chosen = representative(tables)
    if chosen is None:
        context.log("no brain maps: pruning removed all dimensions of all fits")
        return 0, {}
    seed, weights = chosen
    found: dict[str, Floats] = {"embedding": weights}
    described, n_stimuli = params.agents[context.agent], tables["stimuli"].select(pl.len()).collect().item()
    if isinstance(described, RatingsAgent):
        found["vectors"] = rating_vectors(
            tables["ratings"].collect(), described.ratings, n_stimuli, described.scaling_by_family
        )
    return seed, found
