"""What servers send, made storable: JSON read leniently, texts that UTF-8 can hold, counts within bounds.

What the JSON means does not belong here.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import orjson

LONGEST_BODY = 16 * 2**20
"""Bytes of a response, decompressed. An answer of 500 tokens with 20 log-probabilities each is about one megabyte."""

MOST_TOKENS = 2**31 - 1
"""The largest count that the tables hold."""

_SURROGATES = re.compile("[\ud800-\udfff]")


class Loaded(NamedTuple):
    """A JSON value, and what was odd in the way it was written."""

    value: Any
    oddities: tuple[str, ...]


def load(payload: bytes) -> Loaded:
    """Return the JSON value in `payload`.

    What JSON does not allow and some servers send is read all the same, and said: NaN, Infinity and numbers beyond
    float64 as null, lone surrogates as they are (see :func:`storable`), bytes that are not UTF-8 as U+FFFD, a byte
    order mark, control characters in texts.

    Raises
    ------
    ValueError
        If it is not JSON even so, such as one cut short, or is nested too deep.
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
    """Return `text` as SQLite and Parquet can hold it: lone surrogates, which UTF-8 does not have, as U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def dump(value: object) -> str:
    """Return `value`, as :func:`load` gave it, as storable JSON."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, or a whole number of more than 64 bits
        return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def token_count(name: str, value: object) -> tuple[int, str | None]:
    """Return a count of tokens and, where it is not one, what was sent instead; it is then 0, as if nothing was said.

    Parameters
    ----------
    name : str
        What is counted.
    value : object
        What the server sent: a whole number from 0 to `MOST_TOKENS`, or None where it does not say.
    """
    if value is None:
        return 0, None
    if type(value) is int and 0 <= value <= MOST_TOKENS:
        return value, None
    return 0, f"{name} was {repr(value)[:40]}, read as 0"
