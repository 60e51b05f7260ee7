"""Matplotlib figures in the report's style, and the axes in which the other modules draw."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib import colormaps, rc_context, rcParams, rcParamsDefault
from matplotlib.figure import Figure as MatplotlibFigure
from numpy.typing import NDArray

from affectlake.errors import UsageError

INK, SOFT, FAINT, RULE = "#1c2126", "#565f69", "#8a929b", "#e2e3dd"
ACCENT, SECOND, HOT = "#1f5f8b", "#b4690e", "#b3262e"
GROUPS = ("#ea630c", "#4570a8", "#a76ef8", "#714e47", "#c47890", "#903a03", "#4f1c01", "#560499", "#04314b")
"""Colours of agents and of communities: distinct with any colour vision, with a contrast of at least 3 to the page."""

WIDTH_IN = 10.8
"""Width of the report's column."""

NARROWEST_IN = 1.7
"""Width below which panels are placed below one another."""

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # otherwise Matplotlib measures all ticks to place each title
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "image.interpolation": "nearest",  # cells with sharp edges in every viewer
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": SOFT,
    "lines.linewidth": 1.7,
    "path.simplify_threshold": 0.4,
    "text.color": INK,
    "text.parse_math": False,  # dollar signs in names are not markup
    "xtick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "xtick.labelsize": 8.5,
    "ytick.color": FAINT,
    "ytick.labelcolor": SOFT,
    "ytick.labelsize": 8.5,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "affectlake",
}
_UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
_DPI = 200
_ONE_AT_A_TIME = RLock()  # Matplotlib's settings are those of the whole process
_STYLED: list[bool] = []  # contexts that have been entered


class Drawn(NamedTuple):
    """The label, the caption and the data of a figure.

    Attributes
    ----------
    label : str
        What the figure shows, for screen readers.
    caption : str
        Description of the figure with its main numbers.
    rows : polars.DataFrame
        The data that the figure shows.
    """

    label: str
    caption: str
    rows: pl.DataFrame


class Note(NamedTuple):
    """What the report's page adds to an artist: tooltips and attributes."""

    hint: str
    hints: Sequence[str]
    own: Mapping[str, str]
    each: Mapping[str, Sequence[object]]


class Figure(MatplotlibFigure):
    """A figure of the report: a Matplotlib figure that also has a caption and its data.

    Attributes
    ----------
    label, caption : str
        As in :class:`Drawn`.
    data : polars.DataFrame
        The data that the figure shows.
    notes : dict
        What the report's page adds to the artists, by `gid`.
    stamp : matplotlib.text.Text or None
        The words that mark synthetic stimuli.
    """

    label: str = ""
    caption: str = ""
    data: pl.DataFrame = pl.DataFrame()
    notes: Mapping[str, Note] = {}
    stamp: Any = None

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure with text as text and without a date, so that the same figure gives the same bytes.

        Parameters
        ----------
        fname : path or file
            The suffix sets the format: ``.svg``, ``.pdf``, ``.png`` or another one that Matplotlib supports.
        **options
            As in :meth:`matplotlib.figure.Figure.savefig`.
        """
        suffix = Path(fname).suffix.removeprefix(".") if isinstance(fname, (str, Path)) else ""
        kind = str(options.get("format") or suffix or rcParams["savefig.format"])
        if kind in _UNDATED:
            options["metadata"] = {"Title": self.label, **_UNDATED[kind], **(options.get("metadata") or {})}
        options.setdefault("dpi", _DPI)
        with styled():
            super().savefig(fname, **options)

    def lay_out(self) -> None:
        """Lay the figure out once; otherwise it is laid out again for each file that is saved."""
        engine = self.get_layout_engine()
        if engine is not None:
            with styled():
                engine.execute(self)
            self.set_layout_engine("none")

    def stamped(self, words: str) -> None:
        """Write words below the figure at the right."""
        self.stamp = self.supxlabel(words, x=0.995, ha="right", fontsize=6.5, color=SOFT)

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", dpi=2 * 72)
        return file.getvalue()


@dataclass
class Canvas:
    """Where one figure is drawn: in a new figure, or in given axes.

    Parameters
    ----------
    given : sequence of matplotlib.axes.Axes
        Axes to draw in; empty for a new figure.
    width_in : float
        Width of a new figure in inches; 0: the figure's own.
    """

    given: Sequence[Any] = ()
    figure: Any = None
    width_in: float = 0.0
    notes: dict[str, Note] = field(default_factory=dict)

    def panels(
        self, n: int = 1, *, width: float, height: float, columns: int = 0, grid: str = "", **settings: Any
    ) -> list[Any]:
        """Return axes for `n` panels, row by row.

        Parameters
        ----------
        n : int
            Number of panels. Default 1.
        width, height : float
            Size of the whole figure, in inches.
        columns : int
            Number of panels per row; 0 (the default) for a single row.
        grid : str
            "x" or "y": the axis with grid lines at its ticks. Empty (the default): no grid.
        **settings
            As in :meth:`matplotlib.figure.Figure.subplots`.
        """
        if self.given:
            if len(self.given) != n:
                panels = f"{n} panel{'' if n == 1 else 's'}"
                raise UsageError(f"this figure has {panels}", found=f"{len(self.given)} axes", todo=f"give {n} axes")
            self.figure = self.given[0].get_figure(root=True)
            for ax in self.given if grid else ():
                ax.grid(True, axis=grid)
            return list(self.given)
        columns = columns or n
        if self.width_in:
            columns, height = self._narrowed(n, columns, width, height, fixed="width_ratios" in settings)
            width = self.width_in
        self.figure = Figure(figsize=(width, height), layout="constrained")
        rcParams.update({"axes.grid": bool(grid), "axes.grid.axis": grid or "both"})
        every = self.figure.subplots(-(-n // columns), columns, squeeze=False, **settings).ravel()
        for unused in every[n:]:
            unused.remove()
        return list(every[:n])

    def _narrowed(self, n: int, columns: int, width: float, height: float, *, fixed: bool) -> tuple[int, float]:
        """Return the panels per row and the height in `width_in`; panels have `NARROWEST_IN` or more if possible."""
        fewer = columns if fixed else max(1, min(columns, int(self.width_in // NARROWEST_IN)))
        shrunk = (self.width_in / fewer) / (width / columns)
        rows, before = -(-n // fewer), -(-n // columns)
        return fewer, height * rows / before * min(1.0, max(0.6, shrunk))

    def note(
        self, artist: Any, hint: str = "", *, hints: Sequence[str] = (),
        each: Mapping[str, Sequence[object]] | None = None, **own: str,
    ) -> None:  # fmt: skip
        """Set what the report's page adds to an artist.

        Parameters
        ----------
        artist : matplotlib.artist.Artist
            A line, a patch, a text or a collection.
        hint : str
            Tooltip of the artist.
        hints : sequence of str
            Tooltips of its marks, one for each.
        each : mapping of str to sequence
            Attributes of the SVG elements of its marks: for each attribute, one value per mark.
        **own : str
            Attributes of the artist's SVG element; ``class_`` becomes ``class``, underscores become hyphens.
        """
        gid = f"note{len(self.notes)}"
        artist.set_gid(gid)
        named = {key.rstrip("_").replace("_", "-"): value for key, value in own.items()}
        self.notes[gid] = Note(hint, hints, named, each or {})

    def finished(self, drawn: Drawn) -> Any:
        """Return the figure; if it is a new one, with label, caption, data and notes."""
        if isinstance(self.figure, Figure) and not self.given:
            self.figure.label, self.figure.caption, self.figure.data = drawn
            self.figure.notes = self.notes
        return self.figure


@contextmanager
def older_objects_frozen() -> Iterator[None]:
    """Exclude existing objects from garbage collection, which otherwise takes a sixth of the time of a page."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def styled(*, own: bool = True) -> Iterator[None]:
    """Draw in the report's style whatever the user's settings are or, if not `own`, in the user's style."""
    with _ONE_AT_A_TIME:
        if own and _STYLED[-1:] == [True]:  # a whole page is drawn in one context, because entering one takes 5 ms
            yield
            return
        _STYLED.append(own)
        try:
            with rc_context(_settings() if own else {"text.parse_math": False}):
                yield
        finally:
            _STYLED.pop()


