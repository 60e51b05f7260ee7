"""Figures of voxels: the values of one agent against those of others, in every subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts
from affectlake.report.figures.brain_maps import METHODS, brain_of
from affectlake.report.figures.canvas import FAINT, SOFT, Canvas, Drawn
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, listed, shortened

MOST_SUBJECTS, MOST_AGENTS = 10, 6
"""Largest numbers of columns and of rows of panels; the caption counts what is left out."""

_BINS = 40

Maps = Mapping[tuple[str, str], NDArray[np.float32]]
"""Values of a method's maps by subject and agent, in the order of the voxels; NaN without a value."""


class Compared(NamedTuple):
    """The agent upwards, the agents to the right, and among which agents the first one has the highest mean."""

    first: str
    others: list[str]
    among: str


class Histogram(NamedTuple):
    """The voxels of one subject that have values of two agents: int (bins, bins), upwards by the first agent.

    ``edges`` has the limits of the bins of both agents, and ``share_above`` the share of the voxels in which the first
    agent's value is higher.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    share_above: float


def voxel_comparison(
    inputs: ReportInputs, agents: Sequence[AgentFacts], canvas: Canvas, method: str = "searchlight"
) -> Drawn:
    """Draw two-dimensional histograms of voxels, a column for each subject: one agent against each of the others.

    The agent upwards is the model with the highest mean over subjects, if there are agents made of ratings, which are
    then to the right (Fig. 2d of Du et al. 2025); without both, that of all agents.
    """
    brain, shown = brain_of(inputs, agents)
    maps = {(subject, agent): values for (subject, one, agent), values in brain.values.items() if one == method}
    first, others, among = compared(maps, [one for one in agents if one.agent in shown])
    every = [name for name in dict.fromkeys(subject for subject, _ in maps) if (name, first) in maps]
    subjects, against = every[:MOST_SUBJECTS], others[:MOST_AGENTS]
    found: dict[tuple[str, str], Histogram] = {}
    for subject in subjects:
        own = {other: maps[subject, other] for other in against if (subject, other) in maps}
        scale = [maps[subject, first], *own.values()]
        made = {(subject, other): histogram(maps[subject, first], right, scale) for other, right in own.items()}
        found |= {key: one for key, one in made.items() if one is not None}
    if not found:
        raise FigureError("fewer than two agents have a brain map")
    draw_panels(canvas, found, subjects, {other: (shortened(first, 26), shortened(other, 26)) for other in against})
    left = [counted(n, word) for n, word in ((len(every) - len(subjects), "subject"),
                                             (len(others) - len(against), "agent")) if n]  # fmt: skip
    caption = (
        f"{METHODS[method]} in the voxels of {counted(len(subjects), 'subject')}, a column for each; darker squares "
        f"contain more voxels (logarithmic scale). All voxels are counted, significant or not. Above the diagonal, the "
        f"value of {first} is higher; its mean over subjects is the highest of all {among}."
        f"{f' Not shown: {listed(left)}.' if left else ''}"
    )
    return Drawn(
        f"{METHODS[method]} of {first} against other agents, by voxel",
        caption,
        histogram_rows(found).with_columns(agent=pl.lit(first)),
    )


def compared(maps: Maps, agents: Sequence[AgentFacts]) -> Compared:
    """Return the agent that is compared, and the agents with which it is compared: those made of ratings first.

    Raises
    ------
    FigureError
        If fewer than two agents have a map with a value.
    """
    means = {one.agent: _mean([values for (_, agent), values in maps.items() if agent == one.agent]) for one in agents}
    known = [one for one in agents if not np.isnan(means[one.agent])]
    if len(known) < 2:
        raise FigureError("fewer than two agents have a brain map")
    rated = [one.agent for one in known if one.is_human]
    models = [one.agent for one in known if not one.is_human]
    among = models if rated and models else [*rated, *models]
    first = max(among, key=lambda agent: means[agent])
    others = [agent for agent in (*rated, *models) if agent != first]
    return Compared(first, others, "agents that are not made of ratings" if rated and models else "agents")


def _mean(maps: Sequence[NDArray[np.float32]]) -> float:
    """Return the mean over maps of the mean over voxels; NaN if no voxel has a value."""
    means = [float(values[~np.isnan(values)].mean(dtype=np.float64)) for values in maps if not np.isnan(values).all()]
    return float(np.mean(means)) if means else float("nan")


def histogram(
    up: NDArray[np.float32], right: NDArray[np.float32], scale: Sequence[NDArray[np.float32]]
) -> Histogram | None:
    """Return the histogram of two maps of a subject, with bins from the lowest to the highest value of `scale`.

    None if no voxel has a value in both maps.
    """
    both = np.stack([up, right]).astype(np.float64)
    both = both[:, ~np.isnan(both).any(axis=0)]
    if not both.size:
        return None
    low, high = (float(end([end(one) for one in scale if not np.isnan(one).all()])) for end in (np.nanmin, np.nanmax))
    edges = np.linspace(low, high if high > low else low + 1e-6, _BINS + 1)
    counts = np.histogram2d(both[0], both[1], bins=[edges, edges])[0].astype(np.int64)
    return Histogram(counts, edges, float(((both[0] > both[1]) + 0.5 * (both[0] == both[1])).mean()))


def draw_panels(
    canvas: Canvas, found: Mapping[tuple[str, str], Histogram], subjects: Sequence[str],
    labels: Mapping[str, tuple[str, str]],
) -> None:  # fmt: skip
    """Draw a panel for each subject, from left to right, and each row, with the labels of its axes: upwards, right."""
    axes = canvas.panels(len(subjects) * len(labels), columns=len(subjects), width=0.6 + 1.85 * len(subjects),
                         height=0.3 + 1.95 * len(labels))  # fmt: skip
    highest = max(int(one.counts.max()) for one in found.values())
    for at, ax in enumerate(axes):
        subject, row = subjects[at % len(subjects)], list(labels)[at // len(subjects)]
        _draw(ax, found.get((subject, row)), highest)
        ax.set_xlabel(labels[row][1])
        if at % len(subjects) == 0:
            ax.set_ylabel(labels[row][0])
        if at < len(subjects):
            ax.set_title(shortened(subject, 22), loc="center", weight="normal", color=SOFT, fontsize=8.5)


def _draw(ax: Any, found: Histogram | None, highest: int) -> None:
    from matplotlib.colors import LogNorm

    if found is None:
        ax.annotate("no values", (0.5, 0.5), xycoords="axes fraction", ha="center", color=SOFT, fontsize=8)
        ax.set(xticks=[], yticks=[])
        return
    low, high = float(found.edges[0]), float(found.edges[-1])
    seen = np.ma.masked_equal(found.counts, 0)
    ax.imshow(seen, cmap="Reds", norm=LogNorm(0.3, max(highest, 1)), origin="lower", extent=(low, high, low, high))
    ax.plot([low, high], [low, high], "-", color=FAINT, lw=0.9)
    ax.annotate(
        f"{found.share_above:.0%} above", (0.03, 0.97), xycoords="axes fraction", va="top", color=SOFT, fontsize=8
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(nbins=4)
    ax.tick_params(labelsize=7.5)
    ax.spines[:].set_visible(True)


def histogram_rows(found: Mapping[tuple[str, str], Histogram]) -> pl.DataFrame:
    """Return one row for each square that contains voxels, by subject and row, with the middles of its bins."""
    parts = []
    for (subject, other), one in found.items():
        up, right = np.nonzero(one.counts)
        middles = (one.edges[1:] + one.edges[:-1]) / 2
        squares = {"value": middles[up], "other_value": middles[right], "n_voxels": one.counts[up, right]}
        names = pl.lit(subject).alias("subject"), pl.lit(other).alias("other_agent")
        parts.append(pl.DataFrame(squares).select(*names, pl.all()))
    return pl.concat(parts)
