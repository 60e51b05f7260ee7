"""HTML and SVG as strings: escaped elements and short numbers."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape


def number(value: float) -> str:
    """Format a coordinate with at most two decimals and no trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def element(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return one element; text children and attribute values are escaped, ``Markup`` children are not.

    Parameters
    ----------
    name : str
        Tag.
    *children : str or Markup
        Content, in order.
    **attributes : str, float or None
        ``class_`` becomes ``class``, underscores become hyphens; attributes that are None are omitted.
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


def scrolling(label: str, *children: Markup, class_: str = "scroll") -> Markup:
    """Return a region that scrolls horizontally if its content is too wide, also by keyboard."""
    return element(
        "div", *children, class_=class_, role="region", aria_label=f"{label}, scrolls horizontally", tabindex="0"
    )
