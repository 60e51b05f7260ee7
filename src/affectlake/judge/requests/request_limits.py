"""Who is asked in a collection, and how hard. Nothing is done here."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from affectlake.errors import UsageError
from affectlake.judge.requests.circuit_breaker import Threshold


@dataclass(frozen=True)
class Target:
    """Who is asked.

    Parameters
    ----------
    urls : tuple of str
        Base URLs of the servers, such as ``http://127.0.0.1:8000/v1``; all serve the same model.
    model : str
        Its name, as the servers list it.
    api_key_env : str
        Name of the environment variable that holds the API key; empty if none is wanted.
    """

    urls: tuple[str, ...]
    model: str
    api_key_env: str = ""


@dataclass(frozen=True)
class Limits:
    """How hard to try.

    Parameters
    ----------
    concurrency : int
        Most requests under way at one server.
    start : int
        Requests under way at one server in the beginning.
    read_ahead : int
        Questions read and not done, at least twice the requests that may be under way; memory grows with it (a question
        with video is about a megabyte).
    attempts : int
        How often a question is sent until it has failed for good.
    attempts_overloaded : int
        How often it is sent to servers that have too much to do; these attempts do not count among the others.
    timeout_s : float
        Time limit of one request.
    backoff_s, longest_backoff_s : float
        The pause before attempt n + 1 is drawn evenly from 0 to ``min(longest, backoff * 2 ** n)``.
    longest_rest_s : float
        A server that asks for a longer pause than this (``Retry-After``) is asked again after it.
    commit_most : int
        Most answers in one commit of the journal.
    commit_wait_s : float
        Longest that an answer waits for others to share its commit.
    grace_s : float
        How long a run that is stopped waits for the requests under way.
    threshold : Threshold
        When a run stops by itself.
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


def check_urls(target: Target) -> None:
    """Refuse a target without servers, or with a URL that is none or carries a password.

    Raises
    ------
    UsageError
        With the URL, but not the password.
    """
    for url in target.urls or ("",):
        _check_url(url)


def _check_url(url: str) -> None:
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise UsageError("a server's URL is none", found=repr(url), wanted="such as http://127.0.0.1:8000/v1")
    if place.username or place.password:
        raise UsageError(
            f"the URL of the server at {place.hostname} carries a password",
            todo="put the API key into an environment variable and name it in api_key_env",
        )
