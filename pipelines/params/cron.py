"""Checks of cron expressions with cronsim; Prefect computes the times.

A field may contain what every cron accepts: numbers, names, ranges, steps and lists. Expressions that Prefect
interprets differently from cronsim (``6-6`` means every day) or does not accept (``5L``) are refused. If both day of
month and day of week are restricted, Prefect runs when either matches, also for ``*/2``; some crons require both.
"""

from __future__ import annotations

import re
from datetime import datetime

from cronsim import CronSim, CronSimError

from affectlake.errors import UsageError

_FIELDS = {  # CronSim's attribute with the values of the field, and the allowed values
    "minute": ("minutes", "0 to 59"),
    "hour": ("hours", "0 to 23"),
    "day of month": ("days", "1 to 31"),
    "month": ("months", "1 to 12, or jan to dec"),
    "day of week": ("weekdays", "0 to 7, or sun to sat"),
}
_FORMS = "ranges from the smaller to the larger (1-5), *, steps of 1 or more (*/15, 8-18/2), and lists of these (1,15)"
_EXAMPLE = "minute hour day-of-month month day-of-week, such as '0 2 * * *' (every night at 2)"
_VALUE = r"(?:\d+|[a-z]{3})"
_ITEM = re.compile(rf"{_VALUE}|(?:\*|{_VALUE}-{_VALUE})(?:/\d+)?", re.IGNORECASE | re.ASCII)
_ANY_TIME = datetime(2000, 1, 1)


def check_cron(where: str, text: str) -> None:
    """Raise an error if a text is not a cron expression, or never matches.

    Parameters
    ----------
    where : str
        Name of the setting in messages, such as ``schedules.nightly.cron``.
    text : str
        ``minute hour day-of-month month day-of-week``. A field is ``*`` or a list of numbers and ranges (``1,8-12``);
        ranges and ``*`` may have a step (``*/15``, ``8-18/2``). Months and days of the week may be three-letter names;
        0 and 7 are Sunday.

    Raises
    ------
    UsageError
        If the expression is not valid; the message names the field.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise UsageError(f"{where} is not a cron expression", wanted=f"five fields: {_EXAMPLE}", found=repr(text))
    for at, (name, (_, values)) in enumerate(_FIELDS.items()):
        if not all(_is_valid(at, item) for item in fields[at].split(",")):
            raise UsageError(f"{where}: {name} is not valid", found=repr(fields[at]), allowed=f"{values}, {_FORMS}")
    try:
        CronSim(f"* * {fields[2]} {fields[3]} *", _ANY_TIME)
    except CronSimError:
        raise UsageError(
            f"{where} never matches: no such month has such a day", found=repr(text), wanted=_EXAMPLE
        ) from None


def _is_valid(at: int, item: str) -> bool:
    """Return whether an item of the field at position `at` has the same meaning for cronsim and Prefect."""
    span, _, _ = item.partition("/")
    try:
        CronSim(_alone(at, item), _ANY_TIME)
        values: set[int] = getattr(CronSim(_alone(at, span), _ANY_TIME), list(_FIELDS.values())[at][0])
    except (CronSimError, ValueError):  # ValueError: more digits than int() reads
        return False
    return bool(_ITEM.fullmatch(item)) and ("-" not in span or len(values) > 1)


def _alone(at: int, field: str) -> str:
    return " ".join(field if position == at else "*" for position in range(len(_FIELDS)))
