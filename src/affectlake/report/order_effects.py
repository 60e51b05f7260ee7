"""Effects of the order shown on the answers of chat agents, one row for each agent. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

POSITIONS = ("first", "second", "third")


class Share(NamedTuple):
    """A proportion with its interval (None if unknown), and the number of rows it is computed from."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class Compared(NamedTuple):
    """Effects of the order on one agent in one trial set, as in the table ``order_effects``.

    Attributes
    ----------
    agent, protocol, trial_set : str
        The agent, its protocol, and the trial set.
    n : int
        Number of choices.
    shares : tuple of Share
        How often the stimulus shown first, second and third was chosen, with 95 % intervals.
    chi_square, p_value : float or None
        Pearson's chi-square test of the three shares against 1/3 each, with two degrees of freedom.
    other_order, same_order : Share
        How often two answers to one triplet differ if it was shown in another order, and in the same order; ``n`` is
        the number of triplets with two such answers.
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
    """Return the table ``order_effects`` as one item for each agent, protocol and trial set.

    Parameters
    ----------
    effects : polars.DataFrame
        Rows of the table.
    agents : sequence of str
        Order of the agents; others follow in alphabetical order.

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
