"""Figures in the exact width of a printed column, with text that can be read on paper."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from affectlake.errors import UsageError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.canvas import Figure, styled
from affectlake.report.inputs import ReportInputs

if TYPE_CHECKING:
    from affectlake.report.figures.catalogue import Entry

LEAST_POINTS = 6.0
LEAST_MM, MOST_MM = 40.0, 500.0
_MM_PER_IN = 25.4
_SHRUNK = 0.78  # of text that is large enough
_SHARED = 0.12  # of the area of a text, below which another one may cover it
_ROOM = 0.9  # distance of labels along an axis, in their heights, below which they cover one another


def printed(
    entry: Entry, inputs: ReportInputs, about: AgentFacts | Sequence[AgentFacts], width_mm: float, **chosen: str
) -> Figure:
    """Draw a figure that is exactly `width_mm` wide, with text of at least `LEAST_POINTS` points.

    Parameters
    ----------
    entry, inputs, about, **chosen
        As for :meth:`affectlake.report.figures.catalogue.Entry.made`.
    width_mm : float
        From 40 to 500.

    Raises
    ------
    UsageError
        If the width is outside these limits, or the labels of the figure would cover one another in it.
    """
    if not LEAST_MM <= width_mm <= MOST_MM:
        raise UsageError(f"a figure cannot be {width_mm:g} mm wide", allowed=f"{LEAST_MM:g} to {MOST_MM:g} mm")
    natural: Any = entry.made(inputs, about, **chosen)
    width_in = width_mm / _MM_PER_IN
    figure: Any = entry.made(inputs, about, width_in=width_in, **chosen)
    factor = min(1.0, max(_SHRUNK, width_in / natural.get_figwidth()))
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        for text in figure.findobj(Text):
            text.set_fontsize(max(LEAST_POINTS, factor * text.get_fontsize()))
        try:
            figure.lay_out()
        except UserWarning as error:
            raise _too_narrow(entry, width_mm, natural.get_figwidth() * _MM_PER_IN) from error
        room = min(_rooms(figure), default=_ROOM)
        covered = _covered(figure)
    if covered:
        raise _too_narrow(entry, width_mm, max(natural.get_figwidth() * _MM_PER_IN, 1.2 * width_mm))
    if room < _ROOM:
        raise _too_narrow(entry, width_mm, min(width_mm * _ROOM / max(room, 0.1), natural.get_figwidth() * _MM_PER_IN))
    drawn: Figure = figure
    return drawn


def _too_narrow(entry: Entry, width_mm: float, enough: float) -> UsageError:
    return UsageError(
        f"{entry.name} cannot be read in {width_mm:g} mm: its labels would cover one another",
        wanted=f"text of at least {LEAST_POINTS:g} points",
        todo=f"try --width {ceil(max(enough, width_mm + 1)):d}mm",
    )


def _rooms(figure: Figure) -> Iterator[float]:
    """Yield, for each axis with labels, the smallest distance of two neighbours in heights of the text."""
    for ax in figure.axes:
        ax.apply_aspect()
        for axis, place in ((ax.xaxis, 0), (ax.yaxis, 1)):
            labels = [one for one in axis.get_ticklabels() if one.get_text() and one.get_visible()]
            spots = np.sort([ax.transData.transform(_point(one, place))[place] for one in labels])
            if len(spots) < 2 or (place == 0 and not any(one.get_rotation() for one in labels)):
                continue
            step = float(np.diff(spots).min()) / figure.dpi * 72
            yield step / max(float(one.get_fontsize()) for one in labels)


def _covered(figure: Figure) -> bool:
    """Return whether two horizontal texts cover one another."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text() and not one.get_rotation()]
    boxes = np.array([one.get_window_extent(canvas.get_renderer()).extents for one in texts])  # (n, 4)
    low, high = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    np.fill_diagonal(shared, 0)
    return bool((shared > _SHARED * np.minimum(area[:, None], area[None])).any())


def _point(label: Any, place: int) -> tuple[float, float]:
    x, y = label.get_position()
    return (float(x), 0.0) if place == 0 else (0.0, float(y))
