"""Calls to a tracking server that may not answer: each has a time limit, and a server that failed is not called again.

:mod:`affectlake.pipelines.engine.model_runs` decides what is recorded, and where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from affectlake.process.variables import integer
from affectlake.secrets import hide

RUN_LIMIT_S = 120.0
"""Time limit for writing one run, including its files."""

_UNSET = "to give up a server that does not answer soon"
_BACKOFF_S = 3.0  # MLflow's longest pause before a first retry
_Answer = TypeVar("_Answer")
_failed: dict[str, str] = {}  # error message by URI, of servers that failed in this process


class ServerError(Exception):
    """The server failed or does not answer; the message is one line."""


def answer_limit_s() -> float:
    """Return the time limit for an answer of a server, in seconds: MLflow's attempts and the pauses between them.

    Raises
    ------
    UsageError
        If one of MLflow's environment variables is not a number.
    """
    n_retries = integer(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", 0, 1000, default=7, meaning="a number of retries", unset=_UNSET
    )
    timeout_s = integer(
        "MLFLOW_HTTP_REQUEST_TIMEOUT", 1, 86_400, default=120, meaning="a time limit in seconds", unset=_UNSET
    )
    return float((n_retries + 1) * (timeout_s + _BACKOFF_S))


def ask(uri: str, call: Callable[[], _Answer], limit_s: Callable[[], float] = answer_limit_s) -> _Answer:
    """Return the result of `call`, within a time limit.

    Parameters
    ----------
    uri : str
        URI of the server.
    call : callable
        Calls the server.
    limit_s : callable
        Returns the time limit, in seconds.

    Raises
    ------
    ServerError
        If `call` raises or takes too long, or if an earlier call to this server did.
    """
    if uri in _failed:
        raise ServerError(_failed[uri])
    answers: list[_Answer] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            answers.append(call())
        except Exception as error:  # each kind of store has exceptions of its own
            errors.append(error)

    most_s = limit_s()
    try:
        asking = threading.Thread(target=work, name="tracking-server", daemon=True)
        asking.start()
        asking.join(most_s)
        if errors:
            raise errors[0]
        if not answers:
            raise TimeoutError(f"no answer within {most_s:.0f} s")
    except Exception as error:
        _failed[uri] = _words(error)
        raise ServerError(_failed[uri]) from error
    return answers[0]


def _words(error: BaseException) -> str:
    """Return the first cause of an error on one line, because MLflow wraps it in several sentences."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return hide(" ".join(f"{type(error).__name__}: {error}".split())[:300])
