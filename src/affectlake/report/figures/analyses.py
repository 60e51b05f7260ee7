"""Figures of one agent's analyses: reproducibility, necessary components and saturation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, note_of, rows_of
from affectlake.report.figures.agent_styles import AgentStyle, style_of
from affectlake.report.figures.canvas import FAINT, SOFT, WIDTH_IN, Canvas, Drawn, chance_level, level, whiskers
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal, percent


def reproducibility(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the mean correlation of each dimension with its best match in the other fits."""
    every = rows_of(inputs, facts, "reproducibility", "pearson_r")
    rows = every.drop_nulls("value").sort("value", "dimension", descending=[True, False])
    mean = rows_of(inputs, facts, "reproducibility", "mean_pearson_r")
    if not len(rows):
        raise FigureError(
            note_of(mean, "the reproducibility of this agent's dimensions was not computed in this version")
        )
    (ax,) = canvas.panels(width=min(WIDTH_IN, 2.5 + 0.27 * len(rows)), height=3.0, grid="y")
    r, style = rows["value"].to_numpy(), style_of(inputs, facts.agent)
    dots = ax.errorbar(
        range(len(rows)), r, whiskers(r, rows["ci_low"], rows["ci_high"]), fmt=style.marker, color=style.colour, ms=5.5,
        mec="white", mew=0.8, elinewidth=1.6,
    )  # fmt: skip
    canvas.note(
        dots[0], hints=[f"dimension {d}: r = {decimal(v, 3)}" for d, v in rows.select("dimension", "value").iter_rows()]
    )
    ax.set_xticks(range(len(rows)), [str(dimension) for dimension in rows["dimension"]])
    ax.set(xlabel="dimension", ylabel="best match in the other fits (r)", xlim=(-0.7, len(rows) - 0.3))
    ax.set_ylim(min(0.0, float(r.min())), 1.02)
    chance = rows["chance"].mean()
    if chance is not None:
        level(ax, float(chance), "best match, shuffled stimuli")  # type: ignore[arg-type]
    own = mean.drop_nulls("value")
    overall = f", with a mean of {decimal(own['value'][0], 3)} over all dimensions" if len(own) else ""
    intervals = ", with 95 % intervals" if rows["ci_low"].count() else ""
    shuffled = "" if chance is None else f"; with shuffled stimuli it is {decimal(float(chance), 3)}"  # type: ignore[arg-type]
    n_others = int(rows["n"][0])
    others = f"in {n_others} other fits (mean of Fisher's z)" if n_others > 1 else "in the other fit"
    caption = (
        f"Correlation of each dimension with its best match {others}{intervals}. It is above 0.9 for "
        f"{count(int((r > 0.9).sum()))} of {counted(len(rows), 'dimension')}{overall}. The lowest is "
        f"{decimal(rows['value'][-1], 3)}, of dimension {rows['dimension'][-1]}{shuffled}."
    )
    return Drawn(f"Reproducibility of {len(rows)} dimensions of {facts.agent}", caption, every)


