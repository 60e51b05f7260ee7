"""The heat map of correlations of dimensions with ratings, with rows ordered along the diagonal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from matplotlib.transforms import ScaledTranslation, blended_transform_factory
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, Correlations, of_agent, of_fit
from affectlake.report.figures.canvas import INK, SOFT, Canvas, Drawn, colours
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import NBSP, count, counted, decimal, shortened

CELL_IN, ROW_IN = 0.178, 0.156
SCALE_IN = 0.34, 0.08  # distance of the colour bar's lower edge from the cells, and its height
LETTER_IN = 0.062  # mean width of a letter of a family's name
GAP = 0.5  # between families of ratings, in cells
STRONG = (0.95, 0.8)


def row_order(correlations: Correlations) -> NDArray[np.intp]:
    """Return the order of the rows by the rating they correlate with most, so that strong cells form a diagonal.

    Rows without any correlation come last; rows with the same best rating are ordered by descending strength.
    """
    size = np.nan_to_num(np.abs(correlations.r), nan=-1.0)
    best = size.argmax(axis=1)
    strength = size[np.arange(len(size)), best]
    return np.lexsort((-strength, np.where(strength < 0, size.shape[1], best)))


def heatmap(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the correlation of each dimension with each rating.

    Rows are ordered by the rating with the largest absolute correlation, which is named at the right.
    """
    found = facts.correlations
    if found is None or not np.isfinite(found.r).any():
        raise FigureError("this version has no correlations of this agent's dimensions with ratings")
    order = row_order(found)
    n_rows, n_columns = found.r.shape
    (ax,) = canvas.panels(width=2.4 + n_columns * CELL_IN, height=2.0 + n_rows * ROW_IN)
    image = _cells(ax, found, order)
    ax.set(xlim=(-0.5, _place(found, n_columns - 1) + 0.5), ylim=(n_rows - 0.5, -0.5), ylabel="dimension")
    columns = [_place(found, column) for column in range(n_columns)]
    ax.set_xticks(columns, [shortened(name) for name in found.ratings], rotation=58, ha="left", rotation_mode="anchor")
    ax.set_yticks(range(n_rows), [str(found.dimensions[at]) for at in order])
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=8, labelcolor=INK)
    ax.tick_params(axis="y", labelcolor=SOFT)
    ax.spines[:].set_visible(False)
    _best(ax, found, order)
    inches = canvas.figure.dpi_scale_trans + ScaledTranslation(0, 0, ax.transAxes)  # from the corner of the axes
    below = blended_transform_factory(ax.transAxes, inches)
    scale = ax.inset_axes((0, -SCALE_IN[0], 0.34, SCALE_IN[1]), transform=below)
    canvas.figure.colorbar(image, cax=scale, orientation="horizontal", ticks=[-1, 0, 1])
    scale.tick_params(labelsize=8, length=0)
    scale.set_xlabel("Pearson r", fontsize=8, labelpad=1)
    scale.spines[:].set_visible(False)
    own = of_fit(of_agent(inputs.metrics, facts.agent), facts.seed)
    rows = own.filter(pl.col("analysis") == "rating_correlation")
    label = f"Correlation of {n_rows} dimensions of {facts.agent} with {n_columns} ratings"
    return Drawn(label, _caption(found), rows)


def cell_data(facts: AgentFacts) -> dict[str, object]:
    """Return the data of the tooltips: names of rows and columns as drawn, and r in thousandths (None if missing)."""
    found = facts.correlations
    if found is None:
        return {}
    order = row_order(found)
    thousandths = [[round(1000 * r) if math.isfinite(r) else None for r in row] for row in found.r[order].tolist()]
    return {
        "columns": list(found.ratings),
        "rows": [found.dimensions[at] for at in order],
        "r": thousandths,
        "blocks": [block.n for block in found.blocks],
    }


def _place(found: Correlations, column: int) -> float:
    ends = np.cumsum([block.n for block in found.blocks])
    return column + GAP * int((ends <= column).sum())


def _cells(ax: Any, found: Correlations, order: NDArray[np.intp]) -> Any:
    """Draw each family of ratings as an image, with white lines between the cells."""
    n_rows = len(found.r)
    image = None
    start = 0
    for block in found.blocks:
        stop = start + block.n
        left, right = _place(found, start) - 0.5, _place(found, stop - 1) + 0.5
        image = ax.imshow(
            found.r[order, start:stop], cmap=colours("RdBu_r"), vmin=-1, vmax=1, aspect="auto",
            extent=(left, right, n_rows - 0.5, -0.5),
        )  # fmt: skip
        ax.hlines(np.arange(1, n_rows) - 0.5, left, right, color="white", lw=0.8)
        ax.vlines(np.arange(left + 1, right), -0.5, n_rows - 0.5, color="white", lw=0.8)
        name = shortened(block.title)
        at_left = not start and block.n * CELL_IN < len(name) * LETTER_IN  # else its name would leave the figure
        title = ax.annotate(name, (left if at_left else right, n_rows - 0.5), xytext=(0, -5),
                            textcoords="offset points", ha="left" if at_left else "right", va="top", fontsize=8,
                            color=SOFT)  # fmt: skip
        title.set_in_layout(False)  # a family of few ratings is narrower than its name
        start = stop
    return image


def _best(ax: Any, found: Correlations, order: NDArray[np.intp]) -> None:
    """Write the rating with the largest absolute correlation at the right of each row."""
    for row, at in enumerate(order):
        if np.isfinite(found.r[at]).any():
            best = int(np.nanargmax(np.abs(found.r[at])))
            name = f"{shortened(found.ratings[best])} {decimal(float(found.r[at, best]))}"
            ax.annotate(name, (1, row), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
                        va="center", fontsize=8)  # fmt: skip


def _caption(found: Correlations) -> str:
    n_rows, n_columns = found.r.shape
    over = f" over {counted(found.n, 'stimulus', 'stimuli')}" if found.n is not None else ""
    families = ", then ".join(f"{count(block.n)} {block.title}" for block in found.blocks)
    what = (
        f"Pearson correlation of each of {counted(n_rows, 'dimension')} (rows) with {counted(n_columns, 'rating')} "
        f"(columns: {families}){over}. The rating with the largest |r| is named at the right of each row."
    )
    row, column = np.unravel_index(int(np.nanargmax(np.abs(found.r))), found.r.shape)
    low, high = float(found.ci_low[row, column]), float(found.ci_high[row, column])
    ends = f", 95{NBSP}% CI {decimal(low, 3)} to {decimal(high, 3)}"
    interval = ends if math.isfinite(low) and math.isfinite(high) else ""
    strong, clear = (count(found.above(threshold)) for threshold in STRONG)
    return (
        f"{what} The number of dimensions with r above {STRONG[0]} for at least one rating is {strong}; with r above "
        f"{STRONG[1]} it is {clear}. The strongest correlation is that of dimension {found.dimensions[row]} with "
        f"{found.ratings[column]} (r{NBSP}={NBSP}{decimal(float(found.r[row, column]), 3)}{interval})."
    )
