"""The flow ``collect``: asks an agent's servers what is left of a trial set, and publishes the answers.

Every answer is in a journal on disk before it counts; every hundred thousand become a version. Whatever ends a run, the
next one first publishes what waits and then asks only what no version and no journal holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.errors import CollectionError, LeaseError, UsageError
from affectlake.flows.build import GPU_TAG, one_at_a_time_per_gpu
from affectlake.flows.prefect_server import temporary_server
from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.answers import FATAL, MEANING, RETRYABLE, Failure
from affectlake.judge.requests.client import api_key
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.judge.requests.run_statistics import Account, Ending, Progress
from affectlake.judge.requests.server_process import serve
from affectlake.judge.responses.tables import is_parsable
from affectlake.judge.trials.plan import Plan
from affectlake.judge.trials.shares import Share
from affectlake.lake.store.versions import Version
from affectlake.pipelines.collection.planning import chat_agent, plan_questions
from affectlake.pipelines.collection.publishing import (
    Say,
    leases,
    make_ready,
    open_journal,
    publish_waiting,
    server_log,
)
from affectlake.pipelines.collection.status import Estimate, estimate
from affectlake.pipelines.engine.model_runs import record_collection
from affectlake.pipelines.engine.tracking_server import answer_limit_s
from affectlake.pipelines.params.study import Params, load
from affectlake.pipelines.stored import known_proposals
from affectlake.process import lease

PER_VERSION = 100_000
SAMPLE = 40
"""Questions asked to measure tokens and the rate, where nothing is measured yet."""

_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 900.0


@dataclass(frozen=True)
class Wanted:
    """What a run is asked for.

    Parameters
    ----------
    agent : str
        Whose answers.
    trial_set : str
        ``main``, ``validation`` or ``noise_ceiling``.
    limit : int or None
        Ask at most so many questions; None: all that are left.
    until_done : bool
        Come back after a pause when the servers are away or fail too often, instead of ending.
    retry_failed : bool
        Ask only what failed for good before.
    proposed : bool
        Ask only what `affectlake propose` proposed last.
    share : Share or None
        Ask only this share of the questions; None: every one.
    """

    agent: str
    trial_set: str = "main"
    limit: int | None = None
    until_done: bool = False
    retry_failed: bool = False
    proposed: bool = False
    share: Share | None = None

    @property
    def of(self) -> str:
        """What it is of: ``qwen2-vl · main · share 1 of 2``."""
        return " · ".join([self.agent, self.trial_set, *([str(self.share)] if self.share else [])])


class Shown(NamedTuple):
    """How far a run is: questions done in it, how many it is to do, and what the present round says."""

    n_done: int
    n_wanted: int
    progress: Progress


class Collected(NamedTuple):
    """What a run did.

    Attributes
    ----------
    wanted : Wanted
        What was asked for.
    n_added : int
        Answers that this run asked for, all published.
    n_failed : int
        Questions that failed for good in it; each is a published row as well.
    n_done, n_planned : int
        Questions of the trial set, or of the share of it, that have an answer or have failed for good, and all of them.
    n_unaskable : int
        Those among all that cannot be asked: a stimulus has no caption or no frames.
    n_set_aside : int
        Answers of this run that cannot be published and are in quarantine; not among `n_added` and `n_done`.
    ending : {'complete', 'limit', 'stopped', 'circuit'}
        Why it ended.
    version : Version or None
        The last version it made; None if there was nothing to publish.
    """

    wanted: Wanted
    n_added: int
    n_failed: int
    n_done: int
    n_planned: int
    n_unaskable: int
    n_set_aside: int
    ending: Ending
    version: Version | None

    @property
    def n_asked(self) -> int:
        """Questions that came to an end in it."""
        return self.n_added + self.n_failed + self.n_set_aside

    def __str__(self) -> str:
        """Return the headline: ``qwen2-vl · main: +100,000 (2,100,000 of 7,125,330)``."""
        extras = [f"{self.n_failed:,} failed for good"] if self.n_failed else []
        extras += [f"{self.n_unaskable:,} cannot be asked"] if self.n_unaskable else []
        extras += [f"{self.n_set_aside:,} in quarantine"] if self.n_set_aside else []
        line = f"{self.wanted.of}: +{self.n_added:,} ({self.n_done:,} of {self.n_planned:,})"
        return "; ".join([line, *extras])


class _Round(NamedTuple):
    """How a round ended: as an account says or with an error, and whether it can help to come back later."""

    ending: Ending | None
    error: CollectionError | None
    may_pass: bool


def collect_answers(
    lake: Path, wanted: Wanted, say: Say, show: Callable[[Shown], None] = lambda _shown: None
) -> Collected:
    """Ask what is left of a trial set, up to a limit, and publish the answers.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    wanted : Wanted
        What to ask.
    say : callable
        Takes one line of progress.
    show : callable
        Told every second how far it is.

    Raises
    ------
    UsageError
        No such agent or trial set, nothing to show, no API key, or a limit that is no number of questions.
    LeaseError
        If another run collects this agent's answers.
    CollectionError
        If the servers cannot be asked, or failed too often. What was answered until then is published.
    LakeError
        If an older version is checked out, or a table was changed by hand; nothing is asked then.
    """
    with _ready_run(lake, wanted, say, show) as run:
        return run.to_the_end()


@contextmanager
def _ready_run(lake: Path, wanted: Wanted, say: Say, show: Callable[[Shown], None]) -> Iterator[_Run]:
    """Hold the agent's lease, publish what an earlier run left, and plan what is left to ask."""
    if wanted.limit is not None and wanted.limit < 1:
        raise UsageError(f"--limit {wanted.limit} asks nothing", wanted="1 or more")
    params = load(lake)
    agent = chat_agent(params, wanted.agent)
    api_key(agent.api_key_env)
    answer_limit_s()  # a wrong number is refused before anything is asked
    with lease.hold(leases(lake), agent.name) as held:
        make_ready(lake, agent.name, say)
        left = publish_waiting(lake, agent.name, say)
        if left.n_added > left.n_taken_back:
            n = left.n_added - left.n_taken_back
            say(f"{agent.name}: {n:,} answers of a run that was cut off are published")
        yield _Run(lake, params, agent, wanted, held, say, show, left.version)


