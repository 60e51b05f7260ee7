"""Whether chat agents choose by position: their shares, tests and flips side by side. The numbers are the tables'."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from affectlake.report.figures.svg import Figure, absent, drawing, element, joined, scrolling, ticks
from affectlake.report.number_format import MISSING, count, counted, decimal, level, percent, percent_range

THIRD = 1 / 3
POSITIONS = ("first", "second", "third")
REPEATED = "noise_ceiling"

# where the columns of the drawing stand: names from 0, then numbers that end there, and the axis of shares between
WIDTH, N_AT, AXIS_FROM, AXIS_TO, CHI_AT, P_AT, OTHER_AT, SAME_AT = (
    1040.0,
    318.0,
    346.0,
    690.0,
    768.0,
    850.0,
    946.0,
    1036.0,
)
HEAD, SET, ROW, FOOT = 44.0, 34.0, 48.0, 30.0


class Share(NamedTuple):
    """A proportion with its interval, or neither where nothing is known, and how many rows it rests on."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class Compared(NamedTuple):
    """One agent's effects of the order in one trial set, as the table ``order_effects`` has them.

    Attributes
    ----------
    agent, protocol, trial_set : str
        Who was asked, how, and which trials.
    n : int
        Choices.
    shares : tuple of Share
        How often the stimulus shown first, second and third was chosen, with 95 % intervals.
    chi_square, p_value : float or None
        Pearson's test of the three shares against a third each, two degrees of freedom.
    other_order, same_order : Share
        How often two answers to one triplet differ when it was shown in another order, and in the same; ``n`` counts
        the triplets that were answered twice so.
    """

    agent: str
    protocol: str
    trial_set: str
    n: int
    shares: tuple[Share, Share, Share]
    chi_square: float | None
    p_value: float | None
    other_order: Share
    same_order: Share

    def as_mapping(self) -> dict[str, Any]:
        """Return nested dicts and numbers, ready for JSON."""
        named = dict(zip(POSITIONS, self.shares, strict=True))
        flips = {"other_order": self.other_order, "same_order": self.same_order}
        return {
            **{key: getattr(self, key) for key in ("agent", "protocol", "trial_set", "n")},
            "shares": {name: share._asdict() for name, share in named.items()},
            "chi_square": self.chi_square,
            "p_value": self.p_value,
            "flip_rate": {name: {"value": found.value, "n_triplets": found.n} for name, found in flips.items()},
        }


def compared(effects: pl.DataFrame, agents: Sequence[str] = ()) -> list[Compared]:
    """Return the table ``order_effects`` as one row for each agent, protocol and trial set.

    Parameters
    ----------
    effects : polars.DataFrame
        Rows of the table.
    agents : sequence of str
        The order in which agents are listed; others follow by name.

    Returns
    -------
    list of Compared
        By trial set, ``main`` first, then in the order of the agents.
    """
    rows: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in effects.iter_rows(named=True):
        rows.setdefault((row["trial_set"], row["agent"], row["protocol"]), {})[row["measure"]] = row
    places = {agent: at for at, agent in enumerate(agents)}

    def place(key: tuple[str, str, str]) -> tuple[bool, str, int, str, str]:
        trial_set, agent, protocol = key
        return trial_set != "main", trial_set, places.get(agent, len(places)), agent, protocol

    return [_compared(*key, rows[key]) for key in sorted(rows, key=place)]


def _compared(trial_set: str, agent: str, protocol: str, found: Mapping[str, Mapping[str, Any]]) -> Compared:
    def share(measure: str) -> Share:
        row = found.get(measure)
        return Share(row["value"], row["ci_low"], row["ci_high"], row["n"]) if row else Share(None, None, None, 0)

    first, second, third = (share(f"chosen_{name}") for name in POSITIONS)
    test = found.get("chi_square", {})
    return Compared(
        agent=agent,
        protocol=protocol,
        trial_set=trial_set,
        n=first.n,
        shares=(first, second, third),
        chi_square=test.get("value"),
        p_value=test.get("p_value"),
        other_order=share("flip_rate_other_order"),
        same_order=share("flip_rate_same_order"),
    )


def draw(found: Sequence[Compared], effects: pl.DataFrame | None = None) -> Figure:
    """Draw the shares of every agent and trial set as rows, with the test and the flips beside them, and a table.

    Parameters
    ----------
    found : sequence of Compared
        What :func:`compared` returns.
    effects : polars.DataFrame, optional
        The rows behind the figure.
    """
    shown = [one for one in found if one.n and any(share.value is not None for share in one.shares)]
    if not shown:
        return absent("No chat agent has choices in this version, so nothing is known of positions.")
    body = joined(
        [scrolling("Chosen positions of every chat agent", _drawing(shown), class_="scroll wide"), _table(shown)]
    )
    return Figure(body, _caption(shown), rows=effects)


