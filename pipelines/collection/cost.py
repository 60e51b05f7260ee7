"""The cost of a collection before it is run: measured on earlier answers, or on a small sample."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import CollectionError
from affectlake.judge.chat import ChatAgent, Price
from affectlake.pipelines.collection.planning import chat_agent, plan_questions
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.collection.request import CollectionRequest, OnProgress, ignore_progress
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import LOOKED_AT, asked_as
from affectlake.pipelines.engine.model_runs import collection_pace
from affectlake.pipelines.params.study import Params, load
from affectlake.pipelines.stored import known_answers

SAMPLE = 40
"""Questions asked to measure tokens and rate if no earlier answers exist."""


_MIN_SAMPLE = 20


class CostEstimate(NamedTuple):
    """Estimated cost of the remaining questions.

    Attributes
    ----------
    agent, trial_set : str
        Name of the agent, and trial set.
    n_left : int
        Number of requests.
    n_sample : int
        Number of answers on which the token counts are based.
    prompt_tokens, completion_tokens : float
        Mean number of tokens of a request and of an answer.
    per_second : float
        Requests per second; 0 if the rate is unknown.
    measured_on : str
        Data from which the rate is estimated.
    price : Price or None
        Price per million tokens.
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
        """Hours at the measured rate; NaN if the rate is unknown."""
        return self.n_left / self.per_second / 3600 if self.per_second else float("nan")

    @property
    def money(self) -> float | None:
        """Cost in the currency of the price; None without a price."""
        if self.price is None:
            return None
        return self.n_left * (self.prompt_tokens * self.price.input + self.completion_tokens * self.price.output) / 1e6


def estimate_cost(
    lake: Path, request: CollectionRequest, log: Log, on_progress: OnProgress = ignore_progress
) -> CostEstimate:
    """Estimate requests, tokens, hours and money of a request; first ask and publish a sample if nothing is known.

    Parameters
    ----------
    lake, request, log, on_progress
        As for :func:`affectlake.pipelines.collection.run.collect_answers`.

    Returns
    -------
    CostEstimate
        The estimate for the remaining questions.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.collection.run.collect_answers`.
    """
    params = load(lake)
    agent = chat_agent(params, request.agent)

    def estimate_now() -> CostEstimate | None:
        plan = plan_questions(
            lake,
            params,
            agent.name,
            request.trial_set,
            limit=request.limit,
            retry_failed=request.retry_failed,
            proposed=request.proposed,
            share=request.share,
            sample=request.sample,
        )
        return _estimate(lake, params, agent, request.trial_set, plan.n_left)

    known = estimate_now()
    if known is None:
        log(f"{agent.name}: nothing measured yet; asking {SAMPLE} questions, whose answers count")
        sample = CollectionRequest(
            agent.name, request.trial_set, limit=SAMPLE, share=request.share, sample=request.sample
        )
        collect_answers(lake, sample, log, on_progress)
        known = estimate_now()
    if known is None:
        raise CollectionError(
            f"the cost of asking {agent.name} cannot be measured",
            found="too few of its questions were answered",
            todo="see its failures with `affectlake status`",
        )
    return known


def _estimate(lake: Path, params: Params, agent: ChatAgent, trial_set: str, n_left: int) -> CostEstimate | None:
    """Estimate the cost of `n_left` requests from stored answers; return None if a sample must be asked first."""
    if not n_left:
        return CostEstimate(agent.name, trial_set, 0, 0, 0.0, 0.0, 0.0, "nothing", agent.price)
    known = known_answers(lake, agent.name)
    pace = collection_pace(lake, params.study, agent.name, trial_set)
    if known is None or (pace.is_known and not pace.n_done):
        return None
    rows = known.filter(asked_as(agent), pl.col("error_kind").is_null(), pl.col("trial_set") == trial_set)
    sample = rows.select("prompt_tokens", "completion_tokens").tail(LOOKED_AT).collect()
    if sample.height < _MIN_SAMPLE:
        return None
    means = sample.mean().row(0)
    rounds = f"{pace.n_done:,} questions in {pace.n_rounds} rounds" if pace.is_known else "MLflow does not answer"
    return CostEstimate(
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
