"""Figures of how sure brain scores are: over other subjects and stimuli, and in how many people they are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.brain_maps import METHODS, brain_of
from affectlake.report.figures.brain_regions import GROUPS_OF_REGIONS, region_names, regions_of
from affectlake.report.figures.canvas import FAINT, SOFT, Canvas, Drawn, upright_lines
from affectlake.report.inputs import BrainInputs, ReportInputs
from affectlake.report.number_format import counted, decimal, percent, shortened

_ABOUT = {
    "both": "other subjects and other stimuli",
    "subjects": "other subjects with these stimuli, of which there are too few",
    "stimuli": "other stimuli for this subject",
}


def generalised_scores(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, group: str = "cortical"
) -> Drawn:
    """Draw how close agents are to regions, with intervals over other subjects and stimuli, and noise ceilings."""
    brain, shown = brain_of(inputs, agents)
    rows = _rows(inputs, "brain_generalisation", "evaluation").filter(pl.col("agent").is_in(shown))
    regions = regions_of(brain, rows, group)
    rows = rows.filter(pl.col("region").is_in(regions)).sort("region", "agent")
    ax = _points(
        canvas, brain, agents, rows, regions, ("evaluation", "ci_low", "ci_high"), "p_above_zero_fdr",
        "Searchlight RSA of regions (ρ)",
    )  # fmt: skip
    ceilings = inputs.table("brain_generalisation_ceilings")
    known = 0
    for at, region in enumerate(regions):
        own = None if ceilings is None else ceilings.filter(region=region).drop_nulls("ceiling_low")
        if own is not None and len(own):
            ax.hlines(float(own["ceiling_low"][0]), at - 0.42, at + 0.42, color=SOFT, lw=1.0, ls=":")
            known += 1
    ax.axhline(0, color=FAINT, lw=0.8)
    about = sorted(set(rows["generalises_to"].drop_nulls()))
    counts = f"{counted(int(rows['n_subjects'].max() or 0), 'subject')} and "  # type: ignore[arg-type]
    counts += counted(int(rows["n_stimuli"].max() or 0), "stimulus", "stimuli")  # type: ignore[arg-type]
    caption = (
        f"Correlation of agents with regions, {counts}. Intervals (95 %) are over "
        f"{' or '.join(_ABOUT.get(one, one) for one in about)} (dual bootstrap); filled dots are above zero (false "
        f"discovery rate below 0.05 over regions and agents)."
        f"{' Dotted lines are lower noise ceilings.' if known else ''} {region_names(brain, regions)}."
    ).strip(" .") + "."
    return Drawn(f"Agents and regions, over subjects and stimuli, {GROUPS_OF_REGIONS[group]}", caption, rows)


def prevalences(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight",
    group: str = "cortical",
) -> Drawn:  # fmt: skip
    """Draw in what share of people an agent's score is above that of relabelled stimuli, with its interval."""
    brain, shown = brain_of(inputs, agents)
    rows = _rows(inputs, "prevalence", "prevalence").filter(pl.col("agent").is_in(shown), pl.col("method") == method)
    regions = regions_of(brain, rows, group)
    rows = rows.filter(pl.col("region").is_in(regions)).sort("region", "agent")
    ends = ("prevalence", "prevalence_low", "prevalence_high")
    ax = _points(canvas, brain, agents, rows, regions, ends, "", f"{METHODS[method]}: prevalence")
    ax.set_ylim(-0.03, 1.03)
    level = float(rows["subject_level"].max() or 0.0)  # type: ignore[arg-type]
    n = int(rows["n_subjects"].max() or 0)  # type: ignore[arg-type]
    caption = (
        f"Most probable share of people in whose own data the agent's score is above that of relabelled stimuli "
        f"(one-tailed, level {percent(level, 1)}, not corrected over regions), with the 95 % interval of highest "
        f"posterior density, from {counted(n, 'subject')} with the same stimuli. {region_names(brain, regions)}."
    ).strip(" .") + "."
    return Drawn(f"Prevalence, {METHODS[method]}, {GROUPS_OF_REGIONS[group]}", caption, rows)


def _rows(inputs: ReportInputs, table: str, value: str) -> pl.DataFrame:
    found = inputs.table(table)
    known = None if found is None else found.drop_nulls(value)
    if found is None or known is None or not len(known):
        notes = [] if found is None else found["note"].drop_nulls().unique().sort().to_list()
        raise FigureError("; ".join(notes) or f"this version has no {table.replace('_', ' ')}")
    return known


def _points(
    canvas: Canvas, brain: BrainInputs, agents: Sequence[AgentFacts], rows: pl.DataFrame, regions: Sequence[str],
    ends: tuple[str, str, str], level: str, label: str,
) -> Any:  # fmt: skip
    """Draw a dot with its interval for each region and agent; without a `level`, all dots are filled."""
    shown = [one.agent for one in agents if one.agent in set(rows["agent"])]
    width = max(4.6, 1.0 + len(regions) * (0.11 * len(shown) + 0.16))
    columns = max(1, int((width - 0.7) / (0.6 + 0.08 * max(len(shortened(agent)) for agent in shown))))
    (ax,) = canvas.panels(width=width, height=2.9 + 0.2 * -(-len(shown) // columns), grid="y")
    styles, names = styles_of(one.agent for one in agents), {key: title for key, _, title in brain.regions}
    for at, agent in enumerate(shown):
        own = rows.filter(agent=agent)
        x = np.array([list(regions).index(region) for region in own["region"]])
        x = x + 0.8 * ((at + 0.5) / len(shown) - 0.5)
        value, low, high = (own[name].fill_null(np.nan).to_numpy() for name in ends)
        sure = np.ones(len(own), dtype=bool) if not level else (own[level].fill_null(1.0) < 0.05).to_numpy()
        colour = styles[agent].colour
        upright_lines(ax, x, low, high, color=colour, lw=1.1)
        ax.plot([], [], styles[agent].marker, color=colour, ms=4.5, label=shortened(agent))
        for kept, fill in ((sure, colour), (~sure, "white")):
            (drawn,) = ax.plot(x[kept], value[kept], styles[agent].marker, ms=4.0, mfc=fill, mec=colour, mew=1.1)
            hints = [
                f"{agent}, {names[region]}: {decimal(middle, 3)} ({decimal(first, 3)} to {decimal(last, 3)})"
                for region, middle, first, last, one in zip(own["region"], value, low, high, kept, strict=True)
                if one
            ]
            canvas.note(drawn, hints=hints)
    ax.set_xticks(range(len(regions)), regions, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(ylabel=label, xlim=(-0.6, len(regions) - 0.4))
    ax.tick_params(axis="x", length=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns, borderaxespad=0)
    return ax
