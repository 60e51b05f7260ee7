"""Cron expressions, read strictly: five fields, of which every one can come true. When they do is Prefect's business.

Every expression accepted here means the same to every cron; Prefect's own reader takes more, and says less of mistakes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from affectlake.errors import UsageError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days, February in a leap year
_EXAMPLE = "minute hour day-of-month month day-of-week, such as '0 2 * * *' (every night at 2)"
_ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()
    words_from: int = 0


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of week", 0, 7, _DAYS),
)


def check_cron(where: str, text: str) -> None:
    """Refuse what is no cron expression, or one that never comes true.

    Parameters
    ----------
    where : str
        What to call it in messages, such as ``schedules.nightly.cron``.
    text : str
        ``minute hour day-of-month month day-of-week``. A field is ``*`` or a list of numbers and ranges (``1,8-12``),
        each range or ``*`` with a step where wanted (``*/15``, ``8-18/2``). Months and days of the week may be named
        by three letters; 0 and 7 are Sunday.

    Raises
    ------
    UsageError
        One message that names the field.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise UsageError(f"{where} is no cron expression", wanted=f"five fields: {_EXAMPLE}", found=repr(text))
    values = [_values(where, field, words) for field, words in zip(_FIELDS, fields, strict=True)]
    _, _, days, months, _ = values
    if all(min(days) > _LONGEST_MONTH[month - 1] for month in months):
        raise UsageError(f"{where} never comes: no such month has {min(days)} days", found=repr(text), wanted=_EXAMPLE)


def _values(where: str, field: _Field, words: str) -> set[int]:
    """Return the values that a field names."""
    found: set[int] = set()
    for item in words.split(","):
        match = _ITEM.fullmatch(item)
        if match is None or (match["step"] and match["first"] and not match["last"]):
            raise _refused(where, field, words, "a number, a range such as 1-5, * or */15, or a list of those")
        first = field.least if match["first"] is None else _value(where, field, words, match["first"])
        last = first if match["first"] else field.most
        last = last if match["last"] is None else _value(where, field, words, match["last"])
        step = int(match["step"] or 1)
        if last < first or step < 1 or (match["last"] and last == first):  # to Prefect's reader 6-6 is every one
            raise _refused(where, field, words, "a range from the smaller to the larger, a step of 1 or more")
        found.update(range(first, last + 1, step))
    return found


def _value(where: str, field: _Field, words: str, word: str) -> int:
    if word.lower() in field.words:
        return field.words.index(word.lower()) + field.words_from
    if not word.isascii() or not word.isdecimal() or not field.least <= int(word) <= field.most:
        named = f", or {', '.join(field.words)}" if field.words else ""
        raise _refused(where, field, words, f"{field.least} to {field.most}{named}")
    return int(word)


def _refused(where: str, field: _Field, words: str, allowed: str) -> UsageError:
    return UsageError(f"{where}: {field.name} is no legal value", found=repr(words), allowed=allowed)
