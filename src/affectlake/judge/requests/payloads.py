"""Conversion of servers' responses to storable values: lenient JSON, valid UTF-8 texts and bounded token counts."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import orjson

LONGEST_BODY = 16 * 2**20
"""Largest response in bytes, decompressed. 500 tokens with 20 log-probabilities each take about one megabyte."""

MOST_TOKENS = 2**31 - 1
"""The largest token count that the tables can hold."""

_SURROGATES = re.compile("[\ud800-\udfff]")


class Loaded(NamedTuple):
    """A JSON value, and messages about errors in its text."""

    value: Any
    oddities: tuple[str, ...]


def load(payload: bytes) -> Loaded:
    """Return the JSON value in `payload`.

    Some invalid JSON that servers send is accepted: NaN, Infinity and numbers beyond float64 are read as null, bytes
    that are not UTF-8 as U+FFFD, and lone surrogates as they are (see :func:`storable`); a byte order mark is skipped,
    and control characters in strings are kept. Values that were replaced are reported in ``oddities``.

    Raises
    ------
    ValueError
        If it is still not valid JSON, for example because it is truncated, or is nested too deeply.
    """
    try:
        return Loaded(orjson.loads(payload), ())
    except orjson.JSONDecodeError as strict:
        oddities: list[str] = []

        def finite(digits: str) -> float | None:
            number = float(digits)
            if math.isfinite(number):
                return number
            oddities.append(f"the JSON holds {digits[:20]}, read as null")
            return None

        text = payload.decode("utf-8-sig", errors="replace")
        try:
            value = json.loads(text, strict=False, parse_constant=finite, parse_float=finite)
        except (ValueError, RecursionError):
            raise ValueError(str(strict)) from strict
        if _is_utf8(payload):
            return Loaded(value, tuple(dict.fromkeys(oddities)))
        return Loaded(value, (*dict.fromkeys(oddities), "bytes that are not UTF-8 are replaced by U+FFFD"))


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def storable(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot encode, replaced by U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def dump(value: object) -> str:
    """Return a value that :func:`load` returned as storable JSON."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def token_count(name: str, value: object) -> tuple[int, str | None]:
    """Return a token count, and a message if the value is not a valid count.

    Parameters
    ----------
    name : str
        Name of the count, for the message.
    value : object
        What the server sent: an integer from 0 to `MOST_TOKENS`, or None if it sent nothing. Anything else is read as
        0, like None.
    """
    if value is None:
        return 0, None
    if type(value) is int and 0 <= value <= MOST_TOKENS:
        return value, None
    return 0, f"{name} was {repr(value)[:40]}, read as 0"
