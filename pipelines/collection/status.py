"""The state of collections: counts of planned, published and failed answers per agent and trial set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.judge.chat import ChatAgent
from affectlake.judge.responses.quality import Quality, quality
from affectlake.judge.vectors.easy import EASY
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.collection.latest_answers import LOOKED_AT, AnswersParsed, asked_as, quality_of_latest
from affectlake.pipelines.collection.planning import easy_score_of, planned_trials
from affectlake.pipelines.collection.publishing import in_quarantine, leases, waiting
from affectlake.pipelines.collection.servers import device_of
from affectlake.pipelines.engine.model_runs import collection_pace
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.steps.easy_trials import EasyScore
from affectlake.pipelines.stored import known_answers
from affectlake.process import lease


class Status(NamedTuple):
    """State of the collection of one agent and trial set.

    Attributes
    ----------
    agent, trial_set, protocol : str
        Name of the agent, trial set, and protocol of the agent.
    n_planned : int
        Number of answers that the study needs, in all orders.
    n_answered : int
        Published answers under the agent's current entry: same model, revision, protocol and sampling.
    n_failed : dict of str to int
        Published failures by kind, without those that were answered later.
    n_other : int
        Published rows under other entries.
    n_waiting : int
        Unpublished rows in the journals.
    n_waiting_failed : int
        Those of them that are failures.
    quarantined : dict of str to int
        Rows in the journals that cannot be published, by reason; each publishing tries them again.
    n_looked_at : int
        Number of answers, the latest ones, published or not, on which the fields up to `verdict` are based.
    share_parsed : float
        Share of these answers that name one position; NaN if there are none.
    positions : tuple of float
        Shares of the first, second and third position among those that name one; NaN if there are none.
    p_value : float
        p-value of equal shares (Pearson's chi-squared test); NaN if there are none.
    probabilities : tuple of float or None
        Mean probabilities of the positions in these answers; None if the protocol does not ask for them.
    unread : dict of str to int
        Numbers of these answers without a position, by reason.
    verdict : str
        What is wrong with these answers (:class:`affectlake.judge.responses.quality.Quality`); empty if nothing is.
    easy : EasyScore or None
        How many easy trials were right; None for other trial sets.
    prompt_tokens, completion_tokens, cached_tokens : int
        Tokens of the published answers.
    hours : float
        Time spent asking, from the records of the rounds; NaN if MLflow does not answer.
    holder : str
        Process that is collecting now; empty if there is none.
    device : str
        Device of the agent's server, who holds it, and how many wait for it; empty if it has none.
    """

    agent: str
    trial_set: str
    protocol: str
    n_planned: int
    n_answered: int
    n_failed: dict[str, int]
    n_other: int
    n_waiting: int
    n_waiting_failed: int
    quarantined: dict[str, int]
    n_looked_at: int
    share_parsed: float
    positions: tuple[float, float, float]
    p_value: float
    probabilities: tuple[float, float, float] | None
    unread: dict[str, int]
    verdict: str
    easy: EasyScore | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    hours: float
    holder: str
    device: str = ""

    @property
    def n_so_far(self) -> int:
        """Number of answers, published or not."""
        return self.n_answered + self.n_waiting - self.n_waiting_failed

    @property
    def n_failed_so_far(self) -> int:
        """Number of failed questions, published or not."""
        return sum(self.n_failed.values()) + self.n_waiting_failed


def statuses(lake: Path, params: Params, parsed: AnswersParsed | None = None, most: int = LOOKED_AT) -> list[Status]:
    """Return the state of every chat agent of the study, by trial set.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    parsed : AnswersParsed, optional
        What answers were parsed as before, for a program that asks repeatedly.
    most : int
        Maximum number of answers of each state that are parsed.
    """
    parsed = parsed or AnswersParsed()
    planned = planned_trials(lake, params).group_by("trial_set").agg(pl.col("n_repeats").sum()).collect()
    sets = dict(planned.sort("trial_set").iter_rows())
    chats = [agent for agent in params.agents.values() if isinstance(agent, ChatAgent)]
    return [_status(lake, params, agent, name, n, parsed, most) for agent in chats for name, n in sets.items()]


def quality_of(lake: Path, agent: ChatAgent, trial_set: str) -> Quality:
    """Return the quality of the agent's latest answers in a trial set, under its current entry."""
    known = known_answers(lake, agent.name)
    if known is None:
        return quality({}, {}, weighs=agent.weighs_answers)
    rows = known.filter(asked_as(agent), pl.col("error_kind").is_null(), pl.col("trial_set") == trial_set)
    return quality_of_latest(lake, agent, trial_set, rows)


def _status(
    lake: Path, params: Params, agent: ChatAgent, trial_set: str, n_planned: int, parsed: AnswersParsed, most: int
) -> Status:
    known = known_answers(lake, agent.name)
    rows = (known if known is not None else _none()).filter(pl.col("trial_set") == trial_set)
    own = rows.filter(asked_as(agent))
    failed = pl.col("error_kind").is_not_null()
    tokens = [pl.col(name).cast(pl.Int64).sum() for name in ("prompt_tokens", "completion_tokens", "cached_tokens")]
    sums = own.select(n=(~failed).sum(), **dict(zip("abc", tokens, strict=True))).collect(engine="streaming").row(0)
    n_rows = rows.select(pl.len()).collect(engine="streaming").item()
    still = (
        own.filter(failed).join(own.filter(~failed), on="request_key", how="anti").unique("request_key", keep="last")
    )
    failures = dict(still.group_by("error_kind").len().sort("error_kind").collect(engine="streaming").iter_rows())
    n_own = own.select(pl.len()).collect(engine="streaming").item()
    looked_at = quality_of_latest(lake, agent, trial_set, own.filter(~failed), parsed, most)
    unpublished = [count for count in waiting(lake, agent.name) if count.trial_set == trial_set]
    pace = collection_pace(lake, params.study, agent.name, trial_set)
    holder = lease.holder(leases(lake), agent.name)
    return Status(
        agent=agent.name,
        trial_set=trial_set,
        protocol=agent.protocol,
        n_planned=agent.orders * n_planned,
        n_answered=sums[0],
        n_failed=failures,
        n_other=n_rows - n_own,
        n_waiting=sum(count.n for count in unpublished),
        n_waiting_failed=sum(count.n for count in unpublished if count.error_kind is not None),
        quarantined=_quarantined(lake, agent.name, trial_set),
        n_looked_at=looked_at.n_answers,
        share_parsed=looked_at.share_parsed,
        positions=looked_at.shares,
        p_value=looked_at.p_value,
        probabilities=looked_at.probabilities,
        unread=looked_at.unread,
        verdict=looked_at.verdict,
        easy=easy_score_of(lake, agent) if trial_set == EASY else None,
        prompt_tokens=sums[1],
        completion_tokens=sums[2],
        cached_tokens=sums[3],
        hours=pace.seconds / 3600 if pace.is_known else float("nan"),
        holder=str(holder) if holder else "",
        device=device_of(agent),
    )


def _quarantined(lake: Path, agent: str, trial_set: str) -> dict[str, int]:
    found = Counter[str]()
    for count in in_quarantine(lake, agent):
        if count.trial_set == trial_set:
            found[count.reason] += count.n
    return dict(found.most_common())


def _none() -> pl.LazyFrame:
    found = pl.from_arrow(contract("responses").schema.empty_table())
    assert isinstance(found, pl.DataFrame)
    return found.lazy()
