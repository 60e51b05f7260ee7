"""Settings of a collection run: the servers, and limits on rate, retries and time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from affectlake.errors import UsageError
from affectlake.judge.protocols.labels import Way
from affectlake.judge.requests.circuit_breaker import Threshold


@dataclass(frozen=True)
class Target:
    """The servers and the model.

    Parameters
    ----------
    urls : tuple of str
        Base URLs of the servers, such as ``http://127.0.0.1:8000/v1``; all serve the same model.
    model : str
        Name of the model, as the servers list it.
    api_key_env : str
        Name of the environment variable that holds the API key; empty if the servers need no key.
    probe : mapping or None
        A request of a one-token protocol, by which the servers are tested: see
        :func:`affectlake.judge.requests.constraints.find_constraint`. None: the answers are not limited to labels.
    constraint : str
        How answers are limited to labels.
    """

    urls: tuple[str, ...]
    model: str
    api_key_env: str = ""
    probe: Mapping[str, Any] | None = None
    constraint: Way = "auto"


@dataclass(frozen=True)
class Limits:
    """Limits of a run. Times are in seconds.

    Parameters
    ----------
    concurrency : int
        Largest number of concurrent requests to one server.
    start : int
        Initial number of concurrent requests to one server.
    read_ahead : int
        Largest number of unfinished questions in memory; at least twice the number of concurrent requests is used. A
        question with video takes about a megabyte.
    attempts : int
        Number of attempts after which a question has failed for good.
    attempts_overloaded : int
        Number of attempts that overloaded servers may refuse. These do not count towards `attempts`.
    timeout_s : float
        Time limit of one request.
    backoff_s, longest_backoff_s : float
        The pause before attempt n + 1 is drawn uniformly from 0 to ``min(longest, backoff * 2 ** n)``.
    longest_rest_s : float
        Longest pause that a server can ask for (``Retry-After``); a longer one is shortened to this.
    commit_most : int
        Largest number of answers in one commit of the journal.
    commit_wait_s : float
        Longest time that an answer waits for others to share its commit.
    grace_s : float
        Time that a stopped run waits for requests under way.
    threshold : Threshold
        Limits beyond which a run stops by itself.
    """

    concurrency: int = 64
    start: int = 8
    read_ahead: int = 256
    attempts: int = 6
    attempts_overloaded: int = 50
    timeout_s: float = 300.0
    backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    longest_rest_s: float = 600.0
    commit_most: int = 1_000
    commit_wait_s: float = 0.01
    grace_s: float = 30.0
    threshold: Threshold = field(default_factory=Threshold)

    def pause_s(self, attempts: int, asked_s: float = 0.0) -> float:
        """Return the pause after an attempt: what the server asked for, or a random one (full jitter)."""
        longest = min(self.longest_backoff_s, self.backoff_s * 2.0 ** min(attempts, 20))
        return min(asked_s, self.longest_rest_s) or random.uniform(0, longest)


def check_urls(target: Target) -> None:
    """Check the URLs of a target.

    Raises
    ------
    UsageError
        If there are no URLs, or one is not a valid URL or contains a user name or password.
    """
    for url in target.urls or ("",):
        _check_url(url)


def _check_url(url: str) -> None:
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise UsageError(f"not a valid server URL: {url!r}", wanted="such as http://127.0.0.1:8000/v1")
    if place.username or place.password:
        raise UsageError(
            f"the URL of the server at {place.hostname} contains a user name or password",
            todo="put the API key in an environment variable and set api_key_env to its name",
        )
