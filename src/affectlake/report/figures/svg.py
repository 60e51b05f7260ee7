"""SVG as strings: escaped elements, short numbers, axis ticks. The figures are in the modules named after them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl
from markupsafe import Markup, escape


class Figure(NamedTuple):
    """One drawn figure, or the reason why there is none.

    ``body`` is HTML and SVG, ``caption`` plain text; both are empty when ``missing`` says in words what is not there.
    ``rows`` are the numbers behind it, as their table has them.
    """

    body: Markup
    caption: str
    missing: str = ""
    rows: pl.DataFrame | None = None


def absent(reason: str) -> Figure:
    """Return the figure that could not be drawn, with the reason."""
    return Figure(Markup(""), "", reason)


def number(value: float) -> str:
    """Write a coordinate with at most two decimals and no trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def element(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return one element; text children and attribute values are escaped, ``Markup`` children are not.

    Parameters
    ----------
    name : str
        Tag.
    *children : str or Markup
        Content in order.
    **attributes : str, float or None
        ``class_`` becomes ``class``, underscores become hyphens; None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{''.join(escape(child) for child in children)}</{name}>")


def joined(parts: Iterable[Markup]) -> Markup:
    """Return the parts one after another."""
    return Markup("").join(parts)


def drawing(width: float, height: float, label: str, *children: Markup, class_: str, focusable: bool = False) -> Markup:
    """Return the outer ``svg`` element, named `label` for readers who cannot see it; the style sheet scales it.

    The style sheet finds the width at which a unit is a pixel as ``--natural``.
    """
    return Markup(
        '<svg viewBox="0 0 {0} {1}" style="--natural:{0}px" class="{2}" role="img" aria-label="{3}"{4}>{5}</svg>'
    ).format(
        number(width), number(height), class_, label, Markup(' tabindex="0"') if focusable else "", joined(children)
    )


def scrolling(label: str, *children: Markup, class_: str = "scroll") -> Markup:
    """Return a region that scrolls sideways where there is no room, also by keyboard."""
    return element(
        "div", *children, class_=class_, role="region", aria_label=f"{label}, scrolls sideways", tabindex="0"
    )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers (steps of 1, 2 or 5 times a power of ten) that lie in [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(tick * step, 12) for tick in range(first, last + 1)]
