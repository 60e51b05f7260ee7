"""The cost of a collection before it is run: measured on earlier answers, or on a small sample."""

from __future__ import annotations

from pathlib import Path

from affectlake.errors import CollectionError
from affectlake.pipelines.collection.planning import chat_agent, plan_questions
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.collection.request import CollectionRequest, OnProgress, ignore_progress
from affectlake.pipelines.collection.run import collect_answers
from affectlake.pipelines.collection.status import Estimate, estimate
from affectlake.pipelines.params.study import load

SAMPLE = 40
"""Questions asked to measure tokens and rate if no earlier answers exist."""


def estimate_cost(
    lake: Path, request: CollectionRequest, log: Log, on_progress: OnProgress = ignore_progress
) -> Estimate:
    """Estimate requests, tokens, hours and money of a request; first ask and publish a sample if nothing is known.

    Parameters
    ----------
    lake, request, log, on_progress
        As for :func:`affectlake.pipelines.collection.run.collect_answers`.

    Returns
    -------
    Estimate
        The estimate for the remaining questions.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.collection.run.collect_answers`.
    """
    params = load(lake)
    agent = chat_agent(params, request.agent)

    def estimate_now() -> Estimate | None:
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
        return estimate(lake, params, agent, request.trial_set, plan.n_left)

    known = estimate_now()
    if known is None:
        log(f"{agent.name}: nothing measured yet; {SAMPLE} questions are asked (their answers count)")
        sample = CollectionRequest(agent.name, request.trial_set, limit=SAMPLE, share=request.share)
        collect_answers(lake, sample, log, on_progress)
        known = estimate_now()
    if known is None:
        raise CollectionError(
            f"{agent.name} cannot be measured",
            found="too few of its questions were answered",
            todo="see its failures: `affectlake status`",
        )
    return known
