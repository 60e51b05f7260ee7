"""Figures of two bases of one agent: its embedding against the ratings from which its choices were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.effect_wording import effect_words
from affectlake.report.figures.agent_styles import AgentStyle, styles_of
from affectlake.report.figures.brain_maps import METHODS, brain_of
from affectlake.report.figures.canvas import FAINT, INK, Canvas, Drawn, whiskers
from affectlake.report.figures.voxel_histograms import (
    MOST_AGENTS,
    MOST_SUBJECTS,
    Histogram,
    draw_panels,
    histogram,
    histogram_rows,
)
from affectlake.report.inputs import BrainInputs, ReportInputs
from affectlake.report.number_format import counted, decimal, listed, shortened

LEVEL = 0.05
NO_RATINGS = "no agent of this version is made of ratings and has brain maps"


def basis_comparison(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight"
) -> Drawn:
    """Draw how much better than their ratings the embeddings of agents made of ratings agree with each region.

    Mean difference over subjects, its 95 % interval, and a dot for each subject (Extended Data Fig. 2 of Du et al.
    2025).
    """
    brain, shown = brain_of(inputs, agents)
    table = inputs.table("basis_stats")
    if not any(one.is_human and one.agent in shown for one in agents):
        raise FigureError(NO_RATINGS)
    if table is None:
        raise FigureError("this version does not compare embeddings with ratings")
    rows = table.filter(pl.col("agent").is_in(shown), pl.col("method") == method).drop_nulls("difference")
    present = set(rows["region"])
    regions = [key for group in ("subcortical", "cortical") for key, where, _ in brain.regions
               if where == group and key in present]  # fmt: skip
    if not regions:
        raise FigureError("no voxel of this version's subjects is in one of the named regions")
    rows = rows.filter(pl.col("region").is_in(regions))
    named = [agent for agent in shown if agent in set(rows["agent"])]
    width = max(4.6, 1.0 + len(regions) * (0.1 * len(named) + 0.16))
    (ax,) = canvas.panels(width=width, height=3.3, grid="y")
    styles = styles_of(one.agent for one in agents)
    for at, agent in enumerate(named):
        shift = 0.7 * ((at + 0.5) / len(named) - 0.5)
        _differences(canvas, ax, brain, rows.filter(pl.col("agent") == agent), regions, shift, styles[agent])
    ax.axhline(0, color=FAINT, lw=0.9)
    _stars(ax, rows, regions, named)
    ax.set_xticks(range(len(regions)), regions, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(ylabel=f"{METHODS[method]},\nembedding minus ratings", xlim=(-0.6, len(regions) - 0.4))
    ax.tick_params(axis="x", length=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=3, borderaxespad=0)
    return Drawn(
        f"{METHODS[method]} of embeddings and of ratings, by region", _caption(rows, brain, method, named), rows
    )


def _differences(
    canvas: Canvas, ax: Any, brain: BrainInputs, rows: pl.DataFrame, regions: list[str], shift: float, style: AgentStyle
) -> None:
    agent, method = rows["agent"][0], rows["method"][0]
    places = np.array([regions.index(region) for region in rows["region"]]) + shift
    means, low, high = (rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
                        for name in ("difference", "ci_low", "ci_high"))  # fmt: skip
    ax.errorbar(places, means, whiskers(means, low, high), fmt="none", ecolor=style.colour, elinewidth=1.1)
    points = ax.scatter(places, means, s=24, marker=style.marker, color=style.colour, label=shortened(agent), zorder=3)
    names = {key: name for key, _, name in brain.regions}
    canvas.note(points, hints=[
        f"{agent}, {names[row['region']]}: {decimal(mean, 3)} ({decimal(one, 3)} to {decimal(other, 3)})"
        + (f"; {words}" if (words := effect_words(row)) else "")
        for row, mean, one, other in zip(rows.iter_rows(named=True), means, low, high, strict=True)
    ])  # fmt: skip
    own = subject_differences(brain, agent, method).filter(pl.col("region").is_in(regions))
    x = np.array([regions.index(region) for region in own["region"]]) + shift
    ax.plot(x, own["difference"].to_numpy(), "o", ms=2.2, mfc="white", mec=INK, mew=0.5, zorder=4)


def subject_differences(brain: BrainInputs, agent: str, method: str) -> pl.DataFrame:
    """Return ``region, subject, difference``: scores of the embedding minus those of the ratings, without bias."""
    own = brain.scores.filter(pl.col("agent") == agent, pl.col("method") == method)
    bias = pl.col("region_bias").fill_null(0.0) if "region_bias" in own.columns else pl.lit(0.0)
    wide = own.with_columns(pl.col("region_score") - bias).pivot(
        "basis", index=["region", "subject"], values="region_score"
    )
    if not {"embedding", "vectors"} <= set(wide.columns):
        return pl.DataFrame(schema={"region": pl.String, "subject": pl.String, "difference": pl.Float64})
    difference = (pl.col("embedding") - pl.col("vectors")).alias("difference")
    return wide.select("region", "subject", difference).drop_nulls().sort("region", "subject")


def _stars(ax: Any, rows: pl.DataFrame, regions: list[str], named: list[str]) -> None:
    high = ax.get_ylim()[1]
    for agent, region, level in rows.select("agent", "region", "p_both_fdr").drop_nulls().iter_rows():
        if level < LEVEL:
            x = regions.index(region) + 0.7 * ((named.index(agent) + 0.5) / len(named) - 0.5)
            ax.text(x, high, "*", ha="center", va="center", fontsize=10)


def _caption(rows: pl.DataFrame, brain: BrainInputs, method: str, named: list[str]) -> str:
    n = brain.scores.filter(pl.col("method") == method)["subject"].n_unique()
    t_test = "a paired two-tailed t-test across subjects"
    family = "false discovery rate below 0.05 over the agent's regions"
    if rows["p_both_fdr"].null_count() < len(rows):
        stars = (
            f"A star marks a region that differs both in {t_test} and against relabelled stimuli ({family}): "
            f"{_counts(rows, 'p_both_fdr', named)}."
        )
    else:
        stars = (
            f"There are no stars, because the ratings have no values under relabelled stimuli; {t_test} alone, which "
            f"takes the stimuli as fixed, finds differences in {_counts(rows, 'p_fdr', named)} ({family})."
        )
    return (
        f"Mean difference of region scores, embedding minus ratings, with its 95 % interval over "
        f"{counted(n, 'subject')}; each dot is a subject. Above 0, the embedding is closer to the region than the "
        f"ratings of which the agent is made. {stars} An interval that contains 0 does not show that both are equal, "
        f"but how much they could differ."
    )


def _counts(rows: pl.DataFrame, level: str, named: list[str]) -> str:
    """Return in how many regions each agent has a level below 0.05."""
    own = {agent: rows.filter(pl.col("agent") == agent) for agent in named}
    return listed([f"{int((one[level] < LEVEL).sum())} of {len(one)} for {agent}" for agent, one in own.items()])


def basis_voxels(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight"
) -> Drawn:
    """Draw two-dimensional histograms of voxels: the embedding of each agent made of ratings against its ratings."""
    brain, shown = brain_of(inputs, agents)
    up, right = (_maps(values, method) for values in (brain.values, brain.rating_values))
    named = [one.agent for one in agents if one.agent in shown and any(agent == one.agent for _, agent in right)]
    subjects = list(dict.fromkeys(subject for subject, _ in right))[:MOST_SUBJECTS]
    found: dict[tuple[str, str], Histogram] = {}
    for subject in subjects:
        for agent in named[:MOST_AGENTS]:
            both = up.get((subject, agent)), right.get((subject, agent))
            if both[0] is not None and both[1] is not None:
                one = histogram(both[0], both[1], (both[0], both[1]))
                found |= {(subject, agent): one} if one else {}
    if not found:
        raise FigureError(NO_RATINGS)
    labels = {agent: ("embedding", f"ratings, {shortened(agent, 20)}") for agent in named[:MOST_AGENTS]}
    draw_panels(canvas, found, subjects, labels)
    shares = [
        f"{np.mean([one.share_above for (_, name), one in found.items() if name == agent]):.0%} for {agent}"
        for agent in labels
    ]
    caption = (
        f"{METHODS[method]} in the voxels of {counted(len(subjects), 'subject')}, a column for each; darker squares "
        f"contain more voxels (logarithmic scale). All voxels are counted, significant or not. Above the diagonal, the "
        f"value of the embedding is higher than that of the ratings: {listed(shares)}, mean over subjects."
    )
    rows = histogram_rows(found).rename({"other_agent": "agent"})
    return Drawn(f"{METHODS[method]} of embeddings against ratings, by voxel", caption, rows)


def _maps(
    values: Mapping[tuple[str, str, str], NDArray[np.float32]], method: str
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return the maps of one method by subject and agent."""
    return {(subject, agent): found for (subject, one, agent), found in values.items() if one == method}