def components(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the held-out accuracy if only the largest weights of each stimulus are kept."""
    every = rows_of(inputs, facts, "components", "accuracy")
    rows = every.drop_nulls("value").sort("setting")
    needed = rows_of(inputs, facts, "components", "n_components").sort("setting")
    if not len(rows):
        raise FigureError(note_of(needed, "the accuracy with fewer components was not computed in this version"))
    kept, accuracy = rows["setting"].to_numpy(), rows["value"].to_numpy()
    full = float(accuracy[-1])
    (ax,) = canvas.panels(width=5.6, height=3.1, grid="y")
    style = style_of(inputs, facts.agent)
    ax.axhspan(0.95 * full, 0.99 * full, fc=(FAINT, 0.25), ec=SOFT, lw=0.6)
    (line,) = ax.plot(kept, accuracy, style.marker, ls=style.dash, color=style.colour, ms=5, mec="white", mew=0.7)
    canvas.note(line, hints=[f"{k:g} components: {percent(a)}" for k, a in zip(kept, accuracy, strict=True)])
    chance_level(ax, facts.n_answers)
    ax.set(xlabel="components kept per stimulus", ylabel="held-out accuracy", xlim=(0, None))
    ax.set_ylim(min(0.3, float(accuracy.min()) - 0.02), 1)
    of_prototypes = rows_of(inputs, facts, "components", "n_components_of_prototypes").sort("setting")
    ends = [int(value) for value in needed.drop_nulls("value")["value"]]
    several = (
        f"{ends[0]} to {ends[-1]} components"
        if ends and ends[0] != ends[-1]
        else counted(ends[0], "component")
        if ends
        else "more components than were tried"
    )
    others = [int(value) for value in of_prototypes.drop_nulls("value")["value"]]
    counted_so = (
        f" By the rule of Du et al. (2025, Nat. Mach. Intell.), on the choices among three prototypes, the smallest "
        f"number above 95 % is {others[0]}, and the largest below 99 % is {others[-1]}."
        if len(others) == 2
        else ""
    )
    caption = (
        f"Held-out accuracy if only the largest weights of each stimulus are kept. The full accuracy is "
        f"{percent(full)}; 95 to 99 % of it (grey band) requires {several}. The largest weight alone predicts "
        f"{percent(float(accuracy[0]))} of the held-out choices.{counted_so}"
    )
    return Drawn(f"Accuracy of {facts.agent} by components kept", caption, pl.concat([every, needed, of_prototypes]))


_SWEEPS = (
    ("dimensions", "test_accuracy", "held-out accuracy"),
    ("judgments", "n_recovered", "dimensions recovered"),
)


def saturation(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw accuracy by number of dimensions, and the number of recovered dimensions by number of judgments."""
    every = inputs.table("sweeps", facts.agent)
    found = {sweep: rows_of(inputs, facts, "saturation", sweep) for sweep, _, _ in _SWEEPS}
    if every is None:
        raise FigureError(note_of(pl.concat(found.values()), "no sweep over dimensions or judgments was run"))
    parts = [(one, rows) for one in _SWEEPS if len(rows := every.filter(pl.col("sweep") == one[0]))]
    panels = canvas.panels(len(parts), width=5.0 * len(parts), height=3.0, grid="y")
    sentences = []
    for ax, ((sweep, column, title), rows) in zip(panels, parts, strict=True):
        _sweep(canvas, ax, rows, (sweep, column), style_of(inputs, facts.agent))
        if column == "test_accuracy":
            chance_level(ax, facts.n_answers)
        ax.set_ylabel(title)
        sentences.append(_saturation(sweep, found[sweep], rows, column, inputs.params.get("sweeps") or {}))
    return Drawn(f"Saturation of {facts.agent}", " ".join(sentences), every)


def _sweep(canvas: Canvas, ax: Any, rows: pl.DataFrame, shown: tuple[str, str], style: AgentStyle) -> None:
    sweep, column = shown
    own = rows.sort("setting", column)
    means = own.group_by("setting").agg(pl.col(column).mean()).sort("setting")
    settings = means["setting"].to_list()
    ax.plot(range(len(settings)), means[column].to_numpy(), ls=style.dash, color=style.colour)
    places = [settings.index(setting) for setting in own["setting"]]
    (dots,) = ax.plot(places, own[column].to_numpy(), style.marker, color=style.colour, ms=5, mfc="white", mew=1)
    canvas.note(dots, hints=[f"{s:,.0f} {sweep}: {v:g}" for s, v in own.select("setting", column).iter_rows()])
    ax.set_xticks(range(len(settings)), [_short(value) for value in settings])
    ax.set(xlabel=f"{sweep} (not to scale)", xlim=(-0.4, len(settings) - 0.6))
    if column == "test_accuracy":
        ax.set_ylim(0, 1)
    else:
        ax.set_ylim(0, float(np.ceil(own[column].to_numpy().max() * 1.1 + 0.5)))


def _saturation(sweep: str, found: pl.DataFrame, rows: pl.DataFrame, column: str, settings: Mapping[str, Any]) -> str:
    best = rows.group_by("setting").agg(pl.col(column).mean())[column].max()
    most = percent(float(best)) if column == "test_accuracy" else decimal(float(best), 1)  # type: ignore[arg-type]
    what = "accuracy" if column == "test_accuracy" else "the number of recovered dimensions"
    value = found.drop_nulls("value")
    size = f" of at most {settings['n_judgments']:,} judgments" if "n_judgments" in settings else ""
    each = size if sweep == "dimensions" else " of each size"
    several = f"fits to {counted(rows['replicate'].n_unique(), 'subset')}{each}"
    share = f"{percent(settings['share'], 0)} of " if "share" in settings else ""
    if not len(value):
        why = note_of(found, "no saturation point was found").removeprefix("left out: ")
        return f"In the sweep over {sweep}, {what} reaches at most {most} ({several}): {why}."
    enough = count(int(value["value"][0]))
    return f"With {enough} {sweep}, {what} reaches {share}its maximum, which is {most} ({several})."


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
