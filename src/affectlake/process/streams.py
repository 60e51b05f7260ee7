"""Standard streams, which may be closed when the command starts."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Open standard streams that are closed (``>&-``) on the null device.

    Otherwise the next file that is opened would get the descriptor of a closed stream, and output would be written to
    that file.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is this one
            os.set_inheritable(found, True)
            setattr(sys, name, os.fdopen(found, mode, encoding="utf-8"))
