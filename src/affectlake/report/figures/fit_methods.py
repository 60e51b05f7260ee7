"""Figure of the fits of SPoSE and of variational SPoSE side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.agent_styles import styles_of
from affectlake.report.figures.canvas import INK, Canvas, Drawn, stack, whiskers
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, decimal, percent, shortened

METHODS = {"spose": "SPoSE", "vice": "variational SPoSE"}
_NO_TABLE = "this version has no fits of variational SPoSE: add the section vice to params.yaml"


def fit_methods(inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas) -> Drawn:
    """Draw test accuracy, number of dimensions and agreement between seeds of both methods, for each agent."""
    table = inputs.table("fit_methods")
    if table is None:
        raise FigureError(_NO_TABLE)
    names = [one.agent for one in agents if one.agent in set(table["agent"])]
    rows = table.filter(pl.col("agent").is_in(names)).sort("agent", "fit_method", "seed")
    if not len(rows.drop_nulls("test_accuracy")):
        raise FigureError("no fit of variational SPoSE has a dimension and test judgments")
    axes = canvas.panels(3, width=10.0, height=stack(len(names), 0.5, 1.2), grid="x")
    styles = styles_of(one.agent for one in agents)
    columns = ("test_accuracy", "n_dimensions", "reproducibility")
    for ax, column, label in zip(axes, columns, ("test accuracy", "dimensions", "agreement of seeds (r)"), strict=True):
        for (agent, method), own in rows.drop_nulls(column).group_by("agent", "fit_method", maintain_order=True):
            at = names.index(str(agent)) + (0.2 if method == "vice" else -0.2)
            colour = styles[str(agent)].colour
            ax.scatter(own[column].to_numpy(), np.full(len(own), at), s=24, zorder=3, edgecolor=colour,
                       facecolor=colour if method == "vice" else "white")  # fmt: skip
            used = own.filter("used").drop_nulls("ci_low")
            if column == "test_accuracy" and len(used):
                ends = whiskers(used[column], used["ci_low"], used["ci_high"])
                ax.errorbar(used[column].to_numpy(), [at], xerr=ends, fmt="none", ecolor=INK, elinewidth=1)
        ax.set(xlabel=label)
        if column == "n_dimensions":
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_yticks(range(len(names)), [shortened(name) for name in names] if ax is axes[0] else [""] * len(names))
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
    return Drawn("Fits of SPoSE and of variational SPoSE", _caption(rows), rows)


def _caption(rows: pl.DataFrame) -> str:
    used = rows.filter("used").drop_nulls("test_accuracy")
    parts = []
    for (agent,), own in used.group_by("agent", maintain_order=True):
        fits = {row["fit_method"]: row for row in own.iter_rows(named=True)}
        told = [
            f"{percent(fits[name]['test_accuracy'])} with {counted(fits[name]['n_dimensions'], 'dimension')} ({label})"
            for name, label in METHODS.items()
            if name in fits
        ]
        r = fits.get("vice", {}).get("method_r")
        parts.append(
            f"{agent}: {' and '.join(told)}" + ("" if r is None else f", which match with r = {decimal(r, 2)}")
        )
    return (
        "Fits of SPoSE (frames) and of variational SPoSE (filled, below them), one mark per seed, scored once on the "
        "same test judgments; lines are 95 % intervals of the fits that are used: of SPoSE the representative fit, of "
        f"variational SPoSE the one of the first seed. {'. '.join(parts)}".rstrip(". ")
        + "."
    )
