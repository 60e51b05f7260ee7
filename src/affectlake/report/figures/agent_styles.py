"""How each agent is drawn: one colour, marker, dash and hatch in every figure, whatever other agents there are."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from markupsafe import Markup

from affectlake.report.agent_summary import agents
from affectlake.report.figures.canvas import GROUPS, INK
from affectlake.report.inputs import ReportInputs

MARKERS = ("s", "o", "^", "D", "v", "P", "X", "p", "h")
# lines alone: dots are large in SVG
HATCHES = (
    "////",
    "",
    "//||",
    "\\\\\\\\",
    "xxxx",
    "----",
    "++++",
    "||||",
    "\\\\--",
)
_DASHES: tuple[Any, ...] = ((0, (5, 1.5)), "-", (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (9, 2)), (0, (3, 1)),
                            (0, (4, 1.5, 1, 1.5, 1, 1.5)), (0, (2, 3)), (0, (8, 2, 3, 2)))  # fmt: skip
_SALT = "3449"  # with it, the agents of the built-in studies have places of their own
_SHAPES = {
    "o": '<circle cx="7" cy="7" r="5"/>',
    "s": '<path d="M2.5 2.5h9v9h-9z"/>',
    "^": '<path d="M7 1.5l5.8 10.5h-11.6z"/>',
    "D": '<path d="M7 1l6 6l-6 6l-6-6z"/>',
    "v": '<path d="M7 12.5l5.8-10.5h-11.6z"/>',
    "P": '<path d="M5 1.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z"/>',
    "X": '<path d="M4 1.5l3 3l3-3l2.5 2.5l-3 3l3 3l-2.5 2.5l-3-3l-3 3l-2.5-2.5l3-3l-3-3z"/>',
    "p": '<path d="M7 1.2l5.7 4.2l-2.2 6.8h-7l-2.2-6.8z"/>',
    "h": '<path d="M7 1.2l5 2.9v5.8l-5 2.9l-5-2.9v-5.8z"/>',
}


class AgentStyle(NamedTuple):
    """The style of one agent.

    Attributes
    ----------
    colour : str
        ``#rrggbb``, with a contrast of at least 3 to the page in the light and the dark theme.
    marker : str
        A marker of Matplotlib.
    dash : str or tuple
        A line style of Matplotlib.
    hatch : str
        A hatch of Matplotlib, which is drawn in white on bars; empty: plain bars.
    """

    colour: str
    marker: str
    dash: Any
    hatch: str

    @property
    def bars(self) -> dict[str, Any]:
        """Options of Matplotlib's ``bar`` and ``barh``."""
        return {
            "facecolor": self.colour, "edgecolor": "white", "linewidth": 0, "hatch": self.hatch or None, "ecolor": INK,
            "error_kw": {"elinewidth": 1.1},
        }  # fmt: skip

    @property
    def key(self) -> Markup:
        """The marker as an SVG element, for the page's text."""
        shape = Markup(_SHAPES[self.marker])
        return Markup('<svg class="key" viewBox="0 0 14 14" aria-hidden="true" style="color:{}">{}</svg>').format(
            self.colour, shape
        )


def styles_of(names: Iterable[str]) -> dict[str, AgentStyle]:
    """Return the style of each agent.

    An agent's place in the lists of colours and shapes follows from its name. If an earlier agent has that place, it
    has the next free one, so agents that are added at the end change no other. With more agents than places, places
    are used again with other shapes.

    Parameters
    ----------
    names : iterable of str
        All agents of a version, in the order of its parameters.
    """
    n = len(GROUPS)
    used = [0] * n
    found: dict[str, AgentStyle] = {}
    for name in names:
        first = int(sha256(f"{_SALT}{name}".encode()).hexdigest(), 16) % n
        least = min(used)
        at = next(place % n for place in range(first, first + n) if used[place % n] == least)
        shape = (at + least) % n
        used[at] += 1
        found[name] = AgentStyle(GROUPS[at], MARKERS[shape], _DASHES[shape], HATCHES[shape])
    return found


def style_of(inputs: ReportInputs, agent: str) -> AgentStyle:
    """Return the style of one agent of a version."""
    return styles_of(agents(inputs))[agent]
