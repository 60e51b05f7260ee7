"""Axes with lines, dots and whiskers in data units, for the analyses' figures. What is drawn belongs to the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from affectlake.report.figures.svg import drawing, element, joined, number, ticks

LEFT, RIGHT, TOP, BOTTOM = 50.0, 16.0, 34.0, 44.0
Point = tuple[float, float]


@dataclass(frozen=True)
class Axes:
    """A drawing with two linear axes.

    Parameters
    ----------
    title, x_title : str
        What is drawn upwards (written above) and across (written below).
    x_range, y_range : tuple of float
        Ends of the axes.
    x_at : mapping of sequence
        Where to write ticks and what: pairs of a value and its text; round numbers when empty.
    """

    title: str
    x_title: str
    x_range: Point
    y_range: Point
    width: float = 470.0
    height: float = 290.0
    x_at: Sequence[tuple[float, str]] = field(default=())
    write_y: Callable[[float], str] = "{:g}".format

    def x(self, value: float) -> float:
        """Return where a value lies across."""
        low, high = self.x_range
        return LEFT + (self.width - LEFT - RIGHT) * (value - low) / ((high - low) or 1)

    def y(self, value: float) -> float:
        """Return where a value lies upwards."""
        low, high = self.y_range
        return self.height - BOTTOM - (self.height - TOP - BOTTOM) * (value - low) / ((high - low) or 1)

    def line(self, points: Sequence[Point], kind: str) -> Markup:
        """Join points by a line of the CSS class `kind`."""
        path = " ".join(f"{number(self.x(x))},{number(self.y(y))}" for x, y in points)
        return element("polyline", points=path, class_=f"line {kind}")

    def dot(self, x: float, y: float, kind: str = "", hint: str = "", radius: float = 3.6) -> Markup:
        """Draw a dot; `hint` is what hovering and screen readers say of it."""
        told = [element("title", hint)] if hint else []
        return element("circle", *told, cx=self.x(x), cy=self.y(y), r=radius, class_=f"point {kind}".strip())

    def whisker(self, x: float, low: float | None, high: float | None, kind: str = "") -> Markup:
        """Draw an interval as an upright line, cut at the axes' ends; nothing when an end is missing."""
        if low is None or high is None:
            return Markup("")
        at, (least, most) = self.x(x), self.y_range
        ends = [self.y(min(max(end, least), most)) for end in (low, high)]
        return element("line", x1=at, x2=at, y1=ends[0], y2=ends[1], class_=f"whisker {kind}".strip())

    def level(self, value: float, text: str, kind: str = "chance") -> Markup:
        """Draw a horizontal line across, and name it."""
        y = self.y(value)
        return joined(
            [
                element("line", x1=LEFT, x2=self.width - RIGHT, y1=y, y2=y, class_=kind),
                element("text", text, x=self.width - RIGHT, y=y - 5, class_="tick", text_anchor="end"),
            ]
        )

    def drawn(self, label: str, *parts: Markup) -> Markup:
        """Return the whole drawing: grid, ticks, titles and the parts on top, named `label`."""
        across = self.x_at or [(tick, f"{tick:g}") for tick in ticks(*self.x_range)]
        grid = [
            joined(
                [
                    element("line", x1=LEFT, x2=self.width - RIGHT, y1=self.y(at), y2=self.y(at), class_="grid"),
                    element("text", self.write_y(at), x=LEFT - 8, y=self.y(at) + 4, class_="tick", text_anchor="end"),
                ]
            )
            for at in ticks(*self.y_range)
        ]
        below = self.height - BOTTOM + 17
        names = [
            element("text", text, x=self.x(at), y=below, class_="tick", text_anchor="middle") for at, text in across
        ]
        titles = [
            element("text", self.title, x=0.0, y=15, class_="title"),
            element("text", self.x_title, x=self.width - RIGHT, y=self.height - 6, class_="tick", text_anchor="end"),
        ]
        return drawing(self.width, self.height, label, *grid, *names, *titles, *parts, class_="chart")
