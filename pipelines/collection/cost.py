"""The cost of a collection before it is run: measured on earlier answers, or on a small sample."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.errors import CollectionError
from affectlake.judge.chat import ChatAgent, Price
from affectlake.judge.responses.quality import Quality, quality
from affectlake.judge.responses.tables import parsed_answer, probabilities_of
from affectlake.pipelines.collection.latest_answers import LOOKED_AT, asked_as
from affectlake.pipelines.collection.planning import chat_agent, plan_questions
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.collection.request import CollectionRequest, OnProgress, ignore_progress
from affectlake.pipelines.collection.run import Sampled, ask_sample, plan_easy
from affectlake.pipelines.engine.model_runs import collection_pace
from affectlake.pipelines.params.study import Params, load
from affectlake.pipelines.stored import known_answers

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
    quality : Quality or None
        Quality of the answers to the sample; None if no sample was asked.
    n_easy : int
        Number of requests of easy trials that come first and are not among `n_left`.
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
    quality: Quality | None = None
    n_easy: int = 0

    @property
    def hours(self) -> float:
        """Hours at the measured rate; NaN if the rate is unknown."""
        return self.n_left / self.per_second / 3600 if self.per_second else float("nan")

    @property
    def money(self) -> float | None:
        """Cost in the currency of the price; None without a price, or if the number of tokens is unknown."""
        if self.price is None or not (self.n_sample or not self.n_left):
            return None
        return self.n_left * (self.prompt_tokens * self.price.input + self.completion_tokens * self.price.output) / 1e6


def estimate_cost(
    lake: Path, request: CollectionRequest, log: Log, on_progress: OnProgress = ignore_progress
) -> CostEstimate:
    """Estimate requests, tokens, hours and money of a request, from stored answers or from a sample.

    Nothing is asked unless the request names a sample, and nothing is published: the answers to a sample are in the
    journal, and the next collection publishes them.

    Parameters
    ----------
    lake, request, log, on_progress
        As for :func:`affectlake.pipelines.collection.run.collect_answers`. With ``request.sample``, so many questions
        are asked if no earlier answers exist.

    Returns
    -------
    CostEstimate
        The estimate for the remaining questions; tokens are NaN if nothing is known.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.collection.run.collect_answers`.
    """
    params = load(lake)
    easy = plan_easy(lake, params, request, log)
    found = _of_request(lake, params, request, log, on_progress)
    return found._replace(n_easy=0 if easy is None or not found.n_left else easy.n_left)


def _of_request(
    lake: Path, params: Params, request: CollectionRequest, log: Log, on_progress: OnProgress
) -> CostEstimate:
    """Estimate the cost of a request without its easy trials."""
    agent = chat_agent(params, request.agent)
    plan = plan_questions(
        lake,
        params,
        agent.name,
        request.trial_set,
        limit=request.limit,
        retry_failed=request.retry_failed,
        proposed=request.proposed,
        share=request.share,
    )
    known = _estimate(lake, params, agent, request.trial_set, plan.n_left)
    if known is not None:
        return known
    if request.sample is None:
        unknown = float("nan")
        return CostEstimate(
            agent.name, request.trial_set, plan.n_left, 0, unknown, unknown, 0.0, "nothing", agent.price
        )
    log(f"{agent.name}: nothing measured yet; asking {request.sample:,} questions")
    return _of_sample(agent, request.trial_set, plan.n_left, ask_sample(lake, request, log, on_progress))


def _of_sample(agent: ChatAgent, trial_set: str, n_left: int, found: Sampled) -> CostEstimate:
    whole = [one for one in found.answers if one.error_kind is None]
    if not whole:
        raise CollectionError(
            f"the cost of asking {agent.name} cannot be measured",
            found=f"{len(found.answers):,} questions of the sample failed for good, and the others are not answered",
            todo="see the servers' logs, and the failures with `affectlake status` after a collection",
        )
    parsed = [parsed_answer(agent.asking, one) for one in whole]
    seconds, n_asked = found.account.seconds, found.account.n_answered
    return CostEstimate(
        agent.name,
        trial_set,
        n_left,
        len(whole),
        sum(one.prompt_tokens for one in whole) / len(whole),
        sum(one.completion_tokens for one in whole) / len(whole),
        n_asked / seconds if n_asked else 0.0,
        f"a sample of {n_asked:,} questions" if n_asked else "no questions of this run: the sample was asked before",
        agent.price,
        quality(
            Counter(one.position for one in parsed if one.position),
            Counter(one.reason or "unknown" for one in parsed if not one.position),
            agent.weighs_answers,
            probabilities_of(agent.asking, whole),
        ),
    )


def _estimate(lake: Path, params: Params, agent: ChatAgent, trial_set: str, n_left: int) -> CostEstimate | None:
    """Estimate the cost of `n_left` requests from stored answers; return None if there are too few."""
    if not n_left:
        return CostEstimate(agent.name, trial_set, 0, 0, 0.0, 0.0, 0.0, "nothing", agent.price)
    known = known_answers(lake, agent.name)
    pace = collection_pace(lake, params.study, agent.name, trial_set)
    if known is None:
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
