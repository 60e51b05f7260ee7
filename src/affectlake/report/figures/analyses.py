"""Figures of one agent's analyses: reproducibility, necessary components and saturation. Reading tables: ``facts``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from markupsafe import Markup

from affectlake.report.agent_summary import AgentFacts, of_agent
from affectlake.report.figures.axes import Axes
from affectlake.report.figures.svg import Figure, absent, element, joined, scrolling
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import NBSP, count, counted, decimal, listed, percent
from affectlake.report.number_format import level as written_level

THIRD = 1 / 3


def rows_of(inputs: ReportInputs, facts: AgentFacts, analysis: str, measure: str) -> pl.DataFrame:
    """Return an analysis's metrics of the fit that is shown, and those that rest on no single fit."""
    own = of_agent(inputs.metrics, facts.agent).filter(pl.col("analysis") == analysis, pl.col("measure") == measure)
    return own.filter(pl.col("seed").is_null() | pl.col("seed").eq_missing(pl.lit(facts.seed)))


def note_of(rows: pl.DataFrame, otherwise: str) -> str:
    """Return why there is no number, as the table says it, or else `otherwise`."""
    notes = rows.drop_nulls("note")
    return f"Left out: {notes['note'][0]}." if len(notes) else otherwise


def reproducibility(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """Draw how well each dimension comes back in the other fits, or say why that is not known."""
    every = rows_of(inputs, facts, "reproducibility", "pearson_r")
    rows = every.drop_nulls("value").sort("value", "dimension", descending=[True, False])
    mean = rows_of(inputs, facts, "reproducibility", "mean_pearson_r")
    if not len(rows):
        return absent(note_of(mean, "This version has no reproducibility of this agent's dimensions."))
    low = min(0.0, float(rows["value"].min() or 0))  # type: ignore[arg-type]
    names = [(at + 1.0, str(d)) for at, d in enumerate(rows["dimension"])]
    axes = Axes(
        "Best match in the other fits (r)", "dimension", (0.3, len(rows) + 0.7), (low, 1.0), 960.0, 270.0, names
    )
    parts = []
    for at, row in enumerate(rows.iter_rows(named=True), 1):
        hint = f"dimension {row['dimension']}: r = {decimal(row['value'], 3)}"
        parts += [axes.whisker(at, row["ci_low"], row["ci_high"]), axes.dot(at, row["value"], hint=hint)]
    chance = rows["chance"].mean()
    if chance is not None:
        parts.insert(0, axes.level(float(chance), "best of chance matches"))  # type: ignore[arg-type]
    body = axes.drawn(f"Reproducibility of {len(rows)} dimensions of {facts.agent}", *parts)
    high = int((rows["value"] > 0.9).sum())
    own = mean.drop_nulls("value")
    overall = f"; their mean is {decimal(own['value'][0], 3)}" if len(own) else ""
    caption = (
        f"{counted(high, 'dimension')} of {count(len(rows))} come back with r above 0.9 in the "
        f"{counted(int(rows['n'][0]), 'other fit')}{overall} (Fisher-z means, bars: 95 % intervals over the fits). "
        f"The weakest is dimension {rows['dimension'][-1]} with {decimal(rows['value'][-1], 3)}; "
        f"shuffled stimuli give {decimal(None if chance is None else float(chance), 3)}."  # type: ignore[arg-type]
    )
    return Figure(scrolling(f"Reproducibility of {facts.agent}", body, class_="scroll wide"), caption, rows=every)


def components(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """Draw the accuracy with only the strongest components of each stimulus, or say why it is not known."""
    every = rows_of(inputs, facts, "components", "accuracy")
    rows = every.drop_nulls("value").sort("setting")
    needed = rows_of(inputs, facts, "components", "n_components").sort("setting")
    if not len(rows):
        return absent(note_of(needed, "This version has no accuracy of fewer components."))
    points = list(rows.select("setting", "value").iter_rows())
    full = points[-1][1]
    axes = Axes("Held-out accuracy", "components kept of each stimulus", (0.0, points[-1][0]), (0.3, 1.0))
    band = element(
        "rect",
        x=axes.x(0),
        width=axes.x(points[-1][0]) - axes.x(0),
        y=axes.y(0.99 * full),
        height=axes.y(0.95 * full) - axes.y(0.99 * full),
        class_="band",
    )
    dots = joined(axes.dot(k, a, hint=f"{k:g} components: {percent(a)}") for k, a in points)
    body = axes.drawn(
        f"Accuracy by components kept, {facts.agent}",
        band,
        axes.level(THIRD, "chance"),
        axes.line(points, "test"),
        dots,
    )
    ends = [int(value) for value in needed.drop_nulls("value")["value"]]
    kept = f"{ends[0]} to {ends[-1]}" if ends and ends[0] != ends[-1] else str(ends[0]) if ends else "no"
    caption = (
        f"Keeping only the {kept} largest weights of each stimulus is enough for 95 to 99 % (band) of the full "
        f"accuracy of {percent(full)}. One component alone predicts {percent(points[0][1])} of the held-out choices."
    )
    return Figure(body, caption, rows=pl.concat([every, needed]))


def sweeps(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """Draw where more dimensions or more judgments stop helping, or say why that is not known."""
    every = inputs.table("sweeps", facts.agent)
    found = rows_of(inputs, facts, "saturation", "dimensions"), rows_of(inputs, facts, "saturation", "judgments")
    if every is None:
        return absent(note_of(pl.concat(found), "No sweep over dimensions or judgments was run."))
    panels, sentences = [], []
    for sweep, column, title, at in (
        ("dimensions", "test_accuracy", "Held-out accuracy", found[0]),
        ("judgments", "n_recovered", "Dimensions recovered", found[1]),
    ):
        rows = every.filter(pl.col("sweep") == sweep)
        if len(rows):
            panels.append(_sweep(rows, sweep, column, title, facts.agent))
            sentences.append(_saturation(sweep, at, rows, column, inputs.params.get("sweeps") or {}))
    return Figure(element("div", *panels, class_="panels two"), " ".join(sentences), rows=every)


def _sweep(rows: pl.DataFrame, sweep: str, column: str, title: str, agent: str) -> Markup:
    means = rows.group_by("setting").agg(pl.col(column).mean()).sort("setting")
    settings = means["setting"].to_list()
    top = 1.0 if column == "test_accuracy" else float(rows[column].max()) * 1.1 + 1  # type: ignore[arg-type]
    steps = [(float(at), _short(value)) for at, value in enumerate(settings)]
    axes = Axes(title, f"{sweep} (not to scale)", (-0.4, len(settings) - 0.6), (0.0, top), x_at=steps)
    place = {value: float(at) for at, value in enumerate(settings)}
    points = [(place[setting], float(value)) for setting, value in means.iter_rows()]
    dots = [
        axes.dot(place[s], float(v), "faint", f"{s:,.0f} {sweep}: {v:g}")
        for s, v in rows.select("setting", column).iter_rows()
    ]
    floor = [axes.level(THIRD, "chance")] if column == "test_accuracy" else []
    return axes.drawn(f"{title} by {sweep}, {agent}", *floor, axes.line(points, "test"), *dots)


def _saturation(sweep: str, found: pl.DataFrame, rows: pl.DataFrame, column: str, settings: Mapping[str, Any]) -> str:
    best = rows.group_by("setting").agg(pl.col(column).mean())[column].max()
    most = percent(float(best)) if column == "test_accuracy" else decimal(float(best), 1)  # type: ignore[arg-type]
    what = "accuracy" if column == "test_accuracy" else "the number of recovered dimensions"
    value = found.drop_nulls("value")
    size = f"at most {settings['n_judgments']:,} " if sweep == "dimensions" and "n_judgments" in settings else ""
    several = f"fits to {counted(rows['replicate'].n_unique(), 'subset')} of {size}judgments each"
    share = f", {settings['share']:.0%} of the most" if "share" in settings else ""
    if not len(value):
        why = note_of(found, "no saturation point was found.").removeprefix("Left out: ")
        return f"Over {sweep}, {what} reaches {most} ({several}): {why}"
    enough = count(int(value["value"][0]))
    return f"With {enough} {sweep}, {what} is saturated{share}; the most is {most} ({several})."


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def summary(inputs: ReportInputs, facts: AgentFacts) -> list[dict[str, object]]:
    """Return the agent's single numbers with interval, null and level, or the reason why one is missing."""
    wanted = (
        ("noise_ceiling", "consistency", "Noise ceiling (share of the most frequent answer)", True),
        ("held_out", "explained_share", "Share of what can be predicted that is predicted", True),
        ("generalisation", "rsm_pearson_r", "Similarity of prototypes, predicted and chosen (r)", False),
        ("reproducibility", "mean_pearson_r", "Reproducibility over fits (mean r)", False),
        ("labels", "interpretable_share", "Dimensions with a label above |r| = 0.1", True),
        ("labels", "categorical_share", "… named by categories only", True),
        ("labels", "dimensional_share", "… named by affective dimensions only", True),
        ("labels", "mixed_share", "… named by both", True),
        ("graph", "n_isolated", "Isolated dimensions in the graph", None),
        ("graph", "n_communities", "Communities in the graph", None),
        ("graph", "modularity", "Modularity of the communities", False),
    )
    found = []
    for analysis, measure, name, share in wanted:
        rows = rows_of(inputs, facts, analysis, measure)
        if len(rows):
            found.append({"name": name, **_written(rows.row(0, named=True), share)})
    return found


def _written(row: dict[str, object], share: bool | None) -> dict[str, object]:
    def write(value: object) -> str:
        if not isinstance(value, float):
            return ""
        return percent(value) if share else decimal(value, 0 if share is None else 3)

    ends = [write(row["ci_low"]), write(row["ci_high"])]
    level = row["p_value"]
    return {
        "value": write(row["value"]),
        "interval": " to ".join(ends) if all(ends) else "",
        "chance": write(row["chance"]),
        "level": written_level(level).removeprefix(f"p{NBSP}").removeprefix(f"={NBSP}")
        if isinstance(level, float)
        else "",
        "note": str(row["note"] or ""),
    }


def communities_named(labels: list[str], most: int = 4) -> str:
    """Write the names of a community's dimensions: `most` and the count of the others, which is never one."""
    return listed(labels if len(labels) <= most + 1 else [*labels[:most], f"{len(labels) - most} more"])
