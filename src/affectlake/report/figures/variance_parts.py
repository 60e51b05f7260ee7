"""Figures of variance partitioning: what bands of agents explain alone and together, and which of them wins where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.brain_regions import GROUPS_OF_REGIONS, region_names, regions_of
from affectlake.report.figures.canvas import FAINT, GROUPS, INK, SOFT, Canvas, Drawn, upright_lines
from affectlake.report.inputs import BrainInputs, ReportInputs
from affectlake.report.number_format import counted, decimal, listed, percent

_UNITS = {"r2": "share of the variance (R²)", "explained_share": "share of the explainable variance"}
_METHODS = {
    "stacked_encoding": "stacked",
    "voxel_encoded_rsa": "voxel-encoded",
    "weighted_rsa": "weighted",
    "partial_rsa": "partial",
}
LEVEL = 0.05
_WHOLE = "all"
_ENDS = {"r2": ("ci_low", "ci_high"), "explained_share": ("share_low", "share_high")}
_MOST_SLICES = 8


def variance_parts(
    inputs: ReportInputs, _agents: Sequence[AgentFacts], canvas: Canvas, group: str = "cortical"
) -> Drawn:
    """Draw what bands of agents explain of each region: parts as stacked bars, and what each explains alone."""
    return _stacked(inputs, canvas, "r2", group)


def explained_parts(
    inputs: ReportInputs, _agents: Sequence[AgentFacts], canvas: Canvas, group: str = "cortical"
) -> Drawn:
    """Draw the same parts as shares of what is explainable in the region."""
    return _stacked(inputs, canvas, "explained_share", group)


def _stacked(inputs: ReportInputs, canvas: Canvas, unit: str, group: str) -> Drawn:
    brain, bands = _of_partition(inputs)
    stats, about = _parts(inputs, unit)
    low, high = _ENDS[unit]
    regions = regions_of(brain, stats, group)
    rows = stats.filter(pl.col("region").is_in(regions)).sort("region", "part")
    rows = rows.select("region", "part", unit, low, high, "p_fdr")
    values = {(region, part): value for region, part, value in rows.select("region", "part", unit).iter_rows()}
    parts = sorted({part for _, part in values} - {_WHOLE}, key=lambda part: (part.count("+"), _order(part, bands)))
    width = max(5.2, 1.4 + 0.42 * len(regions))
    bars, alone = canvas.panels(
        2, columns=1, width=width, height=5.2 + 0.2 * len(parts), grid="y", height_ratios=[3, 2], sharex=True
    )
    names = {key: title for key, _, title in brain.regions}
    tops = {1: np.zeros(len(regions)), -1: np.zeros(len(regions))}  # of the bars so far, above and below zero
    for part in parts:
        heights = np.array([values.get((region, part), np.nan) for region in regions], dtype=float)
        for sign in (1, -1):
            own = np.flatnonzero(np.nan_to_num(heights) * sign > 0)
            drawn = bars.bar(own, heights[own], 0.72, bottom=tops[sign][own], **_style(part, bands))
            tops[sign][own] += heights[own]
            for bar, place in zip(drawn, own.tolist(), strict=True):
                hint = f"{part}, {names[regions[place]]}: {decimal(float(heights[place]), 4)}"
                canvas.note(bar, hint, class_="bar")
    of_all = rows.filter(part=_WHOLE).sort(pl.col("region").map_elements(regions.index, return_dtype=pl.Int64))
    total, *whole_ends = (of_all[name].fill_null(np.nan).to_numpy() for name in (unit, low, high))
    where = [regions.index(region) for region in of_all["region"]]
    upright_lines(bars, where, *whole_ends, color=INK, lw=1.1)
    bars.plot(where, total, "_", color=INK, ms=11)
    of_bands = rows.filter(pl.col("part").is_in(bands)).rename(
        {"part": "band", unit: "value", low: "low", high: "high"}
    )
    dots_of_bands(canvas, alone, of_bands, bands, brain, regions)
    bars.axhline(0, color=FAINT, lw=0.8)
    bars.set(ylabel=_UNITS[unit])
    bars.tick_params(axis="x", length=0)
    alone.set(ylabel="alone")
    handles = [Patch(label=part.replace("+", " and "), **_style(part, bands)) for part in parts]
    columns = max(1, int((width - 0.7) / (0.6 + 0.08 * max(len(part) + 4 for part in parts))))
    bars.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns, borderaxespad=0)
    whose = "variance" if unit == "r2" else "explainable variance"
    caption = (
        f"Above: parts of the {whose} of held-out stimuli that only one band of agents explains, and that several "
        f"share; parts below zero are drawn downwards. The line is the whole, with its 95 % interval. Below: what each "
        f"band explains alone, with 95 % intervals; filled dots differ from zero ({about.test}). {about.intervals} "
        f"{_named(inputs, bands)} {region_names(brain, regions)}."
    ).strip(" .") + "."
    return Drawn(f"Parts of the variance, {GROUPS_OF_REGIONS[group]}", caption, rows)


def dots_of_bands(
    canvas: Canvas, ax: Any, rows: pl.DataFrame, bands: Sequence[str], brain: BrainInputs, regions: Sequence[str]
) -> None:
    """Draw a dot with its interval for each region and band: ``region, band, value, low, high, p_fdr``.

    Dots of values that differ from zero are filled.
    """
    names = {key: title for key, _, title in brain.regions}
    for at, band in enumerate(bands):
        mine = rows.filter(band=band)
        x = np.array([list(regions).index(region) for region in mine["region"]])
        x = x + 0.6 * ((at + 0.5) / len(bands) - 0.5)
        value, low, high = (mine[name].fill_null(np.nan).to_numpy() for name in ("value", "low", "high"))
        sure = (mine["p_fdr"].fill_null(1.0) < LEVEL).to_numpy()
        upright_lines(ax, x, low, high, color=GROUPS[at], lw=1.1)
        for kept, fill in ((sure, GROUPS[at]), (~sure, "white")):
            (drawn,) = ax.plot(x[kept], value[kept], "o", ms=3.6, mfc=fill, mec=GROUPS[at], mew=1.1, ls="none")
            hints = [
                f"{band}, {names[region]}: {decimal(middle, 4)}"
                for region, middle, one in zip(mine["region"], value.tolist(), kept, strict=True)
                if one
            ]
            canvas.note(drawn, hints=hints)
    ax.axhline(0, color=FAINT, lw=0.8)
    ax.set_xlim(-0.6, len(regions) - 0.4)
    ax.tick_params(axis="x", length=0)
    ax.set_xticks(range(len(regions)), regions, rotation=40, ha="right", rotation_mode="anchor")


def contributions(
    inputs: ReportInputs, _agents: Sequence[AgentFacts], canvas: Canvas, group: str = "cortical"
) -> Drawn:
    """Draw what each band adds to the others by stacked encoding and kinds of RSA, one panel for each method."""
    brain, bands = _of_partition(inputs)
    table, about = _means(inputs, "band_contributions", "contribution_stats", "contribution")
    unique = table.filter(quantity="unique")
    regions = regions_of(brain, unique, group)
    ends = {"contribution": "value", "ci_low": "low", "ci_high": "high"}
    rows = unique.filter(pl.col("region").is_in(regions)).rename(ends).sort("contribution_method", "region", "band")
    methods = [method for method in _METHODS if method in set(rows["contribution_method"])]
    axes = canvas.panels(
        len(methods), columns=1, width=max(5.2, 1.4 + 0.42 * len(regions)), height=1.0 + 1.6 * len(methods), grid="y",
        sharex=True,
    )  # fmt: skip
    for ax, method in zip(axes, methods, strict=True):
        dots_of_bands(canvas, ax, rows.filter(contribution_method=method), bands, brain, regions)
        ax.set_ylabel(_METHODS[method])
    handles = [Patch(label=band, facecolor=GROUPS[at]) for at, band in enumerate(bands)]
    axes[0].legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.02), ncols=len(bands), borderaxespad=0)
    caption = (
        f"What each band adds to all others, by methods that answer different questions: R² of averaged predictions "
        f"(stacked), or Spearman correlations of distances. 95 % intervals; filled dots differ from zero "
        f"({about.test}). {about.intervals} A partial correlation is above zero for a band that only measures less "
        f"exactly what another one has. {_named(inputs, bands)} {region_names(brain, regions)}."
    ).strip(" .") + "."
    shown = rows.select("contribution_method", "region", "band", "value", "low", "high", "p_fdr")
    return Drawn(f"Contributions of bands, {GROUPS_OF_REGIONS[group]}", caption, shown)


def variance_winners(inputs: ReportInputs, _agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw which band explains more alone than every other one, in slices of one subject."""
    brain, bands = _of_partition(inputs)
    volume = brain.winners
    if volume is None:
        raise FigureError("this version has no winners of voxels")
    shares = np.stack([volume.values["winner", band] for band in bands])
    best = np.where(np.nan_to_num(shares).max(axis=0) > 0.5, np.nan_to_num(shares).argmax(axis=0) + 1, 0)
    cells = volume.cells
    heights = np.unique(cells[:, 2])
    ends = (np.arange(min(_MOST_SLICES, len(heights))) + 0.5) / min(_MOST_SLICES, len(heights))
    chosen = heights[(ends * len(heights)).astype(int)]
    columns = min(4, len(chosen))
    n_rows = -(-len(chosen) // columns)
    aspect = volume.shape[1] * volume.cell_mm[1] / (volume.shape[0] * volume.cell_mm[0])
    axes = canvas.panels(
        len(chosen), columns=columns, width=7.4, height=0.5 + n_rows * (0.2 + 7.4 / columns * min(aspect, 1.4))
    )
    colours = ListedColormap(["#dddddd", *GROUPS[: len(bands)]]).with_extremes(bad="none")
    for ax, z in zip(axes, chosen.tolist(), strict=True):
        picture = np.full((volume.shape[1], volume.shape[0]), np.nan)
        here = cells[:, 2] == z
        picture[volume.shape[1] - 1 - cells[here, 1], cells[here, 0]] = best[here]
        extent = (0, volume.shape[0] * volume.cell_mm[0], 0, volume.shape[1] * volume.cell_mm[1])
        ax.imshow(picture, cmap=colours, vmin=0, vmax=len(bands), extent=extent)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        mm = float(volume.mm(np.array([[0, 0, z]]))[0, 2])
        ax.set_title(f"z {decimal(mm, 0)} mm", loc="center", weight="normal", color=SOFT, fontsize=8.5)
    counts = np.bincount(best, minlength=len(bands) + 1)
    none, *won = (percent(int(n) / max(len(best), 1), 1) for n in counts)
    handles = [
        Patch(facecolor=colour, label=f"{name}, {share}")
        for name, colour, share in zip(bands, GROUPS, won, strict=False)
    ]
    legend = canvas.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    legend.set_title(f"grey: no band, {none}", prop={"size": 8.5})
    size = "" if volume.block == 1 else (
        f" A cell is {' × '.join([str(volume.block)] * 3)} voxels, of which more than half have to be won."
    )  # fmt: skip
    caption = (
        f"Voxels of subject {volume.subject} in which one band explains more alone than every other band does, and "
        f"more than nothing (false discovery rate below 0.05 over voxels; Student's t over stimuli or runs, corrected "
        f"for training sets that overlap). In grey voxels, no band does. The left side of the brain is at the left."
        f"{size}"
    )
    places = dict(zip(("x_mm", "y_mm", "z_mm"), volume.mm(cells).T, strict=True))
    rows = pl.DataFrame(places | {"best_band": [["", *bands][at] for at in best.tolist()]})
    return Drawn("Slices of one subject with the band that wins each voxel", caption, rows)


class _About(NamedTuple):
    """What intervals and tests of the parts are about, as phrases of the caption."""

    test: str
    intervals: str


def _of_partition(inputs: ReportInputs) -> tuple[BrainInputs, list[str]]:
    """Return the brain inputs, and the names of the bands.

    Raises
    ------
    FigureError
        If the version has no parts of the variance.
    """
    table = inputs.table("variance_partition")
    if inputs.brain is None or table is None:
        raise FigureError("this version has no parts of the variance (brain.partition)")
    notes = table["note"].drop_nulls().unique().sort().to_list() if "note" in table.columns else []
    if not table["r2"].count():
        raise FigureError("; ".join(notes) or "no part of the variance is known")
    given = inputs.params.get("brain", {}).get("partition", {}).get("bands", {})
    names = [part for part in table["part"].unique().sort() if "+" not in part and part != _WHOLE]
    return inputs.brain, sorted(
        names, key=lambda name: (list(given).index(name) if name in given else len(given), name)
    )


def _parts(inputs: ReportInputs, unit: str) -> tuple[pl.DataFrame, _About]:
    """Return parts of regions with their intervals: over subjects, or those of the only subject."""
    try:
        return _means(inputs, "variance_partition", "partition_stats", unit)
    except FigureError as error:
        if unit != "explained_share":
            raise
        why = "the explainable variance is not known: it needs four or more stimuli that were shown repeatedly"
        raise FigureError(why) from error


def _means(inputs: ReportInputs, of_subjects: str, over_subjects: str, value: str) -> tuple[pl.DataFrame, _About]:
    """Return the rows of a table over subjects, or of the only subject, that have a value."""
    table, stats = inputs.table(of_subjects), inputs.table(over_subjects)
    n = 0 if table is None else table["subject"].n_unique()
    rows = table.with_columns(p_fdr=pl.col("p")) if table is not None and n == 1 else stats
    if rows is None or value not in rows.columns or not rows[value].count():
        raise FigureError(f"this version lacks the means over subjects ({over_subjects})")
    if n == 1:
        return rows, _About(
            "Student's t, p < 0.05 without correction for the number of regions",
            "Intervals are over stimuli of the only subject, for the corrected variance of cross-validation.",
        )
    return rows.drop_nulls(value), _About(
        "Student's t over subjects, false discovery rate below 0.05 over regions",
        f"Means and intervals are over {counted(n, 'subject')}, with the same stimuli.",
    )


def _named(inputs: ReportInputs, bands: Sequence[str]) -> str:
    given = inputs.params.get("brain", {}).get("partition", {})
    agents = [f"{band}: {listed(given['bands'][band])}" for band in bands if band in given.get("bands", {})]
    nuisance = given.get("nuisance") or []
    apart = f" What {listed(nuisance)} explain counts for no band." if nuisance else ""
    return f"{'; '.join(agents)}.{apart}"


def _order(part: str, bands: Sequence[str]) -> list[int]:
    return [list(bands).index(name) if name in bands else len(bands) for name in part.split("+")]


def _style(part: str, bands: Sequence[str]) -> dict[str, Any]:
    """Return the colours of a part: that of its band, those of both bands, or grey for three."""
    of = [GROUPS[at % len(GROUPS)] for at in _order(part, bands)]
    if len(of) == 1:
        return {"facecolor": of[0], "edgecolor": "white", "linewidth": 0}
    if len(of) == 2:
        return {"facecolor": of[0], "edgecolor": of[1], "linewidth": 0, "hatch": "////"}
    return {"facecolor": SOFT, "edgecolor": "white", "linewidth": 0, "hatch": "xxxx"}
