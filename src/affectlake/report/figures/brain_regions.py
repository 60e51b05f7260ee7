"""Figure of the scores of brain regions: bars with subjects, and noise ceilings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.effect_wording import region_words
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.brain_maps import METHODS, brain_of
from affectlake.report.figures.canvas import FAINT, INK, SOFT, Canvas, Drawn
from affectlake.report.inputs import BrainInputs, ReportInputs
from affectlake.report.number_format import counted, decimal, shortened

GROUPS_OF_REGIONS = {"subcortical": "subcortical regions", "cortical": "cortical regions"}


def brain_regions(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight",
    group: str = "cortical",
) -> Drawn:  # fmt: skip
    """Draw a bar for each agent and region: mean and standard deviation over subjects, a dot for each subject."""
    brain, shown = brain_of(inputs, agents)
    scores = brain.scores.filter((pl.col("method") == method) & (pl.col("basis") == "embedding"))
    scores = scores.drop_nulls("region_score")
    regions = regions_of(brain, scores, group)
    own = scores.filter(pl.col("region").is_in(regions)).sort("region", "agent", "subject")
    values = {
        key: rows["region_score"].to_numpy() for key, rows in own.group_by("region", "agent", maintain_order=True)
    }
    width = max(4.6, 1.0 + len(regions) * (0.11 * len(shown) + 0.16))
    columns = max(1, int((width - 0.7) / (0.6 + 0.08 * max(len(shortened(agent)) for agent in shown))))
    (ax,) = canvas.panels(width=width, height=3.1 + 0.2 * -(-len(shown) // columns), grid="y")
    styles = styles_of(one.agent for one in agents)
    for at, agent in enumerate(shown):
        style = styles[agent].bars
        score_bars(canvas, ax, brain, values, regions, agent, (at + 0.5) / len(shown) - 0.5, 0.8 / len(shown), style,
                   method=method)  # fmt: skip
    low, high = ax.get_ylim()
    high = max(high, 0.01)
    if method == "searchlight":
        _ceilings(ax, brain, regions, high)
    for at, region in enumerate(regions):
        for place, agent in enumerate(shown):
            if _differs(brain, method, region, agent):
                x = at + 0.8 * ((place + 0.5) / len(shown) - 0.5)
                ax.text(x, high, "*", ha="center", va="center", fontsize=10)
    ax.axhline(0, color=FAINT, lw=0.8)
    ax.set_xticks(range(len(regions)), regions, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(ylabel=METHODS[method], xlim=(-0.6, len(regions) - 0.4), ylim=(low, high))
    ax.tick_params(axis="x", length=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns, borderaxespad=0)
    ceiling = (
        " Grey bands are noise ceilings over all stimuli that subjects share, where they are within the scale."
        if method == "searchlight"
        else ""
    )
    caption = (
        f"Mean and standard deviation over {counted(scores['subject'].n_unique(), 'subject')}; each dot is a subject. "
        f"{_stars(brain)}{_hints(brain)}{of_stimuli(scores)}{ceiling} {region_names(brain, regions)}."
    ).strip(" .") + "."
    return Drawn(f"{METHODS[method]} by region, {GROUPS_OF_REGIONS[group]}", caption, own)


def regions_of(brain: BrainInputs, rows: pl.DataFrame, group: str) -> list[str]:
    """Return the regions of a group that have rows, in the order in which they are shown.

    Raises
    ------
    FigureError
        If none has.
    """
    present = set(rows["region"])
    found = [key for key, where, _ in brain.regions if where == group and key in present]
    if not found:
        raise FigureError(f"no voxel of this version's subjects is in one of the named {GROUPS_OF_REGIONS[group]}")
    return found


def score_bars(
    canvas: Canvas, ax: Any, brain: BrainInputs, values: Mapping[Any, NDArray[np.float64]], regions: Sequence[str],
    agent: str, shift: float, width: float, style: Mapping[str, Any], name: str = "", method: str = "",
) -> None:  # fmt: skip
    """Draw a bar for each region: mean and standard deviation over subjects, and a dot for each subject.

    `values` has the scores of the subjects by region and agent; `name` is what the bars show, by default the agent.
    With a `method`, hints name effect sizes and prevalences as well.
    """
    known = [(place + 0.8 * shift, region, values[region, agent]) for place, region in enumerate(regions)
             if (region, agent) in values]  # fmt: skip
    mean = [float(mine.mean()) for *_, mine in known]
    spread = [float(mine.std(ddof=1)) if len(mine) > 1 else 0.0 for *_, mine in known]
    name = name or agent
    bars = ax.bar([x for x, *_ in known], mean, 0.92 * width, yerr=spread, label=shortened(name), **style)
    names = {key: title for key, _, title in brain.regions}
    for bar, (_, region, _), m, s in zip(bars, known, mean, spread, strict=True):
        hint = f"{name}, {names[region]}: {decimal(m, 3)} ± {decimal(s, 3)}"
        added = region_words(brain, method, region, agent) if method else ""
        canvas.note(bar, f"{hint}; {added}" if added else hint, class_="bar")
    subjects = [(x, float(value)) for x, _, mine in known for value in mine]
    ax.plot(*zip(*subjects, strict=True), "o", ms=2.6, mfc="white", mec=INK, mew=0.6)


def _ceilings(ax: Any, brain: BrainInputs, regions: list[str], high: float) -> None:
    for at, region in enumerate(regions):
        rows = brain.ceilings.filter(pl.col("region") == region).drop_nulls(["ceiling_low", "ceiling_high"])
        if len(rows) and float(rows["ceiling_low"][0]) <= high:
            low = float(rows["ceiling_low"][0])
            top = min(high, float(rows["ceiling_high"][0]))
            ax.bar(at, top - low, 0.86, bottom=low, fc=(FAINT, 0.3), zorder=0.5, ec=SOFT, lw=0.7, ls=":")


def _differs(brain: BrainInputs, method: str, region: str, agent: str) -> bool:
    """Return whether an agent differs from the reference, which is named in advance and not chosen by the data."""
    if "p_reference_fdr" not in brain.stats.columns:
        return False
    wanted = {"method": method, "region": region, "agent": agent, "other_agent": brain.reference}
    rows = brain.stats.filter(*(pl.col(name) == value for name, value in wanted.items())).drop_nulls("p_reference_fdr")
    return not rows.is_empty() and float(rows["p_reference_fdr"][0]) < 0.05


def _stars(brain: BrainInputs) -> str:
    if not brain.reference:
        return "Agents are not compared: the study has no reference (brain.reference)."
    return (
        f"A star marks an agent that differs from {brain.reference}, the study's reference, both in a paired "
        f"two-tailed t-test across subjects and against relabelled stimuli (false discovery rate below 0.05 over "
        f"regions and agents)."
    )


def _hints(brain: BrainInputs) -> str:
    """Return what the hints of the bars add, if the version has it."""
    if not len(brain.prevalence):
        return ""
    return (
        " The hint of a bar has Hedges' g of the difference from the reference with its 95 % interval, the Bayes "
        "factor (JZS), and in how many subjects the score is above that of relabelled stimuli (p ≤ 0.05 in the "
        "subject), with the prevalence in the population and its 95 % interval."
    )


def region_names(brain: BrainInputs, regions: Sequence[str]) -> str:
    """Return what the keys of the regions stand for."""
    names = {key: name for key, _, name in brain.regions}
    return ", ".join(f"{key}: {names[key]}" for key in regions if key.lower() != names[key])


def of_stimuli(scores: pl.DataFrame) -> str:
    """Return the number of stimuli, and the bias of their selection if there is one."""
    found = ""
    counts = scores["n_stimuli"].drop_nulls().to_list() if "n_stimuli" in scores.columns else []
    if counts:
        low, high = min(counts), max(counts)
        number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        found = f" Every subject's values are of {number} stimuli, the same for all agents."
    bias = scores["region_bias"].drop_nulls().abs().max() if "region_bias" in scores.columns else None
    if isinstance(bias, float) and bias > 0:
        found += (
            f" The stimuli were selected by the ratings, which gives agents made of ratings values of up to "
            f"{decimal(bias, 3)} without any relation; tests subtract this bias, the bars do not."
        )
    return found
