"""The flow ``collect``: a collection as a Prefect flow, whose one task has a GPU to itself if it starts a server.

The collection itself is :mod:`affectlake.pipelines.collection.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from affectlake.flows.build import GPU_TAG, build_questions, one_at_a_time_per_gpu
from affectlake.flows.one_task import run_as_flow
from affectlake.flows.prefect_server import temporary_server
from affectlake.judge.chat import ChatAgent
from affectlake.pipelines.collection.planning import chat_agent
from affectlake.pipelines.collection.publishing import Log
from affectlake.pipelines.collection.request import CollectionRequest, CollectionResult, OnProgress, ignore_progress
from affectlake.pipelines.collection.run import Attempt, RunContext, open_run, run_to_end
from affectlake.pipelines.params.study import load


def ask_task(agent: ChatAgent, trial_set: str, ask: Callable[[], object]) -> Any:
    """Return `ask` as a Prefect task.

    If it starts the agent's server, it has a GPU to itself: the device that the agent names, for which
    :func:`affectlake.process.device_queue.hold_device` waits, or else one of those that Prefect's server counts.
    """
    from prefect import task

    tags = {GPU_TAG} if agent.server is not None and not agent.server.device else set[str]()
    if tags:
        one_at_a_time_per_gpu()
    return task(name="ask", task_run_name=f"ask-{agent.name}-{trial_set}", tags=tags)(ask)


def run_collection(
    lake: Path,
    request: CollectionRequest,
    log: Log,
    on_progress: OnProgress = ignore_progress,
    on_end: Callable[[CollectionResult], None] = lambda _done: None,
) -> CollectionResult:
    """Run a collection as the Prefect flow ``collect``; without Prefect if no question remains.

    Parameters
    ----------
    lake, request, log, on_progress
        As for :func:`affectlake.pipelines.collection.run.collect_answers`.
    on_end : callable
        Called with the result before the flow ends.

    Returns
    -------
    CollectionResult
        What the run did.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.collection.run.collect_answers`.
    """
    build_questions(lake, chat_agent(load(lake), request.agent), log)
    with open_run(lake, request, log, on_progress) as (context, first):
        if not first.plan.n_left:
            return run_to_end(context, first)
        with temporary_server(log):
            return _run_flow(context, first, on_end)


def _run_flow(context: RunContext, first: Attempt, on_end: Callable[[CollectionResult], None]) -> CollectionResult:
    """Ask and publish as a Prefect flow."""
    agent, trial_set = context.agent, context.request.trial_set

    def ask() -> CollectionResult:
        done = run_to_end(context, first)
        on_end(done)
        return done

    return run_as_flow("collect", f"collect-{agent.name}-{trial_set}", partial(ask_task, agent, trial_set), ask)