def _drawing(shown: Sequence[Compared]) -> Markup:
    """Return the drawing: a heading for each trial set, a row for each agent, one axis of shares for all."""
    sets = list(dict.fromkeys(one.trial_set for one in shown))
    ends = [share.ci_high or share.value or 0.0 for one in shown for share in one.shares]
    top = min(1.0, max(0.5, math.ceil(10 * max(ends)) / 10))
    height = HEAD + SET * len(sets) + ROW * len(shown) + FOOT

    def x(share: float) -> float:
        return AXIS_FROM + (AXIS_TO - AXIS_FROM) * share / top

    bottom = height - FOOT
    parts = [_heading("n", N_AT), _heading("χ²", CHI_AT), _heading("p", P_AT)]
    parts += [_heading("flips, order", OTHER_AT, 16), _heading("changed", OTHER_AT, 31)]
    parts += [_heading("flips, order", SAME_AT, 16), _heading("the same", SAME_AT, 31)]
    parts.append(element("text", "Share of choices, by position shown", x=AXIS_FROM, y=31, class_="title"))
    for tick in ticks(0, top):
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=HEAD, y2=bottom, class_="grid"))
        name = f"{100 * tick:.0f} %"
        parts.append(element("text", name, x=x(tick), y=bottom + 18, class_="tick", text_anchor="middle"))
    parts.append(element("line", x1=x(THIRD), x2=x(THIRD), y1=HEAD, y2=bottom, class_="chance over"))
    y = HEAD
    for trial_set in sets:
        parts.append(element("text", trial_set.replace("_", " "), x=0.0, y=y + 22, class_="title"))
        y += SET
        for one in (one for one in shown if one.trial_set == trial_set):
            parts.append(_row(one, y, x))
            y += ROW
    return drawing(WIDTH, height, "Chosen positions of every chat agent", *parts, class_="chart order")


def _heading(text: str, at: float, y: float = 31) -> Markup:
    return element("text", text, x=at, y=y, class_="tick", text_anchor="end")


def _row(one: Compared, y: float, x: Any) -> Markup:
    middle = y + ROW / 2
    numbers = [
        (count(one.n), N_AT),
        (decimal(one.chi_square, 1), CHI_AT),
        (_level(one.p_value), P_AT),
        (percent(one.other_order.value, 1), OTHER_AT),
        (percent(one.same_order.value, 1), SAME_AT),
    ]
    parts = [
        element("line", x1=0.0, x2=WIDTH, y1=y, y2=y, class_="grid"),
        element("text", _fitting(one.agent), x=0.0, y=middle - 3, class_="value"),
        element("text", one.protocol, x=0.0, y=middle + 14, class_="tick"),
        *(element("text", text, x=at, y=middle + 4, class_="tick", text_anchor="end") for text, at in numbers),
    ]
    for at, (name, share) in enumerate(zip(POSITIONS, one.shares, strict=True)):
        if share.value is None:
            continue
        line = middle + 14 * (at - 1)
        hint = f"{one.agent}, {name}: {percent(share.value)} ({percent_range(share.ci_low, share.ci_high)})"
        if share.ci_low is not None and share.ci_high is not None:
            parts.append(
                element("line", x1=x(share.ci_low), x2=x(share.ci_high), y1=line, y2=line, class_=f"whisker p{at + 1}")
            )
        mark = element("circle", element("title", hint), cx=x(share.value), cy=line, r=6.5, class_=f"point p{at + 1}")
        parts += [mark, element("text", str(at + 1), x=x(share.value), y=line + 3.2, class_="mark")]
    return joined(parts)


def _fitting(name: str, longest: int = 33) -> str:
    """Return a name that ends before the next column; the table below has all of it."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _level(p_value: float | None) -> str:
    return MISSING if p_value is None else level(p_value).lstrip("p=\N{NO-BREAK SPACE}")


def _table(shown: Sequence[Compared]) -> Markup:
    """Return the numbers as an HTML table."""
    names = ("Set", "Agent", "Protocol", "Choices", "First", "Second", "Third", "χ²", "p", "Flips, other order",
             "Flips, same order")  # fmt: skip
    head = element(
        "tr", *(element("th", n, scope="col", class_="num" if at > 2 else None) for at, n in enumerate(names))
    )
    lines = []
    for one in shown:
        shares = [
            joined([Markup(percent(s.value, 1)), element("small", f" {percent_range(s.ci_low, s.ci_high, 1)}")])
            for s in one.shares
        ]
        flips = [_flips(found) for found in (one.other_order, one.same_order)]
        numbers = [count(one.n), *shares, decimal(one.chi_square, 1), _level(one.p_value), *flips]
        lines.append(
            element(
                "tr",
                element("td", one.trial_set.replace("_", " ")),
                element("th", one.agent, scope="row"),
                element("td", one.protocol),
                *(element("td", number, class_="num") for number in numbers),
            )
        )
    table = element("table", element("thead", head), element("tbody", *lines))
    return scrolling("Numbers of the chosen positions", table)


def _flips(found: Share) -> str | Markup:
    if found.value is None:
        return MISSING
    return joined([Markup(percent(found.value, 1)), element("small", f" of {counted(found.n, 'triplet')}")])


def _caption(shown: Sequence[Compared]) -> str:
    first = [one for one in shown if one.trial_set == shown[0].trial_set]
    far = max(
        ((one, at, share) for one in first for at, share in enumerate(one.shares) if share.value is not None),
        key=lambda row: abs((row[2].value or 0.0) - THIRD),
    )
    one, at, share = far
    repeated = (
        " Answers to one triplet of the noise ceiling set are not independent, so its levels are too small."
        if any(row.trial_set == REPEATED for row in shown)
        else ""
    )
    return (
        f"Every stimulus stands equally often at each position, so an agent that looks at the stimuli alone chooses "
        f"each position a third of the time (dotted line; bars: 95 % intervals; χ² against equal shares, 2 degrees of "
        f"freedom). Farthest from it is {one.agent}, which chooses the {POSITIONS[at]} in {percent(share.value, 1)} of "
        f"{count(one.n)} choices of the {one.trial_set.replace('_', ' ')} set. Flips: how often two answers to one "
        f"triplet differ; what a change of the order adds to the same order is due to position.{repeated}"
    )
