"""A tracking server that may be dead: what is asked of it ends in time, and one that failed is not asked again.

What is recorded, and where it goes instead, does not belong here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from affectlake.secrets import hide

RUN_LIMIT_S = 120.0
"""For one run to be written, its files included."""

_BACKOFF_S = 3.0  # MLflow's longest pause before a first retry
_Answer = TypeVar("_Answer")
_failed: dict[str, str] = {}  # by address, how it failed in this process


class ServerError(Exception):
    """The server failed or does not answer; its message says how, on one line."""


def answer_limit_s() -> float:
    """Return how long a server may take to answer: its tries, as MLflow's settings say, and the pauses between."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    return float((MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() + 1) * (MLFLOW_HTTP_REQUEST_TIMEOUT.get() + _BACKOFF_S))


def ask(uri: str, call: Callable[[], _Answer], limit_s: Callable[[], float] = answer_limit_s) -> _Answer:
    """Return what `call` returns, within a limit.

    Parameters
    ----------
    uri : str
        The server's address.
    call : callable
        Asks it.
    limit_s : callable
        Returns the limit, in seconds.

    Raises
    ------
    ServerError
        If `call` raises or takes too long, or if anything that was asked of this server before did.
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

    try:
        most_s = limit_s()
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
    """Return on one line what began it: MLflow tells of a refused connection in five sentences."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return hide(" ".join(f"{type(error).__name__}: {error}".split())[:300])
