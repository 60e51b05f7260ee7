"""The figures of the report in the page's order: the function that draws each, its title and its options.

To add a figure, write a function in a module of this folder and add an entry to `FIGURES`. The figure is then on the
report's page, in the files of ``affectlake report --figures``, and in :mod:`affectlake.figures`. It may read any table
of :mod:`affectlake.report.columns` with ``inputs.table(name)``. A figure that cannot be drawn raises
:class:`FigureError` with the reason. ``docs/figures.md`` has an example.
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
from affectlake.report.figures.agent_maps import alignment, closeness, shared_dimensions
from affectlake.report.figures.analyses import components, reproducibility, saturation
from affectlake.report.figures.basis_comparison import basis_comparison, basis_voxels
from affectlake.report.figures.basis_scores import basis_scores
from affectlake.report.figures.brain_maps import (
    METHODS,
    VOXELS,
    brain_slices,
    glass_brains,
    group_maps,
    has_group_maps,
)
from affectlake.report.figures.brain_regions import GROUPS_OF_REGIONS as GROUPS
from affectlake.report.figures.brain_regions import brain_regions
from affectlake.report.figures.canvas import Canvas, Figure, styled
from affectlake.report.figures.certainty import generalised_scores, prevalences
from affectlake.report.figures.community_matrix import community_matrix
from affectlake.report.figures.dimension_maps import dimension_patterns, dimension_weights
from affectlake.report.figures.emotion_graph import emotion_graph
from affectlake.report.figures.fit_methods import fit_methods
from affectlake.report.figures.gallery import gallery
from affectlake.report.figures.heatmap import heatmap
from affectlake.report.figures.html_figure import HtmlFigure
from affectlake.report.figures.learning_curves import embedding, learning_curves
from affectlake.report.figures.meaning_bars import label_shares, nearest_centroids
from affectlake.report.figures.picture_maps import picture_maps
from affectlake.report.figures.positions import chosen_positions, order_effects
from affectlake.report.figures.prototype_rsms import prototype_rsms
from affectlake.report.figures.roses import roses
from affectlake.report.figures.stimulus_map import stimulus_map
from affectlake.report.figures.variance_parts import (
    contributions,
    explained_parts,
    variance_parts,
    variance_winners,
)
from affectlake.report.figures.voxel_histograms import voxel_comparison
from affectlake.report.inputs import ReportInputs

Section = Literal["together", "picture", "order", "agent", "brain", "variance", "certainty"]

OF_BRAIN: tuple[Section, ...] = ("brain", "variance", "certainty")
"""Sections whose figures are all about brains."""


@dataclass(frozen=True)
class Entry:
    """One figure.

    Parameters
    ----------
    draw : callable
        Draws in a :class:`Canvas` and returns a :class:`Drawn`. Its arguments are the inputs; the numbers of one agent
        in the section "agent", otherwise of all agents; the canvas; and a value for each of `choices`.
    title : str
        Title on the page; the name of a choice in braces is replaced by the chosen value's name.
    section : str
        The section of the page; "agent" has a figure for each agent, the others have one for all agents.
    choices : mapping
        For each option of the figure, its legal values and their names in the title.
    simulated : bool
        Whether it is drawn only for agents whose answers are computed. Default False: for all agents.
    switch : str
        The one of `choices` whose two values share a figure on the page, with a switch from the first to the second.
    html : bool
        Whether `draw` returns HTML instead of drawing in a canvas.
    needs_brain : bool
        Whether a figure of one agent shows brain maps. Figures of the section "brain" always do.
    needs : str or callable
        A table, or ``TABLE.COLUMN``, without values of which the page leaves the figure out, because a study has them
        only if it asks for them; or a function of the inputs that returns whether they are there.
    on_page : bool
        Whether it is on the page; if not, it is only in the files and in :mod:`affectlake.figures`.
    rows_on_page : bool
        Whether the page contains its data; those of brain maps would make the page too large.
    """

    draw: Callable[..., Any]
    title: str
    section: Section
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    simulated: bool = False
    switch: str = ""
    html: bool = False
    needs_brain: bool = False
    needs: str | Callable[[ReportInputs], bool] = ""
    on_page: bool = True
    rows_on_page: bool = True

    @property
    def name(self) -> str:
        """Name of the figure: that of its function."""
        return self.draw.__name__

    @property
    def brain(self) -> bool:
        """Whether it shows brain maps."""
        return self.needs_brain or self.section in OF_BRAIN

    def variants(self) -> Iterator[dict[str, str]]:
        """Yield the combinations of its choices; an empty one if it has no choices."""
        for values in product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def switched(self, chosen: Mapping[str, str]) -> bool:
        """Return whether a variant is what the switch of the first value's figure shows."""
        return bool(self.switch) and chosen[self.switch] != next(iter(self.choices[self.switch]))

    def suffixes(self, chosen: Mapping[str, str]) -> list[str]:
        """Return what a variant adds to the name of its files; the first value of a switch adds nothing."""
        return [value for key, value in chosen.items() if key != self.switch or self.switched(chosen)]

    def titled(self, chosen: Mapping[str, str]) -> str:
        """Return the title of one variant."""
        return self.title.format(**{key: self.choices[key][value] for key, value in chosen.items()})

    def made(
        self,
        inputs: ReportInputs,
        about: AgentFacts | Sequence[AgentFacts],
        axes: Any = None,
        width_in: Any = 0.0,  # a float; choices are strings
        **chosen: str,
    ) -> Figure | HtmlFigure:
        """Draw the figure.

        Parameters
        ----------
        inputs : ReportInputs
            Tables and facts of one version.
        about : AgentFacts, or sequence of them
            Numbers of one agent in the section "agent", otherwise of all agents.
        axes : matplotlib.axes.Axes or sequence of them, optional
            Axes to draw in; default: those of a new figure.
        width_in : float
            Width of a new figure in inches; 0: its own.
        **chosen : str
            Values of its choices.

        Returns
        -------
        Figure or HtmlFigure
            The new figure, or the figure of the given axes.

        Raises
        ------
        FigureError
            If the version does not have the data that the figure shows.
        UsageError
            If a choice does not exist, or the number of axes is not the number of panels.
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
            canvas = Canvas(() if axes is None else tuple(np.ravel(axes)), width_in=width_in)
            with styled(own=axes is None):
                drawn = self.draw(inputs, about, canvas, **chosen)
            figure: Figure = canvas.finished(drawn)
            if inputs.synthetic and axes is None:
                figure.stamped("synthetic stimuli")
            return figure


@contextmanager
def _of_other_contracts(name: str, inputs: ReportInputs) -> Iterator[None]:
    """Turn any error of a figure into a :class:`FigureError` if its tables are not of the current contracts."""
    try:
        yield
    except AffectlakeError:
        raise
    except Exception as error:
        if inputs.is_todays:
            error.add_note(f"while drawing the figure {name}")
            raise
        raise FigureError(
            f"{name} cannot be drawn, because the tables of this version do not have the current contracts",
            found=f"{type(error).__name__}: {error}",
        ) from error


FIGURES: tuple[Entry, ...] = (
    Entry(accuracy, "How well choices are predicted", "together"),
    Entry(fit_methods, "SPoSE and variational SPoSE", "together", needs="fit_methods"),
    Entry(human_consistency, "Consistency with human ratings", "together"),
    Entry(nearest_centroids, "Nearest centroids", "together"),
    Entry(label_shares, "What the dimensions are labelled by", "together"),
    Entry(agreement, "Agreement on the same triplets", "together"),
    Entry(closeness, "Who is closest to people", "together"),
    Entry(alignment, "Similarity of embeddings", "together"),
    Entry(shared_dimensions, "Shared and unique dimensions", "together"),
    Entry(community_matrix, "Overlap of communities", "together"),
    Entry(community_overlaps, "Similar communities", "together", html=True),
    Entry(picture_maps, "What in the picture drives a dimension", "picture", needs="readouts", html=True),
    Entry(order_effects, "Chosen positions", "order"),
    Entry(stimulus_map, "Stimulus map", "agent"),
    Entry(heatmap, "Dimensions and ratings", "agent"),
    Entry(embedding, "Embedding", "agent", on_page=False),
    Entry(gallery, "Components", "agent", html=True),
    Entry(roses, "Weights of example stimuli", "agent"),
    Entry(emotion_graph, "Graph of dimensions", "agent"),
    Entry(prototype_rsms, "Similarities of prototypes", "agent"),
    Entry(reproducibility, "Reproducibility", "agent"),
    Entry(components, "Necessary components", "agent"),
    Entry(saturation, "Saturation", "agent"),
    Entry(learning_curves, "Learning curves", "agent", rows_on_page=False),
    Entry(
        dimension_weights,
        "Dimensions in the brain",
        "agent",
        {"voxels": VOXELS},
        switch="voxels",
        needs_brain=True,
        rows_on_page=False,
    ),
    Entry(
        dimension_patterns,
        "Dimensions in the brain: patterns",
        "agent",
        {"voxels": VOXELS},
        switch="voxels",
        needs_brain=True,
        on_page=False,
    ),
    # for agents that are shown stimuli, `order_effects` shows the positions
    Entry(chosen_positions, "Chosen positions", "agent", simulated=True),
    Entry(brain_regions, "{method}: {group}", "brain", {"method": METHODS, "group": GROUPS}),
    Entry(brain_slices, "Interactive brain maps", "brain", {"voxels": VOXELS}, switch="voxels", rows_on_page=False),
    Entry(
        glass_brains,
        "{method}: glass brains",
        "brain",
        {"method": METHODS, "voxels": VOXELS},
        switch="voxels",
        rows_on_page=False,
    ),
    Entry(
        group_maps,
        "{method}: means over subjects",
        "brain",
        {"method": METHODS},
        needs=has_group_maps,
        rows_on_page=False,
    ),
    Entry(voxel_comparison, "{method}: voxel by voxel", "brain", {"method": METHODS}, rows_on_page=False),
    Entry(basis_scores, "{method}: ratings and embeddings, {group}", "brain", {"method": METHODS, "group": GROUPS}),
    Entry(basis_comparison, "{method}: embeddings and ratings", "brain", {"method": METHODS}),
    Entry(basis_voxels, "{method}: embeddings and ratings by voxel", "brain", {"method": METHODS}, rows_on_page=False),
    Entry(variance_parts, "Share of the variance: {group}", "variance", {"group": GROUPS}, needs="variance_partition"),
    Entry(
        explained_parts,
        "Share of the explainable variance: {group}",
        "variance",
        {"group": GROUPS},
        needs="variance_partition.explained_share",
    ),
    Entry(
        contributions,
        "Contributions by other methods: {group}",
        "variance",
        {"group": GROUPS},
        needs="contribution_stats.contribution",
    ),
    Entry(variance_winners, "Which band wins", "variance", needs="variance_partition", rows_on_page=False),
    Entry(
        generalised_scores,
        "Other subjects and stimuli: {group}",
        "certainty",
        {"group": GROUPS},
        needs="brain_generalisation",
    ),
    Entry(
        prevalences,
        "Prevalence, {method}: {group}",
        "certainty",
        {"method": METHODS, "group": GROUPS},
        needs="prevalence.prevalence",
    ),
)


def of_section(section: Section) -> list[Entry]:
    """Return the figures of a section of the page."""
    return [one for one in FIGURES if one.section == section and one.on_page]
