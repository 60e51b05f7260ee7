"""A collection: ask an agent's servers the remaining questions of a trial set, and publish the answers.

Every answer is in a journal on disk before it is counted, and every hundred thousand answers become a version. After
an interrupted run, the next one first publishes what the journals hold and then asks only the questions that neither a
version nor a journal has an answer to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import CollectionError, LeaseError, UsageError
from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.answers import FATAL, MEANING, RETRYABLE, Answer, Failure
from affectlake.judge.requests.client import api_key
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.request_limits import Target
from affectlake.judge.requests.run_statistics import Account, Ending, Progress
from affectlake.judge.responses.quality import quality, useless
from affectlake.judge.responses.tables import parsed_answer
from affectlake.judge.trials.plan import Plan
from affectlake.judge.vectors.easy import EASY
from affectlake.pipelines.collection.planning import EASY_TRIALS, chat_agent, easy_score_of, exists, plan_questions
from affectlake.pipelines.collection.publishing import (
    Log,
    leases,
    open_journal,
    prepare_to_publish,
    publish_waiting,
)
from affectlake.pipelines.collection.request import (
    CollectionProgress,
    CollectionRequest,
    CollectionResult,
    OnProgress,
    OnTally,
    Tally,
    ignore_progress,
    ignore_tally,
)
from affectlake.pipelines.collection.servers import agent_servers, circuit_error, limits_of, target_of
from affectlake.pipelines.engine.model_runs import record_collection
from affectlake.pipelines.engine.tracking_server import answer_limit_s
from affectlake.pipelines.params.study import Params, load
from affectlake.process import lease

PER_VERSION = 100_000
_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 900.0


@dataclass(frozen=True)
class RunContext:
    """What does not change during a run: the lake, the parameters it began with, the request, lease and callbacks."""

    lake: Path
    params: Params
    agent: ChatAgent
    request: CollectionRequest
    lease: lease.Lease
    log: Log
    on_progress: OnProgress
    on_tally: OnTally = ignore_tally


class Attempt(NamedTuple):
    """A plan of the remaining questions, the counts of the run at that time, and the easy trials to ask first."""

    plan: Plan
    before: Tally
    easy: Plan | None = None


class _Outcome(NamedTuple):
    """How a round ended: an ending or an error, whether a later attempt may succeed, and the counts after it."""

    ending: Ending | None
    error: CollectionError | None
    is_retryable: bool
    tally: Tally


def collect_answers(
    lake: Path,
    request: CollectionRequest,
    log: Log,
    on_progress: OnProgress = ignore_progress,
    on_tally: OnTally = ignore_tally,
) -> CollectionResult:
    """Ask the remaining questions of a trial set, up to a limit, and publish the answers.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    request : CollectionRequest
        What to ask.
    log : callable
        Takes one line of progress.
    on_progress : callable
        Called every second with the progress of the run.
    on_tally : callable
        Called every second, and when answers were published, with the counts of the run so far.

    Returns
    -------
    CollectionResult
        What the run did.

    Raises
    ------
    UsageError
        If the agent or trial set does not exist, there is nothing to show, the API key is missing, or the limit is
        below 1.
    LeaseError
        If another run collects this agent's answers.
    CollectionError
        If the servers cannot be asked, or failed too often. The answers until then are published.
    LakeError
        If an older version is checked out, or a table was changed by hand; nothing is asked then.
    """
    with open_run(lake, request, log, on_progress, on_tally) as (context, first):
        return run_to_end(context, first)


class Sampled(NamedTuple):
    """The answers and failures of a sample, which are in the journal, and the account of the run that asked."""

    answers: list[Answer]
    account: Account


def ask_sample(lake: Path, request: CollectionRequest, log: Log, on_progress: OnProgress = ignore_progress) -> Sampled:
    """Ask the questions of a request without publishing the answers: the next collection publishes them.

    Parameters
    ----------
    lake, request, log, on_progress
        As for :func:`collect_answers`.

    Raises
    ------
    AffectlakeError
        As :func:`collect_answers`.
    """
    params = load(lake)
    agent = chat_agent(params, request.agent)
    key = api_key(agent.api_key_env)
    with lease.hold(leases(lake), agent.name) as held:
        context = RunContext(lake, params, agent, replace(request, anyway=True), held, log, on_progress)
        plan = plan_attempt(context, Tally()).plan
        with agent_servers(lake, agent, key, log) as urls:
            account = _ask(context, plan, target_of(agent, urls), Tally(), plan.n_left)
        with open_journal(lake, params, agent) as journal:
            answers = list(journal.find(question.key for question in plan.questions()).values())
    if account.ending == "circuit":
        raise circuit_error(account)
    return Sampled(answers, account)


@contextmanager
def open_run(
    lake: Path,
    request: CollectionRequest,
    log: Log,
    on_progress: OnProgress = ignore_progress,
    on_tally: OnTally = ignore_tally,
) -> Iterator[tuple[RunContext, Attempt]]:
    """Hold the agent's lease, publish what an earlier run left in the journals, and plan the remaining questions."""
    if request.limit is not None and request.limit < 1:
        raise UsageError("--limit must be at least 1", found=str(request.limit))
    params = load(lake)
    agent = chat_agent(params, request.agent)
    api_key(agent.api_key_env)
    answer_limit_s()  # raises if MLflow's variables are invalid, before anything is asked
    with lease.hold(leases(lake), agent.name) as held:
        prepare_to_publish(lake, agent.name, log)
        left = publish_waiting(lake, agent.name, log)
        if left.n_added > left.n_taken_back:
            n = left.n_added - left.n_taken_back
            log(f"{agent.name}: {n:,} answers of an interrupted run are published")
        context = RunContext(lake, params, agent, request, held, log, on_progress, on_tally)
        yield context, plan_attempt(context, Tally(version=left.version))


