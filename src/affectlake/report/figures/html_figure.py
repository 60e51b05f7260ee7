"""Figures that are HTML instead of a drawing: cards and tables."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib.resources import files

import polars as pl
from markupsafe import Markup

from affectlake.report.figures.canvas import Drawn


@dataclass(frozen=True, repr=False)
class HtmlFigure:
    """A figure of the report that is HTML.

    Parameters
    ----------
    html : Markup
        Body of the figure.
    drawn : Drawn
        Its label, caption and data.
    """

    html: Markup
    drawn: Drawn

    @property
    def caption(self) -> str:
        """Description of the figure with its main numbers."""
        return self.drawn.caption

    @property
    def data(self) -> pl.DataFrame:
        """The data that the figure shows."""
        return self.drawn.rows

    def __repr__(self) -> str:
        return f"<{self.drawn.label}: HTML>"

    def _repr_html_(self) -> str:
        style = files("affectlake.report").joinpath("templates/style.css").read_text(encoding="utf-8")
        page = f"<!DOCTYPE html><style>{style}</style>{self.html}<p class=note>{escape(self.caption)}</p>"
        return (
            f'<iframe srcdoc="{escape(page)}" title="{escape(self.drawn.label)}" '
            'style="width:100%;height:48rem;border:0"></iframe>'
        )
