"""Environment variables that hold a number: one way to read them, one message for what is not a number.

Names, addresses and secrets are texts and need no reader. What is set for other programs is in
:mod:`affectlake.process.environment`.
"""

from __future__ import annotations

import os

from affectlake.errors import UsageError

_MOST_DIGITS = 18


def integer(name: str, lowest: int, highest: int, *, default: int, meaning: str, unset: str) -> int:
    """Return the integer that an environment variable holds.

    Parameters
    ----------
    name : str
        The variable.
    lowest, highest : int
        What is allowed, both included; 0 or more.
    default : int
        Returned if the variable is not set, or empty.
    meaning : str
        What the number is, with its article: ``a number of workers``.
    unset : str
        What unsetting the variable does: ``to keep every core busy``.

    Raises
    ------
    UsageError
        If it holds anything but decimal digits, or a number that is not allowed.
    """
    given = os.environ.get(name, "").strip()
    if not given:
        return default
    is_number = given.isascii() and given.isdecimal() and len(given) <= _MOST_DIGITS
    if not (is_number and lowest <= int(given) <= highest):
        raise UsageError(
            f"{name}={given} is not {meaning}",
            wanted="an integer in decimal digits",
            allowed=f"{lowest:,} to {highest:,}",
            todo=f"set the environment variable {name} to one of these, or unset it {unset}",
        )
    return int(given)
