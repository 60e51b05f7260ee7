"""Every figure of the report in the page's order: what draws it, its title and its choices.

To add a figure, write a function in a module of this folder and a line in `FIGURES`. The report's page, ``affectlake
report --figures`` and :mod:`affectlake.figures` take it from there. A figure may read any table that
:mod:`affectlake.report.columns` names: ``inputs.table(name)``. One that cannot be drawn raises :class:`FigureError`
with the reason. ``docs/figures.md`` has an example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np

from affectlake.errors import AffectlakeError, FigureError, UsageError, nearest
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.agent_comparison import accuracy, agreement, community_overlaps, human_consistency
from affectlake.report.figures.analyses import components, reproducibility, saturation
from affectlake.report.figures.brain_maps import GROUPS_OF_REGIONS as GROUPS
from affectlake.report.figures.brain_maps import METHODS, brain_regions, brain_slices, glass_brains, voxel_comparison
from affectlake.report.figures.canvas import Canvas, Figure, styled
from affectlake.report.figures.emotion_graph import emotion_graph
from affectlake.report.figures.gallery import gallery
from affectlake.report.figures.heatmap import heatmap
from affectlake.report.figures.html_figure import HtmlFigure
from affectlake.report.figures.learning_curves import embedding, learning_curves
from affectlake.report.figures.positions import chosen_positions, order_effects
from affectlake.report.figures.roses import roses
from affectlake.report.figures.stimulus_map import stimulus_map
from affectlake.report.inputs import ReportInputs

Section = Literal["together", "order", "agent", "brain"]


@dataclass(frozen=True)
class Entry:
    """One figure.

    Parameters
    ----------
    draw : callable
        Draws the tables in a :class:`Canvas` and returns what is said of it. It is given the inputs; the numbers of
        one agent in the section "agent", else those of every agent; the canvas; and one of each of its choices.
    title : str
        As on the page; names of choices in braces stand for what is chosen.
    section : str
        "agent" has a figure for each agent; the others have one for all.
    choices : mapping
        By the name of an argument: the values that it may have, and how they are called in the title.
    simulated : bool
        Whether only agents whose answers are computed have it, and those that were asked do not.
    html : bool
        Whether `draw` returns HTML instead of drawing in a canvas.
    on_page : bool
        Whether the page has it; if not, it is in the files and in :mod:`affectlake.figures` alone.
    rows_on_page : bool
        Whether the page holds the rows behind it; maps of the brain would make it too large.
    """

    draw: Callable[..., Any]
    title: str
    section: Section
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    simulated: bool = False
    html: bool = False
    on_page: bool = True
    rows_on_page: bool = True

    @property
    def name(self) -> str:
        """What the figure is called: the name of its function."""
        return self.draw.__name__

    def variants(self) -> Iterator[dict[str, str]]:
        """Go through the combinations of its choices; one without any when it has none."""
        for values in product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def titled(self, chosen: Mapping[str, str]) -> str:
        """Return the title of one variant."""
        return self.title.format(**{key: self.choices[key][value] for key, value in chosen.items()})

    def made(
        self, inputs: ReportInputs, about: AgentFacts | Sequence[AgentFacts], axes: Any = None, **chosen: str
    ) -> Figure | HtmlFigure:
        """Draw it.

        Parameters
        ----------
        inputs : ReportInputs
            Tables and facts of one version.
        about : AgentFacts, or sequence of them
            Of one agent in the section "agent", else of all.
        axes : matplotlib.axes.Axes or sequence of them, optional
            Where to draw; a new figure when left out.
        **chosen : str
            Values of its choices.

        Returns
        -------
        Figure or HtmlFigure
            The figure that the axes are in, where some were given.

        Raises
        ------
        FigureError
            The version does not have what it shows.
        UsageError
            There is no such choice, or it has another number of panels than axes.
        """
        for key, value in chosen.items():
            if value not in self.choices.get(key, ()):
                allowed = self.choices.get(key, {})
                raise UsageError(
                    f"{self.name} has no {key} {value!r}", allowed=", ".join(allowed), todo=nearest(value, allowed)
                )
        with _of_other_contracts(self.name, inputs):
            if self.html:
                return HtmlFigure(*self.draw(inputs, about))
            canvas = Canvas(() if axes is None else tuple(np.ravel(axes)))
            with styled(own=axes is None):
                drawn = self.draw(inputs, about, canvas, **chosen)
            figure: Figure = canvas.finished(drawn)
            return figure


@contextmanager
def _of_other_contracts(name: str, inputs: ReportInputs) -> Iterator[None]:
    """Turn what a figure fails with into a :class:`FigureError`, if its tables are not of today's contracts."""
    try:
        yield
    except AffectlakeError:
        raise
    except Exception as error:
        if inputs.is_todays:
            error.add_note(f"while drawing the figure {name}")
            raise
        raise FigureError(
            f"the tables of this version are of other contracts than today's, and {name} cannot be drawn of them",
            found=f"{type(error).__name__}: {error}",
        ) from error


FIGURES: tuple[Entry, ...] = (
    Entry(accuracy, "How well choices are predicted", "together"),
    Entry(human_consistency, "Consistency with human ratings", "together"),
    Entry(agreement, "Agreement on the same triplets", "together"),
    Entry(community_overlaps, "Similar communities", "together", html=True),
    Entry(order_effects, "Chosen positions of chat agents", "order"),
    Entry(stimulus_map, "Map of the stimuli", "agent"),
    Entry(heatmap, "Dimensions and ratings", "agent"),
    Entry(embedding, "The embedding", "agent", on_page=False),
    Entry(gallery, "Components one by one", "agent", html=True),
    Entry(roses, "What single stimuli are made of", "agent"),
    Entry(emotion_graph, "Emotion graph", "agent"),
    Entry(reproducibility, "Reproducibility", "agent"),
    Entry(components, "Necessary components", "agent"),
    Entry(saturation, "Saturation", "agent"),
    Entry(learning_curves, "Learning curves", "agent"),
    # where an agent is shown stimuli, `order_effects` has the order shown
    Entry(chosen_positions, "Chosen positions", "agent", simulated=True),
    Entry(brain_regions, "{method}: {group}", "brain", {"method": METHODS, "group": GROUPS}),
    Entry(brain_slices, "The maps, to explore", "brain", rows_on_page=False),
    Entry(glass_brains, "{method}: glass brains", "brain", {"method": METHODS}, rows_on_page=False),
    Entry(voxel_comparison, "{method}: voxel by voxel", "brain", {"method": METHODS}, rows_on_page=False),
)


def of_section(section: Section) -> list[Entry]:
    """Return the figures of a section of the page."""
    return [one for one in FIGURES if one.section == section and one.on_page]
