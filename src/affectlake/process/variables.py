"""Reading of environment variables that hold an integer.

Variables that are set for other programs are in :mod:`affectlake.process.environment`.
"""

from __future__ import annotations

import os

from affectlake.errors import UsageError

_MOST_DIGITS = 18


def integer(name: str, lowest: int, highest: int, *, default: int, meaning: str, unset: str) -> int:
    """Return the integer in an environment variable.

    Parameters
    ----------
    name : str
        Name of the variable.
    lowest, highest : int
        Smallest and largest legal value, both at least 0.
    default : int
        Value if the variable is not set or is empty.
    meaning : str
        What the number is, with its article, for the message: ``a number of workers``.
    unset : str
        Why to unset the variable, for the message: ``to keep every core busy``.

    Raises
    ------
    UsageError
        If the value contains anything but decimal digits, or is out of range.
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
