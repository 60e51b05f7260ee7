"""What has been collected, and what is left: counts per agent and trial set, and what asking the rest would take.

Nothing is asked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.judge.chat import ChatAgent, Price
from affectlake.judge.responses.tables import read_choices
from affectlake.judge.trials.request_keys import canonical
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.publishing import in_quarantine, leases, waiting
from affectlake.pipelines.engine.model_runs import Pace, collection_pace
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.stored import known_answers
from affectlake.process import lease

LOOKED_AT = 100_000
"""So many of the latest answers are read for the shares parsed and of the positions."""


class Status(NamedTuple):
    """What is known of one agent and trial set.

    Attributes
    ----------
    agent, trial_set, protocol : str
        Whose answers, to what, asked how.
    n_planned : int
        Answers that the study wants.
    n_answered : int
        Published answers asked for under today's entry of the agent: same model, revision, protocol and sampling.
    n_failed : dict of str to int
        Published failures by kind; those that were answered later are not among them.
    n_other : int
        Published rows asked for under another entry.
    n_waiting : int
        Rows in the journals, in no version yet.
    quarantined : dict of str to int
        Rows in the journals that cannot be published, by the reason; they are tried again with each publishing.
    n_looked_at : int
        How many of the latest answers the next two rest on.
    share_parsed : float
        Share of them that name one position; NaN without any.
    positions : tuple of float
        Share of the first, second and third position among those that name one; NaN without any.
    prompt_tokens, completion_tokens, cached_tokens : int
        Tokens of the published answers.
    hours : float
        Time spent asking, as the records of the rounds have it; NaN where MLflow does not answer.
    holder : str
        Who is collecting now; empty if nobody is.
    """

    agent: str
    trial_set: str
    protocol: str
    n_planned: int
    n_answered: int
    n_failed: dict[str, int]
    n_other: int
    n_waiting: int
    quarantined: dict[str, int]
    n_looked_at: int
    share_parsed: float
    positions: tuple[float, float, float]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    hours: float
    holder: str


def statuses(lake: Path, params: Params) -> list[Status]:
    """Return what is known of every chat agent of the study, by trial set."""
    planned = read_output(lake, Output("triplets")).group_by("trial_set").agg(pl.col("n_repeats").sum()).collect()
    sets = dict(planned.sort("trial_set").iter_rows())
    chats = [agent for agent in params.agents.values() if isinstance(agent, ChatAgent)]
    return [_status(lake, params, agent, name, n) for agent in chats for name, n in sets.items()]


def _status(lake: Path, params: Params, agent: ChatAgent, trial_set: str, n_planned: int) -> Status:
    known = known_answers(lake, agent.name)
    rows = (known if known is not None else _none()).filter(pl.col("trial_set") == trial_set)
    own = rows.filter(_asked_as(agent))
    failed = pl.col("error_kind").is_not_null()
    tokens = [pl.col(name).cast(pl.Int64).sum() for name in ("prompt_tokens", "completion_tokens", "cached_tokens")]
    sums = own.select(n=(~failed).sum(), **dict(zip("abc", tokens, strict=True))).collect(engine="streaming").row(0)
    n_rows = rows.select(pl.len()).collect(engine="streaming").item()
    still = (
        own.filter(failed).join(own.filter(~failed), on="request_key", how="anti").unique("request_key", keep="last")
    )
    failures = dict(still.group_by("error_kind").len().sort("error_kind").collect(engine="streaming").iter_rows())
    n_own = own.select(pl.len()).collect(engine="streaming").item()
    latest = own.filter(~failed).tail(LOOKED_AT).collect()
    chosen = read_choices(latest, agent.asking.reading).choices["position"]
    shares = [float((chosen == p).mean()) if len(chosen) else float("nan") for p in (1, 2, 3)]  # type: ignore[arg-type]
    pace = collection_pace(lake, params.study, agent.name, trial_set)
    holder = lease.holder(leases(lake), agent.name)
    return Status(
        agent=agent.name,
        trial_set=trial_set,
        protocol=agent.protocol,
        n_planned=n_planned,
        n_answered=sums[0],
        n_failed=failures,
        n_other=n_rows - n_own,
        n_waiting=sum(count.n for count in waiting(lake, agent.name) if count.trial_set == trial_set),
        quarantined=_quarantined(lake, agent.name, trial_set),
        n_looked_at=latest.height,
        share_parsed=len(chosen) / latest.height if latest.height else float("nan"),
        positions=(shares[0], shares[1], shares[2]),
        prompt_tokens=sums[1],
        completion_tokens=sums[2],
        cached_tokens=sums[3],
        hours=pace.seconds / 3600 if pace.is_known else float("nan"),
        holder=str(holder) if holder else "",
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


def _asked_as(agent: ChatAgent) -> pl.Expr:
    """Whether a row was asked for under the agent's entry of today."""
    wanted: Mapping[str, str] = {
        "model": agent.model,
        "revision": agent.revision,
        "protocol": agent.protocol,
        "sampling": canonical(agent.sampling.as_mapping()),
    }
    return pl.all_horizontal(pl.col(name) == value for name, value in wanted.items())


class Estimate(NamedTuple):
    """What asking the rest would take.

    Attributes
    ----------
    agent, trial_set : str
        Of whom, what.
    n_left : int
        Requests.
    n_sample : int
        Answers that the tokens are measured on.
    prompt_tokens, completion_tokens : float
        Mean tokens of a request and of an answer.
    per_second : float
        Requests done a second.
    measured_on : str
        What the rate is measured on.
    price : Price or None
        Per million tokens.
    """

    agent: str
    trial_set: str
    n_left: int
    n_sample: int
    prompt_tokens: float
    completion_tokens: float
    per_second: float
    measured_on: str
    price: Price | None

    @property
    def hours(self) -> float:
        """Hours at the measured rate; NaN where none was measured."""
        return self.n_left / self.per_second / 3600 if self.per_second else float("nan")

    @property
    def money(self) -> float | None:
        """What it costs, in the currency of the price; None without one."""
        if self.price is None:
            return None
        return self.n_left * (self.prompt_tokens * self.price.input + self.completion_tokens * self.price.output) / 1e6


def estimate(lake: Path, params: Params, agent: ChatAgent, trial_set: str, n_left: int) -> Estimate | None:
    """Estimate what `n_left` requests take, from what is stored; None if too little is, and a sample must be asked."""
    if not n_left:
        return Estimate(agent.name, trial_set, 0, 0, 0.0, 0.0, 0.0, "nothing", agent.price)
    known = known_answers(lake, agent.name)
    pace: Pace = collection_pace(lake, params.study, agent.name, trial_set)
    if known is None or (pace.is_known and not pace.n_done):
        return None
    rows = known.filter(_asked_as(agent), pl.col("error_kind").is_null(), pl.col("trial_set") == trial_set)
    sample = rows.select("prompt_tokens", "completion_tokens").tail(LOOKED_AT).collect()
    if sample.height < 20:
        return None
    means = sample.mean().row(0)
    rounds = f"{pace.n_done:,} questions in {pace.n_rounds} rounds" if pace.is_known else "MLflow does not answer"
    return Estimate(
        agent.name,
        trial_set,
        n_left,
        sample.height,
        means[0],
        means[1],
        pace.n_done / pace.seconds if pace.seconds else 0.0,
        rounds,
        agent.price,
    )
