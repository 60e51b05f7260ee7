"""The small strips of the table of main results: a proportion with its interval and chance."""

from __future__ import annotations

from markupsafe import Markup

from affectlake.report.agent_summary import Estimate
from affectlake.report.figures.markup import element
from affectlake.report.number_format import percent

WIDTH, MIDDLE = 132.0, 8.0


def strip(estimate: Estimate) -> Markup:
    """Draw a proportion from 0 to 1 as a dot with its interval, and chance as a tick."""

    def x(share: float) -> float:
        return 5 + (WIDTH - 10) * min(max(share, 0.0), 1.0)

    def line(start: float, end: float, kind: str, half: float = 0.0) -> Markup:
        return element("line", x1=x(start), x2=x(end), y1=MIDDLE - half, y2=MIDDLE + half, class_=kind)

    low, high, chance = estimate.ci_low, estimate.ci_high, estimate.chance
    parts = [line(0, 1, "track")]
    parts += [line(chance, chance, "null", 5)] if chance is not None else []
    parts += [line(low, high, "interval")] if low is not None and high is not None else []
    parts.append(element("circle", cx=x(estimate.value), cy=MIDDLE, r=3.6, class_="dot"))
    label = f"{percent(estimate.value)} on a scale from 0 to 100 %"
    return Markup('<svg viewBox="0 0 132 16" class="strip" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(parts)
    )
