"""Steps that summarise the maps: scores of regions, and comparisons of agents across subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import nulls, statistics
from affectlake.brain.prevalence import Significant, significant_subjects
from affectlake.brain.recordings import regions
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import METHODS, NULLS, Method, brain_of
from affectlake.pipelines.steps.brain_effects import UNTESTED, prevalence_rows, with_effect_sizes, with_prevalence
from affectlake.pipelines.steps.rows import Row, to_table

Floats = NDArray[np.float64]
LEVEL = 0.05


@step(
    reads=("stimuli", "voxels", "betas", "encoding_maps/{agent}", "rsa_maps/{agent}"),
    writes=("roi_scores/{agent}",),
    kinds=EVERY_KIND,
    section="brain",
    version=2,
)
def score_regions(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Average both maps over each region and over the whole brain."""
    rows: list[Row] = []
    voxels = tables["voxels"].select("subject", "voxel_index", "regions").sort("subject", "voxel_index").collect()
    for (subject,), own in voxels.group_by("subject", maintain_order=True):
        member = regions.from_words(own["regions"])
        names, inside = [*member.keys, "all"], np.vstack([member.voxels, np.ones(own.height, dtype=bool)])
        for method, table, value in METHODS:
            maps = _with_bias(tables[table].filter(pl.col("subject") == subject)).collect()
            for (basis,), one in maps.group_by("basis", maintain_order=True):
                joined = own.join(one, on="voxel_index", how="left", maintain_order="left")
                values, bias = (joined[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (value, "bias"))
                keys: Row = {"agent": context.agent, "subject": subject, "basis": basis, "method": method,
                             "n_stimuli": one["n_stimuli"].max()}  # fmt: skip
                means, biases = (
                    column.tolist() for column in statistics.region_means(np.stack([values, bias]), inside)
                )
                counts = np.count_nonzero(inside & ~np.isnan(values), axis=1).tolist()
                rows += [
                    keys | {"region": name, "region_score": score, "region_bias": bias, "n_voxels": n}
                    for name, score, bias, n in zip(names, means, biases, counts, strict=True)
                ]
    return {"roi_scores": to_table("roi_scores", rows)}


def _with_bias(maps: pl.LazyFrame) -> pl.LazyFrame:
    """Return maps with the column `bias`, which those of encoding do not have: it is null there."""
    return maps if "bias" in maps.collect_schema() else maps.with_columns(bias=pl.lit(None, pl.Float32))


@step(
    reads=(
        "voxels",
        "roi_scores/{agents}",
        "encoding_maps/{agents}",
        "rsa_maps/{agents}",
        "encoding_nulls/{agents}",
        "rsa_nulls/{agents}",
    ),
    writes=("group_stats", "prevalence"),
    params=("brain.reference",),
    section="brain",
    version=5,
)
def compare_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Test for each region whether one agent's scores are higher than another's across subjects, and in how many."""
    rows: list[Row] = []
    alone: list[Row] = []
    reference = brain_of(params).reference
    for method in METHODS:
        one_method = _prepared(tables, method, "agent", pl.col("basis") == "embedding")
        scores, agents = one_method.scores, sorted(one_method.scores["name"].unique())
        raw = pl.col("region_score") + pl.col("region_bias").fill_null(0.0)  # as the null scores: bias included
        alone += prevalence_rows(method.name, scores.with_columns(region_score=raw), one_method.nulls)
        found = [
            {"method": method.name, "region": region, "agent": one, "other_agent": other}
            | _compare(one_method, region, one, other)
            for region in sorted(scores["region"].unique())
            for one in agents
            for other in agents
            if one != other
        ]
        found = with_effect_sizes(found)
        p = _numbers(found, "p")
        both = np.maximum(p, _numbers(found, "p_null"))  # without relabelled stimuli, t-tests find too much: none
        against = np.array([row["other_agent"] == reference for row in found], dtype=bool)
        families = statistics.benjamini_hochberg(p), statistics.benjamini_hochberg(np.where(against, both, np.nan))
        for row, level, planned in zip(found, *families, strict=True):
            rows.append(row | {"p_fdr": level, "p_reference_fdr": planned})
    return {"group_stats": to_table("group_stats", rows), "prevalence": to_table("prevalence", alone)}


@step(
    reads=(
        "voxels",
        "roi_scores/{agent}",
        "encoding_maps/{agent}",
        "rsa_maps/{agent}",
        "encoding_nulls/{agent}",
        "rsa_nulls/{agent}",
    ),
    writes=("basis_stats/{agent}",),
    kinds=("ratings",),
    section="brain",
    version=2,
)
def compare_bases(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Test for each region whether an agent's embedding has other scores than its rating vectors across subjects."""
    rows: list[Row] = []
    for method in METHODS:
        both = _prepared(tables, method, "basis", pl.lit(value=True))
        found: list[Row] = []
        for region in sorted(both.scores["region"].unique()):
            keys: Row = {"agent": context.agent, "method": method.name, "region": region}
            interval = statistics.paired_interval(*_pair(both.scores, region, "embedding", "vectors"))
            ends = dict(zip(("ci_low", "ci_high"), interval, strict=True))
            found.append(keys | ends | _compare(both, region, "embedding", "vectors"))
        found = with_effect_sizes(found)
        p = _numbers(found, "p")
        larger = np.maximum(p, _numbers(found, "p_null"))  # NaN without relabelled stimuli
        families = statistics.benjamini_hochberg(p), statistics.benjamini_hochberg(larger)
        rows += [row | {"p_fdr": level, "p_both_fdr": level_of_both}
                 for row, level, level_of_both in zip(found, *families, strict=True)]  # fmt: skip
        n_t, n_both = (int((family < LEVEL).sum()) for family in families)
        context.log(
            f"{method.name}: embedding and ratings differ in {n_t} of {len(found)} regions by the t-test, in {n_both} "
            f"also against relabelled stimuli"
        )
    return {"basis_stats": to_table("basis_stats", rows)}


class _Prepared(NamedTuple):
    """What is compared by one method, in a column `name`: region scores and maps without bias, and null scores."""

    scores: pl.DataFrame
    maps: pl.DataFrame
    nulls: pl.DataFrame


def _prepared(tables: Tables, method: Method, by: str, kept: pl.Expr) -> _Prepared:
    """Return the rows that are `kept`, named by a column, with a column of `maps` for each name."""
    own = kept & (pl.col("method") == method.name)
    corrected = pl.col("region_score") - pl.col("region_bias").fill_null(0.0)
    scores = tables["roi_scores"].filter(own).with_columns(region_score=corrected, name=pl.col(by)).collect()
    maps = (_with_bias(tables[method.table].filter(kept))
            .with_columns(pl.col(method.value) - pl.col("bias").fill_null(0.0), name=pl.col(by))
            .select("name", "subject", "voxel_index", method.value).collect())  # fmt: skip
    wide = maps.pivot("name", index=["subject", "voxel_index"], values=method.value).join(
        tables["voxels"].select("subject", "voxel_index", "regions").collect(),
        on=["subject", "voxel_index"],
        maintain_order="left",
    )
    drawn = tables[NULLS[method.name]].filter(kept).with_columns(name=pl.col(by)).collect()
    return _Prepared(scores, wide, drawn)


def _pair(scores: pl.DataFrame, region: str, one: str, other: str) -> tuple[Floats, Floats]:
    """Return the scores of two names in a region, one value per subject; NaN where there is none."""
    here = scores.filter(pl.col("region") == region).pivot("name", index="subject", values="region_score")
    first, second = (here.sort("subject")[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (one, other))
    return first, second


def _compare(found: _Prepared, region: str, one: str, other: str) -> Row:
    tested = statistics.paired_t_test(*_pair(found.scores, region, one, other))
    inside = found.maps
    if region != "all":
        inside = inside.filter(pl.col("regions").str.split(" ").list.contains(region))
    shares = [
        statistics.share_won(
            *(group[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (one, other))
        ).share
        for _, group in inside.group_by("subject", maintain_order=True)
    ]
    known = [share for share in shares if not np.isnan(share)]  # of the subjects on whom the other numbers are based
    null = _relabelled(found.scores, found.nulls, region, one, other)
    row: Row = {
        "difference": tested.difference,
        "t": tested.t,
        "p": tested.p,
        "n_subjects": tested.n,
        "share_won": float(np.mean(known)) if known else float("nan"),
        "p_null": null.p,
    }
    return with_prevalence(row, null.significant)


class _Against(NamedTuple):
    """The difference of two names against relabelled stimuli: two-tailed level of its mean, and of which subjects."""

    p: float
    significant: Significant


def _relabelled(scores: pl.DataFrame, drawn: pl.DataFrame, region: str, one: str, other: str) -> _Against:
    """Return the level of the mean difference over subjects, and in how many subjects the first one's score is higher.

    Both are against the same difference under relabelled stimuli.
    """
    keys = ["name", "subject"]
    own = scores.filter(pl.col("region") == region, pl.col("region_score").is_not_null())
    rows = own.join(drawn.filter(pl.col("region") == region), on=keys, how="inner").sort(keys)
    pair = [rows.filter(pl.col("name") == name) for name in (one, other)]
    if pair[0]["subject"].to_list() != pair[1]["subject"].to_list() or rows.is_empty():
        shared = set(pair[0]["subject"]) & set(pair[1]["subject"])
        pair = [side.filter(pl.col("subject").is_in(sorted(shared))) for side in pair]
    n = int(rows["null_scores"].list.len().min() or 0)  # type: ignore[arg-type]
    if pair[0].is_empty() or n == 0:
        return _Against(float("nan"), UNTESTED)
    null = [np.array(side["null_scores"].list.head(n).to_list(), dtype=np.float64).reshape(-1, n) for side in pair]
    raw = [(side["region_score"] + side["region_bias"].fill_null(0.0)).to_numpy() for side in pair]
    difference, under_null = raw[0] - raw[1], null[0] - null[1]
    tested = nulls.levels(difference.mean(keepdims=True), under_null.mean(axis=0)[:, None])
    return _Against(float(tested.p[0]), significant_subjects(difference, under_null.T, LEVEL))


def _numbers(rows: Sequence[Mapping[str, object]], key: str) -> NDArray[np.float64]:
    return np.array([row[key] for row in rows], dtype=np.float64)
