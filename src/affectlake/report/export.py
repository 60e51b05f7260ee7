"""Every figure of the report as SVG and PNG files, and the numbers behind each as CSV. Drawing them is elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from affectlake.errors import UsageError
from affectlake.report.figures.stimulus_map import LegendEntry
from affectlake.report.figures.svg import Figure

ZOOM = 2.0  # pixels of the PNG for a unit of the drawing
_SVG = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_VARIABLE = re.compile(r"var\((--[\w-]+)(?:,\s*([^()]*(?:\([^()]*\))?))?\)")


def write_figures(figures: Mapping[str, Figure], legend: list[LegendEntry], folder: Path) -> list[Path]:
    """Write the figures as files and return their paths.

    Parameters
    ----------
    figures : mapping of str to Figure
        By the name of its files; ``NAME.svg``, or ``NAME-1.svg``, ``NAME-2.svg`` and so on for several panels, a PNG of
        twice the size beside each, and ``NAME.csv``. A missing figure has no file.
    legend : list of LegendEntry
        Gives the categories their colours.
    folder : Path
        Made if it is not there; other files in it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    style = plain_style(legend)
    written: list[Path] = []
    for name, figure in figures.items():
        if figure.missing:
            continue
        drawings = _SVG.findall(figure.body)
        for at, text in enumerate(drawings, 1):
            place = folder / (f"{name}-{at}.svg" if len(drawings) > 1 else f"{name}.svg")
            alone = standalone(text, style)
            place.write_text(alone, encoding="utf-8")
            place.with_suffix(".png").write_bytes(_png(alone))
            written += [place, place.with_suffix(".png")]
        if figure.rows is not None:
            figure.rows.write_csv(folder / f"{name}.csv")
            written.append(folder / f"{name}.csv")
    return written


def write_figure(figure: Figure, place: Path) -> None:
    """Write the first drawing of a figure as one file.

    Parameters
    ----------
    figure : Figure
        One that is not missing.
    place : Path
        Ends in ``.svg`` or ``.png``; its folder is there.

    Raises
    ------
    UsageError
        The ending is another, or the file cannot be written.
    """
    if place.suffix not in (".svg", ".png"):
        raise UsageError(f"{place.name} is no name of a figure", allowed=".svg, .png", todo=f"name it {place.stem}.svg")
    alone = standalone(_SVG.findall(figure.body)[0], plain_style([]))
    try:
        place.write_bytes(alone.encode() if place.suffix == ".svg" else _png(alone))
    except OSError as error:
        raise UsageError(
            f"{place} cannot be written", found=error.strerror or str(error), todo="name another file"
        ) from error


def standalone(text: str, style: str) -> str:
    """Return a drawing of the page as an SVG file of its own, with its style and size inside."""
    box = _BOX.search(text)
    width, height = box.groups() if box else ("600", "400")
    head, _, rest = text.partition(">")
    head = re.sub(r'\s(?:tabindex|style)="[^"]*"', "", head)
    opened = f'{head} xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{opened}<style>{style}</style>{rest}\n'


def plain_style(legend: list[LegendEntry]) -> str:
    """Return the page's style for paper without media queries and variables: outside a browser, SVG knows neither."""
    text = files("affectlake.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    values = dict(re.findall(r"(--[\w-]+):\s*([^;]+);", text[: text.index("@media")]))
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", _without_media(text))
    drawn = [
        f"{selector.strip()}{{{_resolved(body, values)}}}"
        for selector, body in rules
        if not selector.strip().startswith(":root")
        and re.search(r"\b(fill|stroke|font|text-anchor|display|visibility)", body)
    ]
    colours = [f".cat.c{one.number}{{fill:{one.colour.light}}}" for one in legend]
    return "".join([*drawn, *colours, "svg text{font-family:'DejaVu Sans',Arial,sans-serif}"])


def _without_media(text: str) -> str:
    kept, depth, at = [], 0, 0
    while at < len(text):
        if depth == 0 and text.startswith("@", at):
            at = text.index("{", at) + 1
            depth = 1
            while depth:
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
            continue
        kept.append(text[at])
        at += 1
    return re.sub(r"/\*.*?\*/", "", "".join(kept), flags=re.DOTALL)


def _resolved(body: str, values: Mapping[str, str]) -> str:
    for _ in range(4):  # a value or a fallback may hold variables itself
        body = _VARIABLE.sub(lambda found: values.get(found[1], found[2] or "currentColor"), body)
    return " ".join(body.split())


def _png(text: str) -> bytes:
    """Return a drawing as pixels, in a font that is there on every machine: the one that Matplotlib brings."""
    import resvg_py
    from matplotlib import get_data_path

    fonts = Path(get_data_path()) / "fonts" / "ttf"
    drawn = resvg_py.svg_to_bytes(
        svg_string=text,
        background="#ffffff",
        zoom=ZOOM,
        skip_system_fonts=True,
        font_files=[str(fonts / name) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")],
        font_family="DejaVu Sans",
        sans_serif_family="DejaVu Sans",
        serif_family="DejaVu Sans",
    )
    return bytes(drawn)
