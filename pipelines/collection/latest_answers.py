"""The latest answers of an agent, published or not yet, and how many of them name a position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.protocol import Protocol
from affectlake.judge.responses.parsed import Parsed
from affectlake.judge.responses.quality import Quality, quality
from affectlake.judge.responses.tables import CHANCES, read_answer, response_rows
from affectlake.judge.trials.request_keys import canonical
from affectlake.pipelines.collection.publishing import unpublished_answers

LOOKED_AT = 100_000
"""Maximum number of answers, the latest ones, from which shares and means are computed."""

_READ = ("request_key", "answer", "finish_reason", "refusal", "thinking")


class AnswersParsed:
    """What answers were parsed as, so that a program that reads a state again parses new answers only.

    Parsing 100,000 answers takes about ten seconds.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Protocol, dict[bytes, Parsed]]] = {}

    def of(self, agent: ChatAgent, trial_set: str, rows: pl.DataFrame) -> list[Parsed]:
        """Return what the answers of `rows`, of one agent and trial set, are parsed as; others are forgotten."""
        asking, known = self._known.get((agent.name, trial_set), (agent.asking, dict[bytes, Parsed]()))
        if asking != agent.asking:
            known = {}
        found = {
            key: known.get(key) or (Parsed(None, "empty") if text is None else read_answer(agent.asking, text, *said))
            for key, text, *said in rows.select(_READ).iter_rows()
        }
        self._known[agent.name, trial_set] = agent.asking, found
        return list(found.values())


def asked_as(agent: ChatAgent) -> pl.Expr:
    """Return an expression: whether a row was asked under the agent's current entry."""
    wanted: Mapping[str, str] = {
        "model": agent.model,
        "revision": agent.revision,
        "protocol": agent.protocol,
        "sampling": canonical(agent.sampling.as_mapping()),
    }
    return pl.all_horizontal(pl.col(name) == value for name, value in wanted.items())


def quality_of_latest(
    lake: Path,
    agent: ChatAgent,
    trial_set: str,
    published: pl.LazyFrame,
    parsed: AnswersParsed | None = None,
    most: int = LOOKED_AT,
) -> Quality:
    """Return the quality of an agent's latest answers to a trial set.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    agent : ChatAgent
        The agent.
    trial_set : str
        The trial set.
    published : polars.LazyFrame
        Its rows of ``responses`` to this trial set under the agent's current entry, without failures.
    parsed : AnswersParsed, optional
        What was parsed before.
    most : int
        Maximum number of answers.
    """
    waiting = response_rows(agent, unpublished_answers(lake, agent, trial_set, most))
    columns = ["request_key", *_READ[1:], *CHANCES]
    rows = [waiting.select(columns)]
    if waiting.height < most:
        rows.insert(0, published.select(columns).tail(most - waiting.height).collect())
    latest = pl.concat(rows, how="vertical_relaxed").unique("request_key", keep="last", maintain_order=True)
    found = (parsed or AnswersParsed()).of(agent, trial_set, latest)
    positions = Counter(one.position for one in found if one.position is not None)
    unread = Counter(one.reason for one in found if one.reason is not None)
    chances = latest.select(CHANCES).to_numpy().astype(np.float64)
    return quality(positions, dict(unread.most_common()), agent.weighs_answers, chances)
