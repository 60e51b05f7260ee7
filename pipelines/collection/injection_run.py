"""Asking canaries: the servers, journal and limits of a collection, and not one row of a table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from affectlake.judge.requests.client import api_key
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Account
from affectlake.judge.responses.tables import is_parsable
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
from affectlake.pipelines.collection.servers import agent_servers, circuit_error
from affectlake.pipelines.params.study import load
from affectlake.process import lease


class InjectionResult(NamedTuple):
    """What came of asking canaries: the effects (all together first), and what the run did."""

    effects: list[InjectionSummary]
    account: Account


def measure_injections(lake: Path, name: str, trial_set: str, n: int, log: Log, show: OnProgress = ignore_progress) -> InjectionResult:
    """Ask an agent `n` trials with canaries and without, and say whether its choices follow them.

    What a journal of their own holds from before is not asked again, unless it failed.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    name, trial_set : str
        Who is asked, and trials of which set.
    n : int
        Trials; each is two requests.
    log, show : callable
        Take a line of progress, and every second how far it is.

    Raises
    ------
    UsageError
        No such agent or trial set, no captions to inject, no API key.
    LeaseError
        If answers of this agent are being collected.
    CollectionError
        If the servers cannot be asked, or failed too often. What was answered is kept.
    """
    params = load(lake)
    agent = chat_agent(params, name)
    plan = plan_injections(lake, params, name, trial_set, n)
    key = api_key(agent.api_key_env)
    n_wanted = 2 * plan.n_left
    with lease.hold(leases(lake), name) as held, open_injection_journal(lake, name) as journal:
        with agent_servers(lake, agent, key, log) as urls:
            account = collect(
                questions(plan),
                journal,
                Target(urls, agent.model, agent.api_key_env),
                Limits(concurrency=agent.in_flight),
                retry_failed=True,
                stops=[held.lost],
                progress=lambda now: show(
                    CollectionProgress(now.n_held + now.n_answered + now.n_failed, n_wanted, now)
                ),
                reads=partial(is_parsable, agent.asking.reading),
            )
        if account.ending == "circuit":
            raise circuit_error(account)
        return InjectionResult(injection_effects(plan, journal), account)
