"""Formats of numbers, counts and lists in the report."""

from __future__ import annotations

from collections.abc import Sequence

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
MOST_DIGITS = 6
_SIZES = ("B", "kB", "MB", "GB", "TB")


def count(value: int) -> str:
    """Format an integer with separators of thousands: ``7,125,330``."""
    return f"{value:,}"


def counted(value: int, singular: str, plural: str = "") -> str:
    """Format a count and its noun: ``1 choice``, ``2,181 stimuli``."""
    return f"{value:,}{NBSP}{singular if value == 1 else plural or singular + 's'}"


def percent(share: float | None, digits: int = 2) -> str:
    """Format a proportion in percent: ``98.52 %``; a dash if it is None."""
    return MISSING if share is None else f"{100 * share:.{digits}f}{NBSP}%"


def percent_range(low: float | None, high: float | None, digits: int = 2) -> str:
    """Format an interval of proportions in percent: ``97.9 to 99.0 %``; empty if an end is None."""
    if low is None or high is None:
        return ""
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}{NBSP}%"


def decimal(value: float | None, digits: int = 2) -> str:
    """Format a number with a minus sign (U+2212): ``−0.41``; a dash if it is None.

    A value below 1 is not rounded to 1: a correlation of 0.99957 becomes ``0.9996``.
    """
    if value is None:
        return MISSING
    text = f"{abs(value):.{digits}f}"
    while digits and digits < MOST_DIGITS and abs(value) < 1 and float(text) == 1:
        digits += 1
        text = f"{abs(value):.{digits}f}"
    return f"{MINUS}{text}" if value < 0 and float(text) != 0 else text


def level(p_value: float) -> str:
    """Format a p-value: ``p = 0.001``, or ``p < 0.001`` if it rounds to less."""
    return f"p{NBSP}<{NBSP}0.001" if p_value < 0.0005 else f"p{NBSP}={NBSP}{p_value:.3f}"


def size(n_bytes: int) -> str:
    """Format a file size in decimal units: ``65.2 MB``."""
    value, unit = float(n_bytes), 0
    while value >= 999.95 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{0 if unit == 0 else 1}f}{NBSP}{_SIZES[unit]}"


def shortened(text: str, most: int = 30) -> str:
    """Shorten a text to at most `most` characters: ``a very long name of …``."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Join words as prose: ``a, b and c``."""
    return " ".join([", ".join(words[:-1]), last, words[-1]]) if len(words) > 1 else "".join(words)
