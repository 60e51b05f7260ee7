"""Collection of answers: asks the questions that are not in the journal, stores the answers, and returns a summary.

Questions are read slightly ahead of the requests, so that memory does not grow with the number of questions. Each
question is answered, fails for good (which is stored as a row), or remains for the next run. No question is lost or
answered twice. After a kill, only requests that were under way, and answers not yet committed, are asked again.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol

from affectlake.errors import CollectionError
from affectlake.judge.requests.adaptive_limit import AdaptiveLimit
from affectlake.judge.requests.answers import FATAL, MEANING, RETRYABLE, Answer, Failure, Reply, answered, failed
from affectlake.judge.requests.circuit_breaker import Circuit
from affectlake.judge.requests.client import Client, Facts, api_key
from affectlake.judge.requests.constraints import limited
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.refusals import advice
from affectlake.judge.requests.request_limits import Limits, Target, check_urls
from affectlake.judge.requests.run_statistics import Account, Ending, Progress, Reads, Tally
from affectlake.judge.requests.server_pool import Pool, Server, Task
from affectlake.judge.requests.server_tests import tested_server
from affectlake.judge.trials.questions import Question
from affectlake.process.group_commit import Commits
from affectlake.process.loop_signals import call_on_signals

DEFAULT = Limits()
_TICK_S = 0.1
_READ_AT_ONCE = 256


class Stop(Protocol):
    """A flag that ends a run, such as a ``threading.Event``."""

    def is_set(self) -> bool:
        """Return whether the run must end."""


def collect(
    questions: Iterable[Question],
    journal: Journal,
    target: Target,
    limits: Limits = DEFAULT,
    *,
    most: int | None = None,
    retry_failed: bool = False,
    stops: Sequence[Stop] = (),
    progress: Callable[[Progress], None] | None = None,
    progress_every_s: float = 1.0,
    reads: Reads | None = None,
    useless: Callable[[Mapping[int, int], Mapping[str, int]], str] = lambda _positions, _unread: "",
) -> Account:
    """Ask the questions that are not in the journal.

    Parameters
    ----------
    questions : iterable of Question
        The questions; they are read in a separate thread, slightly ahead of the requests.
    journal : Journal
        The journal that receives the answers.
    target : Target
        The servers and the model.
    limits : Limits
        Limits on rate, retries and time.
    most : int or None
        Largest number of questions to ask; None: no limit.
    retry_failed : bool
        Whether to ask questions again that failed for good and are not in a sealed shard.
    stops : sequence of Stop
        Flags that end the run, such as a lease's ``lost``: nothing further is sent, and requests under way are
        completed and their answers stored. The first SIGINT or SIGTERM has the same effect (in the main thread); a
        second one ends the run without waiting.
    progress : callable or None
        Called with the progress every `progress_every_s` seconds and at the end.
    reads : callable, optional
        Returns the position that an answer names, or None and the reason. Such answers are counted.
    useless : callable
        Takes the numbers of answers of this run by position, and of those without one by reason; returns why the run
        should end, or an empty string.

    Returns
    -------
    Account

    Raises
    ------
    UsageError
        If there is no server, a URL is not valid or contains a password, or the API key is not set.
    CollectionError
        If no server can be reached at the beginning, one does not serve the model or does not limit its answers to
        labels, or the journal cannot be written.
    """
    check_urls(target)
    client = Client(api_key(target.api_key_env), limits.timeout_s, limits.concurrency * len(target.urls))
    tally = Tally(reads)
    collector = _Collector(iter(questions), journal, client, target, limits, tally, most, retry_failed, useless)
    return asyncio.run(collector.run(stops, progress or (lambda _: None), progress_every_s))


class _Collector:
    """State of one run."""

    def __init__(
        self,
        questions: Iterator[Question],
        journal: Journal,
        client: Client,
        target: Target,
        limits: Limits,
        tally: Tally,
        most: int | None,
        retry_failed: bool,
        useless: Callable[[Mapping[int, int], Mapping[str, int]], str],
    ) -> None:
        self.useless = useless
        self.questions, self.journal, self.client = questions, journal, client
        self.target, self.limits, self.tally = target, limits, tally
        self.most, self.retry_failed = most, retry_failed
        urls = [url.rstrip("/") for url in dict.fromkeys(target.urls)]
        self.pool = Pool([Server(url, AdaptiveLimit(limits.concurrency, limits.start)) for url in urls])
        self.read_ahead = max(limits.read_ahead, 2 * limits.concurrency * len(urls))
        self.circuit = Circuit(limits.threshold)
        self.open: set[bytes] = set()  # keys of questions that have been read and are not in the journal
        self.kept_meanwhile: set[bytes] = set()  # keys that were stored while keys were looked up in the journal
        self.refused: list[Answer] = []  # failures for good before the first answer
        self.requests: set[asyncio.Task[None]] = set()
        self.delayed: set[asyncio.TimerHandle] = set()
        self.watched: dict[Server, asyncio.Task[None]] = {}
        self.ending: Ending | None = None
        self.why = ""
        self.broken: BaseException | None = None
        self.read_all = False
        self.n_taken = 0
        self.hungry: asyncio.Future[None] | None = None

    async def run(self, stops: Sequence[Stop], progress: Callable[[Progress], None], every_s: float) -> Account:
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self.commits = Commits(self.journal.write, self.limits.commit_most, self.limits.commit_wait_s, self._kept)
        committing = asyncio.create_task(self.commits.run())
        async with self.client:
            await self._examine()
            with call_on_signals(self.loop, self._interrupt):
                feeding = asyncio.create_task(self._feed())
                watching = asyncio.create_task(self._watch(stops, progress, every_s))
                try:
                    await self._until_over(feeding, watching, committing)
                finally:
                    await self._wind_up(feeding, watching, committing)
        progress(self.tally.progress(self.pool))
        return self.tally.account(self.ending or "complete", self.circuit.why or self.why, self.pool)

    async def _examine(self) -> None:
        """Check every server; raise if none is up, or if one is up but cannot be asked these questions."""
        servers = self.pool.servers
        found = dict(zip([s.url for s in servers], await asyncio.gather(*map(self._tested, servers)), strict=True))
        errors = [error for error in found.values() if isinstance(error, CollectionError)]
        for error in errors:
            cause = error.__cause__
            if len(errors) == len(found) or not isinstance(cause, Failure) or cause.kind not in RETRYABLE:
                raise error
        for server in self.pool.servers:
            facts = found[server.url]
            if isinstance(facts, CollectionError):
                server.up = False
                self._start_health_checks(server)

    async def _tested(self, server: Server) -> Facts | CollectionError:
        return await tested_server(self.client, server, self.target, self.limits)

    async def _until_over(
        self, feeding: asyncio.Task[None], watching: asyncio.Task[None], committing: asyncio.Task[None]
    ) -> None:
        """Wait until all is done or the run must end; raise if reading, reporting or writing fails."""
        while self.ending is None and not self._all_done():
            self.changed.clear()
            waiter = asyncio.ensure_future(self.changed.wait())
            others = {task for task in (feeding, watching, committing) if not task.done() or task.exception()}
            await asyncio.wait({waiter, *others}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()
            for task in (feeding, watching):
                if task.done():
                    task.result()
            if self.broken is not None:
                raise self.broken
            if committing.done():
                _journal_failed(committing, self.journal)
        if self.ending is None and self.most is not None and self.n_taken >= self.most:
            self.ending = "limit"

    def _all_done(self) -> bool:
        return self.read_all and len(self.open) == len(self.refused)

    async def _wind_up(self, *tasks: asyncio.Task[None]) -> None:
        """Wait for requests under way, store their answers, and end all tasks."""
        feeding, watching, committing = tasks
        self.ending = self.ending or ("complete" if self._all_done() else "stopped")
        for handle in self.delayed:
            handle.cancel()
        for task in (feeding, *self.watched.values()):
            task.cancel()
        if self.requests:
            await asyncio.wait(self.requests, timeout=self.limits.grace_s)
        for task in (watching, *self.requests):
            task.cancel()
        leftover = [feeding, watching, *self.watched.values(), *self.requests]
        await asyncio.gather(*leftover, return_exceptions=True)
        if self.ending in ("complete", "limit"):
            self._admit()
        self.commits.close()
        await asyncio.wait({committing})
        _journal_failed(committing, self.journal)

    def _interrupt(self) -> None:
        """End the run; the second time, without waiting for requests under way."""
        if self.ending is not None:
            for task in self.requests:
                task.cancel()
        self._end("stopped")

    def _end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        self.changed.set()

    async def _feed(self) -> None:
        """Read questions while there is room for them."""
        with ThreadPoolExecutor(1, thread_name_prefix="questions") as thread:
            while self.ending is None and (self.most is None or self.n_taken < self.most):
                room = self.read_ahead - len(self.open)
                if room < min(_READ_AT_ONCE, self.read_ahead) / 2:
                    self.hungry = self.loop.create_future()
                    await self.hungry
                    continue
                self.kept_meanwhile.clear()
                read, new = await self.loop.run_in_executor(thread, self._read, min(room, _READ_AT_ONCE))
                self._take(new)
                self.tally.n_held += read - len(new)
                if not read:
                    break
        self.read_all = True
        self.changed.set()

    def _read(self, n: int) -> tuple[int, list[Question]]:
        """Read up to `n` questions; return how many were read, and those that are not in the journal."""
        some = list(islice(self.questions, n))
        held = self.journal.held([question.key for question in some], failed=not self.retry_failed)
        return len(some), [question for question in some if question.key not in held]

    def _take(self, questions: list[Question]) -> None:
        for question in questions:
            if self.most is not None and self.n_taken >= self.most:
                break
            if question.key in self.open or question.key in self.kept_meanwhile:
                self.tally.n_repeated += 1
                continue
            self.open.add(question.key)
            self.n_taken += 1
            self.pool.put(Task(question))
        self._fill()

    def _fill(self) -> None:
        """Send as many requests as the servers' limits allow, unless too many answers wait for the disk."""
        if self.ending is not None or self.commits.n_open > self.limits.concurrency * len(self.pool.servers):
            return
        for server, task in self.pool.take(self.loop.time()):
            request = self.loop.create_task(self._ask(server, task, server.limit.send()))
            self.requests.add(request)
            request.add_done_callback(self._request_ended)

    def _request_ended(self, request: asyncio.Task[None]) -> None:
        self.requests.discard(request)
        self._notice(request)

    def _notice(self, task: asyncio.Task[None]) -> None:
        """End the run if a task failed with an unexpected exception, so that nothing waits for it for ever."""
        if not task.cancelled() and task.exception() is not None:
            self.broken = self.broken or task.exception()
            self.changed.set()

    async def _ask(self, server: Server, task: Task, sent_in: int) -> None:
        """Send one question once."""
        started_s = self.loop.time()
        task.attempts += 1
        try:
            reply = await self.client.ask(server.url, limited(task.question.body, server.constraint))
        except Failure as failure:
            server.limit.done()
            self._failed(server, task, failure, sent_in, self.loop.time() - started_s)
        except BaseException:
            server.limit.done()
            raise
        else:
            server.answered()
            server.limit.done()
            self._answered(server, task, reply, self.loop.time() - started_s)
        self._fill()

    def _answered(self, server: Server, task: Task, reply: Reply, seconds: float) -> None:
        self.circuit.record(None, "", self.loop.time())
        self.tally.models[reply.model] += 1
        self._admit()
        self.commits.put(answered(task.question, reply, task.attempts, seconds, server.constraint))

    def _admit(self) -> None:
        """Store the failures from before the first answer: an answer shows that they concern single questions."""
        for row in self.refused:
            self.commits.put(row)
        self.refused = []

    def _failed(self, server: Server, task: Task, failure: Failure, sent_in: int, seconds: float) -> None:
        now_s = self.loop.time()
        rest_s = min(failure.retry_after_s, self.limits.longest_rest_s)
        self.circuit.pause(max(now_s + rest_s - max(server.paused_until_s, now_s), 0.0) / len(self.pool.servers))
        self.circuit.record(failure.kind, failure.message, now_s)
        server.failed(failure.kind, sent_in, now_s + rest_s)
        self._start_health_checks(server)
        task.failures[failure.kind] += 1
        if failure.kind in FATAL:
            self.circuit.stop(f"{MEANING[failure.kind]}: {server.url} replied {failure.message!r}")
        elif self._may_pass(task, failure):
            self.tally.retries[failure.kind] += 1
            self._again(task, failure, rest_s)
        else:
            self._give_up(server, task, failure, seconds)
        if self.circuit.why:
            self._end("circuit")

    def _may_pass(self, task: Task, failure: Failure) -> bool:
        """Return whether to retry. Attempts at overloaded or unreachable servers are not counted as the question's."""
        if failure.kind == "overloaded":
            return task.failures["overloaded"] < self.limits.attempts_overloaded
        own = task.attempts - task.failures["overloaded"] - task.failures["unreachable"]
        return failure.kind in RETRYABLE and own < self.limits.attempts

    def _again(self, task: Task, failure: Failure, rest_s: float) -> None:
        """Queue a question again, after the pause that the server asked for, or a random one (full jitter)."""
        if rest_s:
            self.pool.put(task, first=True)
            self._later(rest_s, self._fill)
        elif failure.kind == "unreachable":
            self.pool.put(task, first=True)
        else:
            self._later(self.limits.pause_s(task.attempts), lambda: self._take_again(task))

    def _take_again(self, task: Task) -> None:
        self.pool.put(task, first=True)
        self._fill()

    def _later(self, delay_s: float, call: Callable[[], object]) -> None:
        def run() -> None:
            self.delayed.discard(handle)
            call()

        handle = self.loop.call_later(delay_s + 0.001, run)
        self.delayed.add(handle)

    def _give_up(self, server: Server, task: Task, failure: Failure, seconds: float) -> None:
        """Store a final failure; if there are too many before the first answer, stop the run."""
        row = failed(task.question, failure, task.attempts, seconds)
        if sum(s.n_answered for s in self.pool.servers):
            self.commits.put(row)
            return
        self.refused.append(row)
        self.changed.set()
        if len(self.refused) >= self.limits.threshold.refused_at_first:
            self.circuit.stop(_why_refused(server, task.question, failure, len(self.refused)))

    def _kept(self, rows: list[Answer]) -> None:
        """Drop the questions whose rows are on disk."""
        self.tally.kept(rows)
        if self.ending is None and (why := self.useless(self.tally.positions, self.tally.unread)):
            self.why = why
            self._end("useless")
        keys = {row.key for row in rows}
        self.open -= keys
        self.kept_meanwhile |= keys
        if self.hungry is not None and not self.hungry.done():
            self.hungry.set_result(None)
        self.changed.set()
        self._fill()

    def _start_health_checks(self, server: Server) -> None:
        """Start health checks of a server that is down; other servers get its questions until it is up."""
        if not server.up and server not in self.watched and self.ending is None:
            self.watched[server] = self.loop.create_task(self._check_until_up(server))
            self.watched[server].add_done_callback(self._notice)

    async def _check_until_up(self, server: Server) -> None:
        pause_s = 0.25
        while True:
            self._fill()
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(pause_s * 2, 15.0)
            found = await self._tested(server)
            if not isinstance(found, CollectionError):
                break
            self.circuit.record("unreachable", f"{found.summary}: {found.found or found.allowed}", self.loop.time())
            if self.circuit.why:
                self._end("circuit")
        server.mark_up()
        del self.watched[server]
        self._fill()

    async def _watch(self, stops: Sequence[Stop], progress: Callable[[Progress], None], every_s: float) -> None:
        """Check the stop flags, and report the progress at intervals."""
        reported_s = self.loop.time()
        while True:
            await asyncio.sleep(min(_TICK_S, every_s))
            if any(stop.is_set() for stop in stops):
                self._end("stopped")
            self._fill()
            if self.loop.time() - reported_s >= every_s:
                reported_s = self.loop.time()
                progress(self.tally.progress(self.pool))


def _why_refused(server: Server, question: Question, failure: Failure, n: int) -> str:
    """Return a message about a run in which every question failed, with advice where the cause is known."""
    summary = f"the first {n} questions all failed for good; {server.url} replied {failure.message!r}"
    media = any(part in str(question.body.get("messages"))[:20_000] for part in ("video_url", "image_url"))
    named = any(word in failure.message.lower() for word in ("multimodal", "multi-modal", "video", "image"))
    if media and named and failure.kind == "rejected":
        return f"the server does not accept this video: {summary}; serve a model that takes video, or use captions"
    hint = advice(failure.message, question.body) if failure.kind == "rejected" else ""
    return f"{summary}; {hint}" if hint else summary


def _journal_failed(committing: asyncio.Task[None], journal: Journal) -> None:
    """Raise if writing the journal has failed."""
    try:
        committing.result()
    except sqlite3.Error as error:
        raise CollectionError(
            f"the journal {journal.path} cannot be written",
            found=str(error),
            todo="free disk space or correct the file permissions, and run again; stored answers are kept",
        ) from error
