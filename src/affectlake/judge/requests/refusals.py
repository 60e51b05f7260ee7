"""Interpretation of servers' error responses: the kind of failure, the server's message, and how long to wait."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from affectlake.judge.requests.answers import Failure, FailureKind
from affectlake.judge.requests.payloads import dump, load

_LONGEST = 10_000  # characters of a message, before secrets are removed and it is shortened for display

STATUS_OF: dict[str, int] = {
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "rate_limit", "rate_limited"), 429),
    **dict.fromkeys(("too_many_requests", "resource_exhausted", "throttled", "throttling_exception"), 429),
    **dict.fromkeys(("overloaded", "overloaded_error", "unavailable", "service_unavailable", "model_overloaded"), 503),
    **dict.fromkeys(("engine_overloaded", "engine_overloaded_error", "service_unavailable_error"), 503),
    **dict.fromkeys(("server_error", "internal", "internal_error", "internal_server_error", "api_error"), 500),
    **dict.fromkeys(("timeout", "timeout_error", "request_timeout", "deadline_exceeded"), 408),
    **dict.fromkeys(("unauthorized", "unauthenticated", "authentication_error", "invalid_api_key"), 401),
    **dict.fromkeys(("insufficient_quota", "billing_hard_limit_reached", "insufficient_credits"), 402),
    **dict.fromkeys(("forbidden", "permission_denied", "permission_error"), 403),
    **dict.fromkeys(("not_found", "not_found_error", "model_not_found"), 404),
    **dict.fromkeys(("bad_request", "invalid_request", "invalid_request_error", "invalid_argument"), 400),
    **dict.fromkeys(("context_length_exceeded", "content_policy_violation", "content_filter"), 400),
}
"""HTTP status for an error code, for servers that send the code but not the status."""

ADVICE: dict[str, str] = {
    "logprobs": "forced-choice needs log-probabilities, which this model does not return: use another protocol",
    "structured_outputs": "forced-choice needs structured outputs, which this server lacks: use another protocol",
    "max_tokens": "this model needs sampling: {max_completion_tokens: N} instead of max_tokens",
    "temperature": "this model needs sampling: {temperature: null}, so that no temperature is sent",
    "top_p": "this model needs sampling: {top_p: null}, so that no top_p is sent",
}
"""What to change in an agent's entry if a server refuses a field of the request."""

_STATUS_KEYS = ("code", "status", "status_code", "http_status", "type")
_STATUS = re.compile(r"(?<!\d)[45]\d\d(?!\d)")
_TOO_MANY = re.compile(r"rate.?limit|too many requests|overloaded|at capacity", re.IGNORECASE)


def kind_of(status: int, code: str) -> FailureKind:
    """Return the kind of failure for an HTTP status and the server's error code."""
    if code in ("insufficient_quota", "billing_hard_limit_reached") or status == 402:
        return "out_of_credit"
    if status in (429, 503, 529):
        return "overloaded"
    if status == 408:
        return "timed_out"
    if status >= 500:
        return "server_error"
    by_status: dict[int, FailureKind] = {401: "unauthorised", 404: "no_such_model"}
    return by_status.get(status, "rejected")


def refusal(status: int, payload: bytes, rest_s: float) -> Failure:
    """Return the failure that a response with a status other than 200 reports.

    Parameters
    ----------
    status : int
        HTTP status.
    payload : bytes
        Body of the response.
    rest_s : float
        Seconds for which the server asked for no requests.
    """
    try:
        found: Any = load(payload).value
    except ValueError:
        words = payload[:_LONGEST].decode(errors="replace") or "no message"
        return Failure(kind_of(status, ""), f"{status}: {words}", rest_s)
    error = found.get("error", found) if isinstance(found, Mapping) else found
    return Failure(kind_of(status, _code(error)), f"{status}: {_words(error)}", rest_s)


def advice(words: str, body: Mapping[str, Any]) -> str:
    """Return the `ADVICE` for the fields of `body` that a server's message names, or an empty string."""
    return "; ".join(help_ for name, help_ in ADVICE.items() if name in body and re.search(rf"\b{name}\b", words))


def error_in(found: object) -> Failure | None:
    """Return the failure for an error in a response with status 200, or None if the response is not an error.

    A response is an error if it has a value at ``error``, or if it has no ``choices`` and either is an object of type
    ``error`` or has a status from 400 to 599. The status is read from ``code``, ``status`` or ``status_code``, as a
    number or a name (``rate_limit_exceeded``). An error without a status is treated as a server failure (500), which
    is retried.
    """
    if not isinstance(found, Mapping):
        return None
    error = found.get("error")
    if not error:
        if "choices" in found or not (found.get("object") == "error" or _status(found)):
            return None
        error = found
    status = _status(error) or _status(found) or (429 if _TOO_MANY.search(_words(error)) else 500)
    rest_s = max(map(_rest_s, (error, found)))
    return Failure(kind_of(status, _code(error)), f"200, but with error {status} in the body: {_words(error)}", rest_s)


def retry_after(value: str | None, now: datetime) -> float:
    """Return the seconds to wait according to a ``Retry-After`` header (RFC 9110, 10.2.3), a number or a date.

    A missing or invalid value gives 0.
    """
    if not value:
        return 0.0
    try:
        seconds = float(value)
        return 0.0 if math.isnan(seconds) else max(seconds, 0.0)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max((moment - now).total_seconds(), 0.0) if moment.tzinfo else 0.0


def _rest_s(error: object) -> float:
    """Return the seconds to wait according to an error body."""
    value = error.get("retry_after") if isinstance(error, Mapping) else None
    return retry_after(str(value), datetime.now(UTC)) if isinstance(value, int | float | str) else 0.0


def _status(error: object) -> int | None:
    """Return the HTTP status in an error; numbers have priority over names."""
    said = list(_said(error))
    numbers = (int(found[0]) for value in said if (found := _STATUS.search(value)))
    names = (STATUS_OF[name] for value in said if (name := re.sub(r"[\s-]+", "_", value.lower())) in STATUS_OF)
    return next(numbers, next(names, None))


def _said(error: object) -> Iterator[str]:
    for key in _STATUS_KEYS if isinstance(error, Mapping) else ():
        value = error.get(key)  # type: ignore[attr-defined]
        if isinstance(value, int | str) and not isinstance(value, bool):
            yield str(value)[:100]


def _code(error: object) -> str:
    return str(error.get("code") or error.get("type") or "") if isinstance(error, Mapping) else ""


def _words(error: object) -> str:
    if isinstance(error, Mapping):
        return str(error.get("message") or error.get("detail") or dump(error))[:_LONGEST]
    return str(error)[:_LONGEST]
