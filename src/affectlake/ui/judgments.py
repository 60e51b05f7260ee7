"""Pages of judgments: filters, and pages cut by position (never by counting rows)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from affectlake.errors import UsageError, nearest
from affectlake.ui.index import Index
from affectlake.ui.opened import OpenVersion

PAGE = 24
"""Number of judgments on a page."""

Outcome = Literal["", "choice", "none", "refusal", "unparsed", "error"]
OUTCOMES: Mapping[Outcome, str] = {
    "": "any",
    "choice": "a choice",
    "none": "no choice",
    "refusal": "refused",
    "unparsed": "not readable",
    "error": "failed request",
}
Agreement = Literal["", "differ", "agree"]
AGREEMENTS: Mapping[Agreement, str] = {"": "any", "differ": "judgments differ", "agree": "all agree"}

REASONS: Mapping[str, str] = {
    "empty": "the answer is empty",
    "truncated": "the answer ends before its choice",
    "refusal": "the model declined",
    "other_language": "the answer is in a language that is not read",
    "no_key_phrase": "the phrase that the protocol asks for is missing",
    "no_position": "no stimulus is named",
    "several": "different stimuli are named",
    "none_differs": "none or all of the stimuli are said to differ",
    "out_of_range": "a number is named that no stimulus has",
    "no_log_probabilities": "the server gave no probabilities",
    "error": "the request failed",
    "no_choice": "no choice was made from this answer in this version",
}

_OUTCOME_SQL: Mapping[str, str] = {
    "choice": "reason IS NULL",
    "none": "reason IS NOT NULL",
    "refusal": "reason = 'refusal'",
    "unparsed": "reason NOT IN ('refusal', 'error', 'no_choice')",
    "error": "reason = 'error'",
}
_AGREEMENT_SQL: Mapping[str, str] = {"differ": "differs", "agree": "NOT differs"}


@dataclass(frozen=True)
class Filter:
    """Which judgments are shown.

    Parameters
    ----------
    agent, trial_set : str
        Only those of this agent, and this trial set; empty: of all.
    stimulus : int or None
        Only triplets with this stimulus.
    outcome : {"", "choice", "none", "refusal", "unparsed", "error"}
        What came of it.
    agreement : {"", "differ", "agree"}
        Whether the judgments of the same triplet, of all agents, are the same.
    """

    agent: str = ""
    trial_set: str = ""
    stimulus: int | None = None
    outcome: str = ""
    agreement: str = ""

    @property
    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL, and its values."""
        terms, values = list[str](), list[object]()
        for column, value in (("agent", self.agent), ("trial_set", self.trial_set)):
            if value:
                terms.append(f"{column} = ?")
                values.append(value)
        if self.stimulus is not None:
            terms.append("(i = ? OR j = ? OR k = ?)")
            values += [self.stimulus] * 3
        terms += [one for one in (_OUTCOME_SQL.get(self.outcome), _AGREEMENT_SQL.get(self.agreement)) if one]
        return " AND ".join(terms) or "true", values


class Page(NamedTuple):
    """One page of judgments.

    Attributes
    ----------
    rows : list of dict
        ``place, i, j, k, agent, trial_set, protocol, repeat, odd, tied, reason, differs``, in order of position.
    before, after : int or None
        Position from which the page before and the page after are read; None if there is none.
    n : int
        Number of judgments on all pages.
    """

    rows: list[dict[str, Any]]
    before: int | None
    after: int | None
    n: int


def filter_of(opened: OpenVersion, given: Mapping[str, str]) -> Filter:
    """Return the filter that an address asks for.

    Raises
    ------
    UsageError
        If one of its values does not exist.
    """
    agent, named = given.get("agent", ""), given.get("stimulus", "").strip()
    if agent and agent not in opened.agents:
        raise UsageError(
            f"{opened.version.name} has no agent {agent!r}",
            allowed=", ".join(opened.agents),
            todo=nearest(agent, opened.agents),
        )
    for key, allowed in (("outcome", get_args(Outcome)), ("agreement", get_args(Agreement))):
        if given.get(key, "") not in allowed:
            raise UsageError(f"{key} cannot be {given[key]!r}", allowed=", ".join(filter(None, allowed)))
    return Filter(
        agent,
        given.get("set", ""),
        opened.stimulus(named).index if named else None,
        given.get("outcome", ""),
        given.get("agreement", ""),
    )


def page_of(index: Index, wanted: Filter, *, after: int = -1, before: int | None = None, size: int = PAGE) -> Page:
    """Return a page of judgments.

    Parameters
    ----------
    index : Index
        The judgments.
    wanted : Filter
        Which of them.
    after : int
        Only those after this position.
    before : int, optional
        The last ones before this position, in place of the first ones after `after`.
    size : int
        Maximum number of rows.
    """
    where, values = wanted.where
    backwards = before is not None
    edge, direction = ("place < ?", "DESC") if backwards else ("place > ?", "ASC")
    found = index.rows(
        f"SELECT * FROM judgments WHERE {where} AND {edge} ORDER BY place {direction} LIMIT {size + 1}",
        [*values, before if backwards else after],
    )
    more, rows = len(found) > size, found[:size]
    if backwards:
        rows.reverse()
    has_before, has_after = (more, True) if backwards else (after >= 0, more)
    (counted,) = index.rows(f"SELECT count(*) AS n FROM judgments WHERE {where}", values)
    return Page(
        rows,
        rows[0]["place"] if rows and has_before else None,
        rows[-1]["place"] if rows and has_after else None,
        counted["n"],
    )


def trial_sets(opened: OpenVersion) -> list[str]:
    """Return the trial sets of a version that have judgments."""
    tables = ("choices", "anchored_choices", "responses")
    every = " UNION ".join(opened.select(table, "trial_set") for table in tables)
    found = opened.once("trial sets", lambda: opened.rows(f"SELECT DISTINCT trial_set FROM ({every}) ORDER BY 1"))
    return [name for (name,) in found if name]


def reason_in_words(reason: str | None) -> str:
    """Return why there is no choice, in words; empty if there is one."""
    return "" if reason is None else REASONS.get(reason, reason.replace("_", " "))
