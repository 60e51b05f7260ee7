"""Figures and the HTML report of one version. Numbers are read from tables and never recomputed here."""

from __future__ import annotations

from pathlib import Path

from affectlake.report.comparison import render_comparison
from affectlake.report.inputs import BrainInputs, DimensionMaps, GroupMaps, ReportInputs, VersionFacts
from affectlake.report.volumes import Volume, block_of, make_volume, on_one_grid

__all__ = [
    "BrainInputs",
    "DimensionMaps",
    "GroupMaps",
    "ReportInputs",
    "VersionFacts",
    "Volume",
    "block_of",
    "figure_files",
    "make_volume",
    "on_one_grid",
    "render",
    "render_comparison",
]


def render(inputs: ReportInputs) -> str:
    """Return the report as one HTML page; see :func:`affectlake.report.page.render`."""
    from affectlake.report.page import render as rendered  # Matplotlib is loaded only to draw

    return rendered(inputs)


def figure_files(inputs: ReportInputs, folder: Path) -> list[Path]:
    """Write every figure of the report into `folder` as SVG, PNG, PDF and CSV files and return their paths."""
    from affectlake.report.export import write_figures
    from affectlake.report.figures.canvas import older_objects_frozen
    from affectlake.report.page import named_figures

    with older_objects_frozen():
        return write_figures(named_figures(inputs), folder)
