"""Asking trials with and without prompt injections: like a collection, but no answer enters a table or a version."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from affectlake.judge.requests.client import api_key
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.run_statistics import Account, Progress
from affectlake.judge.responses.tables import parsed_answer
from affectlake.pipelines.collection.injections import (
    InjectionSummary,
    injection_effects,
    open_injection_journal,
    plan_injections,
    questions,
)
from affectlake.pipelines.collection.planning import chat_agent
from affectlake.pipelines.collection.publishing import Log, leases
from affectlake.pipelines.collection.request import CollectionProgress, OnProgress, ignore_progress
from affectlake.pipelines.collection.servers import agent_servers, circuit_error, limits_of, target_of
from affectlake.pipelines.params.study import load
from affectlake.process import lease


class InjectionResult(NamedTuple):
    """Effects of the prompt injections (of all together first), and the statistics of the run."""

    effects: list[InjectionSummary]
    account: Account


def measure_injections(
    lake: Path, name: str, trial_set: str, n: int, log: Log, on_progress: OnProgress = ignore_progress
) -> InjectionResult:
    """Ask an agent `n` trials with and without prompt injections, and measure whether its choices follow them.

    Answers are kept in a journal of their own. Those of earlier runs are not asked again, unless they failed.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    name, trial_set : str
        Name of the agent, and trial set from which trials are drawn.
    n : int
        Number of trials, each of which is two requests.
    log : callable
        Takes one line of progress.
    on_progress : callable
        Called every second with the progress of the run.

    Returns
    -------
    InjectionResult
        The effects, and the statistics of the run.

    Raises
    ------
    UsageError
        If the agent or trial set does not exist, the agent is not shown captions, or the API key is missing.
    LeaseError
        If answers of this agent are being collected.
    CollectionError
        If the servers cannot be asked, or failed too often. The answers until then are kept.
    """
    params = load(lake)
    agent = chat_agent(params, name)
    plan = plan_injections(lake, params, name, trial_set, n)
    key = api_key(agent.api_key_env)
    n_wanted = 2 * plan.n_left

    def show(now: Progress) -> None:
        on_progress(CollectionProgress(now.n_held + now.n_answered + now.n_failed, n_wanted, now))

    with lease.hold(leases(lake), name) as held, open_injection_journal(lake, name) as journal:
        with agent_servers(lake, agent, key, log) as urls:
            account = collect(
                questions(plan),
                journal,
                target_of(agent, urls),
                limits_of(agent),
                retry_failed=True,
                stops=[held.lost],
                progress=show,
                reads=partial(parsed_answer, agent.asking),
            )
        if account.ending == "circuit":
            raise circuit_error(account)
        return InjectionResult(injection_effects(plan, journal), account)