def collect_proposed(
    lake: Path, agent: str, n: int, say: Say, show: Callable[[Shown], None] = lambda _shown: None
) -> Collected:
    """Ask what is left of the last round of proposals; if nothing is, have `n` triplets proposed, and ask these.

    Parameters
    ----------
    lake, say, show
        As for :func:`collect_answers`.
    agent : str
        Whose answers.
    n : int
        Ask at most so many questions, and have so many proposed.

    Raises
    ------
    AffectlakeError
        As :func:`collect_answers`, and :func:`affectlake.pipelines.collection.proposals.propose`.
    """
    from affectlake.pipelines.collection.proposals import propose

    wanted = Wanted(agent, limit=n, proposed=True)
    if known_proposals(lake, agent) is not None:
        left = collect_answers(lake, wanted, say, show)
        if left.n_asked or left.ending == "stopped" or left.n_done + left.n_unaskable == left.n_planned:
            return left
    done = propose(lake, load(lake), agent, n, say)
    say(f"{done.agent}: round {done.round} proposes {done.n_to_learn + done.n_held_out:,} of {done.n_open:,} triplets")
    return collect_answers(lake, wanted, say, show)


@contextmanager
def served(lake: Path, agent: ChatAgent, key: str, say: Say) -> Iterator[tuple[str, ...]]:
    """Have the agent's servers: those that are up and, where it says how to, one that is started here."""
    if agent.server is None:
        yield agent.servers
        return
    say(f"{agent.name}: waiting for the server on port {agent.server.port}, at most {agent.server.start_limit_s:g} s")
    with serve(agent.server, server_log(lake, agent.name), [key] if key else []) as found:
        how = f"started in {found.seconds:.0f} s" if found.started_here else "was up already"
        say(f"{agent.name}: the server at {found.url} {how}")
        yield agent.servers