def plan_attempt(context: RunContext, tally: Tally) -> Attempt:
    """Plan the remaining questions, from the published answers and the remaining limit."""
    request = context.request
    plan = plan_questions(
        context.lake,
        context.params,
        context.agent.name,
        request.trial_set,
        limit=None if request.limit is None else request.limit - tally.n_asked,
        retry_failed=request.retry_failed,
        proposed=request.proposed,
        share=request.share,
        sample=request.sample,
    )
    easy = plan_easy(context.lake, context.params, request, context.log) if plan.n_left else None
    return Attempt(plan, tally, easy)


def plan_easy(lake: Path, params: Params, request: CollectionRequest, log: Log) -> Plan | None:
    """Return the plan of the easy trials that a collection asks first; None if there are none.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    params : Params
        Its parameters.
    request : CollectionRequest
        What to ask. A request for particular trials (a sample, proposals, failures, the easy trials themselves) is not
        preceded by easy trials.
    log : callable
        Takes one line if the study has easy trials that do not exist yet.
    """
    if params.easy_trials is None or request.trial_set == EASY:
        return None
    if request.retry_failed or request.proposed or request.sample is not None:
        return None
    if not exists(lake, EASY_TRIALS):
        log("no easy trials are asked first: `affectlake run` makes them")
        return None
    plan = plan_questions(lake, params, request.agent, EASY, share=request.share)
    return plan if plan.n_left else None


