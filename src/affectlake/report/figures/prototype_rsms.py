"""Similarities of the prototypes: predicted by an embedding and measured in choices (Extended Data Fig. 1g to j)."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, note_of, rows_of
from affectlake.report.figures.agent_styles import style_of
from affectlake.report.figures.canvas import FAINT, SOFT, Canvas, Drawn, colours
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, decimal
from affectlake.rsm import pairs, pearson


def prototype_rsms(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw the similarities of the prototypes as predicted and as measured, and one against the other."""
    found = inputs.rsms.get(facts.agent)
    if found is None:
        why = note_of(rows_of(inputs, facts, "generalisation", "rsm_pearson_r"), "")
        raise FigureError(why or "this version has no choices of this agent among prototypes, or no embedding of it")
    stimuli, predicted, measured = found
    known = np.isfinite(pairs(predicted)) & np.isfinite(pairs(measured))
    x, y = pairs(predicted)[known], pairs(measured)[known]
    first, second, third = canvas.panels(3, width=10.4, height=3.5)
    image: Any = None
    for ax, matrix, name in ((first, predicted, "predicted"), (second, measured, "measured")):
        image = ax.imshow(matrix, cmap=colours("viridis"), vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[], xlabel=f"{name}, {counted(len(stimuli), 'prototype')}")
        ax.spines[:].set_visible(False)
    canvas.figure.colorbar(image, ax=[first, second], label="similarity (choice probability)", shrink=0.75, pad=0.02,
                           ticks=[0, 0.5, 1]).outline.set_visible(False)  # fmt: skip
    third.plot([0, 1], [0, 1], color=FAINT, lw=0.9)
    style = style_of(inputs, facts.agent)
    third.plot(x, y, style.marker, color=style.colour, ms=2.6, mew=0, rasterized=len(x) > 1000)
    third.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted similarity", ylabel="measured similarity")
    third.set_aspect("equal")
    r = pearson(x, y) if len(x) > 1 else float("nan")
    third.annotate(f"r = {decimal(r)}", (0.04, 0.96), xycoords="axes fraction", va="top", color=SOFT, fontsize=8.5,
                   bbox={"fc": "white", "lw": 0, "alpha": 0.8, "pad": 1})  # fmt: skip
    caption = (
        f"Similarity of every pair of {counted(len(stimuli), 'prototype')}: the share of trials with both in which the "
        f"third stimulus is the odd one, as the embedding predicts it (left) and as it was measured in choices that no "
        f"fit has seen (middle). Prototypes are in the order of their categories. Over "
        f"{counted(len(x), 'pair')}, Pearson's r is {decimal(r, 3)} (right)."
    )
    label = f"Predicted and measured similarities of prototypes, {facts.agent}"
    return Drawn(label, caption, _rows(facts.agent, found))


def _rows(agent: str, found: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]) -> pl.DataFrame:
    stimuli, predicted, measured = found
    one, other = np.triu_indices(len(stimuli), k=1)
    return pl.DataFrame(
        {
            "agent": [agent] * len(one),
            "stimulus_index": stimuli[one],
            "other_stimulus_index": stimuli[other],
            "predicted": pairs(predicted),
            "measured": pairs(measured),
        }
    )
