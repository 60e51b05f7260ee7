"""Figures of one agent's analyses: reproducibility, necessary components and saturation. Tables: ``agent_summary``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, note_of, rows_of
from affectlake.report.figures.canvas import ACCENT, FAINT, WIDTH_IN, Canvas, Drawn, level, whiskers
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal, percent

THIRD = 1 / 3


def reproducibility(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw how well each dimension is found again in the other fits."""
    every = rows_of(inputs, facts, "reproducibility", "pearson_r")
    rows = every.drop_nulls("value").sort("value", "dimension", descending=[True, False])
    mean = rows_of(inputs, facts, "reproducibility", "mean_pearson_r")
    if not len(rows):
        raise FigureError(note_of(mean, "this version has no reproducibility of this agent's dimensions"))
    (ax,) = canvas.panels(width=min(WIDTH_IN, 2.5 + 0.27 * len(rows)), height=3.0, grid="y")
    r = rows["value"].to_numpy()
    dots = ax.errorbar(
        range(len(rows)), r, whiskers(r, rows["ci_low"], rows["ci_high"]), fmt="o", color=ACCENT, ms=5, mec="white",
        mew=0.8, elinewidth=1.6,
    )  # fmt: skip
    canvas.note(
        dots[0], hints=[f"dimension {d}: r = {decimal(v, 3)}" for d, v in rows.select("dimension", "value").iter_rows()]
    )
    ax.set_xticks(range(len(rows)), [str(dimension) for dimension in rows["dimension"]])
    ax.set(xlabel="dimension", ylabel="best match in the other fits (r)", xlim=(-0.7, len(rows) - 0.3))
    ax.set_ylim(min(0.0, float(r.min())), 1.02)
    chance = rows["chance"].mean()
    if chance is not None:
        level(ax, float(chance), "best of chance matches")  # type: ignore[arg-type]
    own = mean.drop_nulls("value")
    overall = f"; their mean is {decimal(own['value'][0], 3)}" if len(own) else ""
    bars = "; bars: 95 % intervals over the fits" if rows["ci_low"].count() else ""
    caption = (
        f"{count(int((r > 0.9).sum()))} of {counted(len(rows), 'dimension')} are found again with r above 0.9 in the "
        f"{counted(int(rows['n'][0]), 'other fit')}{overall} (Fisher-z means{bars}). "
        f"The weakest is dimension {rows['dimension'][-1]} with {decimal(rows['value'][-1], 3)}; "
        f"shuffled stimuli give {decimal(None if chance is None else float(chance), 3)}."  # type: ignore[arg-type]
    )
    return Drawn(f"Reproducibility of {len(rows)} dimensions of {facts.agent}", caption, every)