class _Run:
    """One run: a plan, and rounds of asking and publishing. It keeps to the parameters it began with."""

    def __init__(
        self,
        lake: Path,
        params: Params,
        agent: ChatAgent,
        wanted: Wanted,
        held: lease.Lease,
        say: Say,
        show: Callable[[Shown], None],
        version: Version | None,
    ) -> None:
        self.lake, self.params, self.agent, self.wanted = lake, params, agent, wanted
        self.held, self.say, self.show, self.version = held, say, show, version
        self.n_answered = self.n_failed = self.n_set_aside = 0
        self.plan = self._planned()
        self.n_wanted = self.plan.n_left

    @property
    def n_asked(self) -> int:
        """Questions of this run that have come to an end."""
        return self.n_answered + self.n_failed

    def _planned(self) -> Plan:
        """Plan what is left to ask, against what is published."""
        wanted, self.n_asked_before = self.wanted, self.n_asked
        self.n_done_before = self.n_asked - self.n_set_aside
        return plan_questions(
            self.lake,
            self.params,
            self.agent.name,
            wanted.trial_set,
            limit=None if wanted.limit is None else wanted.limit - self.n_asked,
            retry_failed=wanted.retry_failed,
            proposed=wanted.proposed,
            share=wanted.share,
        )

    def to_the_end(self) -> Collected:
        """Ask and publish until there is nothing left, the limit is reached, or it is stopped."""
        key, pause_s = api_key(self.agent.api_key_env), _PAUSE_S
        while self.plan.n_left:
            with served(self.lake, self.agent, key, self.say) as urls:
                done = self._rounds(urls)
            if done.ending == "stopped":
                return self._collected("stopped")
            if done.error is None:
                break
            if not (self.wanted.until_done and done.may_pass):
                raise done.error
            pause_s = _PAUSE_S if self.n_asked > self.n_asked_before else pause_s
            self.say(f"{done.error.summary}: {done.error.found}; asking again in {pause_s:.0f} s")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if self.wanted.limit is not None and self.n_asked >= self.wanted.limit:
                break
            self.plan = self._planned()
        return self._collected("complete" if self.wanted.limit is None or self.n_asked < self.wanted.limit else "limit")

    def _rounds(self, urls: tuple[str, ...]) -> _Round:
        """Ask the plan, a version's worth at a time; return how the last round ended."""
        done = _Round("complete", None, may_pass=False)
        for start in range(0, self.plan.n_left, PER_VERSION):
            done = self._round(self.plan.part(start, start + PER_VERSION), urls)
            if done.ending != "complete":
                break
        return done

    def _round(self, plan: Plan, urls: tuple[str, ...]) -> _Round:
        """Ask a part of the plan, and publish it whatever comes of it."""
        try:
            account = self._ask(plan, Target(urls, self.agent.model, self.agent.api_key_env))
        except CollectionError as error:
            self._publish()
            cause = error.__cause__
            return _Round(None, error, may_pass=isinstance(cause, Failure) and cause.kind in RETRYABLE)
        if self.held.lost.is_set():
            raise LeaseError(
                f"another run has taken over the collection of {self.agent.name}",
                todo="let it go on; what this one asked waits in the journal and is published by it or by the next",
            )
        self.n_answered += account.n_answered
        self.n_failed += account.n_failed
        self._publish()
        record_collection(self.lake, self.params, self.agent, self.wanted.trial_set, account, self.say)
        if account.ending != "circuit":
            return _Round(account.ending, None, may_pass=False)
        hopeless = account.why.startswith(tuple(MEANING[kind] for kind in FATAL))
        return _Round("circuit", stopped_by_itself(account), may_pass=not hopeless)

    def _ask(self, plan: Plan, target: Target) -> Account:
        before = self.n_asked
        with open_journal(self.lake, self.params, self.agent) as journal:
            return collect(
                plan.questions(),
                journal,
                target,
                Limits(concurrency=self.agent.in_flight),
                retry_failed=self.wanted.retry_failed,
                stops=[self.held.lost],
                progress=lambda now: self.show(Shown(before + now.n_answered + now.n_failed, self.n_wanted, now)),
                reads=partial(is_parsable, self.agent.asking.reading),
            )

    def _publish(self) -> None:
        done = publish_waiting(self.lake, self.agent.name, self.say)
        self.version = done.version or self.version
        self.n_set_aside += done.n_set_aside

    def _collected(self, ending: Ending) -> Collected:
        """Return what the run did. What failed for good counts as done, also while it is asked again."""
        since = self.plan.n_open if self.wanted.retry_failed else self.n_asked - self.n_set_aside - self.n_done_before
        return Collected(
            wanted=self.wanted,
            n_added=self.n_answered - self.n_set_aside,
            n_failed=self.n_failed,
            n_done=self.plan.n_answered + since,
            n_planned=self.plan.n_planned,
            n_unaskable=self.plan.n_unaskable,
            n_set_aside=self.n_set_aside,
            ending=ending,
            version=self.version,
        )


