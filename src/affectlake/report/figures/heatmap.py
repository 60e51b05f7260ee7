"""The dimensions × ratings heat map: each cell a correlation, rows ordered along the diagonal."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.report.agent_summary import AgentFacts, Correlations
from affectlake.report.figures.svg import Figure, absent, drawing, element, joined, number
from affectlake.report.number_format import NBSP, count, counted, decimal

CELL, ROW = 17.0, 15.0
LEFT, TOP, RIGHT, BOTTOM, GAP = 34.0, 128.0, 168.0, 62.0, 8.0
STRONG = (0.95, 0.8)


def row_order(correlations: Correlations) -> NDArray[np.intp]:
    """Return the rows in the order of the rating they correlate with most, so that strong cells lie on a diagonal.

    Rows without any correlation come last; of rows with the same best rating the stronger comes first.
    """
    size = np.nan_to_num(np.abs(correlations.r), nan=-1.0)
    best = size.argmax(axis=1)
    strength = size[np.arange(len(size)), best]
    return np.lexsort((-strength, np.where(strength < 0, size.shape[1], best)))


def draw(facts: AgentFacts) -> Figure:
    """Draw the heat map of one agent's fit, or say why there is none."""
    found = facts.correlations
    if found is None or not np.isfinite(found.r).any():
        return absent("This version has no correlations of this agent's dimensions with the ratings.")
    order = row_order(found)
    n_rows, n_columns = found.r.shape
    width = LEFT + n_columns * CELL + GAP + RIGHT
    height = TOP + n_rows * ROW + BOTTOM
    label = f"Correlation of {n_rows} dimensions of {facts.agent} with {n_columns} ratings; arrow keys step through"
    body = drawing(
        width,
        height,
        label,
        _column_names(found),
        _rows(found, order),
        _frame(found),
        _scale(TOP + n_rows * ROW + 36),
        element("rect", class_="cursor", width=CELL, height=ROW),
        class_="heat",
        focusable=True,
    )
    return Figure(body, _caption(found))


def cell_data(facts: AgentFacts) -> dict[str, object]:
    """Return what hovering shows: names of the rows and columns as drawn, and r in thousandths (null: none)."""
    found = facts.correlations
    if found is None:
        return {}
    order = row_order(found)
    thousandths = [[round(1000 * r) if math.isfinite(r) else None for r in row] for row in found.r[order].tolist()]
    return {
        "columns": list(found.ratings),
        "rows": [found.dimensions[at] for at in order],
        "r": thousandths,
        "split": found.n_categories,
        "geometry": [LEFT, TOP, CELL, ROW, GAP],
    }


def _x(found: Correlations, column: int) -> float:
    return LEFT + column * CELL + (GAP if column >= found.n_categories else 0)


def _column_names(found: Correlations) -> Markup:
    def name(column: int, rating: str) -> Markup:
        x, y = _x(found, column) + 0.68 * CELL, TOP - 6
        place = f"translate({number(x)} {number(y)}) rotate(-58)"
        return element("text", rating, transform=place, class_="rating")

    return element("g", *(name(column, rating) for column, rating in enumerate(found.ratings)))


def _rows(found: Correlations, order: NDArray[np.intp]) -> Markup:
    return joined(_row(found, row, int(at)) for row, at in enumerate(order))


def _row(found: Correlations, row: int, at: int) -> Markup:
    y = TOP + row * ROW
    r = found.r[at]
    cells = joined(_cell(_x(found, column), y, value) for column, value in enumerate(r.tolist()))
    name = element("text", str(found.dimensions[at]), x=LEFT - 8, y=y + 0.74 * ROW, class_="dimension")
    if not np.isfinite(r).any():
        return joined([name, cells])
    best = int(np.nanargmax(np.abs(r)))
    end = element(
        "text",
        f"{found.ratings[best]} ",
        element("tspan", decimal(float(r[best])), class_="value"),
        x=LEFT + len(r) * CELL + GAP + 10,
        y=y + 0.74 * ROW,
        class_="best",
    )
    return joined([name, cells, end])


def _cell(x: float, y: float, r: float) -> Markup:
    if not math.isfinite(r):
        return Markup('<rect x="{}" y="{}" width="16" height="14" class="none"/>').format(number(x), number(y))
    if abs(r) < 0.02:
        return Markup("")
    sign = "pos" if r > 0 else "neg"
    return Markup('<rect x="{}" y="{}" width="16" height="14" class="{}" fill-opacity="{}"/>').format(
        number(x), number(y), sign, number(abs(r))
    )


def _frame(found: Correlations) -> Markup:
    """Draw the outlines of the two blocks of ratings and name them."""
    n_rows, n_columns = found.r.shape
    base = TOP + n_rows * ROW
    parts = []
    for start, stop, title in (
        (0, found.n_categories, "emotion categories"),
        (found.n_categories, n_columns, "affective dimensions"),
    ):
        if stop <= start:
            continue
        x, width = _x(found, start), (stop - start) * CELL
        parts.append(
            element("rect", x=x - 1.5, y=TOP - 1.5, width=width + 2, height=n_rows * ROW + 2, class_="outline")
        )
        parts.append(element("text", title, x=x + width - 1, y=base + 19, class_="block", text_anchor="end"))
    return joined(parts)


def _scale(y: float) -> Markup:
    """Draw the colour scale from −1 to 1, as steps of the same fills that the cells have."""
    steps = [
        element(
            "rect",
            x=LEFT + 26 + 8 * at,
            y=y,
            width=8.2,
            height=10,
            class_="neg" if r < 0 else "pos",
            fill_opacity=abs(r),
        )
        for at, r in enumerate(np.linspace(-1, 1, 21).tolist())
    ]
    ends = [
        element("text", "r = \N{MINUS SIGN}1", x=LEFT + 20, y=y + 9, class_="scale", text_anchor="end"),
        element("text", "0", x=LEFT + 26 + 84, y=y + 21, class_="scale", text_anchor="middle"),
        element("text", "1", x=LEFT + 200, y=y + 9, class_="scale"),
    ]
    return joined([*steps, *ends])


def _caption(found: Correlations) -> str:
    n_rows, n_columns = found.r.shape
    over = f" over {counted(found.n, 'stimulus', 'stimuli')}" if found.n is not None else ""
    n_scales = n_columns - found.n_categories
    families = f"{count(found.n_categories)} emotion categories, then {count(n_scales)} affective dimensions"
    what = (
        f"Pearson correlation of each of {counted(n_rows, 'dimension')} (rows) with {counted(n_columns, 'rating')} "
        f"(columns: {families}){over}; the name at the right is the rating that a dimension follows most, by |r|."
    )
    row, column = np.unravel_index(int(np.nanargmax(np.abs(found.r))), found.r.shape)
    low, high = float(found.ci_low[row, column]), float(found.ci_high[row, column])
    ends = f", 95{NBSP}% CI {decimal(low, 3)} to {decimal(high, 3)}"
    interval = ends if math.isfinite(low) and math.isfinite(high) else ""
    strong, clear = (count(found.above(threshold)) for threshold in STRONG)
    return (
        f"{what} The correlation with some rating is above {STRONG[0]} for {strong} of the dimensions and above "
        f"{STRONG[1]} for {clear}; the strongest is that of dimension {found.dimensions[row]} with "
        f"{found.ratings[column]} (r{NBSP}={NBSP}{decimal(float(found.r[row, column]), 3)}{interval})."
    )
