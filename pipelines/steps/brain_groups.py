"""Steps that summarise the maps: scores of regions, and comparisons of agents across subjects."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.brain import nulls, statistics
from affectlake.brain.recordings import regions
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import EVERY_KIND, OutputTables, StepContext, Tables, step
from affectlake.pipelines.steps.brain_arrays import METHODS, NULLS, brain_of
from affectlake.pipelines.steps.rows import Row, null_nan, to_table


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
    writes=("group_stats",),
    params=("brain.reference",),
    section="brain",
    version=4,
)
def compare_brains(tables: Tables, params: Params, context: StepContext) -> OutputTables:
    """Test for each region whether one agent's scores are higher than another's across subjects."""
    rows: list[dict[str, object]] = []
    reference = brain_of(params).reference
    for method, table, value in METHODS:
        own = (pl.col("method") == method) & (pl.col("basis") == "embedding")
        corrected = pl.col("region_score") - pl.col("region_bias").fill_null(0.0)
        scores = tables["roi_scores"].filter(own).with_columns(region_score=corrected).collect()
        maps = (_with_bias(tables[table].filter(pl.col("basis") == "embedding"))
                .with_columns(pl.col(value) - pl.col("bias").fill_null(0.0))
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
        drawn = tables[NULLS[method]].filter(pl.col("basis") == "embedding").collect()
        for row in found:
            row["p_null"] = _relabelled_p(scores, drawn, str(row["region"]), str(row["agent"]), str(row["other_agent"]))
        p = _numbers(found, "p")
        both = np.fmax(p, np.where(np.isnan(p), np.nan, _numbers(found, "p_null")))
        against = np.array([row["other_agent"] == reference for row in found], dtype=bool)
        families = statistics.benjamini_hochberg(p), statistics.benjamini_hochberg(np.where(against, both, np.nan))
        for row, level, planned in zip(found, *families, strict=True):
            rows.append(row | {"p_fdr": level, "p_reference_fdr": planned})
    schema = {"method": pl.String, "region": pl.String, "agent": pl.String, "other_agent": pl.String}
    numbers = dict.fromkeys(("difference", "t", "p", "share_won", "p_fdr", "p_null", "p_reference_fdr"), pl.Float64)
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
    known = [share for share in shares if not np.isnan(share)]  # of the subjects on whom the other numbers are based
    return names | levels | {"share_won": float(np.mean(known)) if known else float("nan")}


def _relabelled_p(scores: pl.DataFrame, drawn: pl.DataFrame, region: str, one: str, other: str) -> float:
    """Return the two-tailed level of the mean difference over subjects, against that under relabelled stimuli."""
    keys = ["agent", "subject"]
    own = scores.filter(pl.col("region") == region, pl.col("region_score").is_not_null())
    rows = own.join(drawn.filter(pl.col("region") == region), on=keys, how="inner").sort(keys)
    pair = [rows.filter(pl.col("agent") == name) for name in (one, other)]
    if pair[0]["subject"].to_list() != pair[1]["subject"].to_list() or rows.is_empty():
        shared = set(pair[0]["subject"]) & set(pair[1]["subject"])
        pair = [side.filter(pl.col("subject").is_in(sorted(shared))) for side in pair]
    n = int(rows["null_scores"].list.len().min() or 0)  # type: ignore[arg-type]
    if pair[0].is_empty() or n == 0:
        return float("nan")
    null = [np.array(side["null_scores"].list.head(n).to_list(), dtype=np.float64).reshape(-1, n) for side in pair]
    raw = [(side["region_score"] + side["region_bias"].fill_null(0.0)).to_numpy() for side in pair]
    difference = (raw[0] - raw[1]).mean(keepdims=True)
    return float(nulls.levels(difference, (null[0] - null[1]).mean(axis=0)[:, None]).p[0])


def _numbers(rows: list[dict[str, object]], key: str) -> NDArray[np.float64]:
    return np.array([row[key] for row in rows], dtype=np.float64)