@cache
def _settings() -> dict[str, Any]:
    kept = {key: value for key, value in rcParamsDefault.items() if not key.startswith(("backend", "interactive"))}
    return kept | _STYLE


def level(ax: Any, value: float, text: str, *, upright: bool = False) -> None:
    """Draw a dotted line across the axes at a value, with a label at its end."""
    style = {"color": SOFT, "linestyle": ":", "linewidth": 1.2, "zorder": 1.5}
    if upright:
        ax.axvline(value, **style)
        ax.annotate(text, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                    ha="center", va="bottom", color=SOFT, fontsize=8)  # fmt: skip
        return
    ax.axhline(value, **style)
    ax.annotate(text, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
                ha="right", va="bottom", color=SOFT, fontsize=8)  # fmt: skip


def chance_level(ax: Any, n_answers: int, *, upright: bool = False) -> None:
    """Draw the accuracy of guesses among `n_answers` across the axes, with a label."""
    level(ax, 1 / n_answers, f"chance, 1/{n_answers}", upright=upright)


def bare(ax: Any) -> None:
    """Remove the frame and the ticks, and give both axes the same scale."""
    ax.set_axis_off()
    ax.set_aspect("equal")


def colours(name: str) -> Any:
    """Return one of Matplotlib's colour maps, with grey for missing values."""
    return colormaps[name].with_extremes(bad="#dddddd")


def whiskers(values: Any, low: Any, high: Any) -> NDArray[np.float64]:
    """Return the lengths of error bars (2, n) as for Matplotlib's ``yerr``; 0 where an end is missing."""
    middle = np.asarray(values, float)
    ends = np.asarray(low, float), np.asarray(high, float)
    return np.asarray(np.nan_to_num(np.stack([middle - ends[0], ends[1] - middle]).clip(min=0)))


def upright_lines(ax: Any, x: Any, low: Any, high: Any, **style: Any) -> None:
    """Draw a line from `low` to `high` at each x, all as one path, which takes fewer bytes than one for each."""
    ends = np.stack([np.asarray(low, float), np.asarray(high, float), np.full(len(x), np.nan)], axis=1)
    ax.plot(np.repeat(np.asarray(x, float), 3), ends.ravel(), **style)


def stack(agents: int, each: float = 0.34, rest: float = 0.9) -> float:
    """Return the height in inches of a figure with one row for each agent."""
    return rest + each * max(agents, 2)