def components(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the held-out accuracy that is left when only the strongest components of each stimulus are kept."""
    every = rows_of(inputs, facts, "components", "accuracy")
    rows = every.drop_nulls("value").sort("setting")
    needed = rows_of(inputs, facts, "components", "n_components").sort("setting")
    if not len(rows):
        raise FigureError(note_of(needed, "this version has no accuracy of fewer components"))
    kept, accuracy = rows["setting"].to_numpy(), rows["value"].to_numpy()
    full = float(accuracy[-1])
    (ax,) = canvas.panels(width=5.6, height=3.1, grid="y")
    ax.axhspan(0.95 * full, 0.99 * full, color=FAINT, alpha=0.25, lw=0)
    (line,) = ax.plot(kept, accuracy, "o-", color=ACCENT, ms=4.5, mec="white", mew=0.7)
    canvas.note(line, hints=[f"{k:g} components: {percent(a)}" for k, a in zip(kept, accuracy, strict=True)])
    level(ax, THIRD, "chance, 1/3")
    ax.set(xlabel="components kept of each stimulus", ylabel="held-out accuracy", xlim=(0, None))
    ax.set_ylim(min(0.3, float(accuracy.min()) - 0.02), 1)
    ends = [int(value) for value in needed.drop_nulls("value")["value"]]
    some = f"{ends[0]} to {ends[-1]}" if ends and ends[0] != ends[-1] else str(ends[0]) if ends else "no"
    caption = (
        f"Keeping only the {some} largest weights of each stimulus is enough for 95 to 99 % (band) of the full "
        f"accuracy of {percent(full)}. One component alone predicts {percent(float(accuracy[0]))} of the held-out "
        f"choices."
    )
    return Drawn(f"Accuracy of {facts.agent} by components kept", caption, pl.concat([every, needed]))


_SWEEPS = (
    ("dimensions", "test_accuracy", "held-out accuracy"),
    ("judgments", "n_recovered", "dimensions recovered"),
)


def saturation(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw accuracy over the number of dimensions, and dimensions recovered over the number of judgments."""
    every = inputs.table("sweeps", facts.agent)
    found = {sweep: rows_of(inputs, facts, "saturation", sweep) for sweep, _, _ in _SWEEPS}
    if every is None:
        raise FigureError(note_of(pl.concat(found.values()), "no sweep over dimensions or judgments was run"))
    parts = [(one, rows) for one in _SWEEPS if len(rows := every.filter(pl.col("sweep") == one[0]))]
    panels = canvas.panels(len(parts), width=5.0 * len(parts), height=3.0, grid="y")
    sentences = []
    for ax, ((sweep, column, title), rows) in zip(panels, parts, strict=True):
        _sweep(canvas, ax, rows, sweep, column)
        ax.set_ylabel(title)
        sentences.append(_saturation(sweep, found[sweep], rows, column, inputs.params.get("sweeps") or {}))
    return Drawn(f"Saturation of {facts.agent}", " ".join(sentences), every)


def _sweep(canvas: Canvas, ax: Any, rows: pl.DataFrame, sweep: str, column: str) -> None:
    own = rows.sort("setting", column)
    means = own.group_by("setting").agg(pl.col(column).mean()).sort("setting")
    settings = means["setting"].to_list()
    ax.plot(range(len(settings)), means[column].to_numpy(), "-", color=ACCENT)
    places = [settings.index(setting) for setting in own["setting"]]
    (dots,) = ax.plot(places, own[column].to_numpy(), "o", color=ACCENT, ms=5, mew=0, alpha=0.5)
    canvas.note(dots, hints=[f"{s:,.0f} {sweep}: {v:g}" for s, v in own.select("setting", column).iter_rows()])
    ax.set_xticks(range(len(settings)), [_short(value) for value in settings])
    ax.set(xlabel=f"{sweep} (not to scale)", xlim=(-0.4, len(settings) - 0.6))
    if column == "test_accuracy":
        level(ax, THIRD, "chance, 1/3")
        ax.set_ylim(0, 1)
    else:
        ax.set_ylim(0, float(np.ceil(own[column].to_numpy().max() * 1.1 + 0.5)))


def _saturation(sweep: str, found: pl.DataFrame, rows: pl.DataFrame, column: str, settings: Mapping[str, Any]) -> str:
    best = rows.group_by("setting").agg(pl.col(column).mean())[column].max()
    most = percent(float(best)) if column == "test_accuracy" else decimal(float(best), 1)  # type: ignore[arg-type]
    what = "accuracy" if column == "test_accuracy" else "the number of recovered dimensions"
    value = found.drop_nulls("value")
    size = f"at most {settings['n_judgments']:,} " if sweep == "dimensions" and "n_judgments" in settings else ""
    several = f"fits to {counted(rows['replicate'].n_unique(), 'subset')} of {size}judgments each"
    share = f", {settings['share']:.0%} of the most" if "share" in settings else ""
    if not len(value):
        why = note_of(found, "no saturation point was found").removeprefix("left out: ")
        return f"Over {sweep}, {what} reaches {most} ({several}): {why}."
    enough = count(int(value["value"][0]))
    return f"With {enough} {sweep}, {what} is saturated{share}; the most is {most} ({several})."


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
