"""Writes the figures of the report as SVG, PNG and PDF files, and their data as CSV files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectlake.errors import UsageError
from affectlake.report.figures.canvas import Figure
from affectlake.report.figures.html_figure import HtmlFigure

ENDINGS = (".svg", ".png", ".pdf")


def write_figures(figures: Iterable[tuple[str, Figure | HtmlFigure]], folder: Path) -> list[Path]:
    """Write the figures as files and return their paths.

    Parameters
    ----------
    figures : iterable of (str, Figure or HtmlFigure)
        Each with the name of its files: ``NAME.svg``, ``NAME.png``, ``NAME.pdf`` and ``NAME.csv``; an HTML figure has
        only the last.
    folder : Path
        Created if it does not exist; other files in it are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, figure in figures:
        if isinstance(figure, Figure):
            figure.lay_out()
            for ending in ENDINGS:
                written.append(folder / f"{name}{ending}")
                figure.savefig(written[-1])
        written.append(folder / f"{name}.csv")
        figure.data.write_csv(written[-1])
    return written


def write_figure(figure: Figure, place: Path) -> None:
    """Write a figure as one file.

    Parameters
    ----------
    figure : Figure
    place : Path
        Path that ends in ``.svg``, ``.png`` or ``.pdf``, in an existing folder.

    Raises
    ------
    UsageError
        If the ending is another one, or the file cannot be written.
    """
    if place.suffix not in ENDINGS:
        raise UsageError(
            f"{place.name} does not end like an image file",
            allowed=", ".join(ENDINGS),
            todo=f"name it {place.stem}.svg",
        )
    try:
        figure.savefig(place)
    except OSError as error:
        raise UsageError(
            f"{place} cannot be written", found=error.strerror or str(error), todo="choose another path"
        ) from error