def stopped_by_itself(account: Account) -> CollectionError:
    """Return what is said of a run that its circuit stopped."""
    return CollectionError(
        "the run stopped: the servers fail too often",
        found=account.why,
        todo="see the servers' logs, then run it again; --until-done comes back by itself after a pause",
    )


def estimated(lake: Path, wanted: Wanted, say: Say, show: Callable[[Shown], None]) -> Estimate:
    """Say what asking the rest takes; where too little is known, a sample is asked first, and published.

    Raises
    ------
    AffectlakeError
        As :func:`collect_answers`.
    """
    params = load(lake)
    agent = chat_agent(params, wanted.agent)

    def look() -> Estimate | None:
        plan = plan_questions(
            lake,
            params,
            agent.name,
            wanted.trial_set,
            limit=wanted.limit,
            retry_failed=wanted.retry_failed,
            proposed=wanted.proposed,
            share=wanted.share,
        )
        return estimate(lake, params, agent, wanted.trial_set, plan.n_left)

    found = look()
    if found is None:
        say(f"{agent.name}: nothing measured yet; {SAMPLE} questions are asked (their answers count)")
        collect_answers(lake, Wanted(agent.name, wanted.trial_set, limit=SAMPLE, share=wanted.share), say, show)
        found = look()
    if found is None:
        raise CollectionError(
            f"{agent.name} cannot be measured",
            found="too few of its questions were answered",
            todo="see its failures: `affectlake status`",
        )
    return found


def ask_task(agent: ChatAgent, trial_set: str, ask: Callable[[], object]) -> Any:
    """Return `ask` as a Prefect task; where the agent's server is started by it, it has a GPU to itself."""
    from prefect import task

    tags = {GPU_TAG} if agent.server is not None else set[str]()
    if tags:
        one_at_a_time_per_gpu()
    return task(name="ask", task_run_name=f"ask-{agent.name}-{trial_set}", tags=tags)(ask)


def run_collection(
    lake: Path,
    wanted: Wanted,
    say: Say,
    show: Callable[[Shown], None] = lambda _shown: None,
    ended: Callable[[Collected], None] = lambda _done: None,
) -> Collected:
    """Do :func:`collect_answers` as the Prefect flow ``collect``; one that starts a server has a GPU to itself.

    Where there is nothing to ask there is no Prefect.

    Parameters
    ----------
    lake, wanted, say, show
        As there.
    ended : callable
        Told what was done as soon as it is, before Prefect is.
    """
    with _ready_run(lake, wanted, say, show) as run:
        if not run.plan.n_left:
            return run.to_the_end()
        with temporary_server(say):
            return _run_flow(run, ended)


def _run_flow(run: _Run, ended: Callable[[Collected], None]) -> Collected:
    """Ask and publish as a Prefect flow."""
    from prefect import flow

    failures: list[Exception] = []

    def ask() -> Collected:
        try:
            done = run.to_the_end()
        except Exception as error:
            failures.append(error)
            raise
        ended(done)
        return done

    asking = ask_task(run.agent, run.wanted.trial_set, ask)

    @flow(name="collect", flow_run_name=f"collect-{run.wanted.agent}-{run.wanted.trial_set}")
    def collecting() -> Any:
        return asking()

    try:
        found: Any = collecting()
    except Exception:
        for error in failures:
            raise error from error.__cause__
        raise
    done: Collected = found
    return done
