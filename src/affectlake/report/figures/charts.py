"""Small charts: learning curves, chosen positions, and the interval strips of the headline table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from affectlake.report.agent_summary import AgentFacts, Estimate, of_agent, of_fit
from affectlake.report.figures.svg import Figure, absent, drawing, element, joined, number, ticks
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import count, counted, decimal, listed, percent

WIDTH, HEIGHT = 470.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 30.0, 36.0
THIRD = 1 / 3
Series = tuple[str, list[tuple[float, float]]]  # CSS class, points in data units


def learning_curves(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """Draw loss and accuracy over epochs, one line per seed, or say why there is nothing to draw."""
    curves = of_agent(inputs.learning_curves, facts.agent).sort("seed", "epoch")
    if not len(curves):
        return absent("This version has no learning curves of this agent: no embedding was fitted.")
    loss = [*_series(curves, facts.seed, "train_loss", "train"), *_series(curves, facts.seed, "test_loss", "test")]
    accuracy = _series(curves, facts.seed, "test_accuracy", "test")
    body = element(
        "div",
        _panel("Cross-entropy (nats)", loss, (0.0, _top(loss)), None),
        _panel("Held-out accuracy", accuracy, _accuracy_range(accuracy), THIRD),
        class_="panels two",
    )
    key = Markup(
        '<p class="key"><span class="swatch test"></span>held-out triplets'
        '<span class="swatch train"></span>training triplets, as the epoch went'
        '<span class="swatch chance"></span>chance, 1/3</p>'
    )
    return Figure(joined([body, key]), _curves_caption(curves, facts), rows=curves)


def _series(curves: pl.DataFrame, shown: int | None, column: str, kind: str) -> list[Series]:
    found: list[Series] = []
    for (seed,), rows in curves.drop_nulls(column).group_by("seed", maintain_order=True):
        points = list(zip(rows["epoch"].to_list(), rows[column].to_list(), strict=True))
        found.append((kind if seed == shown else f"{kind} other", points))
    return sorted(found, key=lambda one: not one[0].endswith("other"))  # the seed that is shown lies on top


def _top(series: Sequence[Series]) -> float:
    return max((value for _, points in series for _, value in points), default=1.0) * 1.04 or 1.0


def _accuracy_range(series: Sequence[Series]) -> tuple[float, float]:
    lowest = min((value for _, points in series for _, value in points), default=THIRD)
    return math.floor(10 * min(lowest, THIRD) - 0.2) / 10, 1.0


def _panel(title: str, series: Sequence[Series], y_range: tuple[float, float], chance: float | None) -> Markup:
    last = max((epoch for _, points in series for epoch, _ in points), default=1.0)

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * epoch / max(last, 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y_range[0]) / (y_range[1] - y_range[0])

    across = [
        joined(
            [
                element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_="grid"),
                element("text", f"{tick:g}", x=LEFT - 8, y=y(tick) + 4, class_="tick", text_anchor="end"),
            ]
        )
        for tick in ticks(*y_range)
    ]
    along = [
        element("text", f"{tick:g}", x=x(tick), y=HEIGHT - BOTTOM + 17, class_="tick", text_anchor="middle")
        for tick in ticks(0, last)
        if tick == round(tick)  # whole epochs
    ]
    third = (
        []
        if chance is None
        else [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(chance), y2=y(chance), class_="chance")]
    )
    lines = [
        element(
            "polyline",
            points=" ".join(f"{number(x(epoch))},{number(y(value))}" for epoch, value in points),
            class_=f"line {kind}",
        )
        for kind, points in series
    ]
    names = [
        element("text", title, x=0.0, y=14, class_="title"),
        element("text", "epoch", x=WIDTH - RIGHT, y=HEIGHT - 3, class_="tick", text_anchor="end"),
    ]
    return drawing(WIDTH, HEIGHT, f"{title} by epoch", *across, *along, *third, *lines, *names, class_="chart")


def _curves_caption(curves: pl.DataFrame, facts: AgentFacts) -> str:
    own = of_fit(curves, facts.seed)
    if not len(own):
        return f"{counted(facts.n_seeds, 'seed')}; none of them is the fit shown above."
    first, last = own.row(0, named=True), own.row(-1, named=True)
    best = own.row(int(own["test_loss"].arg_min() or 0), named=True)
    seeds = "" if curves["seed"].n_unique() == 1 else f" (thick line: seed {facts.seed}, thin: the others)"
    what = f"Learning curves of {counted(curves['seed'].n_unique(), 'fit')}{seeds}."
    lapse = best.get("lapse") or 0.0  # versions made before fits could learn it have no such column
    by_chance = f" The fit takes {percent(lapse)} of the judgments for made by chance." if lapse else ""
    return (
        f"{what} In {counted(last['epoch'] - first['epoch'], 'epoch')} the loss on held-out triplets goes "
        f"from {decimal(first['test_loss'], 3)} to {decimal(last['test_loss'], 3)} nats and its accuracy from "
        f"{percent(first['test_accuracy'])} to {percent(last['test_accuracy'])}; the loss is lowest "
        f"({decimal(best['test_loss'], 3)}) after epoch {best['epoch']}, and "
        f"{counted(last['n_dimensions'], 'dimension')} are kept at the end.{by_chance}"
    )


def positions(inputs: ReportInputs, facts: AgentFacts) -> Figure:
    """Draw how often the first, second and third stimulus of a triplet was the odd one out."""
    counts = of_agent(inputs.choice_counts, facts.agent)
    if not facts.n_choices:
        return absent("This version has no choices of this agent.")
    several = counts["protocol"].n_unique() > 1
    panels = []
    pooled = np.zeros(3, np.int64)
    for (protocol, trial_set), rows in counts.sort("protocol", "trial_set", "position").group_by(
        "protocol", "trial_set", maintain_order=True
    ):
        by_position = dict(rows.group_by("position").agg(pl.col("n_choices").sum()).iter_rows())
        chosen = np.array([by_position.get(position, 0) for position in (1, 2, 3)], np.int64)
        pooled += chosen
        name = str(trial_set).replace("_", " ")
        panels.append(_bars(f"{name}, {protocol}" if several else name, chosen))
    body = element("div", *panels, class_="panels")
    return Figure(body, _positions_caption(facts, pooled), rows=counts)


def _bars(title: str, chosen: NDArray[np.int64]) -> Markup:
    width, height, base, left = 300.0, 202.0, 170.0, 0.0
    shares: list[float] = (chosen / max(int(chosen.sum()), 1)).tolist()
    high = max(0.5, *shares)

    def y(share: float) -> float:
        return base - 118.0 * share / high

    parts = [
        element("text", title, x=left, y=14, class_="title"),
        element("text", f"{counted(int(chosen.sum()), 'choice')}", x=left, y=32, class_="tick"),
    ]
    for at, (name, share) in enumerate(zip(("first", "second", "third"), shares, strict=True)):
        x = left + 10 + at * 88
        parts += [
            element("rect", x=x, y=y(share), width=62, height=base - y(share), class_="bar"),
            element("text", percent(share, 1), x=x + 31, y=base - 12, class_="value in", text_anchor="middle"),
            element("text", name, x=x + 31, y=base + 18, class_="tick", text_anchor="middle"),
        ]
    parts += [
        element("line", x1=left, x2=width - 24, y1=base, y2=base, class_="axis"),
        element("line", x1=left, x2=width - 24, y1=y(THIRD), y2=y(THIRD), class_="chance over"),
        element("text", "1/3", x=width - 20, y=y(THIRD) + 4, class_="tick"),
    ]
    return drawing(width, height, f"Chosen positions, {title}", *parts, class_="chart bars")


def _positions_caption(facts: AgentFacts, pooled: NDArray[np.int64]) -> str:
    shares = listed([percent(share, 1) for share in (pooled / pooled.sum()).tolist()])
    what = (
        f"Over {counted(int(pooled.sum()), 'choice')} the first, second and third stimulus of the triplet was the odd "
        f"one in {shares}; {count(facts.n_tied)} were ties that chance decided."
    )
    return (
        f"{what} This agent is simulated and was shown nothing, so position is the order within the triplet, that of "
        f"the rows of the stimuli table: shares other than 1/3 describe that order and are no bias of the agent."
    )


def strip(estimate: Estimate) -> Markup:
    """Draw a proportion from 0 to 1 as a dot with its interval, and chance as a tick."""
    width, middle = 132.0, 8.0

    def x(share: float) -> float:
        return 5 + (width - 10) * min(max(share, 0.0), 1.0)

    parts = [element("line", x1=x(0), x2=x(1), y1=middle, y2=middle, class_="track")]
    if estimate.chance is not None:
        at = x(estimate.chance)
        parts.append(element("line", x1=at, x2=at, y1=middle - 5, y2=middle + 5, class_="null"))
    if estimate.ci_low is not None and estimate.ci_high is not None:
        parts.append(
            element("line", x1=x(estimate.ci_low), x2=x(estimate.ci_high), y1=middle, y2=middle, class_="interval")
        )
    parts.append(element("circle", cx=x(estimate.value), cy=middle, r=3.6, class_="dot"))
    return drawing(width, 16, f"{percent(estimate.value)} on a scale from 0 to 100 %", *parts, class_="strip")
