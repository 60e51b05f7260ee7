"""Statistics of a collection, during it and at the end."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from affectlake.judge.requests.answers import Answer, FailureKind
from affectlake.judge.requests.server_pool import Pool

RATE_OVER_S = 30.0
Ending = Literal["complete", "limit", "stopped", "circuit", "useless"]

Reads = Callable[[Answer], tuple[int | None, str | None]]
"""Returns the position that an answer names, or None and the reason why there is none."""


class ServerAccount(NamedTuple):
    """Statistics of one server.

    Attributes
    ----------
    url : str
        Its base URL.
    n_answered, n_failed : int
        Numbers of attempts with and without an answer.
    engine : str
        Version of the serving engine; empty if the server does not report it.
    limit : int
        Current limit on concurrent requests.
    up : bool
        Whether it is up.
    limited_by : str
        How it limits answers to labels: a key of :data:`affectlake.judge.requests.constraints.WAYS`, or ``extra``;
        empty if it does not.
    """

    url: str
    n_answered: int
    n_failed: int
    engine: str
    limit: int
    up: bool
    limited_by: str


class Progress(NamedTuple):
    """Progress of a collection.

    Attributes
    ----------
    n_answered, n_failed, n_held : int
        Numbers of questions answered, failed for good, and found in the journal.
    per_second : float
        Questions finished per second, over the latest half minute.
    n_read : int
        Number of answers that the caller could parse; all answers if the caller does not parse them.
    unread : dict
        Numbers of answers that could not be parsed, by reason.
    errors, retries : dict
        Numbers of failed questions, and of failed attempts, by kind.
    prompt_tokens, completion_tokens, cached_tokens : int
        Numbers of tokens read, written, and read from a prefix cache.
    servers : tuple of ServerAccount
        One for each server.
    """

    n_answered: int
    n_failed: int
    n_held: int
    per_second: float
    n_read: int
    unread: dict[str, int]
    errors: dict[FailureKind, int]
    retries: dict[FailureKind, int]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    servers: tuple[ServerAccount, ...]


class Account(NamedTuple):
    """Summary of a collection.

    Attributes
    ----------
    ending : {'complete', 'limit', 'stopped', 'circuit', 'useless'}
        Whether all questions were finished, the requested number was asked, or the run was stopped from outside, by its
        circuit breaker, or because its answers are of no use.
    why : str
        Why the run stopped by itself; empty otherwise.
    n_held, n_repeated : int
        Numbers of questions that were in the journal before, and that were read twice.
    n_answered, n_failed : int
        Numbers of questions whose answer, or final failure, this run added to the journal.
    n_read : int
        Number of answers that could be parsed, as in :class:`Progress`.
    errors, retries : dict
        Numbers of final failures, and of failed attempts, by kind.
    prompt_tokens, completion_tokens, cached_tokens : int
        Numbers of tokens of the answers.
    seconds : float
        Duration in seconds.
    models : dict
        Number of answers by the model name in the reply.
    servers : tuple of ServerAccount
        One for each server.
    unread : dict
        Numbers of answers that could not be parsed, by reason.
    """

    ending: Ending
    why: str
    n_held: int
    n_repeated: int
    n_answered: int
    n_failed: int
    n_read: int
    errors: dict[FailureKind, int]
    retries: dict[FailureKind, int]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seconds: float
    models: dict[str, int]
    servers: tuple[ServerAccount, ...]
    unread: dict[str, int]


class Tally:
    """Counter of the outcomes of a running collection.

    Parameters
    ----------
    reads : callable, optional
        Parses an answer; by default, answers are not parsed and count as read.

    Attributes
    ----------
    positions, unread : Counter
        Numbers of answers by the position that they name, and of the others by reason.
    """

    def __init__(self, reads: Reads | None = None) -> None:
        self._reads = reads
        self._started_s = time.monotonic()
        self._done_at: deque[tuple[float, int]] = deque()
        self.n_held = self.n_repeated = self.n_answered = self.n_failed = self.n_read = 0
        self.errors: Counter[FailureKind] = Counter()
        self.retries: Counter[FailureKind] = Counter()
        self.models: Counter[str] = Counter()
        self.positions: Counter[int] = Counter()
        self.unread: Counter[str] = Counter()
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0

    def kept(self, answers: list[Answer]) -> None:
        """Count answers that are in the journal."""
        for answer in answers:
            if answer.error_kind is not None:
                self.n_failed += 1
                self.errors[answer.error_kind] += 1
                continue
            self.n_answered += 1
            self._read(answer)
            self.prompt_tokens += answer.prompt_tokens
            self.completion_tokens += answer.completion_tokens
            self.cached_tokens += answer.cached_tokens

    def _read(self, answer: Answer) -> None:
        position, reason = (None, None) if self._reads is None else self._reads(answer)
        if position is not None:
            self.positions[position] += 1
        elif self._reads is not None:
            self.unread[reason or "no position"] += 1
            return
        self.n_read += 1

    def progress(self, pool: Pool) -> Progress:
        """Return the progress of the collection."""
        return Progress(
            n_answered=self.n_answered,
            n_failed=self.n_failed,
            n_held=self.n_held,
            per_second=self._rate(self.n_answered + self.n_failed),
            n_read=self.n_read,
            unread=dict(self.unread),
            errors=dict(self.errors),
            retries=dict(self.retries),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            servers=accounts(pool),
        )

    def _rate(self, n_done: int) -> float:
        now = time.monotonic()
        self._done_at.append((now, n_done))
        while len(self._done_at) > 2 and now - self._done_at[0][0] > RATE_OVER_S:
            self._done_at.popleft()
        since, n_then = self._done_at[0] if len(self._done_at) > 1 else (self._started_s, 0)
        return (n_done - n_then) / (now - since) if now > since else 0.0

    def account(self, ending: Ending, why: str, pool: Pool) -> Account:
        """Return the summary of a collection that has ended."""
        return Account(
            ending=ending,
            why=why,
            n_held=self.n_held,
            n_repeated=self.n_repeated,
            n_answered=self.n_answered,
            n_failed=self.n_failed,
            n_read=self.n_read,
            errors=dict(self.errors),
            retries=dict(self.retries),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            seconds=time.monotonic() - self._started_s,
            models=dict(self.models),
            servers=accounts(pool),
            unread=dict(self.unread),
        )


def accounts(pool: Pool) -> tuple[ServerAccount, ...]:
    """Return the statistics of each server."""
    return tuple(
        ServerAccount(
            s.url, s.n_answered, s.n_failed, s.engine, s.limit.limit, s.up, s.constraint.way if s.constraint else ""
        )
        for s in pool.servers
    )
