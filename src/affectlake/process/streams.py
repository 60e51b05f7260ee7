"""The three standard streams: every one is open, whoever started the command."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Point standard streams that were closed (``>&-``) at the null device.

    Otherwise the next file that is opened gets the number of a closed one, and whatever is printed lands in it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(found, True)
            setattr(sys, name, os.fdopen(found, mode, encoding="utf-8"))
