"""Contrast of every figure on the page's paper, in the light and the dark theme: text 4.5 or more, marks 3 or more.

A browser's accessibility checks do not look into drawings. Here each figure is drawn without its text, and the fill of
each text is compared with the pixels behind it. Marks are compared with the paper. In the dark theme, the page inverts
drawings (``filter: invert(1) hue-rotate(180deg)``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import same_color, to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from affectlake.pipelines.outputs import report
from affectlake.report.figures.canvas import GROUPS, RULE, Figure, styled
from affectlake.report.figures.colours import palette
from affectlake.report.page import named_figures
from tests.support.demo_lakes import one_version

pytestmark = pytest.mark.slow

STYLE = files("affectlake.report").joinpath("templates/style.css").read_text(encoding="utf-8")
PAPERS = dict(zip(("light", "dark"), re.findall(r"--paper: (#[0-9a-f]{6})", STYLE), strict=True))
TEXT, MARK = 4.5, 3.0
CROSSED = 0.15  # share of the area of a text that lines may cross
# the CSS filters invert(1) and hue-rotate(180deg), of sRGB values (Filter Effects Module Level 1)
TURNED = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])


def seen(rgba: Any, theme: str) -> np.ndarray:
    """Return colours (…, 4) of a drawing as the reader sees them (…, 3): filtered, and over the paper."""
    rgba = np.asarray(rgba, float)
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if theme == "dark":
        rgb = np.clip((1 - rgb) @ TURNED.T, 0, 1)
    paper = np.array(to_rgba(PAPERS[theme])[:3])
    return np.asarray(alpha * rgb + (1 - alpha) * paper)


def luminance(srgb: np.ndarray) -> np.ndarray:
    """Return the relative luminance of WCAG 2.2."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def contrast(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    a, b = luminance(one), luminance(other)
    return np.asarray((np.maximum(a, b) + 0.05) / (np.minimum(a, b) + 0.05))


def pixels(figure: Figure) -> np.ndarray:
    """Return the figure without its text: RGBA (height, width, 4), transparent where nothing is drawn."""
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    return np.asarray(drawn.buffer_rgba(), float) / 255


def texts(figure: Figure) -> Iterator[tuple[str, Any, tuple[slice, slice]]]:
    """Yield each text, its colour and where it is; then the texts are transparent."""
    figure.lay_out()
    for patch in (figure.patch, *(ax.patch for ax in figure.axes)):
        patch.set_visible(False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    height = figure.bbox.height
    for one in figure.findobj(Text):
        if not one.get_visible() or not one.get_text().strip():
            continue
        box = one.get_window_extent(canvas.get_renderer())
        where = slice(int(max(height - box.y1, 0)), int(height - box.y0)), slice(int(max(box.x0, 0)), int(box.x1))
        colour = to_rgba(one.get_color(), one.get_alpha())
        one.set_color((0, 0, 0, 0))
        yield one.get_text(), colour, where


def marks(figure: Figure) -> Iterator[tuple[str, list[Any]]]:
    """Yield each mark and its colours, of which one must contrast with the paper."""
    decorative = {
        id(line) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for line in axis.get_gridlines()
    } | {id(ax.patch) for ax in figure.axes} | {id(figure.patch)}  # fmt: skip
    for one in figure.findobj():
        if id(one) in decorative or not one.get_visible():
            continue
        if isinstance(one, Line2D) and one.get_linestyle() != "None":
            yield f"line {one}", [to_rgba(one.get_color(), one.get_alpha())]
        if isinstance(one, Line2D) and one.get_marker() not in ("None", "", None):
            yield (
                f"marker {one}",
                [to_rgba(c, one.get_alpha()) for c in (one.get_markerfacecolor(), one.get_markeredgecolor())],
            )
        elif isinstance(one, Collection) and one.get_array() is None:
            faces, edges = one.get_facecolor(), one.get_edgecolor()
            for at in range(max(len(faces), len(edges), 1)):
                colours = [part[at % len(part)] for part in (faces, edges) if len(part)]
                yield f"collection {one}, {at}", colours
        elif isinstance(one, Patch) and type(one).__name__ != "Spine" and not type(one).__name__.endswith("BoxPatch"):
            yield f"patch {one}", [one.get_facecolor(), one.get_edgecolor()]


def faults(figure: Figure) -> Iterator[str]:
    for name, colours in marks(figure):
        visible = [colour for colour in colours if colour[3] > 0 and not same_color(colour[:3], "white")]
        if not visible or any(same_color(colour[:3], RULE) for colour in visible):  # lines between cells, and guides
            continue
        for theme, paper in PAPERS.items():
            best = max(float(contrast(seen(one, theme), np.array(to_rgba(paper)[:3]))) for one in visible)
            if best < MARK:
                yield f"{name}, {theme}: {best:.2f}"
    words = list(texts(figure))
    behind = pixels(figure)
    for text, colour, where in words:
        area = behind[where].reshape(-1, 4)
        for theme in PAPERS if len(area) else ():
            back = seen(area, theme)
            fill = colour[3] * seen((*colour[:3], 1), theme) + (1 - colour[3]) * back
            low = contrast(fill, back) < TEXT
            if low.mean() > CROSSED:
                yield f"text {text!r}, {theme}: {low.mean():.0%} of its area is below {TEXT}"


@pytest.fixture(scope="module")
def lake() -> Path:
    return one_version()


def test_every_figure_can_be_read_in_both_themes(lake: Path) -> None:
    inputs = report.gather(lake, report.resolve(lake, ""))
    found, n = [], 0
    with styled():
        for name, figure in named_figures(inputs):
            if isinstance(figure, Figure):
                n += 1
                found += [f"{name}: {fault}" for fault in dict.fromkeys(faults(figure))]
    assert n > 40
    assert found == []


@pytest.mark.parametrize("theme", PAPERS)
def test_colours_of_agents_and_categories_contrast_with_the_paper(theme: str) -> None:
    paper = np.array(to_rgba(PAPERS[theme])[:3])
    for colour in (*GROUPS, *palette(34), *palette(5)):
        assert contrast(seen(to_rgba(colour), theme), paper) >= MARK, colour


def test_faint_text_and_marks_are_found() -> None:
    figure = Figure(figsize=(3, 3))
    ax = figure.subplots()
    ax.bar([0], [1], color="#ddcc77")
    ax.text(0, 0.5, "on a bar", color="white", ha="center")
    ax.text(0, 1.2, "fine")
    said = " ".join(faults(figure))
    assert "Rectangle" in said and "'on a bar'" in said and "fine" not in said
