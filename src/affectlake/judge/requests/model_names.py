"""Comparison of model names."""

from __future__ import annotations

import re

_LATEST = re.compile(r"[-:@]latest$")
_DATE = re.compile(
    r"[-@](?:20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"  # 2024-08-06
    r"|20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"  # 20240806
    r"|(?:2\d)?(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"  # 240806, 0806
    r"|2\d(?:0[1-9]|1[0-2]))$"  # 2408, a year and a month
)


def same_model(asked: str, served: str) -> bool:
    """Return whether `served`, the name of a model in a server's reply, means the model `asked`.

    The names may differ in case, in a provider or folder before the last ``/`` (one name ends in the other), in
    ``latest`` at the end, and in a date at the end of *one* of them. Two dates must be the same, and nothing else may
    differ: ``gpt-4o-mini`` is not ``gpt-4o``, and ``X-AWQ`` is not ``X``.
    """
    one, other = _parts(asked), _parts(served)
    if not one or not other:
        return False
    shorter = min(len(one), len(other))
    if one[-shorter:-1] != other[-shorter:-1]:
        return False
    first, second = _LATEST.sub("", one[-1]), _LATEST.sub("", other[-1])
    return first == second or _DATE.sub("", first) == second or first == _DATE.sub("", second)


def _parts(name: str) -> list[str]:
    return [part for part in name.strip().casefold().replace("\\", "/").split("/") if part]
