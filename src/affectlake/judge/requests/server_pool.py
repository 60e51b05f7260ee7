"""The servers of a run: their queues, and which of them are up or have asked for a pause.

The first stimulus of a question selects its server by rendezvous hashing (Thaler and Ravishankar 1998). Questions with
the same beginning therefore share that server's prefix cache, and only its own questions move when a server goes up or
down. A server without work takes the second half of the longest queue, so that neighbouring questions stay together.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from affectlake.judge.requests.adaptive_limit import AdaptiveLimit
from affectlake.judge.requests.answers import Constraint, FailureKind
from affectlake.judge.trials.questions import Question

FAILURES_UNTIL_DOWN = 10
"""Number of consecutive failures after which a server must pass a health check before it is used again."""

SERVER_FAULTS: frozenset[FailureKind] = frozenset({"unreachable", "server_error", "timed_out", "reset", "truncated"})
"""Failures that indicate a problem of the server."""


@dataclass(eq=False)
class Task:
    """A question in progress, with its attempts and failures so far."""

    question: Question
    attempts: int = 0
    failures: Counter[FailureKind] = field(default_factory=Counter)


class Server:
    """One server: its queue, its limit on concurrent requests, and its state.

    Parameters
    ----------
    url : str
        Base URL without user name and password, such as ``http://127.0.0.1:8000/v1``.
    limit : AdaptiveLimit
        Limit on its concurrent requests.

    Attributes
    ----------
    up : bool
        Whether requests are sent to it.
    paused_until_s : float
        Time, in seconds of the event loop's clock, until which it asked for no requests.
    n_answered, n_failed : int
        Numbers of attempts with and without an answer.
    engine : str
        Version of the serving engine; empty if the server does not report it.
    constraint : Constraint or None
        How it limits answers to the labels of a one-token protocol; None if it was not tested.
    """

    def __init__(self, url: str, limit: AdaptiveLimit) -> None:
        self.url = url
        self.limit = limit
        self.queue: deque[Task] = deque()
        self.up = True
        self.paused_until_s = 0.0
        self.n_answered = 0
        self.n_failed = 0
        self.engine = ""
        self.constraint: Constraint | None = None
        self._in_a_row = 0

    def has_room(self, now_s: float) -> bool:
        """Return whether another request may be sent to it now."""
        return self.up and now_s >= self.paused_until_s and self.limit.room > 0

    def answered(self) -> None:
        """Count an answer."""
        self.n_answered += 1
        self._in_a_row = 0
        self.limit.succeeded()

    def failed(self, kind: FailureKind, sent_in: int, paused_until_s: float) -> None:
        """Count a failed attempt, and mark the server as down if there were too many."""
        self.n_failed += 1
        self.paused_until_s = max(self.paused_until_s, paused_until_s)
        if kind in ("overloaded", "timed_out"):
            self.limit.overloaded(sent_in)
        self._in_a_row = self._in_a_row + 1 if kind in SERVER_FAULTS else 0
        if kind == "unreachable" or self._in_a_row >= FAILURES_UNTIL_DOWN:
            self.up = False

    def mark_up(self) -> None:
        """Mark the server as up, and return to slow start."""
        self.up = True
        self._in_a_row = 0
        self.limit.restart()


class Pool:
    """All servers of a run, with their queues.

    Parameters
    ----------
    servers : list of Server
        At least one server.
    """

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self._drawn: dict[int, list[Server]] = {}

    def put(self, task: Task, *, first: bool = False) -> None:
        """Queue a question at its server, or at the next one that is up; at the front if `first` is true."""
        drawn = self.draw(task.question.route)
        server = next((s for s in drawn if s.up), drawn[0])
        if first:
            server.queue.appendleft(task)
        else:
            server.queue.append(task)

    def draw(self, route: int) -> list[Server]:
        """Return the servers in the order of preference of the stimulus `route`."""
        if route not in self._drawn:
            self._drawn[route] = sorted(
                self.servers, key=lambda s: blake2b(f"{route} {s.url}".encode(), digest_size=8).digest()
            )
        return self._drawn[route]

    def take(self, now_s: float) -> Iterator[tuple[Server, Task]]:
        """Yield a server with room and the next question for it, while there are both."""
        for server in self.servers:
            while server.has_room(now_s):
                if not server.queue and not self._move_to(server):
                    break
                yield server, server.queue.popleft()

    def _move_to(self, idle: Server) -> bool:
        """Move the second half of the longest queue to a server without work; return whether there was one."""
        longest = max(self.servers, key=lambda s: len(s.queue))
        n_moved = (len(longest.queue) + 1) // 2
        moved = [longest.queue.pop() for _ in range(n_moved)]
        idle.queue.extend(reversed(moved))
        return n_moved > 0
