"""Asks what the journal does not hold: questions in, answers on disk, an account of it at the end.

Questions are read a little ahead and never held in number, so memory does not grow with the plan. Each is answered, or
fails for good and is a row that says so, or is left for the next run; none is lost and none is answered twice. After a
kill, at most what was under way or arrived within the latest commit is asked again.

What the questions are, and what becomes of the journal, does not belong here.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Protocol

from affectlake.errors import CollectionError
from affectlake.judge.requests.adaptive_limit import AdaptiveLimit
from affectlake.judge.requests.answers import HOPELESS, MEANING, PASSING, Answer, Failure, Reply, answered, failed
from affectlake.judge.requests.circuit_breaker import Circuit
from affectlake.judge.requests.client import Client, api_key, examine_all
from affectlake.judge.requests.group_commit import Commits
from affectlake.judge.requests.journal import Journal
from affectlake.judge.requests.refusals import advice
from affectlake.judge.requests.request_limits import Limits, Target, check_urls
from affectlake.judge.requests.run_statistics import Account, Ending, Progress, Tally
from affectlake.judge.requests.server_pool import Pool, Server, Task
from affectlake.judge.trials.questions import Question
from affectlake.process.loop_signals import calling_on_signals

DEFAULT = Limits()
_TICK_S = 0.1
_READ_AT_ONCE = 256


class Stop(Protocol):
    """Anything that can say that a run is to end, such as ``threading.Event``."""

    def is_set(self) -> bool:
        """Whether the run is to end."""


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
    reads: Callable[[Answer], bool] = lambda _: True,
) -> Account:
    """Ask the questions that the journal does not hold.

    Parameters
    ----------
    questions : iterable of Question
        Read in a thread of its own, a little ahead.
    journal : Journal
        Where the answers go.
    target : Target
        Who is asked.
    limits : Limits
        How hard to try.
    most : int or None
        Ask at most so many.
    retry_failed : bool
        Whether questions that failed for good, and are in no sealed shard, are asked again.
    stops : sequence of Stop
        When one is set (a lease's ``lost``, say), no more is sent; what is under way is waited for and kept. The first
        SIGINT or SIGTERM does the same (in the main thread), a second one does not wait.
    progress : callable or None
        Told how far it is, every `progress_every_s` and at the end.
    reads : callable
        Whether an answer says something; only counted.

    Raises
    ------
    UsageError
        No server, a URL that is none or carries a password, or an API key that is not set.
    CollectionError
        If at the beginning no server can be asked or one does not serve the model, or the journal cannot be written.
    """
    check_urls(target)
    client = Client(api_key(target.api_key_env), limits.timeout_s, limits.concurrency * len(target.urls))
    tally = Tally(reads)
    collector = _Collector(iter(questions), journal, client, target, limits, tally, most, retry_failed)
    return asyncio.run(collector.run(stops, progress or (lambda _: None), progress_every_s))


class _Collector:
    """One run: reads questions, sends them, keeps what comes."""

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
    ) -> None:
        self.questions, self.journal, self.client = questions, journal, client
        self.target, self.limits, self.tally = target, limits, tally
        self.most, self.retry_failed = most, retry_failed
        urls = [url.rstrip("/") for url in dict.fromkeys(target.urls)]
        self.pool = Pool([Server(url, AdaptiveLimit(limits.concurrency, limits.start)) for url in urls])
        self.read_ahead = max(limits.read_ahead, 2 * limits.concurrency * len(urls))
        self.circuit = Circuit(limits.threshold)
        self.open: set[bytes] = set()  # keys of questions that are read and not in the journal
        self.kept_meanwhile: set[bytes] = set()  # keys that reached the journal while it was asked what it holds
        self.refused: list[Answer] = []  # failures for good before the first answer
        self.requests: set[asyncio.Task[None]] = set()
        self.delayed: set[asyncio.TimerHandle] = set()
        self.watched: dict[Server, asyncio.Task[None]] = {}
        self.ending: Ending | None = None
        self.broken: BaseException | None = None
        self.read_all = False
        self.n_taken = 0
        self.hungry: asyncio.Future[None] | None = None

    async def run(self, stops: Sequence[Stop], progress: Callable[[Progress], None], every_s: float) -> Account:
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self.commits = Commits(self.journal, self.limits.commit_most, self.limits.commit_wait_s, self._kept)
        committing = asyncio.create_task(self.commits.run())
        async with self.client:
            await self._examine()
            with calling_on_signals(self.loop, self._interrupt):
                feeding = asyncio.create_task(self._feed())
                watching = asyncio.create_task(self._watch(stops, progress, every_s))
                try:
                    await self._until_over(feeding, watching, committing)
                finally:
                    await self._wind_up(feeding, watching, committing)
        progress(self.tally.progress(self.pool))
        return self.tally.account(self.ending or "complete", self.circuit.why, self.pool)

    async def _examine(self) -> None:
        """Look at every server; go on with those that are up, unless one is not what was meant."""
        found = await examine_all(self.client, [s.url for s in self.pool.servers], self.target.model)
        errors = [error for error in found.values() if isinstance(error, CollectionError)]
        for error in errors:
            cause = error.__cause__
            if len(errors) == len(found) or not isinstance(cause, Failure) or cause.kind not in PASSING:
                raise error
        for server in self.pool.servers:
            facts = found[server.url]
            if isinstance(facts, CollectionError):
                server.up = False
                self._look_after(server)
            else:
                server.engine = facts.engine

    async def _until_over(
        self, feeding: asyncio.Task[None], watching: asyncio.Task[None], committing: asyncio.Task[None]
    ) -> None:
        """Wait until all is done or the run is to end; a failure of reading, telling or writing ends it at once."""
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
        """Wait for what is under way, keep it, and leave nothing running."""
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
        """End the run; the second time, without waiting."""
        if self.ending is not None:
            for task in self.requests:
                task.cancel()
        self._end("stopped")

    def _end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        self.changed.set()

    async def _feed(self) -> None:
        """Read questions as long as there is room for them."""
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
        """Return how many of the next `n` questions there are, and those that the journal does not hold."""
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
        """Send as much as the servers may get; wait while the disk is behind."""
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
        """Let a mistake of the program end the run: nothing may wait for ever for a task that is gone."""
        if not task.cancelled() and task.exception() is not None:
            self.broken = self.broken or task.exception()
            self.changed.set()

    async def _ask(self, server: Server, task: Task, sent_in: int) -> None:
        """Send one question once."""
        started_s = self.loop.time()
        task.attempts += 1
        try:
            reply = await self.client.ask(server.url, task.question.body)
        except Failure as failure:
            server.limit.done()
            self._failed(server, task, failure, sent_in, self.loop.time() - started_s)
        except BaseException:
            server.limit.done()
            raise
        else:
            server.answered()
            server.limit.done()
            self._answered(task, reply, self.loop.time() - started_s)
        self._fill()

    def _answered(self, task: Task, reply: Reply, seconds: float) -> None:
        self.circuit.record(None, "", self.loop.time())
        self.tally.models[reply.model] += 1
        self._admit()
        self.commits.put(answered(task.question, reply, task.attempts, seconds))

    def _admit(self) -> None:
        """Keep the failures from before the first answer: they are about the questions, not about the whole run."""
        for row in self.refused:
            self.commits.put(row)
        self.refused = []

    def _failed(self, server: Server, task: Task, failure: Failure, sent_in: int, seconds: float) -> None:
        now_s = self.loop.time()
        rest_s = min(failure.retry_after_s, self.limits.longest_rest_s)
        self.circuit.pause(max(now_s + rest_s - max(server.rests_until_s, now_s), 0.0) / len(self.pool.servers))
        self.circuit.record(failure.kind, failure.words, now_s)
        server.failed(failure.kind, sent_in, now_s + rest_s)
        self._look_after(server)
        task.failures[failure.kind] += 1
        if failure.kind in HOPELESS:
            self.circuit.stop(f"{MEANING[failure.kind]}: {server.url} said {failure.words!r}")
        elif self._may_pass(task, failure):
            self.tally.retries[failure.kind] += 1
            self._again(task, failure, rest_s)
        else:
            self._give_up(server, task, failure, seconds)
        if self.circuit.why:
            self._end("circuit")

    def _may_pass(self, task: Task, failure: Failure) -> bool:
        """Whether to ask again: a server that is away or busy is no fault of the question."""
        if failure.kind == "overloaded":
            return task.failures["overloaded"] < self.limits.attempts_overloaded
        own = task.attempts - task.failures["overloaded"] - task.failures["unreachable"]
        return failure.kind in PASSING and own < self.limits.attempts

    def _again(self, task: Task, failure: Failure, rest_s: float) -> None:
        """Queue a question again, after a pause with full jitter or the one that the server asked for."""
        if rest_s:
            self.pool.put(task, first=True)
            self._later(rest_s, self._fill)
        elif failure.kind == "unreachable":
            self.pool.put(task, first=True)
        else:
            longest = min(self.limits.longest_backoff_s, self.limits.backoff_s * 2.0 ** min(task.attempts, 20))
            self._later(random.uniform(0, longest), lambda: self._take_again(task))

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
        """Make a failure for good a row, or the end of the run if nothing has been answered yet."""
        row = failed(task.question, failure, task.attempts, seconds)
        if sum(s.n_answered for s in self.pool.servers):
            self.commits.put(row)
            return
        self.refused.append(row)
        self.changed.set()
        if len(self.refused) >= self.limits.threshold.refused_at_first:
            self.circuit.stop(_why_refused(server, task.question, failure, len(self.refused)))

    def _kept(self, rows: list[Answer]) -> None:
        """Let go of questions whose rows the disk has."""
        self.tally.kept(rows)
        keys = {row.key for row in rows}
        self.open -= keys
        self.kept_meanwhile |= keys
        if self.hungry is not None and not self.hungry.done():
            self.hungry.set_result(None)
        self.changed.set()
        self._fill()

    def _look_after(self, server: Server) -> None:
        """Look at a server that is away until it is back; its questions go to the others meanwhile."""
        if not server.up and server not in self.watched and self.ending is None:
            self.watched[server] = self.loop.create_task(self._until_back(server))
            self.watched[server].add_done_callback(self._notice)

    async def _until_back(self, server: Server) -> None:
        pause_s = 0.25
        while True:
            self._fill()
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
            pause_s = min(pause_s * 2, 15.0)
            found = (await examine_all(self.client, [server.url], self.target.model))[server.url]
            if not isinstance(found, CollectionError):
                break
            self.circuit.record("unreachable", f"{found.summary}: {found.found or found.allowed}", self.loop.time())
            if self.circuit.why:
                self._end("circuit")
        server.engine = found.engine
        server.came_back()
        del self.watched[server]
        self._fill()

    async def _watch(self, stops: Sequence[Stop], progress: Callable[[Progress], None], every_s: float) -> None:
        """See whether the run is to end, and say how far it is."""
        told_s = self.loop.time()
        while True:
            await asyncio.sleep(min(_TICK_S, every_s))
            if any(stop.is_set() for stop in stops):
                self._end("stopped")
            self._fill()
            if self.loop.time() - told_s >= every_s:
                told_s = self.loop.time()
                progress(self.tally.progress(self.pool))


def _why_refused(server: Server, question: Question, failure: Failure, n: int) -> str:
    """Return why nothing works, in the clearest words there are."""
    said = f"the first {n} questions all failed for good; {server.url} said {failure.words!r}"
    media = any(part in str(question.body.get("messages"))[:20_000] for part in ("video_url", "image_url"))
    named = any(word in failure.words.lower() for word in ("multimodal", "multi-modal", "video", "image"))
    if media and named and failure.kind == "rejected":
        return f"the server takes no such video: {said}. Serve a model that takes video, or use captions"
    hint = advice(failure.words, question.body) if failure.kind == "rejected" else ""
    return f"{said}. {hint}" if hint else said


def _journal_failed(committing: asyncio.Task[None], journal: Journal) -> None:
    """Raise if writing the journal has failed."""
    try:
        committing.result()
    except sqlite3.Error as error:
        raise CollectionError(
            f"the journal {journal.path} cannot be written",
            found=str(error),
            todo="make room on the disk or mend its rights, and run again: what is written stays",
        ) from error
