"""Rose diagrams of the weights of a few stimuli, with a petal for each dimension."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import polars as pl

from affectlake.errors import FigureError
from affectlake.report.agent_summary import AgentFacts, first_labels, numbered, of_agent, of_fit
from affectlake.report.figures.agent_styles import style_of
from affectlake.report.figures.canvas import RULE, SOFT, Canvas, Drawn, bare
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import counted, decimal, shortened

ROSES, COLUMNS = 6, 3
NUMBERS, NUMBERED = 1.08, 40  # radius of the numbers, and the largest number of petals that have them
RIM = 1.23  # radius of the names
LINE, LETTER, EDGE = 0.16, 0.072, 1.78  # of the names, where the rim has radius 1; half the width of a panel


class Name(NamedTuple):
    """The name of a petal at the rim: its text, its position, and its horizontal alignment."""

    text: str
    x: float
    y: float
    anchor: str

    @property
    def ends(self) -> tuple[float, float]:
        """Approximate horizontal start and end of the text."""
        room = len(self.text) * LETTER
        left = {"left": 0.0, "center": room / 2, "right": room}[self.anchor]
        return self.x - left, self.x - left + room


def roses(inputs: ReportInputs, facts: AgentFacts, canvas: Canvas) -> Drawn:
    """Draw a few stimuli as rose diagrams: the length of each petal is the weight on a dimension."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle, Wedge

    weights = of_fit(of_agent(inputs.embeddings, facts.agent), facts.seed)
    if not len(weights):
        raise FigureError("this version has no embedding of this agent")
    chosen = _examples(weights, inputs)
    if not chosen:
        raise FigureError("the stimuli of this agent's embedding are not in this version's table stimuli")
    names = first_labels(inputs, facts)
    shown = weights.filter(pl.col("stimulus_index").is_in([index for index, _ in chosen]))
    most = float(shown["weight"].to_numpy().max()) or 1.0
    colour = style_of(inputs, facts.agent).colour
    rows = -(-len(chosen) // COLUMNS)
    axes = canvas.panels(len(chosen), columns=COLUMNS, width=10.8, height=2.7 * rows)
    for ax, (index, title) in zip(axes, chosen, strict=True):
        own = shown.filter(pl.col("stimulus_index") == index).sort("dimension")
        longest = set(own.sort("weight", "dimension", descending=[True, False])["dimension"][:3])
        step = 360 / max(len(own), 1)
        ax.add_patch(Circle((0, 0), 1, fill=False, color=RULE, lw=0.8))
        named, petals, numbers = [], {}, {}
        for at, (dimension, weight) in enumerate(own.select("dimension", "weight").iter_rows()):
            end = 90 - at * step  # from the top, clockwise
            name = numbered(dimension, names)
            middle = math.radians(end - 0.43 * step)
            reach = min(weight / most, 1.0)
            if reach > 0.003:
                wedge = Wedge((0, 0), reach, end - 0.86 * step, end)
                petals[f"{name}: {decimal(weight)}"] = wedge, 1.0 if dimension in longest else 0.3
            if dimension in longest and weight > 0:
                named.append((middle, shortened(name, 15)))  # with its number
            else:
                numbers[dimension] = NUMBERS * math.cos(middle), NUMBERS * math.sin(middle)
        drawn = PatchCollection(
            [w for w, _ in petals.values()], fc=[(colour, a) for _, a in petals.values()], ec=colour, lw=0.7
        )
        canvas.note(ax.add_collection(drawn, autolim=False), hints=list(petals))
        _frame(ax, title, petal_names(named), numbers if len(own) <= NUMBERED else {})
    n = [int((shown.filter(pl.col("stimulus_index") == index)["weight"] > 0.1 * most).sum()) for index, _ in chosen]
    caption = (
        f"The length of each petal is the weight of the stimulus on one dimension; the three longest petals are named. "
        f"Numbers are those of the dimensions, from the top and clockwise. "
        f"{_CHOSEN_BY[inputs.stimuli['category'].count() > 0]} Each of these "
        f"{counted(len(chosen), 'stimulus', 'stimuli')} has {min(n)} to {max(n)} of "
        f"{counted(weights['dimension'].n_unique(), 'dimension')} above a tenth of the largest weight "
        f"({decimal(most)})."
    )
    what = ", ".join(title for _, title in chosen)
    return Drawn(f"Rose diagrams of {counted(len(chosen), 'stimulus', 'stimuli')}: {what}", caption, shown)


def _frame(ax: Any, title: str, names: list[Name], numbers: dict[int, tuple[float, float]]) -> None:
    bare(ax)
    ax.set(xlim=(-EDGE, EDGE), ylim=(-1.45, 1.45))
    ax.set_title(shortened(title, 42), fontsize=9)
    for dimension, (x, y) in numbers.items():
        if not any(one.ends[0] - 0.06 < x < one.ends[1] + 0.06 and abs(y - one.y) < 0.14 for one in names):
            ax.text(x, y, str(dimension), ha="center", va="center", color=SOFT, fontsize=7)
    for name in names:
        ax.text(name.x, name.y, name.text, ha=name.anchor, va="center", color=SOFT, fontsize=8.5)


_CHOSEN_BY = {
    True: "The stimulus with the largest total weight is shown for each of the largest categories.",
    False: "The stimuli with the largest total weights are shown.",
}


def _examples(weights: pl.DataFrame, inputs: ReportInputs) -> list[tuple[int, str]]:
    """Return the stimulus with the largest total weight of each of the largest categories; without any, of all."""
    total = weights.sort("dimension").group_by("stimulus_index").agg(pl.col("weight").sum())
    stimuli = inputs.stimuli.join(total, on="stimulus_index").with_columns(pl.col("category").fill_null("no category"))
    ranked = stimuli.sort("weight", "stimulus_index", descending=[True, False])
    if not inputs.stimuli["category"].count():
        return list(ranked.select("stimulus_index", "stimulus_id").head(ROSES).iter_rows())
    largest = stimuli.group_by("category").len().sort("len", "category", descending=[True, False])["category"][:ROSES]
    return [
        (int(own["stimulus_index"][0]), f"{category}, {own['stimulus_id'][0]}")
        for category in largest
        for own in [ranked.filter(pl.col("category") == category)]
    ]


def petal_names(named: list[tuple[float, str]]) -> list[Name]:
    """Place names at the rim, each moved up or down, away from the centre, until it does not overlap earlier ones.

    Parameters
    ----------
    named : list of (float, str)
        Angle of the middle of each petal, in radians, and its name.
    """
    placed: list[Name] = []
    for angle, text in named:
        across, y = math.cos(angle), RIM * math.sin(angle)
        anchor = "center" if abs(across) < 0.3 else "left" if across > 0 else "right"
        name = Name(text, RIM * across, y, anchor)
        start, end = name.ends
        name = name._replace(x=name.x + max(0.0, -EDGE - start) - max(0.0, end - EDGE))
        start, end = name.ends
        beside = [other.y for other in placed if other.ends[0] < end and start < other.ends[1]]
        while covered := [other for other in beside if abs(y - other) < LINE - 1e-6]:
            y = max(covered) + LINE if y > 0 else min(covered) - LINE
        placed.append(name._replace(y=y))
    return placed
