"""What a request may contain: every body is read with a limit, and every value is checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope

from affectlake.experiment.participants import Answer
from affectlake.experiment.refusals import Refused

MOST_BYTES = 64 * 1024
"""Largest body of a request."""

MOST_ANSWERS = 200
MOST_TRIALS = 50
REASONS = ("timed_out", "cannot_tell", "media_failed")

_MOST_TEXT = 256
_MOST_DETAIL = 200
_MOST_NUMBER = 1_000_000
_MOST_MS = 1e9


async def body_of(scope: Scope, receive: Receive) -> dict[str, Any]:
    """Return the JSON object of a request, read from the server.

    Raises
    ------
    Refused
        If it is longer than `MOST_BYTES`, or not a JSON object.
    """
    content, is_more = b"", _declared(scope) <= MOST_BYTES
    if not is_more:
        raise _too_large()
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise bad("the request is not complete")
        content += message.get("body", b"")
        if len(content) > MOST_BYTES:
            raise _too_large()
        is_more = message.get("more_body", False)
    try:
        found = orjson.loads(content)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise bad("the request is not JSON") from error
    if not isinstance(found, dict):
        raise bad("the request is not a JSON object")
    return found


def bad(text: str) -> Refused:
    """Return the refusal of a request that makes no sense."""
    return Refused("bad_request", text)


def text_of(body: Mapping[str, Any], name: str) -> str:
    """Return a text of 1 to 256 characters."""
    found = optional_text(body, name)
    if found is None:
        raise bad(f"{name} is missing")
    return found


def optional_text(body: Mapping[str, Any], name: str) -> str | None:
    """Return a text of 1 to 256 printable characters, or None if there is none."""
    found = body.get(name)
    if found is None:
        return None
    if not isinstance(found, str) or not 0 < len(found) <= _MOST_TEXT or not found.isprintable():
        raise bad(f"{name} is not a text of 1 to {_MOST_TEXT} characters")
    return found


def whole_of(body: Mapping[str, Any], name: str, most: int) -> int:
    """Return a whole number from 1 to `most`."""
    found = body.get(name)
    if type(found) is not int or not 1 <= found <= most:
        raise bad(f"{name} is not a whole number from 1 to {most:,}")
    return found


def answers_of(body: Mapping[str, Any], *, cannot_tell: bool) -> list[Answer]:
    """Return the answers of a request.

    Parameters
    ----------
    body : mapping
        The request.
    cannot_tell : bool
        Whether "cannot tell" is an answer.
    """
    found = body.get("answers")
    if not isinstance(found, list) or not 1 <= len(found) <= MOST_ANSWERS:
        raise bad(f"answers is not a list of 1 to {MOST_ANSWERS}")
    return [_answer(one, cannot_tell) for one in found]


def _answer(found: Any, cannot_tell: bool) -> Answer:
    if not isinstance(found, dict):
        raise bad("an answer is not a JSON object")
    number = whole_of(found, "number", _MOST_NUMBER)
    position, reason, detail, ms = (found.get(name) for name in ("position", "reason", "detail", "response_ms"))
    if position is not None and (type(position) is not int or position not in (1, 2, 3)):
        raise bad("position is not 1, 2, 3 or null")
    if reason is not None and (not isinstance(reason, str) or reason not in REASONS):
        raise bad(f"reason is not null, {', '.join(REASONS)}")
    if (position is None) == (reason is None):
        raise bad("an answer has a position or a reason, not both")
    if reason == "cannot_tell" and not cannot_tell:
        raise bad("cannot_tell is not an answer of this study")
    if detail is not None and not isinstance(detail, str):
        raise bad("detail is not a text")
    if ms is not None and (type(ms) not in (int, float) or not math.isfinite(ms) or not 0 <= ms <= _MOST_MS):
        raise bad(f"response_ms is not a number from 0 to {_MOST_MS:,.0f}")
    return Answer(number, position, reason, _cleaned(detail), None if ms is None else float(ms))


def _cleaned(text: str | None) -> str | None:
    if not text:
        return None
    return "".join(one if one.isprintable() else " " for one in text[:_MOST_DETAIL])


def _declared(scope: Scope) -> int:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(length) if length.isdigit() and len(length) < 12 else MOST_BYTES + 1


def _too_large() -> Refused:
    return Refused("too_large", f"a request may have at most {MOST_BYTES:,} bytes")
