"""The servers of a run: which gets a question, who is up, who rests. It neither sends nor waits.

A question goes to the server that its first stimulus is drawn to (rendezvous hashing; Thaler and Ravishankar 1998),
so that questions which begin alike find the beginning in that server's prefix cache, and a server that comes or goes
moves only its own share. A server with nothing to do takes the far half of the longest queue, so that neighbours stay
together.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from affectlake.judge.requests.adaptive_limit import AdaptiveLimit
from affectlake.judge.requests.answers import FailureKind
from affectlake.judge.trials.questions import Question

FAILURES_UNTIL_DOWN = 10
"""So many attempts in a row without one answer, and a server is looked after before it is asked again."""

TELLING: frozenset[FailureKind] = frozenset({"unreachable", "server_error", "timed_out", "reset", "truncated"})
"""Failures that say something about the server's health."""


@dataclass(eq=False)
class Task:
    """A question on its way, and what it has met so far."""

    question: Question
    attempts: int = 0
    failures: Counter[FailureKind] = field(default_factory=Counter)


class Server:
    """One server: its queue, how much it gets at once, and how it does.

    Parameters
    ----------
    url : str
        Base URL as it may be shown, such as ``http://127.0.0.1:8000/v1``: without user name and password.
    limit : AdaptiveLimit
        How many requests it gets at once.

    Attributes
    ----------
    up : bool
        Whether it is asked.
    rests_until_s : float
        It asked not to be asked before this time.
    n_answered, n_failed : int
        Attempts that brought an answer, and that did not.
    engine : str
        Version of the serving engine, where the server says it.
    """

    def __init__(self, url: str, limit: AdaptiveLimit) -> None:
        self.url = url
        self.limit = limit
        self.queue: deque[Task] = deque()
        self.up = True
        self.rests_until_s = 0.0
        self.n_answered = 0
        self.n_failed = 0
        self.engine = ""
        self._in_a_row = 0

    def has_room(self, now_s: float) -> bool:
        """Whether it may get another request now."""
        return self.up and now_s >= self.rests_until_s and self.limit.room > 0

    def answered(self) -> None:
        """Count an answer."""
        self.n_answered += 1
        self._in_a_row = 0
        self.limit.succeeded()

    def failed(self, kind: FailureKind, sent_in: int, rests_until_s: float) -> None:
        """Count a failed attempt; take the server out if it is away."""
        self.n_failed += 1
        self.rests_until_s = max(self.rests_until_s, rests_until_s)
        if kind in ("overloaded", "timed_out"):
            self.limit.overloaded(sent_in)
        self._in_a_row = self._in_a_row + 1 if kind in TELLING else 0
        if kind == "unreachable" or self._in_a_row >= FAILURES_UNTIL_DOWN:
            self.up = False

    def came_back(self) -> None:
        """Ask it again, beginning with little."""
        self.up = True
        self._in_a_row = 0
        self.limit.restart()


class Pool:
    """All servers of a run, and the questions that wait for one.

    Parameters
    ----------
    servers : list of Server
        One or more.
    """

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self._drawn: dict[int, list[Server]] = {}

    def put(self, task: Task, *, first: bool = False) -> None:
        """Queue a question at its server, or at the next one that is up; in front if it was sent before."""
        drawn = self.draw(task.question.route)
        server = next((s for s in drawn if s.up), drawn[0])
        if first:
            server.queue.appendleft(task)
        else:
            server.queue.append(task)

    def draw(self, route: int) -> list[Server]:
        """Return the servers in the order in which the stimulus `route` is drawn to them."""
        if route not in self._drawn:
            self._drawn[route] = sorted(
                self.servers, key=lambda s: blake2b(f"{route} {s.url}".encode(), digest_size=8).digest()
            )
        return self._drawn[route]

    def take(self, now_s: float) -> Iterator[tuple[Server, Task]]:
        """Yield a server with room and the question it is to get, as long as there are both."""
        for server in self.servers:
            while server.has_room(now_s):
                if not server.queue and not self._move_to(server):
                    break
                yield server, server.queue.popleft()

    def _move_to(self, idle: Server) -> bool:
        """Give a server without work the far half of the longest queue; whether there was any."""
        longest = max(self.servers, key=lambda s: len(s.queue))
        n_moved = (len(longest.queue) + 1) // 2
        moved = [longest.queue.pop() for _ in range(n_moved)]
        idle.queue.extend(reversed(moved))
        return n_moved > 0
