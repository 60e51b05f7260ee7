"""Reading an entry of ``params.yaml`` strictly: every mistake is one message that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affectlake.errors import UsageError, nearest


def choice(where: str, entry: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> Any:
    """Return the value at `key`, one of `allowed`."""
    if key not in entry:
        raise UsageError(
            f"{where} has no {key}.", wanted=f"{key}: {allowed[0]}", allowed=", ".join(allowed), found=str(dict(entry))
        )
    value = entry[key]
    if value not in allowed:
        raise UsageError(
            f"{where}.{key} has no value {value!r}.", allowed=", ".join(allowed), todo=nearest(str(value), allowed)
        )
    return value


def only(where: str, entry: Mapping[str, Any], keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Refuse keys other than `keys` and `optional`, and missing ones of `keys`."""
    known = (*keys, *optional)
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise UsageError(
            f"{where} has an unknown key {unknown[0]!r}.",
            allowed=", ".join(known),
            todo=nearest(unknown[0], known) or "remove it",
        )
    missing = [key for key in keys if key not in entry]
    if missing:
        raise UsageError(f"{where} has no {missing[0]}.", wanted=", ".join(keys), found=", ".join(map(str, entry)))


def mapping(where: str, value: object, example: str) -> Mapping[str, Any]:
    """Return `value` as a mapping with text keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{where} is no mapping.", wanted=f"such as {example}", found=repr(value))
    return value


def text(where: str, value: object, wanted: str) -> str:
    """Return `value` as a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where} is no text.", wanted=wanted, found=repr(value))
    return value


def flag(where: str, value: object) -> bool:
    """Return `value` as true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{where} is neither true nor false.", found=repr(value), allowed="true, false")
    return value


def whole(where: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as a whole number within bounds."""
    if type(value) is not int or value < minimum or (maximum is not None and value > maximum):
        top = "or more" if maximum is None else f"to {maximum}"
        raise UsageError(f"{where} is no legal number.", found=repr(value), allowed=f"a whole number, {minimum} {top}")
    return value


def number(where: str, value: object, minimum: float, maximum: float) -> float:
    """Return `value` as a number within bounds."""
    if type(value) not in (int, float) or not minimum <= value <= maximum:  # type: ignore[operator]
        raise UsageError(
            f"{where} is no legal number.", found=repr(value), allowed=f"a number from {minimum:g} to {maximum:g}"
        )
    return float(value)  # type: ignore[arg-type]