def run_to_end(context: RunContext, first: Attempt) -> CollectionResult:
    """Ask and publish until no question remains, the limit is reached, or the run is stopped."""
    request, key, n_wanted = context.request, api_key(context.agent.api_key_env), first.plan.n_left
    attempt, tally, pause_s = first, first.before, _FIRST_PAUSE_S
    while attempt.plan.n_left:
        with agent_servers(context.lake, context.agent, key, context.log) as urls:
            outcome = _ask_easy(context, attempt, urls)
            if outcome.ending == "complete":
                outcome = _ask_plan(context, attempt._replace(before=outcome.tally), urls, n_wanted)
        tally = outcome.tally
        if outcome.ending == "stopped":
            return _result(context, attempt, tally, "stopped")
        if outcome.error is None:
            break
        if not (request.until_done and outcome.is_retryable):
            raise outcome.error
        pause_s = _FIRST_PAUSE_S if tally.n_asked > attempt.before.n_asked else pause_s
        context.log(f"{outcome.error.summary}: {outcome.error.found}; asking again in {pause_s:.0f} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if request.limit is not None and tally.n_asked >= request.limit:
            break
        attempt = plan_attempt(context, tally)
    complete = request.limit is None or tally.n_asked < request.limit
    return _result(context, attempt, tally, "complete" if complete else "limit")


def _ask_easy(context: RunContext, attempt: Attempt, urls: tuple[str, ...]) -> _Outcome:
    """Ask the easy trials, if there are any, and log how many were right. They are not counted."""
    before = attempt.before
    if attempt.easy is None:
        return _Outcome("complete", None, is_retryable=False, tally=before)
    name, n = context.agent.name, attempt.easy.n_left
    context.log(f"{name}: {n:,} requests of easy trials first")
    wanted = replace(context.request, trial_set=EASY, limit=None, anyway=True)
    own = replace(context, request=wanted, on_tally=ignore_tally)
    outcome = _ask_plan(own, Attempt(attempt.easy, Tally(version=before.version)), urls, n)
    score = easy_score_of(context.lake, context.agent)
    if score.n:
        context.log(f"{name}: right in {score}")
    if score.verdict:
        context.log(f"warning: {name} is not shown to be better than chance in trials that are easy by the ratings")
    return outcome._replace(tally=before._replace(version=outcome.tally.version))


def _ask_plan(context: RunContext, attempt: Attempt, urls: tuple[str, ...], n_wanted: int) -> _Outcome:
    """Ask a plan in rounds, each of which becomes a version; return how the last round ended."""
    outcome = _Outcome("complete", None, is_retryable=False, tally=attempt.before)
    for start in range(0, attempt.plan.n_left, PER_VERSION):
        outcome = _ask_round(context, attempt.plan.part(start, start + PER_VERSION), urls, outcome.tally, n_wanted)
        if outcome.ending != "complete":
            break
    return outcome


def _ask_round(context: RunContext, plan: Plan, urls: tuple[str, ...], tally: Tally, n_wanted: int) -> _Outcome:
    """Ask a part of a plan, and publish the answers even if the round fails."""
    agent = context.agent
    try:
        account = _ask(context, plan, target_of(agent, urls), tally, n_wanted)
    except CollectionError as error:
        tally = _published(context, tally)
        cause = error.__cause__
        return _Outcome(None, error, isinstance(cause, Failure) and cause.kind in RETRYABLE, tally)
    if context.lease.lost.is_set():
        raise LeaseError(
            f"another run has taken over the collection of {agent.name}",
            todo="let it continue; its journal holds the answers of this run, which that run or the next publishes",
        )
    tally = _published(context, tally.asked(account))
    record_collection(context.lake, context.params, agent, context.request.trial_set, account, context.log)
    if account.ending == "useless":
        return _Outcome(None, _useless_error(context, account.why), is_retryable=False, tally=tally)
    if account.ending != "circuit":
        return _Outcome(account.ending, None, is_retryable=False, tally=tally)
    is_fatal = account.why.startswith(tuple(MEANING[kind] for kind in FATAL))
    return _Outcome("circuit", circuit_error(account), not is_fatal, tally)


def _published(context: RunContext, tally: Tally) -> Tally:
    """Publish the answers in the journals, and return the counts after it."""
    done = publish_waiting(context.lake, context.agent.name, context.log)
    found = tally._replace(version=done.version or tally.version, n_set_aside=tally.n_set_aside + done.n_set_aside)
    context.on_tally(found)
    return found


def _ask(context: RunContext, plan: Plan, target: Target, before: Tally, n_wanted: int) -> Account:
    def show(now: Progress) -> None:
        context.on_progress(CollectionProgress(before.n_asked + now.n_answered + now.n_failed, n_wanted, now))
        context.on_tally(before.asked(now))

    with open_journal(context.lake, context.params, context.agent) as journal:
        account = collect(
            plan.questions(),
            journal,
            target,
            limits_of(context.agent),
            retry_failed=context.request.retry_failed,
            stops=[context.lease.lost],
            progress=show,
            reads=partial(parsed_answer, context.agent.asking),
            useless=_never if context.request.anyway else partial(_useless, context.agent.weighs_answers),
        )
    for server in () if before.n_asked or context.request.trial_set == EASY else account.servers:
        if server.limited_by:
            context.log(f"{context.agent.name}: {server.url} limits answers to labels by {server.limited_by}")
    return account


def _useless(weighs: bool, positions: Mapping[int, int], unread: Mapping[str, int]) -> str:
    return useless(quality(positions, unread, weighs=weighs))


def _never(_positions: Mapping[int, int], _unread: Mapping[str, int]) -> str:
    return ""


def _useless_error(context: RunContext, why: str) -> CollectionError:
    name = context.agent.name
    return CollectionError(
        f"the run stopped: the answers of {name} are of no use so far; they are published",
        found=why,
        todo=f"look at some (affectlake query \"select answer from responses where agent = '{name}' limit 5\"), then "
        "change the prompt, the model, or `orders`; with --anyway, a run continues",
    )


def _result(context: RunContext, last: Attempt, tally: Tally, ending: Ending) -> CollectionResult:
    """Return what the run did. Questions that failed for good count as done, also while they are asked again."""
    since = last.plan.n_open if context.request.retry_failed else tally.n_done - last.before.n_done
    return CollectionResult(
        request=context.request,
        n_added=tally.n_answered - tally.n_set_aside,
        n_failed=tally.n_failed,
        n_done=last.plan.n_answered + since,
        n_planned=last.plan.n_planned,
        n_unaskable=last.plan.n_unaskable,
        n_set_aside=tally.n_set_aside,
        ending=ending,
        version=tally.version,
        n_answered=tally.n_answered,
        n_parsed=tally.n_parsed,
        n_refused=tally.n_refused,
    )
